"""Barrier features of one observation point (spec §7.2, reading 8)."""

import math

from . import book
from .rules import DEFAULT, EPS, SECOND_NS, trades_within

NULL_WHEN_NOT_OBSERVABLE = (
    "barrier_delta_liq",
    "barrier_added",
    "barrier_canceled",
    "barrier_filled",
    "barrier_churn",
    "barrier_depth_in_zone",
    "barrier_delta_liq_log",
    "barrier_replenishment_ratio",
    "wall_ratio",
    "wall_ratio_log",
)


def quantile(values: list[int], q: float) -> float:
    """Linear interpolation between order statistics at position q * (n - 1)."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(values: list[int]) -> float:
    """The middle value, or the mean of the two middle ones."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return float(ordered[half]) if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def zone_prices(level_tick: int, zone_ticks: int) -> range:
    """§7: the 2N + 1 prices with |tick - L| <= N."""
    return range(level_tick - zone_ticks, level_tick + zone_ticks + 1)


def look(session_book: dict, at_ns: int, level_tick: int, side: int, p: dict) -> dict:
    """§7.2 and reading 8: what is seen of the zone at an instant: depth, visible share, observable or not.

    The rule of observability is whole at any instant: share of visible prices, age of the state at most
    GAP_S, and segments covering 0.9 of [at - W_b, at).
    """
    state = book.last_valid_state_before(session_book["states"], at_ns)
    if state is None:
        return {"state": None, "depth": None, "frac": 0.0, "observable": False}
    prices = zone_prices(level_tick, p["BARRIER_ZONE_ES_TICKS"])
    seen = [tick for tick in prices if book.is_visible(state, side, tick)]
    frac = len(seen) / len(prices)
    window_ns = p["W_b"] * SECOND_NS
    covered = book.covered_ns(
        session_book["entries"], at_ns - window_ns, at_ns, p["GAP_S"], session_book["gaps"]
    )
    return {
        "state": state,
        "depth": sum(book.size_at(state, side, tick) for tick in prices),
        "frac": frac,
        "observable": (
            frac >= p["BARRIER_MIN_VISIBLE"]
            and at_ns - state["ts"] <= p["GAP_S"] * SECOND_NS
            and 10 * covered >= 9 * window_ns
        ),
    }


def wall_samples(states: list[dict], asof_ns: int, side: int, p: dict) -> list[int]:
    """§7.2: the side's depth within N ticks of the mid in the last valid state before each whole second of
    (asof - 1800 s, asof]. A state with a side missing gives no sample; age does not matter (reading 8)."""
    samples = []
    second = (asof_ns // SECOND_NS) * SECOND_NS
    while second > asof_ns - p["WEAK_LOOKBACK"] * SECOND_NS:
        state = book.last_valid_state_before(states, second)
        if state is not None and state["bids"] and state["asks"]:
            twice_mid = max(state["bids"]) + min(state["asks"])
            side_levels = state["bids"] if side == 0 else state["asks"]
            samples.append(
                sum(
                    size
                    for tick, size in side_levels.items()
                    if abs(2 * tick - twice_mid) <= 2 * p["BARRIER_ZONE_ES_TICKS"]
                )
            )
        second -= SECOND_NS
    return samples


def state_name(row: dict, depth: int, q20: float | None, p: dict) -> str:
    """§7.2: the first of the eight rules that holds, for an observable zone."""
    ratio = row["barrier_replenishment_ratio"]
    delta_liq = row["barrier_delta_liq"]
    threshold = p["F_thresh"]
    if ratio < p["R_vac"] and delta_liq < -threshold and row["barrier_canceled"] > row["barrier_filled"]:
        return "VACUUM"
    if ratio > p["R_wall"] and delta_liq > threshold:
        return "WALL"
    if delta_liq < -threshold and row["barrier_filled"] >= row["barrier_canceled"]:
        return "CONSUMED"
    if delta_liq > 0 and ratio > 1:
        return "ABSORPTION"
    if q20 is not None and depth < q20:
        return "WEAK"
    if abs(delta_liq) < threshold / 2 and row["barrier_churn"] > threshold:
        return "ABSORPTION"
    return "NEUTRAL"


def barrier_row(session_book: dict, trades: list[dict], point: dict, p: dict = DEFAULT) -> dict:
    """§7.2: every column of barrier_physics and barrier_evolution for one point.

    `session_book` is `book.whole` of the session's records. Direction UP is defended by the asks, DOWN by the
    bids.
    """
    asof = point["asof_ns"]
    level_tick = point["level_tick"]
    side = {"UP": 1, "DOWN": 0}[point["direction"]]
    hit = {1: 1, 0: -1}[side]  # the aggressor that trades against the defending side
    prices = zone_prices(level_tick, p["BARRIER_ZONE_ES_TICKS"])
    start = asof - p["W_b"] * SECOND_NS

    now = look(session_book, asof, level_tick, side, p)
    row = {
        "barrier_zone_visible_frac": now["frac"],
        "barrier_observable": now["observable"],
        "barrier_state": "UNKNOWN",
    }
    for minutes in (1, 3, 5):
        before = look(session_book, asof - minutes * 60 * SECOND_NS, level_tick, side, p)
        both = now["observable"] and before["observable"]
        delta = now["depth"] - before["depth"] if both else None
        row[f"barrier_delta_{minutes}min"] = delta
        has_base = both and before["depth"] != 0
        row[f"barrier_pct_change_{minutes}min"] = delta / before["depth"] if has_base else None
    if not now["observable"]:
        return row | dict.fromkeys(NULL_WHEN_NOT_OBSERVABLE)

    added = lost = 0
    for change in session_book["tape"]:
        if start <= change["ts_event_ns"] < asof and change["side"] == side and change["tick"] in prices:
            added += max(0, change["delta"])
            lost += max(0, -change["delta"])
    filled = sum(
        trade["size"]
        for trade in trades_within(trades, start, asof)
        if trade["tick"] in prices and trade["aggressor"] == hit
    )
    delta_liq = added - lost
    row["barrier_added"] = added
    row["barrier_filled"] = filled
    row["barrier_canceled"] = max(0, lost - filled)
    row["barrier_delta_liq"] = delta_liq
    row["barrier_churn"] = added + lost
    row["barrier_replenishment_ratio"] = added / (max(lost, filled) + EPS)
    row["barrier_delta_liq_log"] = math.copysign(math.log(1 + abs(delta_liq)), delta_liq)
    row["barrier_depth_in_zone"] = now["depth"]

    samples = wall_samples(session_book["states"], asof, side, p)
    enough = len(samples) >= 60
    middle = median(samples) if enough else 0
    row["wall_ratio"] = now["depth"] / middle if enough and middle else None
    row["wall_ratio_log"] = None if row["wall_ratio"] is None else math.log(1 + row["wall_ratio"])
    q20 = quantile(samples, p["WEAK_PERCENTILE"]) if enough else None
    row["barrier_state"] = state_name(row, now["depth"], q20, p)
    return row
