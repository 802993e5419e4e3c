"""Trades out of the REST interface: paging, asking again, giving up; nothing half, nothing leaked."""

import json
import logging
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.http_retry import RetryPolicy
from ingest.polygon import rest
from ingest.polygon.api_file import Number, dumps, loads
from tests.fixtures.polygon_server import KEY, Fault, polygon_server
from tests.unit.ingest_polygon.kit import OPEN_NS, bronze, commits, everything_written, receipts, rejects

OPTION = "O:SPY251224C00690000"
DAY, NEXT = date(2025, 12, 24), date(2025, 12, 25)
TRADES = [
    f'{{"conditions":[209],"exchange":312,"price":0.85,"sip_timestamp":{OPEN_NS + 5},"size":10,"sequence_number":7}}',
    f'{{"conditions":[209,233],"exchange":300,"price":1.230000001,"sip_timestamp":{OPEN_NS + 6},"size":2.0}}',
    f'{{"exchange":300,"price":1e-2,"sip_timestamp":{OPEN_NS + 6},"participant_timestamp":{OPEN_NS},"size":1}}',
    f'{{"exchange":300,"price":3,"sip_timestamp":{OPEN_NS + 9},"size":4}}',
    f'{{"exchange":300,"price":5,"sip_timestamp":{OPEN_NS + 12},"size":4}}',
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with polygon_server({OPTION: TRADES}) as server:
        monkeypatch.setenv("MASSIVE_API_KEY", KEY)
        monkeypatch.setenv("MASSIVE_BASE_URL", server.url)
        yield server


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def policy(slept: list[float]) -> RetryPolicy:
    return RetryPolicy(attempts=4, sleep=slept.append)


def fetch(root: Path, policy: RetryPolicy, ticker: str = OPTION):
    (report,) = rest.ingest(root, [ticker], DAY, NEXT, policy=policy).files
    return report


def test_pages_of_a_day_land_as_one_delivery(root: Path, server, policy) -> None:
    report = fetch(root, policy)
    assert (report.status, report.rows) == ("landed", 5)
    assert [r["path"] for r in server.seen] == ["/v3/trades/" + OPTION] * 3
    rows = bronze(root, "options.trades.v1")
    assert [r["price"] for r in rows] == [Decimal(p) for p in ("0.85", "1.230000001", "0.01", "3", "5")]
    assert [r["size"] for r in rows] == [10, 2, 1, 4, 4]
    assert rows[1]["conditions"] == [209, 233]
    assert rows[2]["ts_recv_ns"] == OPEN_NS
    assert {r["source"] for r in rows} == {"massive_rest"}
    assert rows[0]["option_symbol"] == OPTION
    (receipt,) = receipts(root)
    assert receipt["path"] == "raw/polygon/api/O_SPY251224C00690000_2025-12-24.json.zst"
    assert (receipt["provider"], receipt["request_id"]) == ("polygon", "request-1")


def test_the_same_answers_again_are_a_no_op(root: Path, server, policy) -> None:
    fetch(root, policy)
    assert fetch(root, policy).status == "already_landed"
    assert len(bronze(root, "options.trades.v1")) == 5


def test_a_day_is_asked_for_by_its_midnights_in_new_york(root: Path, server, policy) -> None:
    fetch(root, policy)
    first = server.seen[0]
    assert int(first["timestamp.gte"]) == 1_766_552_400_000_000_000  # 05:00 UTC
    assert int(first["timestamp.lt"]) - int(first["timestamp.gte"]) == 86_400_000_000_000
    assert (
        rest.day_bounds_ns(date(2025, 11, 2))[1] - rest.day_bounds_ns(date(2025, 11, 2))[0] == 90_000 * 10**9
    )


def test_an_empty_day_leaves_a_marker(root: Path, server, policy) -> None:
    report = fetch(root, policy, "O:SPY251224C00700000")
    assert (report.status, report.rows) == ("landed", 0)
    ((date_, record),) = commits(root, "options/trades").items()
    assert (date_, record["files"]) == ("2025-12-24", [])


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, headers={"Retry-After": "3"}),
        Fault(status=500),
        Fault(status=503),
        Fault(cut_after=40),
        Fault(cut_after=0),
        Fault(body=b'{"status":"OK","results":[{"price":1.5,'),
        Fault(body=b"<html>busy</html>", content_type="text/html"),
        Fault(body=b'{"status":"OK","results":[{"price":NaN}]}'),
        Fault(change={"results": None}),
        Fault(change={"status": "ERROR"}),
        Fault(body=b"[" * 100_000),
    ],
)
def test_a_passing_failure_is_asked_again(root: Path, server, policy, slept, fault: Fault) -> None:
    server.faults.extend([Fault(), fault])
    assert fetch(root, policy).rows == 5
    assert len(slept) == 1
    if "Retry-After" in fault.headers:
        assert slept[0] >= 3


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(status=500), "failed 4 times"),
        (Fault(change={"results": None}), "no list of results"),
        (Fault(cut_after=30), "failed 4 times"),
    ],
)
def test_a_day_that_fails_is_not_shown_as_an_empty_one(
    root: Path, server, policy, fault: Fault, told: str
) -> None:
    server.faults.extend([Fault()] + [fault] * 4)
    report = fetch(root, policy)
    assert report.status == "failed"
    assert told in report.reason
    assert not receipts(root)
    assert not commits(root, "options/trades")
    assert not list((root / "lake" / "_stage").iterdir())


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(status=401), "check MASSIVE_API_KEY"),
        (Fault(status=404), "answered 404"),
        (Fault(status=302, headers={"Location": "http://127.0.0.1:9/"}), "answered 302"),
        (Fault(change={"next_url": "https://elsewhere.example/v3/trades/X"}), "no cursor"),
        (Fault(change={"next_url": 7}), "no cursor"),
    ],
)
def test_what_no_retry_mends_fails_at_once(
    root: Path, server, policy, slept, fault: Fault, told: str
) -> None:
    server.faults.append(fault)
    report = fetch(root, policy)
    assert report.status == "failed"
    assert told in report.reason
    assert not slept


