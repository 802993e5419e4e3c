"""The data tests of bars and portfolios pass on a good day and fail on the defect that each is about."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.laws.portfolio_kit import held, movement, price, snapshot
from tests.laws.test_minute_bars_equal_oracle import trade

T0 = datetime(2024, 12, 27, 10, tzinfo=UTC)
DAY = timedelta(days=1)
DEFECTS = {
    "assert_bars_hold_their_own_prices": [
        "update silver.market_bars_1m set high = close - 1",
        "update silver.market_bars_1m set low = open + 1",
        "update silver.market_bars_1m set volume = -1",
        "update silver.market_bars_1m set volume = 1 where trade_count = 0",
        "update silver.market_bars_1m set open_time = open_time + interval '1 second'",
    ],
    "assert_portfolio_equity_is_the_sum_of_holdings": [
        "update silver.balance_snapshots set value_quote = value_quote + 1",
        "update silver.balance_snapshots set value_quote = null",
        "update silver.portfolio_snapshots set is_complete = true where not is_complete",
        "update silver.portfolio_snapshots set drawdown_pct = 1",
        "delete from silver.balance_snapshots where client_id = 1",
    ],
    "assert_portfolio_changes_are_explained": [
        "update silver.portfolio_daily set total_equity_quote = total_equity_quote + 0.02 where date = '2024-12-28'",
        "delete from silver.int_portfolio__flows",
    ],
}


@pytest.fixture(scope="module")
def pipeline(manifest) -> ExecutionPipeline:
    """Two days of a client with a deposit, an incomplete snapshot of another, and a tape with a silent minute."""
    pipeline = ExecutionPipeline(manifest)
    pipeline.land(
        klines=[price("BTCUSDC", T0 + n * DAY, "100") for n in range(2)],
        agg_trades=[trade("ETHUSDC", n, T0 + timedelta(minutes=3 * n)) for n in (1, 2)],
        orders=[movement(1, "DEPOSIT", T0 + DAY / 2, "USDC", 50)],
        balance_snapshots=[
            snapshot(1, T0, balances=[held("USDC", 100), held("BTC", 1)]),
            snapshot(1, T0 + DAY, balances=[held("USDC", 150), held("BTC", 1)]),
            snapshot(2, T0, balances=[held("XYZ", 1)]),
        ],
    )
    pipeline.build("portfolio_residuals", "balance_snapshots")
    return pipeline


@pytest.fixture(scope="module")
def tests(manifest) -> dict[str, str]:
    return {n["name"]: n["compiled_code"] for n in manifest["nodes"].values() if n["name"] in DEFECTS}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_good_day_passes_and_each_defect_fails(pipeline, tests, name):
    pipeline.rows("portfolio_residuals")
    assert pipeline.query(tests[name]) == []
    for defect in DEFECTS[name]:
        pipeline.con.execute("begin")
        pipeline.con.execute(defect)
        found = pipeline.query(tests[name])
        pipeline.con.execute("rollback")
        assert found, defect


def test_every_defect_is_of_a_test(tests):
    assert set(tests) == set(DEFECTS)
