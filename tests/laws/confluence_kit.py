"""The confluence model fed by hand: rows of what it reads in, its rows of one session out."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.in_memory import Pipeline
from tests.oracle.rules import direction_sign, last_trade_before

UPSTREAM = ("feat_touch_geometry", "feat_touch_mean_reversion", "feat_touch_fuel", "feat_touch_walls")
USED_UNTIL = ("mean_reversion_max_input_ts_ns", "fuel_max_input_ts_ns", "walls_max_input_ts_ns")
NOTHING_SEEN = {
    **dict.fromkeys(("atr", "sma_200", "sma_400", "sma_200_slope", "sma_400_slope")),
    **dict.fromkeys(("wall_short_call", "wall_short_put", *USED_UNTIL)),
    "fuel_effect": "UNKNOWN",
}
"""What the other groups say of a point when there is neither history nor an option."""


def level_row(name: str, tick: int, valid_from_ns: int, valid_to_ns: int, code: int, dynamic: bool) -> dict:
    return {
        "level_id": f"{name}_{tick}" if name in ("ROUND", "STRIKE", "USER") else name,
        "level_kind": code,
        "level_kind_name": name,
        "level_tick": tick,
        "level_price": tick * 0.25,
        "valid_from_ns": valid_from_ns,
        "valid_to_ns": valid_to_ns,
        "dynamic": dynamic,
    }


def point_row(point: Mapping[str, Any], trades: Sequence[dict], ratio: float) -> dict:
    """The row of observation_points that a point of the oracle stands for."""
    spot = last_trade_before(trades, point["asof_ns"])
    return {
        **point,
        "level_price": point["level_tick"] * 0.25,
        "direction_sign": direction_sign(point["direction"]),
        "spot_tick": spot["tick"],
        "spot_ts_ns": spot["ts_event_ns"],
        "es_spy_ratio": ratio,
    }


def confluence(
    pipeline: Pipeline, date: str, points: Sequence[dict], levels: Sequence[dict], seen: Mapping[str, dict]
) -> dict[str, dict]:
    """Rows of feat_touch_confluence by observation. ``points`` are rows as of `point_row`; ``seen`` has by observation
    what `NOTHING_SEEN` lists. The volume profiles are those that stand in the pipeline."""
    pipeline.replace("observation_points", date, points)
    pipeline.replace("levels", date, levels)
    for name in UPSTREAM:
        pipeline.replace(name, date, [{"observation_id": k, **row} for k, row in seen.items()])
    pipeline.build(date, only=("feat_touch_confluence",))
    return {row["observation_id"]: row for row in pipeline.rows("feat_touch_confluence", date)}