def test_pages_that_lead_in_a_circle_end(root: Path, server, policy) -> None:
    server.loops = True
    report = fetch(root, policy)
    assert report.status == "failed"
    assert "came to no end" in report.reason
    assert len(server.seen) < 5


def test_a_trade_of_another_day_fails_the_day(root: Path, server, policy) -> None:
    stray = [{"price": 1, "size": 1, "exchange": 300, "sip_timestamp": OPEN_NS - 86_400 * 10**9}]
    server.faults.append(Fault(change={"results": stray}))
    report = fetch(root, policy)
    assert report.status == "failed"
    assert "held a trade at" in report.reason


def test_a_bad_row_is_kept_aside_as_the_vendor_wrote_it(root: Path, server, policy) -> None:
    bad = f'{{"exchange":300,"price":-1.50,"sip_timestamp":{OPEN_NS + 7},"size":1}}'
    server.trades[OPTION] = [*TRADES * 30, bad]
    (report,) = rest.ingest(root, [OPTION], DAY, NEXT, policy=policy).files
    assert (report.status, report.rows, report.rejected) == ("landed", 150, 1)
    (row,) = rejects(root)
    assert (row["rule"], row["line_no"], row["raw"]) == ("PRICE_RANGE", 152, bad)


def test_a_new_key_in_the_results_is_kept(root: Path, server, policy) -> None:
    server.trades[OPTION] = [TRADES[0][:-1] + ',"venue_note":"a, \\"b\\"","deep":{"x":[1.50]}}']
    fetch(root, policy)
    (row,) = bronze(root, "options.trades.v1")
    assert json.loads(row["_extra"]) == {"venue_note": 'a, "b"', "deep": '{"x":[1.50]}'}


def test_stock_trades_come_the_same_way(root: Path, server, policy) -> None:
    server.trades["SPY"] = [
        f'{{"conditions":[12,37],"exchange":4,"id":"52983","participant_timestamp":{OPEN_NS},"price":690.12,'
        f'"sequence_number":2001,"sip_timestamp":{OPEN_NS + 20},"size":100,"decimal_size":"100.5","tape":2}}'
    ]
    report = fetch(root, policy, "SPY")
    assert report.ok, report
    (row,) = bronze(root, "stocks.trades.v1")
    assert (row["size"], row["trade_id"], row["sequence"]) == (Decimal("100.5"), "52983", 2001)


def test_the_key_is_nowhere_but_in_the_requests(
    root: Path, server, policy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reports = [fetch(root, policy)]
    for fault in (
        Fault(status=500),
        Fault(status=401, body=f'{{"key":"{KEY}"}}'.encode()),
        Fault(cut_after=10),
    ):
        server.faults.extend([fault] * 4)
        reports.append(fetch(root, policy, "O:SPY251224C00700000"))
    assert KEY not in caplog.text
    assert KEY not in repr(reports)
    assert KEY.encode() not in everything_written(root)
    assert all(KEY not in json.dumps(r) for r in server.seen)


def test_the_key_does_not_go_to_an_address_without_encryption(
    root: Path, server, policy, monkeypatch
) -> None:
    monkeypatch.setenv("MASSIVE_BASE_URL", "http://files.example")
    with pytest.raises(rest.FailedFile, match="no https address"):
        fetch(root, policy)


def test_without_a_key_nothing_is_asked(root: Path, server, policy, monkeypatch) -> None:
    monkeypatch.delenv("MASSIVE_API_KEY")
    monkeypatch.delenv("POLYGON_API_KEY", raising=False)
    with pytest.raises(rest.FailedFile, match="MASSIVE_API_KEY was not set"):
        fetch(root, policy)
    assert not server.seen


def test_a_day_that_is_not_over_is_not_landed(root: Path, server, policy) -> None:
    (report,) = rest.ingest(root, [OPTION], date(2098, 1, 1), date(2098, 1, 2), policy=policy).files
    assert report.status == "failed"
    assert "not over" in report.reason


@pytest.mark.parametrize("ticker", ["", "../x", "SPY/..", "O:SPY251224X00690000", "A B", "é"])
def test_what_is_no_ticker_is_refused_before_anything_is_asked(
    root: Path, server, policy, ticker: str
) -> None:
    with pytest.raises(ValueError, match="ticker was"):
        rest.ingest(root, [ticker], DAY, NEXT, policy=policy)
    assert not server.seen


@pytest.mark.parametrize(
    "text", ['{"a":1.50,"b":[1E400,-0,12345678901234567890]}', '{"a":"\\ud800","b":null}']
)
def test_json_comes_back_digit_by_digit(text: str) -> None:
    assert dumps(loads(text)) == text
    assert isinstance(loads("1.50"), Number)


def test_the_older_client_does_the_same(root: Path, server, policy, monkeypatch) -> None:
    from polygon import RESTClient  # noqa: PLC0415

    monkeypatch.setattr(rest, "RESTClient", RESTClient)
    monkeypatch.delenv("MASSIVE_API_KEY")
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    server.faults.extend([Fault(), Fault(status=429), Fault(cut_after=5)])
    assert fetch(root, policy).rows == 5
