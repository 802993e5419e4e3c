"""The touch machine, attempt clusters and event ids (spec §5.5, readings 4 and 5)."""

import hashlib

from .rules import DEFAULT, MINUTE_NS, SECOND_NS, direction_sign, ticks, trades_within

LONGEST_CONFIRMATION_S = 480  # a constant of §5.5


def machine(
    rows: list[dict], trades: list[dict], p: dict = DEFAULT, ratio_asof=lambda t_ns: 10.0
) -> list[dict]:
    """§5.5, steps 1 to 4, for the rows of one level_id in time order: its touches over the whole session.

    Trades outside the level's validity are not seen. A row that does not begin where the one before ended is
    a birth; a level_tick that moved by more than M since the row before is a reset. Both start DISARMED
    without a dwell. After a touch, ARM needs a run of far trades whose first and current one are >= REARM_S
    apart.
    """
    found = []
    armed = False
    dwell_needed = False
    far_since = None
    far_sign = None  # sign of d at the last trade with |d| > M
    previous = None
    for row in rows:
        born = previous is None or previous["valid_to_ns"] != row["valid_from_ns"]
        moved = previous is not None and abs(row["level_tick"] - previous["level_tick"]) > ticks(
            p["MONITOR_BAND"], ratio_asof(row["valid_from_ns"])
        )
        if born or moved:
            armed, dwell_needed, far_since, far_sign = False, False, None, None
        previous = row
        for trade in trades_within(trades, row["valid_from_ns"], row["valid_to_ns"]):
            t = trade["ts_event_ns"]
            ratio = ratio_asof(t)
            monitor = ticks(p["MONITOR_BAND"], ratio)
            far = monitor + ticks(p["HYSTERESIS"], ratio)
            d = trade["tick"] - row["level_tick"]
            if abs(d) > monitor:
                far_sign = 1 if d > 0 else -1
            if armed:
                if abs(d) <= ticks(p["TOUCH_BAND"], ratio):
                    direction = "UP" if far_sign < 0 else "DOWN"
                    found.append({"row": row, "trade": trade, "direction": direction, "es_spy_ratio": ratio})
                    armed, dwell_needed, far_since = False, True, None
            elif abs(d) > far:
                if far_since is None:
                    far_since = t
                if not dwell_needed or t - far_since >= p["REARM_S"] * SECOND_NS:
                    armed = True
            else:
                far_since = None
    return found


def emission_hours(session: dict, p: dict = DEFAULT) -> tuple[int, int]:
    """§5.5.5: t0 of an emitted touch lies in [from, to); an empty interval on holidays in `rth` mode."""
    tail = LONGEST_CONFIRMATION_S * SECOND_NS + p["LOOKFORWARD_MINUTES"] * MINUTE_NS
    if p["event_hours"] == "all":
        return session["globex_open_ns"], session["globex_close_ns"] - tail
    if session["is_holiday"]:
        return session["rth_open_ns"], session["rth_open_ns"]
    return session["rth_open_ns"], session["rth_close_ns"] - tail


def event_id(touch: dict) -> str:
    """§5.5: first 32 hex of sha256 over six values of the touch joined by `|`."""
    names = ("session_date", "level_kind_name", "level_tick", "ts_ns", "direction", "universe_version")
    text = "|".join(str(touch[name]) for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def touches(
    session: dict,
    session_trades: list[dict],
    level_rows: list[dict],
    p: dict = DEFAULT,
    ratio_asof=lambda t_ns: 10.0,
) -> list[dict]:
    """§5.5: the emitted touches of a session with clusters and attempts, by (t0, level_kind, level_tick).

    `level_rows` as `levels.level_rows` gives them; `ratio_asof(t_ns)` is the ES/SPY ratio as of an instant.
    """
    first, end = emission_hours(session, p)
    by_level: dict[str, list[dict]] = {}
    for row in sorted(level_rows, key=lambda row: row["valid_from_ns"]):
        by_level.setdefault(row["level_id"], []).append(row)

    emitted = []
    for level_id, rows in by_level.items():
        for hit in machine(rows, session_trades, p, ratio_asof):
            t0 = hit["trade"]["ts_event_ns"]
            if not first <= t0 < end:
                continue
            row = hit["row"]
            touch = {
                "session_date": session["session_date"],
                "level_id": level_id,
                "level_kind": row["level_kind"],
                "level_kind_name": row["level_kind_name"],
                "level_tick": row["level_tick"],
                "level_price": row["level_tick"] * 0.25,
                "direction": hit["direction"],
                "direction_sign": direction_sign(hit["direction"]),
                "ts_ns": t0,
                "touch_tick": hit["trade"]["tick"],
                "es_spy_ratio": hit["es_spy_ratio"],
                "universe_version": p["universe_version"],
            }
            emitted.append({"event_id": event_id(touch), **touch})
    emitted.sort(key=lambda touch: (touch["ts_ns"], touch["level_kind"], touch["level_tick"]))
    number_attempts(emitted, p)
    return emitted


def number_attempts(emitted: list[dict], p: dict = DEFAULT) -> None:
    """§5.5, attempt clusters: per (level_kind_name, direction) in order, a new cluster when the gap to the
    previous touch exceeds TOUCH_CLUSTER_TIME_MINUTES or the level moved by more than the price band since it.
    Clusters count from 1 per group, attempts from 1 per cluster. Writes both into the touches."""
    last_of: dict[tuple, dict] = {}
    for touch in emitted:
        group = (touch["level_kind_name"], touch["direction"])
        last = last_of.get(group)
        if last is None:
            touch["attempt_cluster_id"], touch["attempt_index"] = 1, 1
        elif touch["ts_ns"] - last["ts_ns"] > p["TOUCH_CLUSTER_TIME_MINUTES"] * MINUTE_NS or abs(
            touch["level_tick"] - last["level_tick"]
        ) > ticks(p["TOUCH_CLUSTER_PRICE_BAND"], touch["es_spy_ratio"]):
            touch["attempt_cluster_id"], touch["attempt_index"] = last["attempt_cluster_id"] + 1, 1
        else:
            touch["attempt_cluster_id"] = last["attempt_cluster_id"]
            touch["attempt_index"] = last["attempt_index"] + 1
        last_of[group] = touch


def prior_touches(emitted: list[dict], point: dict, p: dict = DEFAULT, ratio: float = 10.0) -> int:
    """§5.5 and §7.7: earlier touches of the same level_kind_name, either direction, at most TOUCH_BAND away,
    with t0 before the anchor and before asof."""
    return sum(
        touch["level_kind_name"] == point["level_kind_name"]
        and abs(touch["level_tick"] - point["level_tick"]) <= ticks(p["TOUCH_BAND"], ratio)
        and touch["ts_ns"] < point["anchor_ns"]
        and touch["ts_ns"] < point["asof_ns"]
        for touch in emitted
    )
