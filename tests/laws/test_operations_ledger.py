"""The ledger: relations of bronze over it, landings on several dates, copies, inference, value in the quote asset."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import pytest

from tests.e2e.execution import ExecutionPipeline


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def movement(**other) -> dict:
    return {
        "id": 1, "transaction_id": "T1", "client_id": 1, "transaction_type": "SPOT_BUY", "status": "FILLED",
        "symbol": "BTCUSDC", "asset": "BTC", "quantity": "0.001", "account_type": "FUTURES", "category": "RISK",
        "description": "", "source": "sync", "created_at": "2024-12-01T10:00:00Z",
    } | other  # fmt: skip


def ledger(pipeline, *rows, **others) -> list[dict]:
    pipeline.land(orders=rows, **others)
    pipeline.build("ledger")
    return pipeline.rows("ledger")


def test_bronze_shows_all_movements_orders_alone_and_their_history(pipeline):
    pipeline.land(
        orders=[
            movement(category="TRADING", binance_order_id="77", related_operation_id=5, raw_response={"orderId": 77}),
            movement(transaction_id="T2", transaction_type="DEPOSIT", category="EXTERNAL"),
            movement(transaction_id="T3", category="ORDER", executed_at="2024-12-01T09:00:00Z"),
            movement(transaction_id="T4", category="ORDER", exchange_time="2024-12-01T08:00:00Z"),
        ]
    )  # fmt: skip
    counts = pipeline.query(
        "select (select count(*) from bronze.ledger) a, (select count(*) from bronze.orders) b"
    )
    assert counts == [{"a": 4, "b": 3}]
    rows = {row["transaction_id"]: row for row in pipeline.query("from bronze.orders_v1")}
    assert [rows[t]["timestamp_basis"] for t in ("T1", "T3", "T4")] == [
        "created_at",
        "executed_at",
        "exchange_time",
    ]
    assert [rows[t]["timestamp"].hour for t in ("T1", "T3", "T4")] == [10, 9, 8]
    assert (rows["T1"]["operation_id"], rows["T1"]["exchange_ref"]) == (5, "77")
    assert json.loads(rows["T1"]["metadata"])["symbol"] == "BTCUSDC"
    assert "raw_response" not in rows["T1"]["metadata"]
    assert list(rows["T1"]) == [
        "transaction_id", "operation_id", "client_id", "transaction_type", "asset", "quantity", "price", "timestamp",
        "timestamp_basis", "exchange_ref", "metadata", "date",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "is_isolated", "category", "account_type"),
    [
        ("SPOT_BUY", True, "TRADING", "SPOT"),
        ("MARGIN_SELL", True, "TRADING", "ISOLATED_MARGIN"),
        ("MARGIN_SELL", False, "TRADING", "CROSS_MARGIN"),
        ("TRANSFER_SPOT_TO_ISOLATED", False, "TRANSFER", "ISOLATED_MARGIN"),
        ("TRANSFER_FROM_MARGIN", True, "TRANSFER", "SPOT"),
        ("INTEREST_CHARGED", True, "CREDIT", "ISOLATED_MARGIN"),
        ("STOP_LOSS_PLACED", True, "ORDER", "FUTURES"),
        ("FEE_PAID", True, "FEE", "FUTURES"),
        ("FUNDING_FEE", False, "FEE", "FUTURES"),
        ("LIQUIDATION", False, "RISK", "CROSS_MARGIN"),
        ("DEPOSIT", False, "EXTERNAL", "SPOT"),
    ],
)
def test_category_and_account_are_the_types(pipeline, kind, is_isolated, category, account_type):
    (row,) = ledger(pipeline, movement(transaction_type=kind, is_isolated_margin=is_isolated))
    assert (row["category"], row["account_type"]) == (category, account_type)


def test_a_landing_that_came_first_wins_on_whatever_date_it_came(pipeline):
    late = {"ingested_at": "2024-12-03T00:00:00Z", "quantity": "3"}
    rows = ledger(
        pipeline,
        movement(quantity="1", loaded_at="2024-12-02T00:00:00Z"),
        movement(**late, loaded_at="2024-12-01T23:00:00Z", executed_at="2024-12-02T05:00:00Z"),
        movement(ingested_at="2024-12-04T00:00:00Z", quantity="4", loaded_at="2024-12-09T00:00:00Z"),
    )
    assert [(r["quantity"], r["date"]) for r in rows] == [(3, datetime.date(2024, 12, 2))]


def test_landings_of_two_clients_are_two_movements(pipeline):
    assert len(ledger(pipeline, movement(), movement(client_id=2, ingested_at="2024-12-03T00:00:00Z"))) == 2


INTEREST = {"transaction_type": "INTEREST_CHARGED", "asset": "USDC", "binance_order_id": "9"}
LATER = {"transaction_id": "T0", "created_at": "2024-12-01T11:00:00Z", "ingested_at": "2024-12-05T11:00:00Z"}


class TestCopies:
    """Rows equal in every economic field under another transaction_id."""

    def test_the_earliest_by_created_at_stays(self, pipeline):
        (row,) = ledger(pipeline, movement(**INTEREST | LATER), movement(**INTEREST))
        assert (row["transaction_id"], row["copies"]) == ("T1", 2)

    @pytest.mark.parametrize(
        "other", [{"quantity": "2"}, {"client_id": 2}, {"fee": "0.1"}, {"status": "PENDING"}]
    )
    def test_what_differs_is_no_copy(self, pipeline, other):
        assert len(ledger(pipeline, movement(**INTEREST), movement(**INTEREST | LATER | other))) == 2

    def test_two_charges_without_number_and_time_are_two(self, pipeline):
        plain = INTEREST | {"binance_order_id": None}
        assert len(ledger(pipeline, movement(**plain), movement(**plain | LATER))) == 2

    @pytest.mark.parametrize(
        ("first", "second", "rows"),
        [
            ({"id": 1, "orderId": 5}, {"id": 1, "orderId": 5}, 1),
            ({"id": 1, "orderId": 5}, {"id": 2, "orderId": 5}, 2),
            ({"orderId": 5, "fills": [{"tradeId": 3}]}, {"orderId": 5, "fills": [{"tradeId": 3}]}, 1),
            ({"orderId": 5, "fills": [{"tradeId": 3}]}, {"orderId": 5, "fills": [{"tradeId": 4}]}, 2),
            ({"orderId": 5, "fills": []}, {"orderId": 5, "fills": []}, 2),
            ("", "", 2),
        ],
    )
    def test_trades_are_told_by_their_id_alone(self, pipeline, first, second, rows):
        given = [movement(raw_response=first or None), movement(raw_response=second or None, **LATER)]
        assert len(ledger(pipeline, *given)) == rows


def bar(minute: str, close: str, symbol: str = "BTCUSDC") -> dict:
    at = datetime.datetime.fromisoformat(f"2024-12-01T{minute}:00+00:00")
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return prices | {
        "symbol": symbol, "bar_interval": "1m", "open_time": at,
        "close_time": at + datetime.timedelta(milliseconds=59_999),
        "volume": 1, "quote_volume": 1, "trade_count": 1, "taker_buy_base": 0, "taker_buy_quote": 0, "market": "spot",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("other", "price"),
    [
        ({"asset": "USDC"}, "1"),
        ({"asset": "BTC"}, "88000"),
        ({"asset": "BTC", "created_at": "2024-12-01T11:00:00Z"}, "88000"),
        ({"asset": "BTC", "created_at": "2024-12-01T11:00:00.000001Z"}, None),
        ({"asset": "BTC", "created_at": "2024-12-01T09:59:59Z"}, None),
        ({"asset": "BNB"}, None),
        ({"asset": "USDC", "symbol": None}, "1"),
        ({"asset": "BTC", "symbol": "XUSDC"}, "88000"),
    ],
)
def test_value_is_at_the_last_closed_bar_of_an_hour(pipeline, other, price):
    row = ledger(
        pipeline, movement(transaction_type="DEPOSIT", quantity="2", **other), klines=[bar("09:59", "88000")]
    )[0]
    wanted = price and (Decimal(price), 2 * Decimal(price))
    assert (row["asset_price"] and (row["asset_price"], row["value_quote"])) == wanted


def test_an_answer_that_cannot_be_read_is_missing_not_an_error(pipeline):
    (row,) = ledger(pipeline, movement(raw_response={"executedQty": "many", "cummulativeQuoteQty": "9e99"}))
    assert (row["exchange_executed_quantity"], row["exchange_quote_quantity"]) == (None, None)
    (row,) = ledger(pipeline, movement(raw_response={"executedQty": "0.5", "cummulativeQuoteQty": 12.25}))
    assert (row["exchange_executed_quantity"], row["exchange_quote_quantity"]) == (
        Decimal("0.5"),
        Decimal("12.25"),
    )
