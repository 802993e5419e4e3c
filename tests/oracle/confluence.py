"""What stands around a level and where the price stands (spec §7.7: confluence to confluence_level)."""

import math
from fractions import Fraction

from .rules import MINUTE_NS, TICK_POINTS, last_trade_before, ticks, trades_within

# §5.4, the weights w beside the names
WEIGHTS = {
    "PM_HIGH": "1.0",
    "PM_LOW": "1.0",
    "OR_HIGH": "0.9",
    "OR_LOW": "0.9",
    "SESSION_HIGH": "0.6",
    "SESSION_LOW": "0.6",
    "SMA_200": "0.8",
    "SMA_400": "0.8",
    "VWAP": "0.7",
    "ROUND": "0.3",
    "STRIKE": "0.3",
    "CALL_WALL": "1.0",
    "PUT_WALL": "1.0",
    "GAMMA_FLIP": "0.5",
    "USER": "0.5",
}


def around_columns(active: list[dict], point: dict, band: int) -> dict:
    """§7.7 "Confluence over other active levels j (different level_id)"; all distances in ticks.

    Without another level nothing is counted, both sums are 0 and the distance is NULL. A band of 0 ticks leaves
    d/B undefined: its levels stand at distance 0 and weigh in full.
    """
    others = [level for level in active if level["level_id"] != point["level_id"]]
    score, everything = Fraction(0), Fraction(0)
    count, distances = 0, []
    stacking = {2: 0, 5: 0, 10: 0}
    for level in others:
        d = abs(level["level_tick"] - point["level_tick"])
        w = Fraction(WEIGHTS[level["level_kind_name"]])
        everything += w
        distances.append(d)
        if d <= band:
            count += 1
            score += w * (1 - Fraction(d, band)) if band else w
        for points in stacking:
            if 0 < d * TICK_POINTS <= points:
                stacking[points] += 1
    return {
        "confluence_count": count,
        "confluence_weighted_score": float(score),
        "confluence_pressure": float(score / everything) if others else 0.0,
        "confluence_min_distance": min(distances) * TICK_POINTS if others else None,
        **{f"level_stacking_{points}pt": n for points, n in stacking.items()},
    }


def alignment(level_price: float, direction: str, seen: dict) -> int | None:
    """§7.7 `confluence_alignment`; NULL when an SMA is missing. A missing slope fulfils no condition."""
    above, below = [], []
    for name in ("sma_200", "sma_400"):
        if seen[name] is None:
            return None
        above.append(level_price > seen[name])
        below.append(level_price < seen[name])
    a, b = seen["sma_200_slope"], seen["sma_400_slope"]
    if a is None or b is None:
        return 0
    ds = a - b
    falling, rising = a < 0 and b < 0 and ds > 0, a > 0 and b > 0 and ds < 0
    if direction == "UP":
        if all(below) and falling:
            return 1
        if all(above) and rising:
            return -1
    if direction == "DOWN":
        if all(above) and rising:
            return 1
        if all(below) and falling:
            return -1
    return 0


def breakout(active: list[dict], spot: float) -> int | None:
    """§7.7 `breakout_state`, NULL when one of the four bounds is missing."""
    price = {level["level_kind_name"]: level["level_price"] for level in active}
    bounds = [price.get(name) for name in ("PM_HIGH", "OR_HIGH", "PM_LOW", "OR_LOW")]
    if None in bounds:
        return None
    pm_high, or_high, pm_low, or_low = bounds
    if spot > pm_high and spot > or_high:
        return 2
    if spot < pm_low and spot < or_low:
        return 3
    if spot > pm_high or spot > or_high or spot < pm_low or spot < or_low:
        return 1
    return 0


def gex(state: int | None, spot: float, seen: dict, ratio: float) -> int | None:
    """§7.7 `gex_alignment`: full breakouts with both walls; a strike is the point price of its tick (§1.5)."""
    walls = seen["wall_short_call"], seen["wall_short_put"]
    if state not in (2, 3) or None in walls:
        return None
    call, put = (math.floor(strike * ratio / 0.25 + 0.5) * 0.25 for strike in walls)
    near = ticks(1.0, ratio) * 0.25
    if seen["fuel_effect"] == "AMPLIFY" and (spot > call if state == 2 else spot < put):
        return 1
    if seen["fuel_effect"] == "DAMPEN" and abs(spot - (call if state == 2 else put)) < near:
        return -1
    return 0


