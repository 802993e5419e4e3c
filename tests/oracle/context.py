"""Geometry, the clock and the ranges of the day, and two of the pressures (spec §7.7)."""

import math

from .bars import atr_points
from .levels import range_rows, session_close_ns
from .rules import DEFAULT, EPS, MINUTE_NS, TICK_POINTS, clip, direction_sign, last_trade_before


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


def geometry_row(session_trades: list[dict], point: dict) -> dict:
    """§7.7: every column of the group geometry; x_atr = x / (atr + eps), NULL without an ATR."""
    place = distance_columns(session_trades, point)
    atr = atr_points(session_trades, point["asof_ns"])
    return {
        "distance_signed": place["distance_signed"],
        "distance_pct": place["distance_pct"],
        "distance_atr": None if atr is None else place["distance"] / (atr + EPS),
        "distance_signed_atr": None if atr is None else place["distance_signed"] / (atr + EPS),
        "atr": atr,
    }


def context_row(session: dict, session_trades: list[dict], point: dict, p: dict = DEFAULT) -> dict:
    """§7.7: the clock, and level_price - X for the highs and lows of the pre-market and the opening range while they
    are valid (§5.4), whatever kinds of level the set has."""
    asof, close = point["asof_ns"], session_close_ns(session, p)
    opened = session["rth_open_ns"]
    rows = range_rows("PM", session_trades, session["premarket_open_ns"], opened, close)
    rows += range_rows("OR", session_trades, opened, opened + 15 * MINUTE_NS, close)
    valid = {r["level_kind_name"]: r for r in rows if r["valid_from_ns"] <= asof < r["valid_to_ns"]}
    atr = atr_points(session_trades, asof)
    row = minutes_columns(point, opened)
    for name in ("PM_HIGH", "PM_LOW", "OR_HIGH", "OR_LOW"):
        away = (point["level_tick"] - valid[name]["level_tick"]) * TICK_POINTS if name in valid else None
        row[f"dist_to_{name.lower()}"] = away
        if name.startswith("PM"):
            known = away is not None and atr is not None
            row[f"dist_to_{name.lower()}_atr"] = away / (atr + EPS) if known else None
    return row


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
