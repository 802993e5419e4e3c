"""The golden row of spec/execution.md 5.1, from events and klines to the candidates of both training sets."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.e2e.execution import ExecutionPipeline

MINUTE = timedelta(minutes=1)
T = datetime(2024, 12, 27, 14, 37, 20, tzinfo=UTC)
CLOSES = "100 101 100.5 100.5 102 101.5 101.5 101 100 100.2 100.4 100.6 100.8 101 101.2 101.1"


def event(number: int, kind: str, time: str, token: str, **fields: Any) -> dict[str, Any]:
    plain = {
        "operation_id": 123,
        "client_id": 1,
        "symbol": "BTCUSDC",
        "side": "SELL",
        "quantity": "0.001",
        "source": "ws",
    }
    return {
        **plain,
        **{"event_id": f"00000000-0000-0000-0000-{number:012d}", "event_seq": number, "event_type": kind},
        **{"occurred_at": f"2024-12-{time}+00:00", "execution_token": token, "stop_price": "88200"},
        **fields,
    }


EARLIER = [
    ("FAILED", "13:30"),
    ("FAILED", "13:45"),
    ("EXECUTED", "13:55"),
    ("FAILED", "14:05"),
    ("FAILED", "14:30"),
]
ENTRY = {"entry_price": "90000", "entry_placed_at": "2024-12-27T10:00:00.250Z"}
EVENTS = [
    *(
        event(n, kind, f"27T{time}:00", f"earlier {n}", fill_price="88000")
        for n, (kind, time) in enumerate(EARLIER, 1)
    ),
    event(6, "STOP_TRIGGERED", "27T14:37:20", "golden", trigger_price="88000", payload_json=ENTRY),
    event(7, "EXECUTED", "27T14:37:20.850", "golden", fill_price="88000"),
    *(
        event(
            n + step,
            kind,
            f"27T15:0{step}:00",
            token,
            stop_price="100000",
            fill_price=fill,
            payload_json=ENTRY,
        )
        for n, token, fill in ((10, "at the breach", "90000"), (20, "beyond it", "89999.9"))
        for step, kind in enumerate(("STOP_TRIGGERED", "EXECUTED"))
    ),
    event(30, "STOP_TRIGGERED", "27T16:00:00", "never ended", payload_json=ENTRY),
    event(31, "STOP_TRIGGERED", "28T15:30:00", "not ended yet", payload_json=ENTRY),
    event(32, "STOP_TRIGGERED", "28T16:59:00", "the last", payload_json={"entry_price": "90000"}),
]


def klines(count: int) -> list[dict[str, Any]]:
    """The 16 closes before T, and bars of the day before them up to ``count``."""
    m = T.replace(second=0)
    closes = [(m - (16 - i) * MINUTE, close) for i, close in enumerate(CLOSES.split())]
    closes += [(m - (1440 - i) * MINUTE, "100") for i in range(count - 16)]
    return [
        {
            **dict.fromkeys(("open", "high", "low", "close"), close),
            **{"symbol": "BTCUSDC", "market": "spot", "bar_interval": "1m", "trade_count": 1, "volume": 1},
            **{"open_time": at, "close_time": at + MINUTE, "quote_volume": 10_000},
            **{"taker_buy_base": 0, "taker_buy_quote": 0},
        }
        for at, close in closes
    ]


@pytest.fixture(scope="module")
def pipeline(manifest: dict[str, Any]) -> ExecutionPipeline:
    found = ExecutionPipeline(manifest)
    found.land(events=EVENTS, klines=klines(1400))
    found.build("slippage_prediction_candidates")
    return found


@pytest.fixture(scope="module")
def samples(pipeline: ExecutionPipeline) -> dict[str, dict[str, Any]]:
    """Candidates of stop_outcome by token."""
    tokens = {r["execution_id"]: r["execution_token"] for r in pipeline.rows("stop_executions")}
    return {tokens[r["execution_id"]]: r for r in pipeline.rows("stop_outcome_candidates")}


def test_the_golden_row(samples):
    row = samples["golden"]
    assert row["excluded_reason"] is None
    assert row["features"] == {
        "stop_distance_pct": Decimal("2.0000"),
        "time_to_trigger_sec": 16639,
        "time_in_position_sec": None,
        "volatility_15m": Decimal("0.006020"),
        "volume_24h": Decimal(14_000_000),
        "volume_24h_base": Decimal(1_400),
        "hour_of_day": 14,
        "day_of_week": 4,
        "consecutive_failures_1h": 2,
    }
    assert row["label"]["execution_success"] is True
    assert row["label"]["execution_time_sec"] == Decimal("0.850")
    assert row["metadata"]["as_of"] == T
    assert row["metadata"]["label_time"] == T + timedelta(milliseconds=850)
    assert [e.int & 0xFF for e in row["metadata"]["source_event_ids"]] == [6, 7]


def test_a_breach_is_more_than_the_threshold(samples):
    labels = [samples[token]["label"] for token in ("at the breach", "beyond it")]
    assert [label["slippage_breach"] for label in labels] == [False, True]
    assert [label["slippage_breach_1p0"] for label in labels] == [True, True]
    assert samples["golden"]["label"]["slippage_breach_0p1"] is True  # 0.2268
    assert samples["golden"]["label"]["slippage_breach_0p5"] is False
    assert samples["never ended"]["label"]["slippage_breach"] is None


def test_what_has_not_ended_in_a_day_has_failed(samples):
    """data_through is the end of the last sealed window, 2024-12-28 17:00."""
    row = samples["never ended"]
    assert row["excluded_reason"] is None
    assert row["label"]["execution_success"] is False
    assert row["metadata"]["horizon_failed"] is True
    assert row["metadata"]["label_time"] == row["metadata"]["as_of"] + timedelta(hours=24)
    assert samples["golden"]["metadata"]["horizon_failed"] is False
    assert samples["not ended yet"]["excluded_reason"] == "IMMATURE"


def test_an_open_window_says_nothing_of_the_horizon(manifest):
    pipeline = ExecutionPipeline(manifest)
    pipeline.land(
        events=EVENTS, klines=klines(1400), provisional={"events": ["2024-12-28T15", "2024-12-28T16"]}
    )
    pipeline.build("stop_outcome_candidates")
    reasons = {r["metadata"]["as_of"]: r["excluded_reason"] for r in pipeline.rows("stop_outcome_candidates")}
    assert reasons[datetime(2024, 12, 27, 16, tzinfo=UTC)] == "IMMATURE"
    assert reasons[T] is None


def test_one_bar_less_is_no_day(manifest):
    pipeline = ExecutionPipeline(manifest)
    pipeline.land(events=EVENTS, klines=klines(1367))
    pipeline.build("feat_stop_triggers", "feat_stop_slippage")
    (row,) = pipeline.rows("feat_stop_triggers", "execution_token = 'golden'")
    assert (row["volume_24h"], row["volume_24h_base"]) == (None, None)
    assert row["volatility_15m"] == Decimal("0.006020")
    (row,) = pipeline.rows("feat_stop_slippage", "execution_token = 'golden'")
    assert row["order_qty_to_median_1m_volume"] is None


def test_slippage_has_its_own_population(pipeline, samples):
    rows = {r["metadata"]["as_of"]: r for r in pipeline.rows("slippage_prediction_candidates")}
    assert len(rows) > 3
    golden = rows[T]
    assert golden["excluded_reason"] is None
    assert golden["label"]["slippage_pct"] == Decimal("0.2268")
    assert golden["features"]["order_notional_quote"] == Decimal(88)
    assert {k: golden["features"][k] for k in samples["golden"]["features"]} == samples["golden"]["features"]
    assert rows[samples["never ended"]["metadata"]["as_of"]]["excluded_reason"] == "NOT_EXECUTED"
