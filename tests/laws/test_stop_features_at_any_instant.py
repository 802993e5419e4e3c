"""`stop_execution_features`: the operation and level that a minute sees; at a trigger it is the training set.

Operation 1 of client 1 buys at 10:00 and 11:00 and sells at 12:30; operation 2 opens at 11:30 and closes at 12:00. A
record of 10:45 moves the stop of operation 1. Operation 3 fires its stop at 12:10:30.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.laws.stop_features_kit import bronze
from tests.oracle.stop_worlds import bar

DAY = datetime(2024, 12, 27, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2024-12-27T{text}+00:00")


def fill(
    number: int, operation: int, time: str, side: str, quantity: str, price: str, client: int = 1
) -> dict:
    return {
        "client_id": client,
        "account_type": "SPOT",
        "symbol": "BTCUSDC",
        "trade_id": number,
        "order_id": f"order-{client}-{operation}-{side}-{number}",
        "price": price,
        "quantity": quantity,
        "quote_quantity": Decimal(price) * Decimal(quantity),
        "commission": 0,
        "commission_asset": "USDC",
        "exchange_time": at(time),
        "side": side,
        "operation": operation,
    }


FILLS = [
    fill(1, 1, "10:00:30", "BUY", "0.5", "100"),
    fill(2, 1, "11:00:00", "BUY", "0.5", "110"),
    fill(3, 1, "12:30:00", "SELL", "1", "104"),
    fill(4, 2, "11:30:00", "BUY", "1", "107"),
    fill(5, 2, "12:00:00", "SELL", "1", "108"),
    fill(6, 1, "10:30:00", "BUY", "2", "90", client=2),
]
RECORDS = [
    {"operation_id": 1, "client_id": 1, "stop_price": "95", "updated_at": at("09:59:00")},
    {"operation_id": 1, "client_id": 1, "stop_price": "99", "updated_at": at("10:45:00")},
    {"operation_id": 2, "client_id": 1, "stop_price": "101", "updated_at": at("11:29:00")},
    {"operation_id": 1, "client_id": 2, "stop_price": "80", "updated_at": at("10:00:00")},
]
TRIGGER = {
    "event_id": "00000000-0000-0000-0000-000000000001",
    "event_seq": 1,
    "event_type": "STOP_TRIGGERED",
    "occurred_at": at("12:10:30"),
    "ingested_at": at("12:10:31"),
    "operation_id": 3,
    "client_id": 1,
    "symbol": "BTCUSDC",
    "execution_token": "three",
    "side": "SELL",
    "source": "ws",
    "stop_price": "97",
    "trigger_price": "96.9",
    "quantity": "0.1",
    "payload_json": {"entry_price": "100", "entry_placed_at": "2024-12-27T12:00:00Z"},
}


def own_rows(
    fills: list[dict], until: datetime = DAY + timedelta(days=1)
) -> tuple[list[dict], list[dict], list[dict]]:
    """Fills, the orders that they are of, and the operations' records, as far as they were known."""
    more = {"symbol": "BTCUSDC", "side": "BUY", "account_type": "SPOT", "strategy_id": 1, "status": "ACTIVE"}
    fills = [f for f in fills if f["exchange_time"] < until]
    orders = [
        {
            **{k: f[k] for k in ("client_id", "quantity", "price", "side")},
            **{"id": f["trade_id"], "transaction_id": f"transaction-{f['trade_id']}"},
            **{"binance_order_id": f["order_id"], "related_operation_id": f["operation"]},
            **{
                "transaction_type": f"SPOT_{f['side']}",
                "status": "FILLED",
                "category": "TRADING",
                "source": "bot",
            },
            **{"symbol": "BTCUSDC", "asset": "BTC", "account_type": "SPOT", "description": ""},
            **{"created_at": f["exchange_time"], "executed_at": f["exchange_time"]},
        }
        for f in fills
    ]
    records = [{**more, **r, "created_at": at("09:00:00")} for r in RECORDS if r["updated_at"] < until]
    return [{k: v for k, v in f.items() if k != "operation"} for f in fills], orders, records


