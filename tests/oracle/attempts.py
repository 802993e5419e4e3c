"""Which attempt at a level this is, and what changed since the first (spec §5.5, §7.7, reading 5)."""

from .rules import DEFAULT
from .touches import prior_touches

# trend -> the feature that it follows
TRENDS = {
    "barrier_replenishment_trend": "barrier_replenishment_ratio",
    "barrier_delta_liq_trend": "barrier_delta_liq",
    "tape_velocity_trend": "tape_velocity",
    "tape_imbalance_trend": "tape_imbalance",
}


def cluster_before(emitted: list[dict], point: dict) -> list[dict]:
    """§7.7: touches of the point's attempt cluster with t0 before its anchor and before its asof, in order."""
    group = ("level_kind_name", "direction", "attempt_cluster_id")
    found = [
        touch
        for touch in emitted
        if all(touch[name] == point[name] for name in group)
        and touch["ts_ns"] < point["anchor_ns"]
        and touch["ts_ns"] < point["asof_ns"]
    ]
    return sorted(found, key=lambda touch: (touch["ts_ns"], touch["level_kind"], touch["level_tick"]))


def attempts_row(emitted: list[dict], features, point: dict, p: dict = DEFAULT, ratio: float = 10.0) -> dict:
    """§7.7: prior_touches, attempt_index and the four trends of one point.

    `emitted` are the session's touches; `features(event_id, stage)` the barrier and tape columns of that observation,
    None when it has no row. A first attempt is compared with itself: 0, or NULL where its value is NULL.
    """
    cluster = cluster_before(emitted, point)
    own = features(point["event_id"], point["stage"])
    first = features(cluster[0]["event_id"], point["stage"]) if cluster else own
    row = {
        "prior_touches": prior_touches(emitted, point, p, ratio),
        "attempt_index": 1 + len(cluster),
    }
    for trend, name in TRENDS.items():
        known = first is not None and own[name] is not None and first[name] is not None
        row[trend] = float(own[name] - first[name]) if known else None
    return row
