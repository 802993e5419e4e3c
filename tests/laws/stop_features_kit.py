"""A world of stops in the compiled models of the execution domain, and what they say of each trigger."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.execution import ExecutionPipeline
from tests.oracle.stop_worlds import MINUTE, World

MODELS = ("feat_stop_triggers", "feat_stop_slippage")
NO_FEATURES = ("date", "client_id", "execution_token", "symbol", "operation_id", "event_time", "available_at")
LINEAGE = (*NO_FEATURES, "source_max_event_seq")


def everything(world: World) -> dict[str, Any]:
    return {"bars": world.bars, "trades": world.trades, "events": world.events}


def built(
    manifest: Mapping[str, Any],
    *,
    bars: Mapping[str, Sequence[dict]],
    trades: Sequence[dict],
    events: Sequence[dict],
    models: Sequence[str] = MODELS,
) -> ExecutionPipeline:
    """These rows landed, and features with all that they are made of built."""
    pipeline = ExecutionPipeline(manifest)
    pipeline.land(**bronze(bars, trades, events))
    pipeline.build(*models)
    return pipeline


def bronze(
    bars: Mapping[str, Sequence[dict]], trades: Sequence[dict], events: Sequence[dict]
) -> dict[str, list[dict]]:
    """Rows as their sources have them, by source."""
    return {
        "events": [
            {**{k: v for k, v in e.items() if k != "payload"}, "payload_json": plain(e["payload"])}
            for e in events
        ],
        "agg_trades": [
            {**x, "market": "spot", "first_trade_id": x["agg_id"], "last_trade_id": x["agg_id"]}
            for x in trades
        ],
        "klines": [
            {
                **dict.fromkeys(("open", "high", "low"), b["close"]),
                **b,
                **{"symbol": s, "market": "spot", "bar_interval": "1m", "trade_count": 1},
                **{"close_time": b["open_time"] + MINUTE, "taker_buy_base": 0, "taker_buy_quote": 0},
            }
            for s, of in bars.items()
            for b in of
        ],
    }


def plain(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A payload as its producer writes it: decimals and times as texts."""
    kept = (int, list, type(None))
    return {k: v if isinstance(v, kept) else getattr(v, "isoformat", v.__str__)() for k, v in payload.items()}


def features(pipeline: ExecutionPipeline) -> dict[str, dict[str, Any]]:
    """All features of each trigger, by its token."""
    found: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        for row in pipeline.rows(model):
            values = {k: v for k, v in row.items() if k not in LINEAGE}
            found.setdefault(row["execution_token"], {}).update(values)
    return found


def changed(manifest: Mapping[str, Any], model: str, old: str, new: str) -> dict[str, Any]:
    """The manifest with a piece of one model's SQL replaced."""
    other = dict(manifest) | {"nodes": dict(manifest["nodes"])}
    (uid,) = [
        u for u, n in manifest["nodes"].items() if n["resource_type"] == "model" and n["alias"] == model
    ]
    node = copy.copy(manifest["nodes"][uid])
    assert old in node["compiled_code"], f"{model} has no {old!r}"
    node["compiled_code"] = node["compiled_code"].replace(old, new)
    other["nodes"][uid] = node
    return other
