"""Features of stops equal the oracle on random worlds: missing bars, ties, late, repeated and missing events."""

from typing import Any

import pytest

from tests.laws.stop_features_kit import built, everything, features
from tests.laws.test_kernels_equal_oracle import seeds
from tests.oracle import stop_features as oracle
from tests.oracle.stop_worlds import World

TO_THE_LAST_BITS = (
    *(
        "order_qty_to_median_1m_volume",
        "signed_imbalance_1m",
        "signed_imbalance_5m",
        "rv_1m",
        "rv_5m",
        "rv_1h",
    ),
    "last_minute_return_closing",
)


@seeds(1, 12)
def test_features_equal_the_oracle(seed: int, manifest: dict[str, Any]):
    world = World(seed, stops=150)
    pipeline = built(manifest, **everything(world))
    bars = {
        s: [
            {k: r[k] for k in ("open_time", "close", "volume", "quote_volume")}
            for r in pipeline.rows("market_bars_1m", f"symbol = '{s}'")
        ]
        for s in world.bars
    }
    assert bars == world.bars
    found = features(pipeline)
    assert found.keys() == {e["execution_token"] for e in world.triggers}
    runs = set()
    for trigger in world.triggers:
        of = bars[trigger["symbol"]]
        trades = [x for x in world.trades if x["symbol"] == trigger["symbol"]]
        expected = oracle.stop_outcome(trigger, of, world.events) | oracle.slippage(trigger, of, trades)
        row = found[trigger["execution_token"]]
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            if name in TO_THE_LAST_BITS and value is not None:
                assert row[name] == pytest.approx(value, rel=1e-13, abs=1e-15), name
            else:
                assert row[name] == value, (name, trigger)
        runs.add(row["consecutive_failures_1h"])
    assert {0, 1, 2} <= runs


def test_every_input_was_available(manifest: dict[str, Any]):
    pipeline = built(manifest, **everything(World(3, stops=60)))
    rows = pipeline.rows("feat_stop_triggers")
    assert rows
    assert all(r["available_at"] <= r["event_time"] for r in rows)
