"""Operations worked out by hand: the golden cycles of the specification, and each rule where it bends."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.fixtures.operations import world
from tests.laws.operations_kit import (
    GOLDEN_A,
    GOLDEN_B_MOVEMENTS,
    GOLDEN_B_TRADES,
    at,
    bar,
    movement,
    orders_of,
    state,
    trade,
)

D = Decimal
AMOUNTS = ("pnl", "fifo", "quote", "pct", "multiple", "quantity", "price", "notional")


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def operation(pipeline: ExecutionPipeline, **landed) -> dict:
    pipeline.land(**landed)
    pipeline.build("operations")
    (row,) = pipeline.rows("operations", "client_id = 1 and operation_id = 7")
    return row


def expect(row: dict, **wanted: object) -> None:
    found = {name: row[name] for name in wanted}
    exact = {n: D(v) if isinstance(v, str) and n.endswith(AMOUNTS) else v for n, v in wanted.items()}
    assert found == exact


def test_golden_a_half_way(pipeline):
    row = operation(pipeline, trades=GOLDEN_A[:3], orders=orders_of(GOLDEN_A))
    expect(
        row,
        status="ACTIVE",
        gross_pnl="0.0150",
        gross_pnl_fifo="0.0300",
        net_pnl=None,
        exit_reason=None,
        closed_at=None,
    )


@pytest.mark.parametrize("is_long", [True, False])
def test_golden_a(pipeline, is_long):
    turned = {"BUY": "SELL", "SELL": "BUY"}
    trades = [t if is_long else t | {"side": turned[t["side"]]} for t in GOLDEN_A]
    row = operation(pipeline, trades=trades, orders=orders_of(trades))
    gain = "0.02250000" if is_long else "-0.02250000"
    expect(row, status="CLOSED", gross_pnl=gain, gross_pnl_fifo=gain, net_pnl=gain, remaining_quantity="0")
    expect(row, entry_order_count=2, exit_order_count=2, holding_sec=180, source_trade_ids=[1, 2, 3, 4])
    expect(row, avg_entry_price="110", avg_exit_price="117.5", side="BUY" if is_long else "SELL")


class TestGoldenB:
    """The margin cycle, which must balance."""

    def test_the_cycle(self, pipeline):
        reference = state(account_type="ISOLATED_MARGIN", stop_price="88200")
        row = operation(pipeline, trades=GOLDEN_B_TRADES, orders=GOLDEN_B_MOVEMENTS, operations=[reference])
        expect(
            row, gross_pnl="2.80000000", fees_quote="0.18280000", interest_quote="0.02", net_pnl="2.59720000"
        )
        expect(
            row,
            return_pct="2.8858",
            initial_risk_quote="1.80000000",
            r_multiple="1.4429",
            stop_distance_pct="2.0000",
        )
        expect(row, account_type="ISOLATED_MARGIN", status="CLOSED", exit_reason="MANUAL", strategy_id=3)

    def test_the_ledger_balances(self, pipeline):
        """Start + net_pnl = end, to the last digit: what the account holds follows from every movement and fill."""
        row = operation(pipeline, trades=GOLDEN_B_TRADES, orders=GOLDEN_B_MOVEMENTS)
        sign = {"TRANSFER_SPOT_TO_ISOLATED": 1, "MARGIN_BORROW": 1, "MARGIN_REPAY": -1}
        start, cash, balances = D(30), D(0), []
        for moved in pipeline.query("select * from silver.ledger order by event_time"):
            if moved["category"] == "TRADING":
                (fill,) = pipeline.query(
                    f"select * from silver.fills where order_id = '{moved['binance_order_id']}'"
                )
                amount = fill["price"] * fill["quantity"]
                cash += (amount if fill["side"] == "SELL" else -amount) - fill["fee_quote"]
                balances.append(cash)
            else:
                cash += sign.get(moved["transaction_type"], 0) * moved["quantity"]
        assert balances == [D("2.91"), D("95.6172")]
        assert cash == start + row["net_pnl"] == D("32.5972")
        assert [(c["residual"], c["is_balanced"]) for c in pipeline.rows("ledger_cycles")] == [(0, True)]

    def test_a_cycle_that_does_not_balance_is_told(self, pipeline):
        movements = [*GOLDEN_B_MOVEMENTS[:-1], GOLDEN_B_MOVEMENTS[-1] | {"quantity": "32.5971"}]
        operation(pipeline, trades=GOLDEN_B_TRADES, orders=movements)
        assert [(c["residual"], c["is_balanced"]) for c in pipeline.rows("ledger_cycles")] == [
            (D("0.0001"), False)
        ]

    def test_without_own_fills_the_ledger_stands_for_them(self, pipeline):
        fees = {3: {"fee": "0.09", "fee_asset": "USDC"}, 4: {"fee": "0.0928", "fee_asset": "USDC"}}
        row = operation(pipeline, orders=[m | fees.get(m["id"], {}) for m in GOLDEN_B_MOVEMENTS])
        expect(
            row,
            net_pnl="2.59720000",
            source_trade_ids=[],
            quality_flags=["BARS_MISSING", "LEDGER_FILL", "NO_REFERENCE"],
        )


class TestFills:
    def test_several_fills_of_one_order_are_kept(self, pipeline):
        trades = [trade(n, "BUY", "0.001", "100", order_id="one") for n in (1, 2, 3)]
        row = operation(pipeline, trades=trades, orders=orders_of(trades))
        expect(row, entry_quantity="0.003", entry_order_count=1)

    def test_equal_trade_ids_on_two_symbols_and_markets_are_two(self, pipeline):
        same = [trade(1, "BUY", "1", "100"), trade(1, "BUY", "1", "100", symbol="ETHUSDC"),
                trade(1, "BUY", "1", "100", account_type="CROSS_MARGIN")]  # fmt: skip
        pipeline.land(trades=same)
        pipeline.build("fills")
        assert len(pipeline.rows("fills")) == 3
        assert len(pipeline.rows("unattributed_fills")) == 3

    def test_a_resync_adds_nothing(self, pipeline):
        orders = orders_of(GOLDEN_A)
        once = operation(pipeline, trades=GOLDEN_A, orders=orders)
        again = [o | {"ingested_at": at("5 10:00")} for o in orders]
        twice = operation(pipeline, trades=[*GOLDEN_A, *GOLDEN_A], orders=[*orders, *again])
        assert {n: v for n, v in once.items() if n != "created_at"} == {
            n: v for n, v in twice.items() if n != "created_at"
        }

    @pytest.mark.parametrize(
        ("commission", "asset", "bars", "fee"),
        [
            ("0.088", "USDC", [], "0.088"),
            ("0.000001", "BTC", [], "0.088"),
            ("0.00012", "BNB", [bar("09:59", "690", "700", "BNBUSDC")], "0.084"),
            ("0.00012", "BNB", [bar("08:59", "690", "700", "BNBUSDC")], "0.084"),
            ("0.00012", "BNB", [bar("08:58", "690", "700", "BNBUSDC")], None),
            ("0.00012", "BNB", [bar("10:00", "690", "700", "BNBUSDC")], None),
            ("0.00012", "BNB", [], None),
            ("0", "", [], "0"),
            ("0.1", "", [], None),
        ],
    )
    def test_fees_are_in_the_quote_asset_at_the_fills_time(self, pipeline, commission, asset, bars, fee):
        trades = [trade(1, "BUY", "0.001", "88000", commission=commission, commission_asset=asset)]
        row = operation(pipeline, trades=trades, orders=orders_of(trades), klines=bars)
        expect(row, fees_quote=fee)
        assert ("FEE_UNPRICED" in row["quality_flags"]) is (fee is None)
        (fill,) = pipeline.rows("fills")
        assert (fill["quantity"], "FEE_UNPRICED" in fill["quality_flags"]) == (D("0.001"), fee is None)

    def test_an_order_on_another_account_or_symbol_claims_nothing(self, pipeline):
        trades = [trade(1, "BUY", "1", "100")]
        for other in ({"account_type": "CROSS_MARGIN"}, {"symbol": "ETHUSDC"}, {"client_id": 2}):
            pipeline.land(trades=trades, orders=orders_of(trades, **other))
            pipeline.build("fills")
            assert [f["operation_id"] for f in pipeline.rows("fills")] == [None]
            assert [f["fill_id"] for f in pipeline.rows("unattributed_fills")] == ["1"]

    def test_an_order_placed_on_another_day_claims_its_fill(self, pipeline):
        trades = [trade(1, "BUY", "1", "100", "4 10:00")]
        row = operation(pipeline, trades=trades, orders=orders_of(trades, exchange_time=at("2 10:00")))
        expect(row, entry_quantity="1", date=datetime.date(2024, 12, 2))

    def test_an_unfilled_order_is_nothing(self, pipeline):
        row = operation(
            pipeline, orders=[movement(1, "SPOT_BUY", "1", status="CANCELLED", binance_order_id="9")]
        )
        expect(row, status="PLANNED", entry_quantity="0", gross_pnl="0", fees_quote="0", net_pnl=None)


class TestState:
    def test_without_fills_the_reference_decides(self, pipeline):
        expect(operation(pipeline, operations=[state()]), status="PLANNED", opened_at=None)
        expect(operation(pipeline, operations=[state(status="CANCELLED")]), status="CANCELLED")

    def test_the_latest_state_is_the_reference(self, pipeline):
        late = state(updated_at=at("3 09:00"), status="CANCELLED", strategy_id=5, stop_price="90")
        row = operation(pipeline, operations=[late, state()])
        expect(row, status="CANCELLED", strategy_id=5, stop_price="90", date=datetime.date(2024, 12, 1))

    @pytest.mark.parametrize(
        ("sold", "commission", "status"),
        [
            ("0.00099", "0", "CLOSED"),
            ("0.000989", "0", "ACTIVE"),
            ("0.000989", "0.000001", "CLOSED"),
            ("0.001", "0", "CLOSED"),
        ],
    )
    def test_dust_is_a_step_and_commissions_of_the_base_asset(self, pipeline, sold, commission, status):
        trades = [trade(1, "BUY", "0.001", "100", commission=commission, commission_asset="BTC"),
                  trade(2, "SELL", sold, "110", "10:05")]  # fmt: skip
        row = operation(pipeline, trades=trades, orders=orders_of(trades))
        left = D("0.001") - D(sold)
        expect(
            row, status=status, remaining_quantity=left, dust_quantity=left if status == "CLOSED" else None
        )

    def test_more_sold_than_bought_is_told(self, pipeline):
        trades = [trade(1, "BUY", "1", "100"), trade(2, "SELL", "3", "110", "10:05")]
        row = operation(pipeline, trades=trades, orders=orders_of(trades))
        expect(row, status="CLOSED", remaining_quantity="-2", gross_pnl="10")
        assert "OVER_EXIT" in row["quality_flags"]

    def test_an_open_operation_is_marked_at_the_last_bar(self, pipeline):
        trades = [trade(1, "SELL", "2", "100"), trade(2, "BUY", "1", "90", "10:10")]
        bars = [bar("10:20", "80", "95"), bar("5 10:00", "70", "85"), bar("4 10:00", "60", "61")]
        row = operation(pipeline, trades=trades, orders=orders_of(trades), klines=bars)
        expect(row, status="ACTIVE", gross_pnl="10", unrealized_pnl="15", mark_price="85", net_pnl=None)
        assert row["mark_time"].isoformat() == "2024-12-05T10:01:00+00:00"
        expect(row, max_position_notional="200", mae_pct="0", mfe_pct="40.0000")
        row = operation(pipeline, trades=trades, orders=orders_of(trades))
        expect(row, unrealized_pnl=None, mark_price=None)
        assert "MARK_MISSING" in row["quality_flags"]


class TestExcursion:
    @pytest.mark.parametrize(
        ("minute", "counts"),
        [("10:00", False), ("10:01", True), ("10:04", True), ("10:05", False), ("09:59", False)],
    )
    def test_full_bars_of_its_life_count(self, pipeline, minute, counts):
        trades = [trade(1, "BUY", "1", "100", "10:00:30"), trade(2, "SELL", "1", "101", "10:05:10")]
        row = operation(pipeline, trades=trades, orders=orders_of(trades), klines=[bar(minute, "50", "150")])
        expect(row, mae_pct="-50" if counts else "0", mfe_pct="50" if counts else "1")
        assert "BARS_MISSING" in row["quality_flags"]

    def test_all_bars_there_is_no_flag(self, pipeline):
        trades = [trade(1, "BUY", "1", "100", "10:00:30"), trade(2, "SELL", "1", "101", "10:03:10")]
        bars = [bar(minute, "99", "102") for minute in ("10:01", "10:02")]
        row = operation(pipeline, trades=trades, orders=orders_of(trades), klines=bars)
        expect(row, mae_pct="-1", mfe_pct="2", quality_flags=["NO_REFERENCE"])

    def test_dates_between_two_times_of_holding_are_read(self, pipeline):
        trades = [trade(1, "BUY", "1", "100"), trade(2, "SELL", "1", "100", "10:10"),
                  trade(3, "BUY", "1", "100", "5 10:00"), trade(4, "SELL", "1", "100", "5 10:10")]  # fmt: skip
        row = operation(
            pipeline, trades=trades, orders=orders_of(trades), klines=[bar("3 10:00", "50", "150")]
        )
        expect(row, mae_pct="-50", mfe_pct="50")
        held = pipeline.query(
            "select distinct cast(bar_date as varchar) d from silver.int_operations__held order by 1"
        )
        assert [r["d"][-2:] for r in held] == ["02", "03", "04"]


class TestExit:
    trades = (trade(1, "BUY", "1", "100"), trade(2, "SELL", "1", "110", "10:05"))

    @staticmethod
    def events(**other) -> list[dict]:
        base = {"operation_id": 7, "client_id": 1, "symbol": "BTCUSDC", "side": "SELL", "execution_token": "t",
        "source": "ws",
                "stop_price": "108", "quantity": 1, "trigger_type": "TAKE_PROFIT",
                "payload_json": {"strategy_id": 9}}  # fmt: skip
        kinds = ("STOP_TRIGGERED", "EXECUTION_SUBMITTED", "EXECUTED")
        done = {"exchange_order_id": "o2", "fill_price": "110"}
        return [
            base | {"event_id": f"00000000-0000-4000-8000-00000000000{n}", "event_seq": n, "event_type": kind}
            | {"occurred_at": at(f"10:04:0{n}")} | (done if kind == "EXECUTED" else {}) | other
            for n, kind in enumerate(kinds)
        ]  # fmt: skip

    def test_the_execution_that_made_the_order(self, pipeline):
        row = operation(pipeline, trades=self.trades, orders=orders_of(self.trades[:1]), events=self.events())
        expect(row, exit_reason="TAKE_PROFIT", strategy_id=9, stop_price="108", status="CLOSED", side="BUY")
        (execution,) = pipeline.query("select execution_id from silver.int_stop_executions__folded")
        assert row["current_execution_id"] == execution["execution_id"]
        assert [f["attributed_by"] for f in pipeline.rows("fills")] == ["LEDGER", "STOP_EXECUTION"]

    def test_a_liquidation_goes_before(self, pipeline):
        orders = [*orders_of(self.trades), movement(8, "LIQUIDATION", "1", "10:05")]
        expect(
            operation(pipeline, trades=self.trades, orders=orders, events=self.events()),
            exit_reason="LIQUIDATION",
        )

    def test_an_order_of_the_ledger_is_manual(self, pipeline):
        expect(operation(pipeline, trades=self.trades, orders=orders_of(self.trades)), exit_reason="MANUAL")

    def test_a_quarantined_execution_claims_nothing(self, pipeline):
        row = operation(
            pipeline, trades=self.trades, orders=orders_of(self.trades[:1]), events=self.events(stop_price=-1)
        )
        expect(row, status="ACTIVE", current_execution_id=None)


class TestReconciliation:
    trades = (trade(1, "BUY", "0.4", "100", order_id="o"), trade(2, "BUY", "0.6", "110", order_id="o"))

    @pytest.mark.parametrize(
        ("executed", "quote", "is_break"),
        [("1", "106", False), ("1.00000001", "106", False), ("1.00000002", "106", True), ("1", "106.00000002", True),
         ("1", None, False)],
    )  # fmt: skip
    def test_answers_against_fills(self, pipeline, executed, quote, is_break):
        answers = [{"executedQty": "0"}, {"executedQty": executed, "cummulativeQuoteQty": quote}]
        orders = [
            movement(
                n, "LIMIT_ORDER_PLACED", "1", status="PENDING", binance_order_id="o", raw_response=answer
            )
            for n, answer in enumerate(answers)
        ]
        row = operation(pipeline, trades=self.trades, orders=orders)
        assert [r["is_break"] for r in pipeline.rows("order_reconciliation")] == [is_break]
        assert (row["reconciled"], "ORDER_MISMATCH" in row["quality_flags"]) == (not is_break, is_break)

    def test_nothing_said_is_nothing_known(self, pipeline):
        expect(operation(pipeline, trades=self.trades, orders=orders_of(self.trades)), reconciled=None)


def test_funding_is_signed_where_it_says_so(pipeline):
    orders = [
        movement(1, "FUNDING_FEE", "0.5", asset="USDC", total_value="0.5"),
        movement(2, "FUNDING_FEE", "0.2", asset="USDC", raw_response={"income": "-0.2"}),
        movement(3, "FUNDING_FEE", "0.1", asset="USDC"),
    ]
    expect(operation(pipeline, orders=orders), funding_quote="0.2")


def test_interest_without_a_price_is_missing(pipeline):
    orders = [movement(1, "INTEREST_CHARGED", "0.01"), movement(2, "INTEREST_CHARGED", "1", asset="USDC")]
    row = operation(pipeline, orders=orders)
    expect(row, interest_quote=None)
    assert "INTEREST_UNPRICED" in row["quality_flags"]
    expect(operation(pipeline, orders=orders, klines=[bar("09:59", "90", "100")]), interest_quote="2")


def test_tax_lots_go_across_operations(pipeline):
    trades = [trade(1, "BUY", "2", "100"), trade(2, "BUY", "1", "130", "10:01"), trade(3, "SELL", "2.5", "120",
    "10:02"),
              trade(4, "SELL", "1.5", "90", "10:03"), trade(5, "BUY", "1", "80", "2 10:04"),
              trade(6, "SELL", "9", "1", account_type="CROSS_MARGIN"), trade(7, "SELL", "9", "1",
              client_id=2)]  # fmt: skip
    pipeline.land(trades=trades)
    pipeline.build("tax_lots")
    names = ("disposal_trade_id", "acquisition_trade_id", "quantity", "gain_quote", "date")
    first, second = datetime.date(2024, 12, 1), datetime.date(2024, 12, 2)
    assert [tuple(r[n] for n in names) for r in pipeline.rows("tax_lots")] == [
        (3, 1, D(2), D(40), first), (3, 2, D("0.5"), D(-5), first), (4, 2, D("0.5"), D(-20), first), (4, 5,
        D(1), D(10), second),
    ]  # fmt: skip


def test_strategy_performance(pipeline):
    """Three trades of one strategy, +10, −30 and +5, the second and third at once."""
    times = {1: ("10:00", "10:10"), 2: ("10:20", "10:40"), 3: ("10:30", "10:50")}
    prices = {1: "110", 2: "70", 3: "105"}
    trades, orders, states = [], [], []
    for n, (begun, ended) in times.items():
        pair = [trade(10 * n, "BUY", "1", "100", begun), trade(10 * n + 1, "SELL", "1", prices[n], ended)]
        trades += pair
        orders += [
            o | {"related_operation_id": n, "transaction_id": f"{n}{o['transaction_id']}"}
            for o in orders_of(pair)
        ]
        states.append(state(operation_id=n))
    pipeline.land(trades=trades, orders=orders, operations=states)
    pipeline.build("operations")
    (row,) = pipeline.rows("strategy_performance")
    expect(row, strategy_id=3, total_trades=3, winning_trades=2, unpriced_trades=0)
    assert (row["win_rate"], row["total_pnl"], row["average_pnl"]) == (D("66.6667"), D(-15), D(-5))
    assert (row["max_drawdown_quote"], row["max_exposure_quote"]) == (D(30), D(200))


def test_a_client_sees_nothing_of_another(pipeline):
    """Both share every number: operations, orders, trades. One alone gives the rows that it has beside the other."""
    made = world(random.Random(5), operations=15).sources()  # noqa: S311
    names = ("ledger", "fills", "operations", "tax_lots")

    def rows(sources: dict) -> dict:
        pipeline.land(**sources)
        pipeline.build(*names)
        return {
            name: [{c: v for c,
            v in r.items() if c != "created_at" or name == "ledger"} for r in pipeline.rows(name, "client_id = 1")]
            for name in names
        }  # fmt: skip

    both = rows(made)
    assert all(both.values())
    assert rows({n: [r for r in of if r.get("client_id", 1) == 1] for n, of in made.items()}) == both
