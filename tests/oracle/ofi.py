"""Order flow imbalance of one observation point (spec §7.5, readings 6 and 7)."""

import math
from itertools import pairwise

from . import book
from .rules import DEFAULT, SECOND_NS

WINDOWS_S = (30, 60, 120, 300)


def level(state: dict, side: str, k: int) -> tuple[float, int]:
    """(price, size) of the k-th best present level, k from 1; an absent bid is at -inf, an absent ask at +inf,
    both with size 0."""
    prices = sorted(state[side], reverse=side == "bids")
    if k <= len(prices):
        return prices[k - 1], state[side][prices[k - 1]]
    return (-math.inf if side == "bids" else math.inf), 0


def e(before: dict, now: dict, k: int) -> int:
    """§7.5: e_k of one event, word for word."""
    bid_was, size_bid_was = level(before, "bids", k)
    bid, size_bid = level(now, "bids", k)
    ask_was, size_ask_was = level(before, "asks", k)
    ask, size_ask = level(now, "asks", k)
    total = 0
    if bid >= bid_was:
        total += size_bid
    if bid <= bid_was:
        total -= size_bid_was
    if ask <= ask_was:
        total -= size_ask
    if ask >= ask_was:
        total += size_ask_was
    return total


def flows(states: list[dict]) -> list[tuple[int, int, int]]:
    """(time, Σ_k e_k, e_1) of every valid state that follows another one of its segment."""
    found = []
    for before, now in pairwise(states):
        if not now["is_reference"]:
            by_level = [e(before, now, k) for k in range(1, 11)]
            found.append((now["ts"], sum(by_level), by_level[0]))
    return found


def ofi_row(session_book: dict, point: dict, p: dict = DEFAULT, events: list | None = None) -> dict:
    """§7.5: every column of the group `ofi`. ``events`` are `flows` of the session's states, if they are at hand."""
    asof = point["asof_ns"]
    near = range(
        point["level_tick"] - p["BARRIER_ZONE_ES_TICKS"], point["level_tick"] + p["BARRIER_ZONE_ES_TICKS"] + 1
    )
    events = flows(session_book["states"]) if events is None else events
    segments = book.segments_as_of(session_book["entries"], asof, p["GAP_S"], session_book["gaps"])
    row = {}
    for w in WINDOWS_S:
        start = asof - w * SECOND_NS
        covered = sum(max(0, min(last, asof) - max(first, start)) for first, last in segments)
        names = (f"ofi_{w}s", f"ofi_l1_{w}s", f"ofi_near_level_{w}s")
        if 10 * covered < 9 * w * SECOND_NS:
            row |= dict.fromkeys(names)
            continue
        mine = [event for event in events if start <= event[0] < asof]
        changes = [
            change
            for change in session_book["tape"]
            if start <= change["ts_event_ns"] < asof and change["tick"] in near
        ]
        bids = sum(change["delta"] for change in changes if change["side"] == 0)
        asks = sum(change["delta"] for change in changes if change["side"] == 1)
        values = (sum(event[1] for event in mine), sum(event[2] for event in mine), bids - asks)
        row |= dict(zip(names, values, strict=True))
    known = row["ofi_30s"] is not None and row["ofi_120s"] is not None
    row["ofi_acceleration"] = row["ofi_30s"] / 30 - row["ofi_120s"] / 120 if known else None
    return row
