"""The ES/SPY ratio of each second (spec market 5.2)."""

import bisect
import statistics

from .rules import MINUTE_NS, SECOND_NS, last_trade_before

ODD_LOT = 37
HOUR_NS = 60 * MINUTE_NS


def pairs(spy: list[dict], trades: list[dict], session: dict) -> list[dict]:
    """§5.2: every SPY trade of 04:00-20:00 NY, no odd lot, correction 0, with the last ES front trade strictly
    before it, if at most 1 s old.

    The session runs from 18:00 to 17:00, so 04:00-20:00 is [premarket_open, globex_close) and the first two hours.
    """
    found = []
    for print_ in spy:
        t = print_["ts_event_ns"]
        evening = session["globex_open_ns"] <= t < session["globex_open_ns"] + 2 * HOUR_NS
        day = session["premarket_open_ns"] <= t < session["globex_close_ns"]
        if not (evening or day) or ODD_LOT in (print_["conditions"] or []) or print_["correction"] != 0:
            continue
        if t >= session["globex_close_ns"]:
            continue
        es = last_trade_before(trades, t)
        if es is not None and t - es["ts_event_ns"] <= SECOND_NS:
            found.append({"ts_event_ns": t, "r": es["tick"] * 0.25 / float(print_["price"])})
    return found


def medians(paired: list[dict], from_ns: int, until_ns: int) -> list[dict]:
    """§5.2: the whole seconds g of [from, until) with >= 5 pairs in [g - 60 s, g), with their median."""
    times = [pair["ts_event_ns"] for pair in paired]
    rows = []
    for g in range(from_ns, until_ns, SECOND_NS):
        window = paired[bisect.bisect_left(times, g - MINUTE_NS) : bisect.bisect_left(times, g)]
        if len(window) >= 5:
            rows.append(
                {
                    "asof_ns": g,
                    "es_spy_ratio": statistics.median(pair["r"] for pair in window),
                    "pair_count": len(window),
                    "max_input_ts_ns": max(pair["ts_event_ns"] for pair in window),
                }
            )
    return rows


def live_rows(spy: list[dict], trades: list[dict], session: dict) -> list[dict]:
    """The live seconds of a session."""
    return medians(pairs(spy, trades, session), session["globex_open_ns"], session["globex_close_ns"])


def ratio_rows(live: list[dict], previous_live: list[dict], session: dict) -> list[dict]:
    """§5.2: one row for each whole second of the session: live, else the last live value of this or the previous
    session, else 10. `live` and `previous_live` are `live_rows` of the two sessions."""
    rows = []
    known = {row["asof_ns"]: row for row in live}
    last = previous_live[-1] if previous_live else None
    for g in range(session["globex_open_ns"], session["globex_close_ns"], SECOND_NS):
        last = known.get(g, last)
        rows.append(
            {
                "asof_ns": g,
                "es_spy_ratio": 10.0 if last is None else last["es_spy_ratio"],
                "ratio_source": "live" if g in known else "carried" if last is not None else "default",
                "max_input_ts_ns": None if last is None else last["max_input_ts_ns"],
            }
        )
    return rows


def ratio_at(rows: list[dict], t_ns: int) -> dict:
    """§5.2: "as of t: the row at floor(t to 1 s)"; `rows` as `ratio_rows` gives them."""
    return rows[(t_ns - rows[0]["asof_ns"]) // SECOND_NS]
