"""Outcomes by first passage on trades (spec §12, reading 10)."""

import math
from itertools import pairwise

from .bars import atr_points
from .rules import DEFAULT, MINUTE_NS, SECOND_NS, TICK_POINTS, direction_sign, last_trade_before, ticks
from .rules import trades_within as within

LABEL_COLUMNS = (
    "outcome",
    "time_to_break_1",
    "time_to_break_2",
    "time_to_bounce_1",
    "time_to_bounce_2",
    "time_to_threshold_1",
    "time_to_threshold_2",
    "tradeable_1",
    "tradeable_2",
    "excursion_max",
    "excursion_min",
    "strength_signed",
    "strength_abs",
    "anchor_spot",
    "future_price",
)


def thresholds_ticks(atr: float | None, p: dict = DEFAULT, ratio: float = 10.0) -> tuple[int, int] | None:
    """§12: (theta_1, theta_2) in ticks: `dollars` by the ratio, `atr` from the ATR in points or None.

    In `atr` mode both are worked out in points and then rounded, theta_1 from the unrounded theta_2.
    """
    if p["theta_mode"] == "dollars":
        return ticks(p["STRENGTH_THRESHOLD_1"], ratio), ticks(p["STRENGTH_THRESHOLD_2"], ratio)
    if atr is None:
        return None
    theta_2 = atr * math.sqrt(p["LOOKFORWARD_MINUTES"])
    theta_2 = min(max(theta_2, p["THETA_ATR_MIN"]), p["THETA_ATR_MAX"])
    theta_1 = p["THETA_1_FRACTION"] * theta_2
    return math.floor(theta_1 / TICK_POINTS + 0.5), math.floor(theta_2 / TICK_POINTS + 0.5)


def seconds_to(trades: list[dict], u: int, passes) -> float | None:
    """Seconds from u to the first trade that passes, or None."""
    for trade in trades:
        if passes(trade["tick"]):
            return (trade["ts_event_ns"] - u) / SECOND_NS
    return None


def has_silence(window: list[dict], u: int, end: int, gap_s: int) -> bool:
    """Reading 10: a stretch without trades of more than GAP_S anywhere in [u, end], both ends included."""
    times = [u] + [trade["ts_event_ns"] for trade in window] + [end]
    return any(b - a > gap_s * SECOND_NS for a, b in pairwise(times))


def label_row(
    session_trades: list[dict],
    session: dict,
    point: dict,
    p: dict = DEFAULT,
    *,
    ratio: float = 10.0,
    manifest_gaps: tuple = (),
) -> dict:
    """§12: the label columns of one point but cluster_size and sample_weight.

    The window is [u, u + LOOKFORWARD), u = `label_start_ns` of the point (exact). Status by precedence:
    already_resolved, crosses_session, data_gap, ok; only `ok` rows hold label values.
    """
    u = point["label_start_ns"]
    end = u + p["LOOKFORWARD_MINUTES"] * MINUTE_NS
    level = point["level_tick"]
    sign = direction_sign(point["direction"])
    window = within(session_trades, u, end)
    anchor = last_trade_before(session_trades, u)
    theta = thresholds_ticks(atr_points(session_trades, u), p, ratio)

    row = {
        "label_start_ns": u,
        "label_end_ns": end,
        "theta_1": None if theta is None else theta[0] * TICK_POINTS,
        "theta_2": None if theta is None else theta[1] * TICK_POINTS,
        **dict.fromkeys(LABEL_COLUMNS),
    }
    close = session["rth_close_ns"] if p["event_hours"] == "rth" else session["globex_close_ns"]
    before = [trade["tick"] for trade in within(session_trades, point["ts_ns"], u)]
    if anchor is not None:
        before.append(anchor["tick"])
    if theta is not None and any(abs(tick - level) >= theta[1] for tick in before):
        row["label_status"] = "already_resolved"
    elif end > close:
        row["label_status"] = "crosses_session"
    elif (
        theta is None
        or not window
        or has_silence(window, u, end, p["GAP_S"])
        or any(gap_from < end and gap_to > u for gap_from, gap_to in manifest_gaps)
    ):
        row["label_status"] = "data_gap"
    else:
        row["label_status"] = "ok"
    if row["label_status"] != "ok":
        return row

    # Turned so that "beyond the level" is positive: a break goes up, a bounce down.
    turned = [{**trade, "tick": sign * (trade["tick"] - level)} for trade in window]
    for k in (1, 2):
        limit = theta[k - 1]
        to_break = seconds_to(turned, u, lambda tick, limit=limit: tick >= limit)
        to_bounce = seconds_to(turned, u, lambda tick, limit=limit: tick <= -limit)
        reached = [t for t in (to_break, to_bounce) if t is not None]
        row[f"time_to_break_{k}"] = to_break
        row[f"time_to_bounce_{k}"] = to_bounce
        row[f"time_to_threshold_{k}"] = min(reached) if reached else None
        row[f"tradeable_{k}"] = 1 if reached else 0
    row["outcome"] = first_passed(turned, theta[1])
    row["excursion_max"] = max(0, *(trade["tick"] for trade in turned)) * TICK_POINTS
    row["excursion_min"] = max(0, *(-trade["tick"] for trade in turned)) * TICK_POINTS
    row["strength_signed"] = row["excursion_max"] - row["excursion_min"]
    row["strength_abs"] = max(row["excursion_max"], row["excursion_min"])
    row["anchor_spot"] = None if anchor is None else anchor["tick"] * TICK_POINTS
    row["future_price"] = window[-1]["tick"] * TICK_POINTS
    return row


def first_passed(turned: list[dict], limit: int) -> str:
    """§12: BREAK or BOUNCE by the side of theta_2 that a trade passes first in total order, CHOP if none."""
    for trade in turned:
        if trade["tick"] >= limit:
            return "BREAK"
        if trade["tick"] <= -limit:
            return "BOUNCE"
    return "CHOP"


def label_rows(
    session_trades: list[dict],
    session: dict,
    points: list[dict],
    p: dict = DEFAULT,
    *,
    ratio_asof=lambda t_ns: 10.0,
    manifest_gaps: tuple = (),
) -> list[dict]:
    """§12: labels of all points of a session, with cluster_size (ok events of the same kind, direction,
    cluster and stage) and sample_weight = 1 / cluster_size on `ok` rows. Thresholds by the ratio as of u."""
    rows = [
        label_row(
            session_trades,
            session,
            point,
            p,
            ratio=ratio_asof(point["label_start_ns"]),
            manifest_gaps=manifest_gaps,
        )
        for point in points
    ]

    def cluster(point: dict) -> tuple:
        return tuple(point[k] for k in ("level_kind_name", "direction", "attempt_cluster_id", "stage"))

    for point, row in zip(points, rows, strict=True):
        row["cluster_size"] = row["sample_weight"] = None
        if row["label_status"] == "ok":
            size = sum(
                other_row["label_status"] == "ok" and cluster(other) == cluster(point)
                for other, other_row in zip(points, rows, strict=True)
            )
            row["cluster_size"], row["sample_weight"] = size, 1 / size
    return rows
