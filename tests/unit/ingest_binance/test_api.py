"""The REST client and its paging against a local server: every row once, faults survived or told, no key anywhere."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator

import pytest

from ingest.binance.api import Api, SourceUnreachable
from ingest.binance.paging import agg_trade_pages, fill_pages, kline_pages
from ingest.errors import FailedFile
from ingest.http_retry import RetryPolicy
from tests.fixtures.binance_server import API_KEY, API_SECRET, NEVER_SEEN, Server, cut, hang_up, serve, status
from tests.unit.ingest_binance.kit import DAY_MS, agg_rest, bar_values, fill

HOUR_MS = 3_600_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(
        tape={"BTCUSDC": agg_rest(4_321)},
        bars={"BTCUSDC": [bar_values(i) for i in range(2_500)]},
        fills={"BTCUSDC": [fill(i) for i in range(2_345)]},
    )
    with serve(made):
        monkeypatch.setenv("TICKHOUSE_BINANCE_URL", made.url)
        monkeypatch.setenv("BINANCE_API_KEY", API_KEY)
        monkeypatch.setenv("BINANCE_API_SECRET", API_SECRET)
        yield made


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def api(server: Server, waits: list[float]) -> Api:
    return Api(policy=RetryPolicy(attempts=4, sleep=waits.append))


def ids(pages) -> list[int]:
    return [int(row["a" if "a" in row else "id"]) for page in pages for row in page.rows]


@pytest.mark.parametrize("total", [0, 1, 999, 1000, 1001, 2000, 4321])
def test_every_trade_of_a_range_comes_once(api, server, total):
    server.tape["BTCUSDC"] = agg_rest(total)
    pages = agg_trade_pages(
        api, "BTCUSDC", from_id=None, start_ms=DAY_MS - 3 * HOUR_MS, end_ms=DAY_MS + 24 * HOUR_MS
    )
    assert ids(pages) == [3_000_000_000 + i for i in range(total)]


def test_a_range_ends_with_the_page_that_reaches_its_end(api, server):
    pages = list(
        agg_trade_pages(api, "BTCUSDC", from_id=3_000_000_000, start_ms=None, end_ms=DAY_MS + 1_234 * 1_500)
    )
    assert len(ids(pages)) == 2_000
    assert [query.get("fromId") for _, query in server.requests] == ["3000000000", "3000001000"]


def test_bars_come_by_time(api):
    pages = list(kline_pages(api, "BTCUSDC", "1m", start_ms=DAY_MS, end_ms=DAY_MS + 2_200 * 60_000))
    opens = [int(bar[0]) for page in pages for bar in page.rows]
    assert opens == [DAY_MS + 60_000 * i for i in range(2_200)]


@pytest.mark.parametrize("from_id", [None, 28457, 30_000])
def test_fills_come_by_spans_of_a_day_until_the_first_and_then_by_id(api, server, from_id):
    start_ms = DAY_MS - 50 * HOUR_MS if from_id is None else None
    pages = fill_pages(
        api, "BTCUSDC", "SPOT", from_id=from_id, start_ms=start_ms, end_ms=DAY_MS + 72 * HOUR_MS
    )
    first = from_id or 28457
    assert ids(pages) == list(range(first, 28457 + 2_345))
    spans = [int(q["endTime"]) - int(q["startTime"]) for _, q in server.requests if "startTime" in q]
    assert all(span < 24 * HOUR_MS for span in spans)


def test_margin_has_its_own_address(api, server):
    list(fill_pages(api, "BTCUSDC", "ISOLATED_MARGIN", from_id=30_000, start_ms=None, end_ms=2**60))
    assert {(path, query["isIsolated"]) for path, query in server.requests} == {
        ("/sapi/v1/margin/myTrades", "TRUE")
    }


@pytest.mark.parametrize(
    "fault",
    [status(500), status(503), status(429, retry_after="7"), status(418, retry_after="9"), cut(), hang_up,
     status(200, body="[{"), status(200, body="<html>")],
)  # fmt: skip
def test_a_fault_that_passes_is_survived(api, server, waits, fault):
    server.faults = [fault, fault]
    assert len(api.agg_trades("BTCUSDC", from_id=0).rows) == 1000
    assert len(waits) == 2


def test_the_server_is_left_alone_for_as_long_as_it_asks(api, server, waits):
    server.faults = [status(429, retry_after="7"), status(418, retry_after="120")]
    api.agg_trades("BTCUSDC", from_id=0)
    assert waits[0] >= 7
    assert waits[1] >= 120
    server.faults = [status(418, retry_after="7200")]
    with pytest.raises(SourceUnreachable, match="asked to wait 7200 s"):
        api.agg_trades("BTCUSDC", from_id=0)


def test_a_source_that_is_gone_is_no_empty_answer(server, waits, monkeypatch):
    monkeypatch.setenv("TICKHOUSE_BINANCE_URL", "http://127.0.0.1:9")
    gone = Api(policy=RetryPolicy(attempts=3, sleep=waits.append))
    with pytest.raises(
        SourceUnreachable, match=r"failed 3 times, last: connection failed \(ConnectionError\)"
    ):
        list(agg_trade_pages(gone, "BTCUSDC", from_id=0, start_ms=None, end_ms=2**60))


def test_an_error_of_the_vendor_is_told_and_not_asked_again(api, server, waits):
    with pytest.raises(SourceUnreachable, match=r"error -1121: Invalid symbol"):
        api.agg_trades("NOSUCHCOIN", from_id=0)
    assert waits == []


def test_an_answer_that_goes_back_is_no_endless_loop(api, server):
    server.tape["BTCUSDC"] = agg_rest(1_000)
    server.faults = []
    stuck = server._rows
    server._rows = lambda path, query: stuck(path, {k: v for k, v in query.items() if k != "fromId"})
    with pytest.raises(SourceUnreachable, match="ids went back"):
        list(agg_trade_pages(api, "BTCUSDC", from_id=3_000_001_000, start_ms=None, end_ms=2**60))


def test_a_clock_that_is_wrong_is_set_by_the_servers(server, waits):
    server.ahead_ms = 3_600_000
    api = Api(policy=RetryPolicy(attempts=3, sleep=waits.append))
    assert len(api.own_fills("BTCUSDC", "SPOT", from_id=30_000).rows) > 0
    assert len(waits) == 1


def test_a_clock_that_runs_ahead_closes_no_bar(api, server):
    api.clock_ns = lambda: 4_000_000_000_000_000_000
    asked_ns = api.klines("BTCUSDC", "1m", start_ms=DAY_MS, end_ms=DAY_MS + 1).asked_ns
    assert asked_ns < 4_000_000_000_000_000_000


def test_a_redirect_takes_no_key_elsewhere(api, server):
    server.faults = [status(302, body="[]")]
    with pytest.raises(SourceUnreachable, match="answered with status 302"):
        api.own_fills("BTCUSDC", "SPOT", from_id=0)


def test_missing_keys_are_told_before_anything_is_asked(api, server, monkeypatch):
    monkeypatch.delenv("BINANCE_API_SECRET")
    with pytest.raises(FailedFile, match="BINANCE_API_KEY or BINANCE_API_SECRET was not set"):
        api.own_fills("BTCUSDC", "SPOT", from_id=0)
    assert server.requests == []


def test_no_key_and_no_signature_is_in_a_log_or_a_traceback(api, server, waits, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    told = []
    for faults in ([status(500)] * 4, [hang_up] * 4, [cut()] * 4, [status(418, retry_after="9999")]):
        server.faults = list(faults)
        try:
            api.own_fills("BTCUSDC", "SPOT", from_id=0)
        except SourceUnreachable:
            told.append(traceback.format_exc())
    monkeypatch.setenv("BINANCE_API_SECRET", "another" + API_SECRET)
    with pytest.raises(SourceUnreachable, match="error -1022") as refused:
        api.own_fills("BTCUSDC", "SPOT", from_id=0)
    told.append("".join(traceback.format_exception(refused.value)))
    assert len(told) == 5
    assert "myTrades" in caplog.text  # the lines are there, their queries aren't
    for text in (caplog.text, *told, repr(api)):
        assert NEVER_SEEN not in text
        assert "signature=" not in text
        assert "timestamp=" not in text
