"""Distance, minutes and the two pressures of the mechanics set (spec §7.7)."""

import math

from .rules import DEFAULT, MINUTE_NS, TICK_POINTS, clip, direction_sign, last_trade_before


def distance_columns(trades: list[dict], point: dict) -> dict:
    """§7.7: (L - spot) in points, signed and absolute, and as a share of spot, the last trade before asof."""
    spot_tick = last_trade_before(trades, point["asof_ns"])["tick"]
    signed = (point["level_tick"] - spot_tick) * TICK_POINTS
    return {
        "spot": spot_tick * TICK_POINTS,
        "distance_signed": signed,
        "distance": abs(signed),
        "distance_pct": abs(signed) / (spot_tick * TICK_POINTS),
    }


def minutes_columns(point: dict, rth_open_ns: int) -> dict:
    """§7.7: minutes from the RTH open to asof, negative before it; the first 15 of them are flagged."""
    minutes = (point["asof_ns"] - rth_open_ns) / MINUTE_NS
    return {"minutes_since_open": minutes, "is_first_15m": 0 <= minutes < 15}


def liquidity_pressure(barrier: dict, p: dict = DEFAULT) -> float | None:
    """§7.7: (tanh(-delta_liq / 200) + clip(1 - wall_ratio / 2)) / 2; NULL when either is NULL."""
    if barrier["barrier_delta_liq"] is None or barrier["wall_ratio"] is None:
        return None
    pull = math.tanh(-barrier["barrier_delta_liq"] / p["DELTA_LIQ_NORM"])
    return (pull + clip(1 - barrier["wall_ratio"] / p["WALL_RATIO_NORM"])) / 2


def tape_pressure(tape: dict, direction: str, p: dict = DEFAULT) -> float | None:
    """§7.7: s * (tape_imbalance + clip(tape_velocity / 0.5)) / 2; NULL when either is NULL."""
    if tape["tape_imbalance"] is None or tape["tape_velocity"] is None:
        return None
    push = tape["tape_imbalance"] + clip(tape["tape_velocity"] / p["VELOCITY_NORM"])
    return direction_sign(direction) * push / 2
