"""Portfolios whose right answer was worked out by hand. Source: spec/execution.md 4.9."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.laws.portfolio_kit import fill, held, movement, operation, price, snapshot

DAY = timedelta(days=1)
T0 = datetime(2024, 12, 27, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def built(pipeline: ExecutionPipeline, snapshots, *, ledger=(), prices=()) -> list[dict]:
    pipeline.land(klines=prices, orders=ledger, balance_snapshots=snapshots)
    pipeline.build("portfolio_daily")
    return pipeline.rows("portfolio_snapshots")


def cash(client_id: int, time: datetime, equity: object) -> dict:
    return snapshot(client_id, time, balances=[held("USDC", equity)])


def golden_margin() -> list[dict]:
    margin = {"account_type": "ISOLATED_MARGIN", "symbol": "BTCUSDC"}
    return [
        held("USDC", 100),
        held("BTC", "0.001"),
        held("BTC", "0.002", borrowed="0.0005", interest="0.00001", **margin),
        held("USDC", 50, borrowed=60, interest="0.03", **margin),
    ]


def test_the_worked_margin_account(pipeline):
    bars = [price("BTCUSDC", T0, "88000")]
    (row,) = built(pipeline, [snapshot(1, T0, balances=golden_margin())], prices=bars)
    assert row["spot_value"] == 188
    assert row["margin_net_value"] == D("121.09")
    assert row["total_equity_quote"] == D("309.09")
    assert row["margin_debt"] == D("104.91")
    assert (row["margin_level_min"], row["margin_band"]) == (D("2.1542"), "SAFE")
    assert row["total_equity_btc"] == D("0.00351239")
    assert row["is_complete"]
    assert row["quality_flags"] == []


def test_the_worked_returns(pipeline):
    equity = [cash(1, T0, 1000), cash(1, T0 + DAY, 1100), cash(1, T0 + 2 * DAY, 1045)]
    deposit = movement(1, "DEPOSIT", T0 + DAY / 2, "USDC", 50)
    first, second, third = built(pipeline, equity, ledger=[deposit])
    assert (first["net_external_flow_since_prev"], first["twr_period_return"]) == (None, None)
    assert (second["net_external_flow_since_prev"], second["twr_period_return"]) == (50, D("0.05"))
    assert (third["net_external_flow_since_prev"], third["twr_period_return"]) == (0, D("-0.05"))
    assert third["twr_index"] == pytest.approx(0.9975, rel=1e-15)
    assert [r["drawdown_pct"] for r in (first, second, third)] == [0, 0, -5]
    (performance,) = pipeline.rows("portfolio_performance")
    assert (performance["roi_pct"], performance["max_drawdown_pct"]) == (D("-0.2500"), -5)
    assert performance["sharpe"] is None
    assert performance["day_count"] == 3


def test_a_fall_from_the_start_is_a_drawdown(pipeline):
    rows = built(pipeline, [cash(1, T0, 200), cash(1, T0 + DAY, 150), cash(1, T0 + 2 * DAY, 180)])
    assert [r["drawdown_pct"] for r in rows] == [0, -25, -10]


@pytest.mark.parametrize(
    ("free", "level", "band"),
    [
        ("200", "2.0000", "SAFE"), ("199.999999", "2.0000", "CAUTION"), ("150", "1.5000", "CAUTION"),
        ("149.999999", "1.5000", "WARNING"), ("130", "1.3000", "WARNING"), ("129.999999", "1.3000", "CRITICAL"),
        ("110", "1.1000", "CRITICAL"), ("109.999999", "1.1000", "DANGER"), ("0", "0.0000", "DANGER"),
    ],
)  # fmt: skip
def test_bands_begin_at_their_bounds(pipeline, free, level, band):
    account = held("USDC", free, "CROSS_MARGIN", borrowed="99.5", interest="0.5")
    (row,) = built(pipeline, [snapshot(1, T0, balances=[account])])
    assert (row["margin_level_min"], row["margin_band"]) == (D(level), band)


def test_the_worst_of_several_accounts_counts_and_one_without_debt_does_not(pipeline):
    accounts = [
        held("USDC", 400, "ISOLATED_MARGIN", "BTCUSDC", borrowed=100),
        held("USDC", 140, "ISOLATED_MARGIN", "ETHUSDC", borrowed=100),
        held("USDC", 1, "CROSS_MARGIN"),
    ]
    (row,) = built(pipeline, [snapshot(1, T0, balances=accounts)])
    assert (row["margin_level_min"], row["margin_band"]) == (D("1.4"), "WARNING")


def test_two_clients_at_one_instant_keep_their_own_chains(pipeline):
    equity = [cash(c, T0 + n * DAY, e) for c, n, e in ((1, 0, 100), (2, 0, 50), (1, 1, 110), (2, 1, 200))]
    ledger = [movement(2, "DEPOSIT", T0 + DAY, "USDC", 150)]
    rows = {(r["client_id"], r["snapshot_time"]): r for r in built(pipeline, equity, ledger=ledger)}
    assert rows[1, T0 + DAY]["twr_period_return"] == D("0.1")
    assert rows[1, T0 + DAY]["net_external_flow_since_prev"] == 0
    assert rows[2, T0 + DAY]["twr_period_return"] == 0
    assert rows[2, T0 + DAY]["net_external_flow_since_prev"] == 150


def test_a_flow_at_the_previous_snapshot_belongs_to_the_period_before(pipeline):
    equity = [cash(1, T0 + n * DAY, e) for n, e in ((0, 100), (1, 200), (2, 200))]
    rows = built(pipeline, equity, ledger=[movement(1, "DEPOSIT", T0 + DAY, "USDC", 100)])
    assert [r["net_external_flow_since_prev"] for r in rows] == [None, 100, 0]
    assert [r["twr_period_return"] for r in rows] == [None, 0, 0]


def test_an_incomplete_snapshot_is_nobodys_predecessor(pipeline):
    unknown = snapshot(1, T0 + DAY, balances=[held("USDC", 100), held("XYZ", 3)])
    ledger = [
        movement(1, "DEPOSIT", T0 + DAY / 2, "USDC", 10),
        movement(1, "WITHDRAWAL", T0 + 3 * DAY / 2, "USDC", 4),
    ]
    rows = built(pipeline, [cash(1, T0, 100), unknown, cash(1, T0 + 2 * DAY, 116)], ledger=ledger)
    assert [r["total_equity_quote"] for r in rows] == [100, None, 116]
    assert [r["unpriced_assets"] for r in rows] == [0, 1, 0]
    assert [r["net_external_flow_since_prev"] for r in rows] == [None, 10, 6]
    assert [r["twr_period_return"] for r in rows] == [None, None, D("0.1")]
    assert [r["drawdown_pct"] for r in rows] == [0, None, 0]
    assert rows[1]["quality_flags"] == ["INCOMPLETE"]
    assert [r["snapshot_time"] for r in pipeline.rows("portfolio_daily")] == [T0, T0 + 2 * DAY]


def test_an_unpriced_asset_that_nets_to_nothing_is_no_gap(pipeline):
    loan = held("XYZ", 3, "CROSS_MARGIN", borrowed=3)
    (row,) = built(pipeline, [snapshot(1, T0, balances=[held("USDC", 5), loan])])
    assert (row["total_equity_quote"], row["is_complete"]) == (5, True)
    assert (row["margin_debt"], row["margin_level_min"]) == (None, None)
    assert row["quality_flags"] == ["MARGIN_LEVEL_UNKNOWN"]


def test_nothing_is_earned_on_no_equity(pipeline):
    debt = snapshot(1, T0, balances=[held("USDC", 0, "CROSS_MARGIN", borrowed=10)])
    rows = built(pipeline, [debt, cash(1, T0 + DAY, 90), cash(1, T0 + 2 * DAY, 99)])
    assert [r["twr_period_return"] for r in rows] == [None, None, D("0.1")]
    assert [r["quality_flags"] for r in rows] == [[], ["NO_EQUITY_BEFORE"], []]


def test_a_price_is_at_most_an_hour_old(pipeline):
    one = [snapshot(1, T0, balances=[held("BTC", 1)])]
    hour = timedelta(hours=1)
    (row,) = built(pipeline, one, prices=[price("BTCUSDC", T0 - hour, "88000")])
    assert row["total_equity_quote"] == 88_000
    late = [snapshot(1, T0 + timedelta(microseconds=1), balances=[held("BTC", 1)])]
    (row,) = built(pipeline, late, prices=[price("BTCUSDC", T0 - hour, "88000")])
    assert (row["total_equity_quote"], row["is_complete"]) == (None, False)
    (row,) = built(pipeline, one, prices=[price("BTCUSDC", T0 + timedelta(minutes=1), "88000")])
    assert row["total_equity_quote"] is None  # the bar hasn't ended


def test_the_price_of_before_midnight_counts_after_it(pipeline):
    midnight = datetime(2024, 12, 28, tzinfo=UTC)
    one = [snapshot(1, midnight + timedelta(minutes=20), balances=[held("BTC", 2)])]
    (row,) = built(pipeline, one, prices=[price("BTCUSDC", midnight - timedelta(minutes=40), "100")])
    assert row["total_equity_quote"] == 200


def test_the_flat_form_has_a_price_of_its_own(pipeline):
    flat = snapshot(
        1, T0, spot_usdc=10, spot_btc="0.5", margin_btc_free="0.1", margin_btc_borrowed="0.2",
        margin_usdc_free=7, margin_usdc_borrowed=1, btc_price=90_000,
    )  # fmt: skip
    (row,) = built(pipeline, [flat])
    assert row["spot_value"] == 45_010
    assert row["margin_net_value"] == -9_000 + 6
    assert row["margin_debt"] == 18_001
    holdings = pipeline.rows("balance_snapshots")
    assert {f for h in holdings for f in h["quality_flags"]} == {
        "LOCKED_INTEREST_UNKNOWN",
        "PRICE_OF_SNAPSHOT",
    }
    (row,) = built(pipeline, [flat], prices=[price("BTCUSDC", T0, "80000")])
    assert row["spot_value"] == 40_010
    (row,) = built(pipeline, [flat | {"btc_price": 0}])
    assert row["total_equity_quote"] is None


def test_a_list_wins_over_flat_columns(pipeline):
    both = snapshot(1, T0, balances=[held("USDC", 3)], spot_usdc=100, spot_btc=1, btc_price=90_000)
    (row,) = built(pipeline, [both])
    assert row["total_equity_quote"] == 3


def test_an_empty_list_is_an_equity_of_nothing(pipeline):
    rows = built(pipeline, [cash(1, T0, 10), snapshot(1, T0 + DAY, balances=[])],
                 ledger=[movement(1, "WITHDRAWAL", T0 + DAY / 2, "USDC", 10)])  # fmt: skip
    assert (rows[1]["total_equity_quote"], rows[1]["twr_period_return"]) == (0, -1 + 1)


def test_a_flow_is_valued_at_its_own_time(pipeline):
    bars = [price("BTCUSDC", T0 + DAY / 2, "100"), price("BTCUSDC", T0 + DAY, "200")]
    equity = [cash(1, T0, 100), snapshot(1, T0 + DAY, balances=[held("USDC", 100), held("BTC", 1)])]
    ledger = [movement(1, "DEPOSIT", T0 + DAY / 2, "BTC", 1)]
    rows = built(pipeline, equity, ledger=ledger, prices=bars)
    assert rows[1]["net_external_flow_since_prev"] == 100
    assert rows[1]["twr_period_return"] == 1


def test_a_flow_without_a_price_leaves_the_return_unknown_and_the_index_where_it_was(pipeline):
    equity = [cash(1, T0, 100), cash(1, T0 + DAY, 110), cash(1, T0 + 2 * DAY, 121)]
    rows = built(pipeline, equity, ledger=[movement(1, "DEPOSIT", T0 + DAY / 2, "XYZ", 1)])
    assert [r["twr_period_return"] for r in rows] == [None, None, D("0.1")]
    assert [r["twr_index"] for r in rows] == [1, 1, pytest.approx(1.1)]
    assert rows[1]["quality_flags"] == ["FLOW_UNPRICED"]


@pytest.mark.parametrize("status", ["PENDING", "FAILED", "CANCELLED", "EXPIRED"])
def test_what_has_not_moved_is_no_flow(pipeline, status):
    ledger = [movement(1, "DEPOSIT", T0 + DAY / 2, "USDC", 50, status=status)]
    rows = built(pipeline, [cash(1, T0, 100), cash(1, T0 + DAY, 100)], ledger=ledger)
    assert rows[1]["twr_period_return"] == 0


def test_sharpe_needs_thirty_daily_returns(pipeline):
    returns = (0.01, -0.01, 0.02)

    def days(count: int) -> list[dict]:
        equity, found = D(1000), []
        for n in range(count):
            found.append(cash(1, T0 + n * DAY, equity))
            equity = round(equity * D(1 + returns[n % 3]), 8)
        return found

    built(pipeline, days(30))
    assert pipeline.rows("portfolio_performance")[0]["sharpe"] is None
    built(pipeline, days(31))
    # ten of each: mean 0.02 / 3, sample variance 0.0014 / 3 × ... = 0.00016092
    mean = 0.02 / 3
    spread = (10 * sum((r - mean) ** 2 for r in returns) / 29) ** 0.5
    found = pipeline.rows("portfolio_performance")[0]["sharpe"]
    assert found == pytest.approx(mean / spread * 365**0.5, rel=1e-7)


def test_a_position_is_marked_and_what_explains_nothing_is_the_residual(pipeline):
    """Buy 2 at 100 for a fee of 1, sell 1 at 120, hold 1 at 130; interest of 2; then 5 that nobody knows of."""
    hour = timedelta(hours=1)
    bars = [
        price("BTCUSDC", T0 + n * hour, close)
        for n, close in ((0, "100"), (1, "100"), (24, "130"), (48, "140"))
    ]
    bought, order = fill(1, 7, "BTCUSDC", "BUY", T0 + hour, "100", "2", commission=1)
    sold, exit_order = fill(1, 7, "BTCUSDC", "SELL", T0 + 2 * hour, "120", "1")
    interest = movement(1, "INTEREST_CHARGED", T0 + 3 * hour, "USDC", 2, category="CREDIT", symbol="BTCUSDC")
    pipeline.land(
        klines=bars,
        operations=[operation(1, 7, "BTCUSDC", "BUY", T0)],
        orders=[order, exit_order, interest],
        trades=[bought, sold],
        balance_snapshots=[
            cash(1, T0, 1000),
            snapshot(1, T0 + DAY, balances=[held("USDC", 1000 - 200 - 1 + 120 - 2), held("BTC", 1)]),
            snapshot(1, T0 + 2 * DAY, balances=[held("USDC", 917 + 5), held("BTC", 1)]),
        ],
    )
    pipeline.build("portfolio_residuals")
    rows = pipeline.rows("portfolio_snapshots")
    assert [r["total_equity_quote"] for r in rows] == [1000, 1047, 1062]
    assert [r["unrealized_pnl"] for r in rows] == [0, 30, 40]
    first, second = pipeline.rows("portfolio_residuals")
    assert (first["realized_net"], first["unrealized_change"], first["residual"]) == (20 - 1 - 2, 30, 0)
    assert (second["realized_net"], second["unrealized_change"], second["residual"]) == (0, 10, 5)


def test_an_open_position_without_a_mark_has_no_profit_yet(pipeline):
    bought, order = fill(1, 7, "BTCUSDC", "BUY", T0, "100", "2")
    pipeline.land(
        operations=[operation(1, 7, "BTCUSDC", "BUY", T0)],
        orders=[order],
        trades=[bought],
        balance_snapshots=[cash(1, T0 + DAY, 5)],
    )
    pipeline.build("portfolio_snapshots")
    (row,) = pipeline.rows("portfolio_snapshots")
    assert (row["unrealized_pnl"], row["quality_flags"]) == (None, ["UNREALIZED_UNPRICED"])
