"""No feature of a stop knows anything that came after it (spec/execution.md 5.2): whatever happens later, each feature
of a trigger stays as it is, to the last bit. Features that look ahead on purpose are caught."""

import random
from typing import Any

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.laws.stop_features_kit import built, changed, everything, features
from tests.oracle.stop_worlds import World, before, other_future

SEED = 11
FEATURES_OF_BOTH_SETS = 24


@pytest.fixture(scope="module")
def world() -> World:
    return World(SEED, stops=150)


@pytest.fixture(scope="module")
def triggers(world: World) -> list[dict]:
    """Some triggers of both symbols, late enough for all that is looked back at."""
    found = sorted(world.triggers, key=lambda e: e["occurred_at"])
    chosen = random.Random(SEED).sample(found[len(found) // 3 :], 3)  # noqa: S311
    assert {e["symbol"] for e in chosen} == set(world.bars)
    return chosen


@pytest.fixture(scope="module")
def whole(world: World, manifest: dict[str, Any]) -> ExecutionPipeline:
    return built(manifest, **everything(world))


@pytest.fixture(scope="module")
def truncated(
    world: World, triggers: list[dict], manifest: dict[str, Any]
) -> list[tuple[dict, ExecutionPipeline]]:
    return [(t, built(manifest, **before(world, t))) for t in triggers]


@pytest.fixture(scope="module")
def disturbed(
    world: World, triggers: list[dict], manifest: dict[str, Any]
) -> list[tuple[dict, ExecutionPipeline]]:
    return [(t, built(manifest, **other_future(world, t, 100 + n))) for n, t in enumerate(triggers[:2])]


def differences(whole: ExecutionPipeline, others: list[tuple[dict, ExecutionPipeline]]) -> set[str]:
    """Features of the chosen triggers that another future changes."""
    known = features(whole)
    found = set()
    for trigger, other in others:
        token = trigger["execution_token"]
        mine, theirs = known[token], features(other)[token]
        assert mine.keys() == theirs.keys()
        assert len(mine) == FEATURES_OF_BOTH_SETS
        found |= {name for name in mine if mine[name] != theirs[name]}
    return found


def test_truncation_at_t_changes_no_feature(whole, truncated):
    assert differences(whole, truncated) == set()
    said = [features(whole)[t["execution_token"]] for t, _ in truncated]
    silent = {name for name in said[0] if all(row[name] is None for row in said)}
    assert silent == set()  # a feature that says nothing of any trigger would pass anything


def test_noise_after_t_changes_no_feature(whole, disturbed):
    assert differences(whole, disturbed) == set()
    for trigger, other in disturbed:  # and the noise was there
        (row,) = other.rows("stop_executions", f"execution_token = '{trigger['execution_token']}'")
        assert row["status"] == "EXECUTED"


def test_the_canary_is_in_no_feature(world, whole, manifest):
    """The outcome stands in the payload of the events that end an execution: other words there change nothing, and
    another tenant's events don't either."""
    events = []
    for e in world.events:
        payload = dict(e["payload"])
        if "canary_outcome" in payload:
            payload["canary_outcome"] = "987654.321"
        events.append({**e, "payload": payload})
    tokens = {e["execution_token"] for e in world.events if e["client_id"] == 2}
    for e in [e for e in world.events if e["client_id"] == 1][:40]:
        tenant = {
            "client_id": 999,
            "symbol": e["symbol"],
            "execution_token": f"canary {e['execution_token']}",
        }
        kind = "FAILED" if e["event_type"] == "EXECUTED" else e["event_type"]
        number = f"00000000-0000-0000-0003-{e['event_seq']:012d}"
        events.append({**e, **tenant, "event_id": number, "event_type": kind})
    with_canary = features(built(manifest, **{**everything(world), "events": events}))
    known = features(whole)
    assert {t: with_canary[t] for t in known} == known
    assert tokens
    assert not any(
        "987654" in str(value) or "canary" in str(value)
        for row in with_canary.values()
        for value in row.values()
    )


# What is built anew, where a model of it leaks.
LEAKY = (
    *("market_bars_1m", "stop_triggers", "int_stop_triggers__windows", "int_stop_triggers__moves"),
    *("feat_stop_triggers", "feat_stop_slippage"),
)
LEAKS: dict[str, tuple[str, str, str]] = {
    "the bar that is still running": (
        "market_bars_1m",
        "open_time,\n\n    -- time",
        "open_time - interval '1 minute' as open_time,\n\n    -- time",
    ),
    "failures of the next minutes": (
        "feat_stop_triggers",
        "points_alone.event_time > runs_of_failures.known_at",
        "points_alone.event_time + interval '30 minutes' > runs_of_failures.known_at",
    ),
    "the fill as the level": (
        "stop_triggers",
        "trigger_event_stop_price as stop_price",
        "coalesce(fill_price, trigger_event_stop_price) as stop_price",
    ),
    "the last price of the running minute": (
        "market_bars_1m",
        "open_time,\n\n    -- time",
        "open_time - interval '2 minutes' as open_time,\n\n    -- time",
    ),
    "the outcome": (
        "stop_triggers",
        "trigger_event_quantity as quantity",
        "case when status = 'EXECUTED' then 1 else 2 end as quantity",
    ),
}
CAUGHT_BY = {
    "the bar that is still running": {"volatility_15m", "volume_24h", "volume_24h_base"},
    "failures of the next minutes": {"consecutive_failures_1h"},
    "the fill as the level": {"stop_distance_pct"},
    "the last price of the running minute": {"last_minute_return_closing"},
    "the outcome": {"order_notional_quote"},
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_feature_that_looks_ahead_is_caught(leak, world, whole, truncated, disturbed, manifest):
    """The same comparison, with a model that leaks: rebuilt alone, over what stands."""
    model, old, new = LEAKS[leak]
    leaky = changed(manifest, model, old, new)
    others = [*truncated, *disturbed]
    pipelines = [whole, *(p for _, p in others)]
    downstream = [m for m in LEAKY if model in whole.upstream(m)]
    try:
        _use(pipelines, leaky, downstream)
        assert differences(whole, others) & CAUGHT_BY[leak]
    finally:
        _use(pipelines, manifest, downstream)
    assert differences(whole, others) == set()


def _use(pipelines: list[ExecutionPipeline], manifest: dict[str, Any], models: list[str]) -> None:
    nodes = {n["alias"]: n for n in manifest["nodes"].values() if n["resource_type"] == "model"}
    for pipeline in pipelines:
        for name in models:
            pipeline.models[name] = nodes[name]
        pipeline.rebuild(*models)
