"""Book states, tape changes and segments (spec §7.1, readings 6 to 8)."""

from bisect import bisect_left
from itertools import pairwise

from .rules import SECOND_NS

F_LAST = 128
F_SNAPSHOT = 32
F_MAYBE_BAD_BOOK = 4


def present_levels(levels: list[tuple]) -> dict[int, int]:
    """Reading 6: a present level has a price and a size above 0. Returns tick -> size."""
    return {tick: size for tick, size in levels if tick is not None and size > 0}


def is_state_record(record: dict, f_last_absent: bool) -> bool:
    """§7.1.1: an event-end record is a state; T, F and N never are, and an R never is (reading 6)."""
    if record["action"] in ("T", "F", "N", "R"):
        return False
    return f_last_absent or bool(record["flags"] & F_LAST)


def read(records: list[dict], f_last_absent: bool = False) -> list[dict]:
    """One entry per record, with the state it shows, or None where the record is no state."""
    entries = []
    for record in records:
        entry = {
            "ts": record["ts_event_ns"],
            "sequence": record["sequence"],
            "ordinal": record["ordinal"],
            "action": record["action"],
            "flags": record["flags"],
            "state": None,
        }
        if is_state_record(record, f_last_absent):
            entry["state"] = {
                "ts": record["ts_event_ns"],
                "sequence": record["sequence"],
                "ordinal": record["ordinal"],
                "bids": present_levels(record["bids"]),
                "asks": present_levels(record["asks"]),
                # §7.1.4: with all ten levels of a side, its tenth price bounds what can be seen.
                "bid_floor": record["bids"][9][0] if len(present_levels(record["bids"])) == 10 else None,
                "ask_ceiling": record["asks"][9][0] if len(present_levels(record["asks"])) == 10 else None,
            }
        entries.append(entry)
    return entries


def is_valid(state: dict) -> bool:
    """§7.1.2: invalid only when both sides are present and best bid >= best ask."""
    if state["bids"] and state["asks"]:
        return max(state["bids"]) < min(state["asks"])
    return True


def is_visible(state: dict, side: int, tick: int) -> bool:
    """§7.1.4: bids are seen from their tenth price upwards, asks up to theirs; else the whole axis."""
    if side == 0:
        return state["bid_floor"] is None or tick >= state["bid_floor"]
    return state["ask_ceiling"] is None or tick <= state["ask_ceiling"]


def size_at(state: dict, side: int, tick: int) -> int:
    """§7.1.4: a price that is not listed has size 0."""
    return (state["bids"] if side == 0 else state["asks"]).get(tick, 0)


def walk(entries: list[dict], gap_s: int = 60, manifest_gaps: tuple = ()) -> dict:
    """§7.1.2 and §7.1.3: the valid states in order, each with its segment number.

    `states` are the valid states (each a copy with `segment` and `is_reference`); `broken` says whether a
    break lies after the last of them; `invalid_since` is the time of the first state of an invalid run that
    has not ended; `last_record_ts` that of the last record of any action.
    """
    states = []
    broken = True
    segment = -1
    invalid_since = None
    last_record_ts = None
    for entry in entries:
        ts = entry["ts"]
        if last_record_ts is not None:
            if ts - last_record_ts > gap_s * SECOND_NS:
                broken = True
            for gap_from, gap_to in manifest_gaps:
                if gap_from < ts and gap_to > last_record_ts:
                    broken = True
        last_record_ts = ts
        if entry["action"] == "R" or entry["flags"] & (F_SNAPSHOT | F_MAYBE_BAD_BOOK):
            broken = True
        if entry["state"] is None:
            continue
        if not is_valid(entry["state"]):
            if invalid_since is None:
                invalid_since = ts
            continue
        if invalid_since is not None and ts - invalid_since > SECOND_NS:
            broken = True
        invalid_since = None
        if broken:
            segment += 1
        states.append({**entry["state"], "segment": segment, "is_reference": broken})
        broken = False
    return {
        "states": states,
        "broken": broken,
        "invalid_since": invalid_since,
        "last_record_ts": last_record_ts,
    }


def changes(states: list[dict]) -> list[dict]:
    """§7.1.5 and §7.1.6: the book tape, one row per price whose size changed between two valid states.

    Only prices inside the visible ranges of both states count, and nothing is taken across a break. Rows are
    sorted by (state, side, tick).
    """
    rows = []
    for before, now in pairwise(states):
        if now["is_reference"]:
            continue
        for side, name in ((0, "bids"), (1, "asks")):
            for tick in sorted(set(before[name]) | set(now[name])):
                if not (is_visible(before, side, tick) and is_visible(now, side, tick)):
                    continue
                delta = size_at(now, side, tick) - size_at(before, side, tick)
                if delta != 0:
                    rows.append(
                        {
                            "ts_event_ns": now["ts"],
                            "sequence": now["sequence"],
                            "ordinal": now["ordinal"],
                            "side": side,
                            "tick": tick,
                            "delta": delta,
                        }
                    )
    return rows


def last_valid_state_before(states: list[dict], t_ns: int) -> dict | None:
    """§1.9: the last valid state, in total order, with time strictly below t; an R does not end it."""
    at = bisect_left(states, t_ns, key=lambda state: state["ts"])
    return states[at - 1] if at else None


def segments_as_of(
    entries: list[dict], asof_ns: int, gap_s: int = 60, manifest_gaps: tuple = ()
) -> list[tuple[int, int]]:
    """Readings 7 and §7.2: [from, to] of each segment, as records before asof tell it.

    A segment covers from its first valid state to its last; the last one reaches asof while it is open: no
    break after its last state, asof at most GAP_S after the last record, and no invalid run that has already
    lasted more than 1 s.
    """
    seen = walk([entry for entry in entries if entry["ts"] < asof_ns], gap_s, manifest_gaps)
    spans: dict[int, list[int]] = {}
    for state in seen["states"]:
        spans.setdefault(state["segment"], [state["ts"], state["ts"]])[1] = state["ts"]
    result = [(start, end) for start, end in spans.values()]
    if result:
        is_open = not seen["broken"]
        if asof_ns - seen["last_record_ts"] > gap_s * SECOND_NS:
            is_open = False
        if seen["invalid_since"] is not None and asof_ns - seen["invalid_since"] > SECOND_NS:
            is_open = False
        if is_open:
            result[-1] = (result[-1][0], asof_ns)
    return result


def covered_ns(
    entries: list[dict], start_ns: int, asof_ns: int, gap_s: int = 60, manifest_gaps: tuple = ()
) -> int:
    """Nanoseconds of [start, asof) that valid segments cover, as known at asof."""
    total = 0
    for first, last in segments_as_of(entries, asof_ns, gap_s, manifest_gaps):
        total += max(0, min(last, asof_ns) - max(first, start_ns))
    return total


def whole(
    records: list[dict], gap_s: int = 60, f_last_absent: bool = False, manifest_gaps: tuple = ()
) -> dict:
    """The views of a session's book that the barrier questions need: entries, valid states, tape, known gaps.

    Neither a state nor a change depends on a later record, so one pass over the session serves every asof;
    what does depend on it (open segments) is asked anew for each asof.
    """
    entries = read(records, f_last_absent)
    states = walk(entries, gap_s, manifest_gaps)["states"]
    return {"entries": entries, "states": states, "tape": changes(states), "gaps": manifest_gaps}