def volume_between(trades: list[dict], start_ns: int, end_ns: int) -> int:
    return sum(trade["size"] for trade in trades_within(trades, start_ns, end_ns))


def is_full(session: dict, trades: list[dict]) -> bool:
    """A session that others are measured by: no holiday, no early close, traded in regular hours."""
    if session["is_holiday"] or session["is_early_close"]:
        return False
    return volume_between(trades, session["rth_open_ns"], session["rth_close_ns"]) > 0


def relative_volume(
    session: dict, trades: list[dict], earlier: list[tuple[dict, list[dict]]], asof_ns: int, p: dict
) -> float | None:
    """§7.7 `rel_vol_ratio`. ``earlier`` has a (dim_session row, trades of its own front contract) for each weekday
    before, oldest first; the last VOLUME_LOOKBACK_DAYS of them are looked at. NULL also when nothing was traded in
    the interval on any of them."""
    if session["is_holiday"] or not session["rth_open_ns"] <= asof_ns < session["rth_close_ns"]:
        return None
    length = asof_ns // MINUTE_NS * MINUTE_NS - session["rth_open_ns"]
    volumes = [
        volume_between(then, s["rth_open_ns"], s["rth_open_ns"] + length)
        for s, then in earlier[-p["VOLUME_LOOKBACK_DAYS"] :]
        if is_full(s, then)
    ]
    if len(volumes) < 3 or sum(volumes) == 0:
        return None
    now = volume_between(trades, session["rth_open_ns"], session["rth_open_ns"] + length)
    return float(now / Fraction(sum(volumes), len(volumes)))


def setup(
    state: int | None,
    is_first_hour: bool,
    spot: float,
    seen: dict,
    gex_sign: int | None,
    volume: float | None,
) -> int:
    """§7.7 `confluence_level`, branch by branch."""
    if state is None:
        return 0
    if state == 0:
        return 10
    if state == 1:
        return 9
    averages = [seen["sma_200"], seen["sma_400"]]
    close = None not in averages and all(abs(spot - sma) / spot < 0.005 for sma in averages)
    aligned = gex_sign == 1
    vol = volume is not None and volume >= 1.3
    if is_first_hour and close:
        return 1 if aligned and vol else 2 if aligned else 3
    if is_first_hour:
        return 4 if aligned and vol else 5
    return 6 if close and vol else 7


def confluence_row(
    session: dict,
    levels: list[dict],
    trades: list[dict],
    earlier: list[tuple[dict, list[dict]]],
    seen: dict,
    ratio: float,
    point: dict,
    p: dict,
) -> dict:
    """§8 group `confluence` of one point.

    ``levels`` are the session's level rows; ``earlier`` as for `relative_volume`; ``ratio`` is as of asof. ``seen``
    holds what other groups say of the point: atr, sma_200, sma_400, sma_200_slope, sma_400_slope, fuel_effect,
    wall_short_call and wall_short_put (SPY $).
    """
    asof = point["asof_ns"]
    spot = last_trade_before(trades, asof)["tick"] * TICK_POINTS
    active = [level for level in levels if level["valid_from_ns"] <= asof < level["valid_to_ns"]]
    around = around_columns(active, point, ticks(p["CONFLUENCE_BAND"], ratio))
    nearest = around["confluence_min_distance"]
    state = breakout(active, spot)
    gex_sign = gex(state, spot, seen, ratio)
    volume = relative_volume(session, trades, earlier, asof, p)
    is_first_hour = session["rth_open_ns"] <= asof < session["rth_open_ns"] + 60 * MINUTE_NS
    no_distance = nearest is None or seen["atr"] is None
    return {
        **around,
        "confluence_min_distance_atr": None if no_distance else nearest / (seen["atr"] + 1e-6),
        "confluence_alignment": alignment(point["level_tick"] * TICK_POINTS, point["direction"], seen),
        "confluence_level": setup(state, is_first_hour, spot, seen, gex_sign, volume),
        "breakout_state": state,
        "gex_alignment": gex_sign,
        "rel_vol_ratio": volume,
    }