def built(manifest: dict[str, Any], until: datetime = DAY + timedelta(days=1)) -> ExecutionPipeline:
    """The day as far as it was known at ``until``."""
    pipeline = ExecutionPipeline(manifest)
    bars = [
        bar(DAY + i * MINUTE, 10_000 + i % 7, 10**8) for i in range(1440) if DAY + (i + 1) * MINUTE <= until
    ]
    trades, orders, records = own_rows(FILLS, until)
    pipeline.land(
        trades=trades,
        orders=orders,
        operations=records,
        events=[e for e in [TRIGGER] if e["occurred_at"] <= until],
        klines=bronze({"BTCUSDC": bars}, [], [])["klines"],
    )
    pipeline.build("features_stop_execution_features", "feat_stop_triggers")
    return pipeline


@pytest.fixture(scope="module")
def pipeline(manifest: dict[str, Any]) -> ExecutionPipeline:
    return built(manifest)


@pytest.fixture(scope="module")
def rows(pipeline: ExecutionPipeline) -> dict[tuple[int, datetime], dict[str, Any]]:
    found = pipeline.rows("features_stop_execution_features")
    return {(r["client_id"], r["event_time"]): r for r in found}


def test_minutes_while_an_operation_is_active_and_triggers_have_rows(rows):
    mine = [t for client, t in rows if client == 1]
    minutes = {
        at("10:00:00") + i * MINUTE for i in range(1, 151)
    }  # known at 10:00:30 first, gone after 12:30:00
    assert set(mine) == minutes | {TRIGGER["occurred_at"]}
    theirs = [t for client, t in rows if client == 2]
    assert min(theirs) == at("10:31:00")  # what became known at 10:30:00 wasn't known at it
    assert max(theirs) == DAY + timedelta(hours=23, minutes=59)
    assert all(r["available_at"] <= r["event_time"] for r in rows.values())


@pytest.mark.parametrize(
    ("time", "operation", "distance"),
    [
        ("10:01:00", 1, "5.0000"),  # entry 100, stop 95
        ("10:45:00", 1, "5.0000"),  # the record of this very instant isn't known yet
        ("10:46:00", 1, "1.0000"),  # stop 99
        ("11:00:00", 1, "1.0000"),
        ("11:01:00", 1, "5.7143"),  # mean entry 105
        ("11:31:00", 2, "5.6075"),  # 107 against 101: the operation that opened last
        ("12:00:00", 2, "5.6075"),
        ("12:01:00", 1, "5.7143"),  # closed: the one that is left
        ("12:30:00", 1, "5.7143"),
        ("12:10:30", 3, "3.0000"),  # the trigger's own
    ],
)
def test_level_and_operation_are_those_known_then(rows, time: str, operation: int, distance: str):
    row = rows[1, at(time)]
    assert (row["operation_id"], row["stop_distance_pct"]) == (operation, Decimal(distance))


def test_times_are_whole_seconds_since_the_entry(rows):
    assert rows[1, at("10:01:00")]["time_in_position_sec"] == 30
    assert rows[1, TRIGGER["occurred_at"]]["time_to_trigger_sec"] == 630
    assert rows[1, TRIGGER["occurred_at"]]["time_in_position_sec"] is None
    assert rows[1, TRIGGER["occurred_at"]]["available_at"] == TRIGGER["occurred_at"]


def test_at_a_trigger_the_row_is_the_training_sets(pipeline, rows):
    (trained,) = pipeline.rows("feat_stop_triggers")
    row = rows[1, trained["event_time"]]
    same = {k: v for k, v in trained.items() if k in row}
    assert len(same) >= 14
    assert {k: row[k] for k in same} == same


@pytest.mark.parametrize("until", ["11:30:00", "12:10:30"])
def test_a_later_build_changes_no_row(manifest, rows, until: str):
    """Everything after an instant taken away: rows up to it are the same, to the last bit."""
    short = built(manifest, at(until)).rows("features_stop_execution_features")
    known = [r for (_, t), r in rows.items() if t <= at(until)]
    assert len(short) == len(known) > 100
    assert sorted(short, key=lambda r: (r["client_id"], r["event_time"])) == sorted(
        known, key=lambda r: (r["client_id"], r["event_time"])
    )
