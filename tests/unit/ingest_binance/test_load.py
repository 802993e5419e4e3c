"""Files to hour windows: once, whole, with receipts, holes and rejects; and what a call tells."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import duckdb
import pytest

import ingest.binance.load as load_module
from ingest.binance.gaps import recorded_gaps
from ingest.binance.load import ingest_files
from ingest.binance.raw_files import RawFile
from ingest.binance.report import Options, Report
from ingest.errors import RefusedFile
from ingest.landing import hash_source
from lake.windows import read_markers, visible_parts
from tests.unit.ingest_binance.kit import (
    DAY,
    agg_csv,
    agg_rest,
    bars_csv,
    fill,
    lines,
    put,
    ws_agg,
    ws_bar,
    zipped,
)

NAME = f"BTCUSDC-aggTrades-{DAY}"
AT = dt.datetime(2024, 12, 1, tzinfo=dt.UTC)


def run(root: Path, dataset: str, *paths: Path, **options: object) -> Report:
    if dataset == "trades":
        options = {"client_id": 1} | options
    return ingest_files(root, dataset, [str(path) for path in paths], Options(**options))


def landed(root: Path, dataset: str, columns: str = "*") -> list[tuple]:
    """Rows that readers see, in their order."""
    paths = [str(part.path) for part in visible_parts(root, dataset)]
    if not paths:
        return []
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        sql = f"select {columns} from read_parquet(?, hive_partitioning = true) order by all"
        return connection.execute(sql, [paths]).fetchall()


def receipts(root: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(root.glob("raw/_metadata/load-*.json"))]


def test_an_archive_day_lands_with_all_its_hours(root, tmp_path):
    path = put(tmp_path, f"{NAME}.zip", zipped(f"{NAME}.csv", agg_csv(6_000, gap_at=100)))
    report = run(root, "agg_trades", path)
    assert report.exit_code == 0
    (file,) = report.files
    assert (file.status, file.rows, file.gaps, file.windows) == ("landed", 6_000, 1, 24)
    rows = landed(root, "agg_trades", "agg_id, symbol, market, source_file, environment")
    assert len(rows) == 6_000
    assert rows[0] == (3_000_000_000, "BTCUSDC", "spot", f"raw/binance/{NAME}.zip", "prod")
    markers = read_markers(root, "agg_trades")
    assert len(markers) == 24
    assert sum(marker.rows for marker in markers) == 6_000
    assert [m.rows for m in markers[3:]] == [0] * 21
    (receipt,) = receipts(root)
    assert receipt["record_count"] == receipt["accepted_count"] == 6_000
    assert (receipt["gap_count"], receipt["missing_count"]) == (1, 5)
    assert receipt["gaps"][0]["key"] == {"market": "spot", "symbol": "BTCUSDC"}
    assert (root / receipt["path"]).read_bytes() == path.read_bytes()
    (gap,) = recorded_gaps(root, "agg_trades")
    assert (gap["path"], gap["reason"]) == (
        f"raw/binance/{NAME}.zip",
        "agg_id 3000000100 to 3000000104 missing, 5 in all",
    )
    assert recorded_gaps(root, "klines") == []


def test_the_same_bytes_again_add_nothing(root, tmp_path):
    path = put(tmp_path, f"{NAME}.zip", zipped(f"{NAME}.csv", agg_csv(100)))
    run(root, "agg_trades", path)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file() and "runs" not in p.parts}
    again = put(tmp_path / "elsewhere", f"{NAME}.zip", path.read_bytes())
    assert [file.status for file in run(root, "agg_trades", path, again).files] == ["already_landed"] * 2
    after = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file() and "runs" not in p.parts}
    assert before == after


def test_a_receipt_that_was_lost_adds_no_row_twice(root, tmp_path):
    """As after a kill between the last marker and the receipt."""
    path = put(tmp_path, f"{NAME}.zip", zipped(f"{NAME}.csv", agg_csv(4_000)))
    run(root, "agg_trades", path)
    (receipt,) = root.glob("raw/_metadata/load-*.json")
    content = receipt.read_text()
    receipt.unlink()
    assert run(root, "agg_trades", path).files[0].status == "landed"
    assert len(landed(root, "agg_trades")) == 4_000
    told = ("loaded_at", "run_id")
    first, second = (
        {k: v for k, v in json.loads(text).items() if k not in told}
        for text in (content, receipt.read_text())
    )
    assert first == second


@pytest.mark.parametrize("step", ["hash_source", "keep", "publish", "receipt"])
def test_a_load_that_fails_anywhere_is_made_good_by_the_next(root, tmp_path, monkeypatch, step):
    path = put(tmp_path, f"{NAME}.csv", agg_csv(3_000))
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device", str(root))

        match step:
            case "hash_source":
                patch.setattr(load_module, "hash_source", fail)
            case "keep":
                patch.setattr(load_module.RawFile, "keep", fail)
            case "publish":
                patch.setattr(load_module.WindowLoad, "publish", fail)
            case "receipt":
                patch.setattr(load_module, "_write_receipt", fail)
        report = run(root, "agg_trades", path)
        assert report.exit_code == 1
        assert report.files[0].status == "failed"
        assert "disk was full" in report.files[0].reason
    assert run(root, "agg_trades", path).exit_code == 0
    assert len(landed(root, "agg_trades")) == 3_000
    assert list(root.glob("lake/_stage/binance-*")) == []


def test_bad_records_are_kept_aside_and_the_window_says_so(root, tmp_path):
    data = agg_csv(300).splitlines()
    data[7] = data[7].replace(b".07", b",07")
    data[8] = data[8].replace(b"3000000008", b"-1")
    path = put(tmp_path, f"{NAME}.csv", b"\n".join(data))
    report = run(root, "agg_trades", path)
    assert report.exit_code == 2
    assert report.files[0].rejected == 2
    (marker,) = [m for m in read_markers(root, "agg_trades") if m.rows]
    assert (marker.incomplete, marker.reject_rows, marker.rows) == (True, 2, 298)
    files = f"{root}/lake/bronze/_rejects/dataset=agg_trades/*/*.parquet"
    kept = duckdb.sql(
        f"select line_no, rule, source_file from read_parquet('{files}') order by all"
    ).fetchall()
    assert kept == [
        (8, "COLUMN_COUNT", f"raw/binance/{NAME}.csv"),
        (9, "ID_RANGE", f"raw/binance/{NAME}.csv"),
    ]
    (receipt,) = receipts(root)
    assert receipt["by_rule"] == {"COLUMN_COUNT": 1, "ID_RANGE": 1}
    assert receipt["accepted_count"] + receipt["rejected_count"] == receipt["record_count"] == 300


def test_a_file_with_too_many_bad_records_is_quarantined_and_the_others_land(root, tmp_path):
    bad = put(tmp_path, f"{NAME}.csv", agg_csv(20) + b"x\n")
    good = put(tmp_path, f"ETHUSDC-aggTrades-{DAY}.csv", agg_csv(20))
    report = run(root, "agg_trades", tmp_path / "*.csv")
    assert [file.status for file in report.files] == ["quarantined", "landed"]
    assert report.exit_code == 1
    assert "1 of 21 records were bad (COLUMN_COUNT 1; the first: " in report.files[0].reason
    assert (root / "raw" / "_quarantine" / bad.name).read_bytes() == bad.read_bytes()
    assert {row[0] for row in landed(root, "agg_trades", "symbol")} == {"ETHUSDC"}
    assert good.exists()
    assert run(root, "agg_trades", bad, max_bad=0.1).exit_code == 2
    assert {row[0] for row in landed(root, "agg_trades", "symbol")} == {"ETHUSDC", "BTCUSDC"}


def test_a_capture_lands_by_dataset(root, tmp_path):
    path = put(tmp_path, "capture.gz", lines(ws_agg(0), ws_bar(0), fill(0), {"e": "depthUpdate"}, ws_agg(1)))
    for dataset, rows, filtered in (("agg_trades", 2, 3), ("klines", 1, 4), ("trades", 1, 4)):
        (file,) = run(root, dataset, path).files
        assert (file.rows, file.filtered, file.rejected) == (rows, filtered, 0)
        assert len(landed(root, dataset)) == rows
    assert len(list((root / "raw" / "binance").iterdir())) == 1
    assert len(receipts(root)) == 3


def test_fills_of_one_order_and_equal_ids_of_two_symbols_are_all_kept(root, tmp_path):
    rows = [fill(0), fill(1), fill(0, symbol="ETHUSDC"), fill(0, isIsolated=True)]
    path = put(tmp_path, "fills.json", lines(rows))
    run(root, "trades", path)
    run(root, "trades", path, client_id=2)
    found = landed(root, "trades", "client_id, account_type, symbol, trade_id")
    assert found == [
        (client, account, symbol, trade)
        for client in (1, 2)
        for account, symbol, trade in (
            ("ISOLATED_MARGIN", "BTCUSDC", 28457), ("SPOT", "BTCUSDC", 28457), ("SPOT", "BTCUSDC", 28458),
            ("SPOT", "ETHUSDC", 28457),
        )
    ]  # fmt: skip


def test_symbols_and_hours_narrow_what_lands(root, tmp_path):
    path = put(tmp_path, f"{NAME}.csv", agg_csv(8_000))
    report = run(root, "agg_trades", path, start=AT + dt.timedelta(hours=1), end=AT + dt.timedelta(hours=2))
    (file,) = report.files
    assert file.rows + file.filtered == 8_000
    times = landed(root, "agg_trades", "exchange_time")
    assert len(times) == file.rows == 2_917
    assert {at.hour for (at,) in times} == {1}
    capture = put(tmp_path, "c.json", lines(ws_agg(0), ws_agg(1, s="ETHUSDC")))
    assert run(root, "agg_trades", capture, symbols=("ETHUSDC",)).files[0].rows == 1


def test_a_body_without_a_symbol_takes_that_of_the_call(root, tmp_path):
    path = put(tmp_path, "body.json", lines(agg_rest(5)))
    assert run(root, "agg_trades", path).files[0].status == "quarantined"
    assert run(root, "agg_trades", path, symbols=("BTCUSDC",)).files[0].rows == 5


def test_a_file_of_another_dataset_is_refused_with_the_command_for_it(root, tmp_path):
    (file,) = run(root, "agg_trades", put(tmp_path, f"BTCUSDC-1m-{DAY}.csv", bars_csv(3))).files
    assert file.status == "quarantined"
    assert (
        "file held klines, expected agg_trades; land it by `tickhouse ingest binance klines`" in file.reason
    )


def test_what_one_dataset_was_made_of_stays_when_another_refuses_it(root, tmp_path):
    path = put(tmp_path, f"BTCUSDC-1m-{DAY}.csv", bars_csv(3))
    run(root, "klines", path)
    kept = root / "raw" / "binance" / path.name
    for source in (path, kept):
        assert run(root, "agg_trades", source).files[0].status == "quarantined"
        assert kept.read_bytes() == path.read_bytes()
    assert not (root / "raw" / "_quarantine").exists()


def test_a_wrong_checksum_lands_nothing(root, tmp_path):
    put(tmp_path, f"{NAME}.zip", zipped(f"{NAME}.csv", agg_csv(9)))
    put(tmp_path, f"{NAME}.zip.CHECKSUM", f"{'a' * 64}  {NAME}.zip\n".encode())
    report = run(root, "agg_trades", tmp_path / "*")
    assert [file.status for file in report.files] == ["quarantined"]
    assert landed(root, "agg_trades") == []


def test_two_files_of_one_name_are_both_kept(root, tmp_path):
    first = put(tmp_path / "a", f"{NAME}.csv", agg_csv(10))
    second = put(tmp_path / "b", f"{NAME}.csv", agg_csv(20))
    report = run(root, "agg_trades", first, second)
    names = {file.raw_path for file in report.files}
    assert len(names) == 2
    assert {(root / name).read_bytes() for name in names} == {first.read_bytes(), second.read_bytes()}
    assert len(landed(root, "agg_trades")) == 30  # bronze keeps what came, staging removes copies


def test_a_lake_holds_one_environment(root, tmp_path):
    path = put(tmp_path, f"{NAME}.csv", agg_csv(3))
    run(root, "agg_trades", path)
    with pytest.raises(RefusedFile, match="environment"):
        run(root, "agg_trades", path, environment="testnet")


def test_empty_files_land_as_nothing(root, tmp_path):
    report = run(root, "agg_trades", put(tmp_path, "BTCUSDC-aggTrades.json", b"[]\n"))
    assert (report.exit_code, report.files[0].status, report.files[0].rows) == (0, "landed", 0)


def test_the_order_of_rows_and_files_does_not_change_the_hours(root, tmp_path, monkeypatch):
    data = agg_csv(200).splitlines()
    straight = put(tmp_path / "a", f"{NAME}.csv", b"\n".join(data))
    shuffled = put(tmp_path / "b", f"{NAME}.csv", b"\n".join(data[::-1]))
    hashes = []
    for number, path in enumerate((straight, shuffled)):
        other = tmp_path / f"lake{number}"
        other.mkdir()
        run(other, "agg_trades", path)
        hashes.append([marker.content_hash for marker in read_markers(other, "agg_trades")])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("trades", {"client_id": None}, "name it by --client-id"),
        ("trades", {"client_id": 0}, "expected 1 or more"),
        ("klines", {"market": "coinm"}, "expected one of spot, usdm; correct --market"),
        ("klines", {"environment": "dev"}, "expected one of prod, testnet"),
        ("klines", {"start": AT + dt.timedelta(minutes=5)}, "expected a full hour"),
        ("klines", {"start": AT, "end": AT}, "expected it before the end"),
        ("klines", {"max_bad": 2.0}, "expected a share of 0 to 1"),
    ],
)
def test_options_that_do_not_fit_are_told(root, tmp_path, dataset, options, message):
    path = put(tmp_path, f"BTCUSDC-1m-{DAY}.csv", bars_csv(3))
    with pytest.raises(ValueError, match=message):
        run(root, dataset, path, **options)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads and writes whatever the mode says")
def test_a_read_only_lake_is_told(root, tmp_path):
    root.chmod(0o500)
    try:
        with pytest.raises(OSError, match="denied"):
            run(root, "agg_trades", put(tmp_path, f"{NAME}.csv", agg_csv(3)))
    finally:
        root.chmod(0o700)


@pytest.mark.realdata
def test_real_captures_are_read_and_nothing_of_them_lands(realdata, root):
    report = run(root, "agg_trades", realdata / "binance" / "hftbacktest" / "*.gz")
    assert [(file.status, file.filtered) for file in report.files] == [("landed", 58_325), ("landed", 93_954)]
    assert landed(root, "agg_trades") == []


def test_two_files_of_one_name_that_land_at_once_keep_a_place_each(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    sources = []
    for number in (1, 2):
        source = tmp_path / str(number) / "fills.json"
        source.parent.mkdir()
        source.write_text(f"[{number}]")
        sources.append(source)
    with RawFile(root, sources[0], hash_source(sources[0])) as first:
        with RawFile(root, sources[1], hash_source(sources[1])) as second:
            assert first.path != second.path
            second.keep()
        first.keep()
    kept = sorted(path.read_text() for path in (root / "raw" / "binance").iterdir())
    assert kept == ["[1]", "[2]"]
