"""SPY trades on after the last ES session that is there, so a date may have prints of SPY and its options alone: every
dataset of it can be built, and nothing is observed."""

from typing import Any

from lake.params import load
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import calendar
from tests.oracle import option_worlds, worlds
from tests.oracle.rules import SECOND_NS

DATE = "2025-11-03"


def test_a_date_without_es(manifest: dict[str, Any]):
    session = calendar()[DATE]
    rng = worlds.seeded(9_100_000)
    trades = worlds.random_trades(rng, 60, start_ns=session["rth_open_ns"], mean_gap_ns=20 * SECOND_NS)
    pipeline = Pipeline(manifest, load("default"))
    options = option_worlds.random_prints(rng, session, trades, 10.0, 60)
    pipeline.market(([], []), options=options, spy=option_worlds.random_spy(rng, session, trades))
    pipeline.build(DATE)
    assert pipeline.rows("stg_stocks__trades", DATE)
    assert pipeline.rows("stg_options__trades", DATE)
    greeks = pipeline.rows("option_greeks", DATE)
    assert {(row["spot_tick"], row["dealer_gamma"]) for row in greeks} == {(None, None)}
    assert pipeline.rows("option_exposure", DATE) == []
    assert {row["wall_short_call"] for row in pipeline.rows("option_walls", DATE)} == {None}
    for name in ("levels", "touches", "observation_points", "observation_features"):
        assert pipeline.rows(name, DATE) == [], name
