"""Units, constants and default parameters (spec §1 and §10), written out again on purpose."""

import math

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
MS_NS = 1_000_000
TICK_POINTS = 0.25
EPS = 1e-6

# The parameters of spec §10 that the slice reads, with their defaults.
DEFAULT = {
    "grid_ms": 100,
    "event_hours": "rth",
    "level_kinds": ["PM", "OR", "SESSION", "SMA", "VWAP", "ROUND", "CALL_WALL", "PUT_WALL"],
    "universe_version": "u1",
    "USER_LEVELS": [],
    "W_b": 240,
    "W_t": 60,
    "W_g": 60,
    "W_wall": 300,
    "WALL_MIN_GAMMA": 1000,
    "FUEL_STRIKE_RANGE": 2.0,
    "FUEL_EFFECT_THRESHOLD": 10000,
    "GAMMA_FLOW_NORM": 50000,
    "MONITOR_BAND": 0.25,
    "TOUCH_BAND": 0.10,
    "HYSTERESIS": 0.05,
    "REARM_S": 30,
    "BARRIER_ZONE_ES_TICKS": 8,
    "R_vac": 0.3,
    "R_wall": 1.5,
    "F_thresh": 100,
    "WEAK_PERCENTILE": 0.20,
    "WEAK_LOOKBACK": 1800,
    "BARRIER_MIN_VISIBLE": 0.5,
    "GAP_S": 60,
    "TAPE_BAND": 0.50,
    "SWEEP_MAX_GAP_MS": 100,
    "SWEEP_MIN_CONTRACTS": 50,
    "TOUCH_CLUSTER_TIME_MINUTES": 15,
    "TOUCH_CLUSTER_PRICE_BAND": 0.10,
    "LOOKBACK_MINUTES": 10,
    "SMA_WARMUP_DAYS": 3,
    "CONFIRMATION_WINDOWS": [120, 240, 480],
    "LOOKFORWARD_MINUTES": 8,
    "theta_mode": "dollars",
    "STRENGTH_THRESHOLD_1": 1.00,
    "STRENGTH_THRESHOLD_2": 2.00,
    "THETA_ATR_MIN": 5,
    "THETA_ATR_MAX": 50,
    "THETA_1_FRACTION": 0.33,
    "GAMMA_NORM": 100_000,
    "FLOW_ACCEL_NORM": 50_000,
    "DELTA_LIQ_NORM": 200,
    "WALL_RATIO_NORM": 2.0,
    "VELOCITY_NORM": 0.5,
    "RISK_FREE": 0.045,
    "SIGMA_DEFAULT": 0.20,
    "CONFLUENCE_BAND": 0.20,
    "VOLUME_LOOKBACK_DAYS": 7,
}


def ticks(spy_dollars: float, ratio: float = 10.0) -> int:
    """§1.5: a parameter in SPY dollars becomes floor(B * ratio / 0.25 + 0.5) ES ticks."""
    return math.floor(spy_dollars * ratio / TICK_POINTS + 0.5)


def clip(x: float) -> float:
    """§1.8: clip to [-1, 1]."""
    return max(-1.0, min(1.0, x))


def direction_sign(direction: str) -> int:
    """§1.6: UP is +1, DOWN is -1; no other word exists."""
    return {"UP": 1, "DOWN": -1}[direction]


def last_trade_before(trades: list[dict], t_ns: int) -> dict | None:
    """§1.9: "as of t" is the last trade, in total order, with ts_event_ns strictly below t."""
    found = None
    for trade in trades:
        if trade["ts_event_ns"] < t_ns:
            found = trade
    return found


def trades_within(trades: list[dict], start_ns: int, end_ns: int) -> list[dict]:
    """Trades with start <= ts_event_ns < end, in their order."""
    return [trade for trade in trades if start_ns <= trade["ts_event_ns"] < end_ns]
