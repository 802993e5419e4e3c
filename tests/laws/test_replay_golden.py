"""The worked examples of spec/execution.md 4.2 to 4.5, by hand, through the compiled models."""

import datetime
import uuid
from decimal import Decimal

import duckdb
import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.oracle.replay_worlds import bars

TYPES = {
    "T": "STOP_TRIGGERED", "S": "EXECUTION_SUBMITTED", "X": "EXECUTED", "Y": "EXECUTED", "F": "FAILED", "B": "BLOCKED",
    "K": "KILL_SWITCH", "P": "SLIPPAGE_BREACH",
}  # fmt: skip
START = datetime.datetime(2024, 12, 1, 10, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def events(letters: str, token: str = "token", *, first_seq: int = 1, **other) -> list[dict]:  # noqa: S107
    """One event a letter, a second apart; Y is a report with trades of its own. ``other`` replaces columns of all."""
    made = []
    for step, letter in enumerate(letters):
        event = {
            "event_id": uuid.uuid5(uuid.NAMESPACE_URL, f"{token}.{step}"), "event_seq": first_seq + step,
            "occurred_at": START + datetime.timedelta(seconds=first_seq + step), "operation_id": 123, "client_id": 1,
            "symbol": "BTCUSDC", "event_type": TYPES[letter], "trigger_type": "STOP_LOSS", "trigger_price": "88000",
            "stop_price": "88200", "quantity": "0.001", "side": "SELL", "execution_token": token, "source": "ws",
            "payload_json": {"entry_price": "90000"},
        }  # fmt: skip
        if letter in "XY":
            fill = {"price": "88000", "commission": "0.088", "commission_asset": "USDC", "trade_id": letter}
            event |= {"exchange_order_id": "order", "fill_price": "88000"}
            event["payload_json"] = {"entry_price": "90000", "fills": [fill]}
        made.append(event | other)
    return made


def built(pipeline, rows, **others) -> tuple[list[dict], list[dict], list[dict]]:
    """Accepted, quarantined and anomalies."""
    pipeline.land(events=rows, **others)
    names = ("stop_executions", "stop_executions_quarantine", "replay_anomalies")
    pipeline.build(*names)
    return tuple(pipeline.rows(name) for name in names)


GOLDEN = [
    ("TSX", "EXECUTED", "yyyn", []),
    ("T", "PENDING", "ynnn", []),
    ("TS", "SUBMITTED", "yynn", []),
    ("F", "FAILED", "nnny", [("MISSING_TRIGGER", "info")]),
    ("TX", "EXECUTED", "ynyn", [("MISSING_SUBMIT", "info")]),
    ("TK", "BLOCKED", "ynnn", []),
    ("TSK", "SUBMITTED", "yynn", [("BLOCK_AFTER_SUBMIT", "warn")]),
    ("TSFX", "EXECUTED", "yyyy", [("LATE_FILL_AFTER_FAILURE", "error")]),
    ("TSXF", "EXECUTED", "yyyn", [("CONFLICTING_TERMINAL", "error")]),
    ("TSXP", "EXECUTED", "yyyn", []),
    ("TSXX", "EXECUTED", "yyyn", [("DUPLICATE_EVENT", "info")]),
]


@pytest.mark.parametrize(("letters", "status", "times", "anomalies"), GOLDEN)
def test_states(pipeline, letters, status, times, anomalies):
    (row,), quarantined, found = built(pipeline, events(letters))
    assert not quarantined
    assert row["status"] == status
    names = ("triggered_at", "submitted_at", "executed_at", "failed_at")
    assert "".join("n" if row[name] is None else "y" for name in names) == times
    assert [(a["anomaly_code"], a["severity"]) for a in found] == anomalies
    assert row["block_reason"] == ("KILL_SWITCH" if letters == "TK" else None)
    assert ("POST_TRADE_SLIPPAGE_BREACH" in row["quality_flags"]) == (letters == "TSXP")


def test_the_order_of_delivery_is_not_that_of_the_replay(pipeline):
    trigger, submit, execution = events("TSX")
    delivered = [
        event | {"loaded_at": START + datetime.timedelta(hours=n)}
        for n, event in enumerate((execution, submit, trigger))
    ]
    (row,), _, found = built(pipeline, delivered)
    assert (row["status"], found) == ("EXECUTED", [])


def test_distinct_reports_are_summed(pipeline):
    first, second = events("TSXY", quantity="0.001")[2:]
    first |= {"quantity": "0.0006", "fill_price": "88000"}
    second |= {"quantity": "0.0004", "fill_price": "87950"}
    (row,), _, found = built(pipeline, [*events("TS"), first, second])
    assert (row["executed_quantity"], row["fill_price"]) == (Decimal("0.001"), Decimal(87980))
    assert found == []


def test_an_execution_over_midnight_is_one_row_of_its_first_day(pipeline):
    at = [datetime.datetime(2024, 12, 1, 23, 59, s, tzinfo=datetime.UTC) for s in (58, 59)]
    at.append(datetime.datetime(2024, 12, 2, 0, 0, 3, tzinfo=datetime.UTC))
    rows = [event | {"occurred_at": when} for event, when in zip(events("TSX"), at, strict=True)]
    (row,), _, found = built(pipeline, rows)
    assert (row["date"], row["event_count"], found) == (datetime.date(2024, 12, 1), 3, [])


def test_the_second_attempt_is_current(pipeline):
    rows, _, found = built(pipeline, events("F", "one") + events("TSX", "two", first_seq=2))
    assert {row["execution_token"]: row["is_current"] for row in rows} == {"one": False, "two": True}
    assert [(a["execution_token"], a["anomaly_code"]) for a in found] == [("one", "MISSING_TRIGGER")]
    assert [row["execution_token"] for row in pipeline.rows("stop_executions_current")] == ["two"]


@pytest.mark.parametrize(
    ("side", "level", "trigger", "fill", "slippage", "cost", "gap"),
    [
        ("SELL", "88200", "88000", "88000", "0.2268", "0.0000", "0.2268"),
        ("SELL", "88200", "88000", "87950", "0.2834", "0.0568", "0.2268"),
        ("SELL", "93600", "93620", "93650", "-0.0534", "-0.0320", "-0.0214"),
        ("BUY", "93058.20", "93100", "93111.40", "0.0572", "0.0122", "0.0449"),
        ("SELL", "100", "95", "50", "50.0000", "47.3684", "5.0000"),
    ],
)
def test_slippage(pipeline, side, level, trigger, fill, slippage, cost, gap):
    rows = events("TSX", side=side, stop_price=level, trigger_price=trigger, payload_json={})
    rows[2]["fill_price"] = fill
    (row,), _, _ = built(pipeline, rows)
    found = row["slippage_pct"], row["slippage_vs_trigger_pct"], row["detection_gap_pct"]
    assert [str(value) for value in found] == [slippage, cost, gap]
    assert row["abs_slippage_pct"] == abs(row["slippage_pct"])


@pytest.mark.parametrize(
    ("asset", "amount", "fee", "net"),
    [
        ("USDC", "0.088", "0.08800000", "-2.08800000"),
        ("BTC", "0.000001", "0.08800000", "-2.08800000"),
        ("BNB", "0.00012", "0.08400000", "-2.08400000"),
        ("XYZ", "0.00012", None, None),
    ],
)
def test_profit_and_fees(pipeline, asset, amount, fee, net):
    rows = events("TSX")
    rows[2]["payload_json"]["fills"][0] |= {"commission": amount, "commission_asset": asset}
    klines = bars(
        {("BNBUSDC", START): Decimal(700), ("BNBUSDC", START + datetime.timedelta(minutes=1)): Decimal(9)}
    )
    (row,), _, _ = built(pipeline, rows, klines=klines)
    assert row["gross_pnl"] == Decimal(-2)
    assert [None if v is None else str(v) for v in (row["fee_quote"], row["net_pnl"])] == [fee, net]
    assert ("FEE_UNPRICED" in row["quality_flags"]) == (fee is None)


def test_an_imputed_fill_is_no_fill(pipeline):
    rows = events("TSX")
    rows[2]["payload_json"]["fill_imputed"] = True
    (row,), _, _ = built(pipeline, rows)
    assert row["fill_price"] == Decimal(88000)
    assert (row["slippage_pct"], row["slippage_vs_trigger_pct"], row["abs_slippage_pct"]) == (
        None,
        None,
        None,
    )
    assert "FILL_IMPUTED" in row["quality_flags"]


BROKEN = {
    "REQUIRED_NULL": lambda rows: [row | {"side": None} for row in rows],
    "SLIPPAGE_RANGE": lambda rows: [*rows[:2], rows[2] | {"fill_price": "44099.9"}],
    "EXECUTED_NO_FILL": lambda rows: [*rows[:2], rows[2] | {"fill_price": None}],
    "TIME_ORDER": lambda rows: [*rows[:2], rows[2] | {"occurred_at": START}],
    "NONPOSITIVE": lambda rows: [row | {"trigger_price": "0"} for row in rows],
    "TENANT_MISMATCH": lambda rows: [*rows, *events("T", client_id=2, event_id=uuid.uuid4())],
}


@pytest.mark.parametrize("rule", BROKEN)
def test_what_breaks_a_rule_is_set_aside_until_it_no_longer_does(pipeline, rule):
    accepted, quarantined, _ = built(pipeline, BROKEN[rule](events("TSX")))
    assert accepted == []
    assert {rule} == {r for row in quarantined for r in row["failed_rules"]}
    assert len(quarantined) == (2 if rule == "TENANT_MISMATCH" else 1)
    accepted, quarantined, _ = built(pipeline, events("TSX"))
    assert (len(accepted), quarantined) == (1, [])


def test_a_type_that_nobody_knows_ends_the_build(pipeline):
    pipeline.land(events=events("TSX", event_type="NONSENSE"))
    with pytest.raises(duckdb.InvalidInputException, match="BAD_STATUS"):
        pipeline.build("stop_executions")


def test_legacy_tokens_are_a_tenants_own(pipeline):
    rows = events("TS", None) + events("TS", None, client_id=2)
    for number, row in enumerate(rows):
        row["event_id"] = uuid.uuid5(uuid.NAMESPACE_URL, f"legacy{number}")
    accepted, quarantined, found = built(pipeline, rows)
    assert [(row["client_id"], row["execution_token"]) for row in accepted] == [
        (1, "legacy:123"),
        (2, "legacy:123"),
    ]
    assert (quarantined, found) == ([], [])


def test_a_fill_that_no_event_tells_of_is_an_error_and_the_status_stays(pipeline):
    fill = {
        "client_id": 1, "account_type": "SPOT", "symbol": "BTCUSDC", "trade_id": 9, "order_id": "hidden",
        "price": "88000", "quantity": "0.001", "quote_quantity": "88", "commission": "0", "commission_asset": "USDC",
        "exchange_time": START + datetime.timedelta(minutes=5), "side": "SELL",
    }  # fmt: skip
    order = {
        "id": 1, "transaction_id": "T1", "binance_order_id": "hidden", "client_id": 1, "transaction_type": "SPOT_SELL",
        "status": "FILLED", "symbol": "BTCUSDC", "asset": "BTC", "quantity": "0.001", "side": "SELL",
        "account_type": "SPOT", "category": "TRADING", "related_operation_id": 123, "description": "", "source": "bot",
        "created_at": START,
    }  # fmt: skip
    (row,), _, found = built(pipeline, events("TSF"), trades=[fill], orders=[order])
    assert (row["status"], "FILL_WITHOUT_EVENT" in row["quality_flags"]) == ("FAILED", True)
    assert [(a["anomaly_code"], a["severity"]) for a in found] == [("FILL_WITHOUT_EVENT", "error")]
    assert "UNKNOWN_OPERATION" not in row["quality_flags"]
    assert row["entry_placed_at"] == START
