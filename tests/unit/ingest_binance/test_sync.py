"""Syncs against the local server: every row once, cursors with the rows, failures that look like failures."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.binance.report import Options, Report
from ingest.binance.sync import ingest_api
from ingest.errors import FailedFile
from ingest.http_retry import RetryPolicy
from lake.windows import read_markers
from tests.fixtures.binance_server import API_KEY, API_SECRET, Server, cut, hang_up, serve, status
from tests.unit.ingest_binance.kit import DAY_MS, agg_csv, agg_rest, bar_values, fill, put
from tests.unit.ingest_binance.test_load import landed
from tests.unit.ingest_binance.test_load import run as load

AT = dt.datetime(2024, 12, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serve(Server()) as made:
        monkeypatch.setenv("TICKHOUSE_BINANCE_URL", made.url)
        monkeypatch.setenv("BINANCE_API_KEY", API_KEY)
        monkeypatch.setenv("BINANCE_API_SECRET", API_SECRET)
        yield made


def sync(root: Path, dataset: str, *symbols: str, now_ms: int | None = None, **options: object) -> Report:
    if dataset == "trades":
        options = {"client_id": 1} | options
    clock = {} if now_ms is None else {"clock_ns": lambda: now_ms * 1_000_000}
    return ingest_api(
        root,
        dataset,
        Options(symbols=symbols or ("BTCUSDC",), **options),
        policy=RetryPolicy(attempts=3, sleep=lambda _: None),
        **clock,
    )


def cursors(root: Path) -> dict[str, int]:
    folder = root / "raw" / "binance"
    return {
        p.relative_to(folder).as_posix(): json.loads(p.read_text())["last"]
        for p in folder.rglob("*.cursor.json")
    }


def test_own_fills_go_on_behind_the_cursor(root, server):
    server.fills["BTCUSDC"] = [fill(i) for i in range(2_300)]
    report = sync(root, "trades")
    assert (report.exit_code, report.files[0].rows) == (0, 2_300)
    assert cursors(root) == {"api/client_id=1/account_type=SPOT/BTCUSDC-myTrades.cursor.json": 28457 + 2_299}
    server.requests.clear()
    assert sync(root, "trades").files[0].rows == 0
    assert [query["fromId"] for _, query in server.requests] == [str(28457 + 2_300)]
    server.fills["BTCUSDC"] += [fill(2_300), fill(2_301)]
    assert sync(root, "trades").files[0].rows == 2
    found = landed(root, "trades", "client_id, trade_id, account_type")
    assert found == [(1, 28457 + i, "SPOT") for i in range(2_302)]


def test_each_client_account_and_symbol_has_its_cursor(root, server):
    server.fills = {"BTCUSDC": [fill(0), fill(1)], "ETHUSDC": [fill(0, symbol="ETHUSDC")]}
    assert sync(root, "trades", "BTCUSDC", "ETHUSDC").exit_code == 0
    assert sync(root, "trades", client_id=2).files[0].rows == 2
    server.fills["BTCUSDC"] = [fill(i, isIsolated=True) for i in range(3)]
    assert sync(root, "trades", account_type="ISOLATED_MARGIN").files[0].rows == 3
    assert len(cursors(root)) == 4
    assert len(landed(root, "trades")) == 8


def test_a_cursor_that_was_lost_is_found_in_the_rows(root, server):
    server.fills["BTCUSDC"] = [fill(i) for i in range(50)]
    sync(root, "trades")
    for path in (root / "raw" / "binance").rglob("*.cursor.json"):
        path.unlink()
    server.requests.clear()
    assert sync(root, "trades").files[0].rows == 0
    assert [query["fromId"] for _, query in server.requests] == [str(28457 + 50)]
    assert list(cursors(root).values()) == [28457 + 49]  # noted again


def test_a_rebuilt_cursor_is_of_its_own_client(root, server):
    server.fills["BTCUSDC"] = [fill(i) for i in range(5)]
    sync(root, "trades")
    assert sync(root, "trades", client_id=2).files[0].rows == 5


@pytest.mark.parametrize(
    "faults",
    [[status(500)] * 3, [hang_up] * 3, [cut()] * 3, [status(401, body='{"code":-2015,"msg":"Invalid"}')]],
)
def test_a_sync_that_failed_is_no_sync_without_news(root, server, faults):
    server.fills = {"BTCUSDC": [fill(i) for i in range(1_500)], "ETHUSDC": [fill(0, symbol="ETHUSDC")]}
    first = server._rows
    count = [0]

    def second_page_fails(path: str, query: dict) -> object:
        count[0] += 1
        if count[0] == 1:
            server.faults = list(faults)
        return first(path, query)

    server._rows = second_page_fails
    report = sync(root, "trades", "BTCUSDC", "ETHUSDC")
    assert [file.status for file in report.files] == ["unreachable", "landed"]
    assert report.exit_code == 4
    assert {row[0] for row in landed(root, "trades", "symbol")} == {"ETHUSDC"}
    assert [name for name in cursors(root) if "BTCUSDC" in name] == []
    assert sync(root, "trades").files[0].rows == 1_500


def test_the_tape_goes_on_behind_what_an_archive_brought(root, server, tmp_path):
    load(root, "agg_trades", put(tmp_path, "BTCUSDC-aggTrades-2024-12-01.csv", agg_csv(500)))
    server.tape["BTCUSDC"] = agg_rest(2_000)
    report = sync(root, "agg_trades")
    assert report.files[0].rows == 1_500
    assert [row[0] for row in landed(root, "agg_trades", "agg_id")] == [
        3_000_000_000 + i for i in range(2_000)
    ]


def test_public_data_needs_a_beginning_once(root, server):
    server.tape["BTCUSDC"] = agg_rest(2_000)
    report = sync(root, "agg_trades")
    assert report.exit_code == 1
    assert "name it by --start" in report.files[0].reason
    assert sync(root, "agg_trades", start=AT, end=AT + HOUR).files[0].rows == 2_000
    assert sync(root, "agg_trades").files[0].rows == 0


def test_a_range_is_cut_at_its_end_and_its_empty_hours_are_told(root, server):
    server.tape["BTCUSDC"] = agg_rest(6_000)
    report = sync(root, "agg_trades", start=AT - 2 * HOUR, end=AT + HOUR)
    assert report.files[0].rows == 2_918
    markers = read_markers(root, "agg_trades")
    assert [(marker.window_start, marker.rows) for marker in markers] == [
        ("2024-11-30T22:00:00Z", 0), ("2024-11-30T23:00:00Z", 0), ("2024-12-01T00:00:00Z", 2_918),
    ]  # fmt: skip


def test_a_range_without_any_row_has_its_windows(root, server):
    server.tape["BTCUSDC"] = []
    assert sync(root, "agg_trades", start=AT, end=AT + 3 * HOUR).exit_code == 0
    assert [marker.rows for marker in read_markers(root, "agg_trades")] == [0, 0, 0]


def test_overlapping_ranges_keep_what_came(root, server):
    """Bronze holds both copies; their hashes are equal, so that staging keeps one and finds no conflict."""
    server.tape["BTCUSDC"] = agg_rest(4_000)
    sync(root, "agg_trades", start=AT, end=AT + 2 * HOUR)
    sync(root, "agg_trades", start=AT, end=AT + HOUR)
    pairs = landed(root, "agg_trades", "distinct agg_id, row_hash")
    assert len(pairs) == 4_000


def test_only_bars_that_had_closed_land_and_the_rest_come_later(root, server):
    server.bars["BTCUSDC"] = [bar_values(i) for i in range(10)]
    now = DAY_MS + 9 * 60_000 + 30_000  # within the tenth bar
    assert sync(root, "klines", now_ms=now, start=AT).files[0].rows == 9
    assert sync(root, "klines", now_ms=now).files[0].rows == 0
    server.bars["BTCUSDC"].append(bar_values(10))
    assert sync(root, "klines", now_ms=now + 60_000).files[0].rows == 1
    assert len(landed(root, "klines", "distinct open_time")) == 10
    assert len(landed(root, "klines")) == 10


def test_an_answer_with_an_error_lands_nothing(root, server):
    report = sync(root, "agg_trades", "NOSUCHCOIN", start=AT)
    assert report.exit_code == 4
    assert "Invalid symbol" in report.files[0].reason
    assert list((root / "raw").rglob("*.gz")) == []


def test_missing_keys_are_told(root, server, monkeypatch):
    monkeypatch.delenv("BINANCE_API_KEY")
    report = sync(root, "trades")
    assert (report.exit_code, report.files[0].status) == (1, "failed")
    assert "BINANCE_API_KEY or BINANCE_API_SECRET was not set" in report.files[0].reason


def test_an_address_that_is_none_is_told(root, monkeypatch):
    monkeypatch.setenv("TICKHOUSE_BINANCE_URL", "ftp://x")
    with pytest.raises(FailedFile, match="TICKHOUSE_BINANCE_URL was no address"):
        sync(root, "klines", start=AT)


def test_what_a_sync_saved_can_be_landed_in_another_lake(root, server, tmp_path):
    server.bars["BTCUSDC"] = [bar_values(i) for i in range(10)]
    sync(root, "klines", now_ms=DAY_MS + 9 * 60_000 + 30_000, start=AT)
    (saved,) = (root / "raw" / "binance" / "api").rglob("*.json.gz")
    other = tmp_path / "other"
    other.mkdir()
    assert load(other, "klines", saved).files[0].rows == 9
    assert landed(other, "klines", "row_hash") == landed(root, "klines", "row_hash")
