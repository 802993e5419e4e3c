"""Flat files on their way into the lake: once, whole, in order, and accounted for."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ingest.bronze_schema import OPTIONS_TRADES, STOCKS_TRADES
from ingest.polygon import sorted_rows
from ingest.polygon.flat_file import FlatFile
from ingest.polygon.gzip_lines import text_blocks
from ingest.polygon.landing import Settings, ingest
from ingest.rejects import SCHEMA as REJECTS_SCHEMA
from lake import contracts
from lake.bronze import visible_files
from lake.locks import NameLock
from tests.unit.ingest_polygon.kit import (
    DAY,
    HOUR_NS,
    OPEN_NS,
    OPTIONS,
    OPTIONS_HEADER,
    STOCKS,
    bronze,
    commits,
    digests,
    packed,
    put,
    receipts,
    rejects,
)  # fmt: skip

CONTRACTS = {
    p.name.removesuffix(".schema.json"): json.loads(p.read_text())
    for p in (Path(contracts.__file__).parents[1] / "contracts" / "schemas").glob("*.json")
}
BAD = OPTIONS + OPTIONS.split("\n", 1)[1] * 30 + "O:SPY251224C00690000,209,0,300,-1," + f"{OPEN_NS},1\n"


def many_lines(count: int, seed: int = 7) -> list[str]:
    """Lines of several roots, grouped by ticker, over two UTC dates and many hours, with ties."""
    rng = np.random.default_rng(seed)
    roots = ("QQQ", "SPY", "SPYX")
    tickers = [
        f"O:{root}251224{right}00{strike}000" for root in roots for right in "CP" for strike in (690, 691)
    ]
    conditions = ("", "209", '"209,233"')
    lines = []
    for ticker in tickers:
        n = count // len(tickers)
        times = np.sort(rng.integers(0, 12 * 40, n)) * (HOUR_NS // 40) + OPEN_NS
        draws = zip(times, rng.integers(0, 3, n), rng.integers(1, 999, n), rng.integers(1, 9, n), strict=True)
        lines += [
            f"{ticker},{conditions[c]},0,300,{cents / 100:.2f},{t},{size}" for t, c, cents, size in draws
        ]
    return lines


def land(root: Path, path: Path, **settings: object):
    (report,) = ingest(root, [path], Settings(**settings)).files
    return report


def test_an_options_file_lands_by_underlying_date_and_hour(root: Path, tmp_path: Path) -> None:
    report = land(root, put(tmp_path / f"{DAY}.csv.gz", OPTIONS))
    assert (report.status, report.rows, report.rejected, report.partitions) == ("landed", 5, 0, 2)
    paths = [str(f.path.relative_to(root)) for f in visible_files(root)]
    folder = f"lake/bronze/options/trades/underlying=SPY/date={DAY}"
    assert paths == [f"{folder}/hour={h}/part-{report.delivery_id[:8]}-000.parquet" for h in (14, 15)]
    rows = bronze(root, "options.trades.v1")
    assert [r["ordinal"] for r in rows] == [5, 2, 3, 4, 1]
    assert {r["underlying"] for r in rows} == {"SPY"}
    (receipt,) = receipts(root)
    counts = {k: receipt[k] for k in ("record_count", "accepted_count", "rejected_count", "filtered_count")}
    assert counts == {"record_count": 8, "accepted_count": 5, "rejected_count": 0, "filtered_count": 3}
    expected = {
        "path": f"raw/polygon/options/{DAY}.csv.gz", "provider": "polygon", "dataset": "us_options_opra/trades_v1",
        "schema": "trades", "date": DAY, "status": "landed", "ts_first_ns": OPEN_NS + 3,
        "ts_last_ns": OPEN_NS + HOUR_NS,
    }  # fmt: skip
    assert expected.items() <= receipt.items()


def test_a_stocks_file_is_told_by_its_header(root: Path, tmp_path: Path) -> None:
    report = land(root, put(tmp_path / f"{DAY}.csv.gz", STOCKS))
    assert (report.status, report.rows) == ("landed", 3)
    rows = bronze(root, "stocks.trades.v1")
    assert [r["ordinal"] for r in rows] == [3, 2, 4]
    assert {r["symbol"] for r in rows} == {"SPY"}
    assert (root / "raw" / "polygon" / "stocks" / f"{DAY}.csv.gz").is_file()


@pytest.mark.parametrize(("text", "schema"), [(OPTIONS, OPTIONS_TRADES), (STOCKS, STOCKS_TRADES)])
def test_files_have_the_schemas_columns_and_say_whose_they_are(
    root: Path, tmp_path: Path, text, schema
) -> None:
    report = land(root, put(tmp_path / f"{DAY}.csv.gz", text))
    for file in visible_files(root):
        found = pq.ParquetFile(file.path)
        assert found.schema_arrow.names == schema.arrow.names
        for name in schema.arrow.names:
            physical, logical = found.schema_arrow.field(name), schema.arrow.field(name)
            assert physical.nullable == logical.nullable, name
        meta = {k.decode(): v.decode() for k, v in found.metadata.metadata.items()}
        assert meta["schema_name"] == schema.name
        assert meta["delivery_id"] == report.delivery_id


def test_any_order_and_twice_is_the_same_lake(tmp_path: Path) -> None:
    files = [
        put(tmp_path / "in" / "2025-12-24.csv.gz", OPTIONS),
        put(tmp_path / "in" / "stocks-2025-12-24.csv.gz", STOCKS),
        put(tmp_path / "in" / "2025-12-23.csv.gz", "\n".join([OPTIONS_HEADER, *many_lines(300)])),
        put(tmp_path / "in" / "resent.csv.gz", OPTIONS.replace("0.85", "0.86")),
    ]
    lakes = []
    for number, order in enumerate(
        [files, files[::-1], files + files, [files[2], files[0], files[3], files[1]]]
    ):
        root = tmp_path / f"lake{number}"
        root.mkdir()
        for path in order:
            assert ingest(root, [path]).ok
        lakes.append(digests(root))
    assert all(lake == lakes[0] for lake in lakes)
    assert {schema for schema, *_ in lakes[0]} == {"options.trades.v1", "stocks.trades.v1"}


def test_the_result_is_the_same_whatever_fits_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / f"{DAY}.csv.gz", "\n".join([OPTIONS_HEADER, *many_lines(3000)]))
    monkeypatch.setattr(sorted_rows, "MERGE_RUNS", 3)
    found = []
    for number, bounds in enumerate(
        [
            {},
            {"run_rows": 100, "merge_rows": 7},
            {"run_rows": 37, "merge_rows": 1000},
            {"run_rows": 600, "merge_rows": 64},
        ]
    ):
        stage = tmp_path / str(number)
        stage.mkdir()
        file = FlatFile(
            ["SPY", "QQQ"], source="sim", delivery_id="0123456789abcdef", stage=stage, source_file="x",
            row_group_rows=128, **bounds,
        )  # fmt: skip
        file.parse(text_blocks(path, block_bytes=3000))
        files, _ = file.finish()
        assert not list(stage.glob("run-*"))
        found.append([(f.path, f.rows, f.ts_min_ns, f.ts_max_ns, f.content_digest, f.sha256) for f in files])
        for f in files:
            ts = pq.read_table(f.staged, columns=["ts_event_ns", "ordinal"], partitioning=None)
            pairs = list(zip(*(c.to_pylist() for c in ts.columns), strict=True))
            assert pairs == sorted(pairs)
            assert len(set(pairs)) == f.rows
    assert all(f == found[0] for f in found)
    assert sum(f[1] for f in found[0]) == 2000
    assert len({f[0].split("/")[2] for f in found[0]}) == 2  # underlyings


def test_bad_lines_are_kept_aside_with_their_number_and_text(root: Path, tmp_path: Path) -> None:
    report = land(root, put(tmp_path / f"{DAY}.csv.gz", BAD))
    assert (report.status, report.rejected) == ("landed", 1)
    (row,) = rejects(root)
    line = BAD.count("\n")
    assert (row["rule"], row["line_no"], row["raw"]) == ("PRICE_RANGE", line, BAD.splitlines()[-1])
    assert row["source_file"] == f"raw/polygon/options/{DAY}.csv.gz"
    assert row["reason"] == "price was '-1', expected at least 0 and below a thousand million"
    (receipt,) = receipts(root)
    (part,) = receipt["rejects"]
    assert part["path"].startswith(f"_rejects/dataset=options_trades/date={DAY}/part-")
    assert pq.read_schema(root / "lake" / "bronze" / part["path"]).names == REJECTS_SCHEMA.names
    assert receipt["record_count"] == line - 1


def test_too_many_bad_lines_refuse_the_file(root: Path, tmp_path: Path) -> None:
    path = put(tmp_path / f"{DAY}.csv.gz", BAD)
    report = land(root, path, max_bad=0.003)
    assert report.status == "quarantined"
    assert "1 of 249 rows were bad (PRICE_RANGE 1; the first: " in report.reason
    assert not visible_files(root)
    assert [p.name for p in (root / "raw" / "_quarantine").iterdir()] == [path.name]
    assert not (root / "lake" / "bronze" / "_rejects").exists()
    # with more allowed, the same file lands, and its quarantined copy goes
    assert land(root, path).status == "landed"
    assert not list((root / "raw" / "_quarantine").iterdir())
    (receipt,) = receipts(root)
    assert receipt["status"] == "landed"


@pytest.mark.parametrize(
    ("data", "told"),
    [(packed(OPTIONS)[:-5], "was cut"), (b"x", "expected 1f8b"), (packed("a,b\n1,2\n"), "missing: ticker")],
)
def test_a_file_that_cannot_land_leaves_no_row(root: Path, tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / f"{DAY}.csv.gz"
    path.write_bytes(data)
    other = put(tmp_path / "ok" / f"{DAY}.csv.gz", OPTIONS)
    report = ingest(root, [path, other])
    assert [f.status for f in report.files] == ["quarantined", "landed"]
    assert not report.ok
    assert told in report.files[0].reason
    assert len(bronze(root, "options.trades.v1")) == 5
    assert not [p for p in (root / "lake" / "_stage").iterdir() if p.is_dir()]


@pytest.mark.parametrize("text", [f"{OPTIONS_HEADER}\n", OPTIONS.replace("SPY", "IWM")])
def test_a_day_without_a_row_of_ours_leaves_a_marker(root: Path, tmp_path: Path, text: str) -> None:
    report = land(root, put(tmp_path / f"{DAY}.csv.gz", text))
    assert (report.status, report.rows) == ("landed", 0)
    assert {d: r["files"] for d, r in commits(root, "options/trades").items()} == {DAY: []}


def test_a_day_must_be_told_by_the_name_or_a_row(root: Path, tmp_path: Path) -> None:
    report = land(root, put(tmp_path / "x.csv.gz", f"{OPTIONS_HEADER}\n"))
    assert report.status == "quarantined"
    assert "expected YYYY-MM-DD in the name" in report.reason
    assert land(root, put(tmp_path / "y.csv.gz", OPTIONS)).date == DAY


def test_a_simulated_file_says_so(root: Path, tmp_path: Path) -> None:
    path = put(root / "raw" / "polygon" / "options" / f"{DAY}.csv.gz", OPTIONS)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (root / "raw" / "simulation.json").write_text(json.dumps({"files": [{"sha256": digest}]}))
    assert ingest(root, [root / "raw" / "polygon"]).ok
    assert {r["source"] for r in bronze(root, "options.trades.v1")} == {"sim"}
    assert {r["source"] for r in commits(root, "options/trades").values()} == {"sim"}


def test_recover_lands_what_stands_in_raw(root: Path) -> None:
    put(root / "raw" / "polygon" / "options" / f"{DAY}.csv.gz", OPTIONS)
    put(root / "raw" / "polygon" / "stocks" / f"{DAY}.csv.gz", STOCKS)
    report = ingest(root, [], recover=True)
    assert [f.status for f in report.files] == ["landed", "landed"]
    assert {f.schema for f in visible_files(root)} == {"options.trades.v1", "stocks.trades.v1"}
    manifest = json.loads((root / "raw" / "manifest.json").read_text())
    assert len(manifest["files"]) == 2


def test_other_roots_and_symbols_are_a_setting(root: Path, tmp_path: Path) -> None:
    report = land(
        root,
        put(tmp_path / f"{DAY}.csv.gz", "\n".join([OPTIONS_HEADER, *many_lines(120)])),
        wanted=("QQQ", "SPY"),
    )
    assert report.rows == 80
    assert {f.key["underlying"] for f in visible_files(root)} == {"QQQ", "SPY"}


def test_a_file_that_changes_while_it_is_read_is_not_landed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(root / "raw" / "polygon" / "options" / f"{DAY}.csv.gz", OPTIONS)
    finish = FlatFile.finish

    def grow(self: FlatFile):
        path.write_bytes(packed(STOCKS))
        return finish(self)

    monkeypatch.setattr(FlatFile, "finish", grow)
    report = land(root, path)
    assert report.status == "failed"
    assert "changed while it was read" in report.reason
    assert not visible_files(root)


def test_a_full_disk_fails_and_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: sorted_rows.SortedRows) -> None:
        raise OSError(28, "No space left on device", "run-000000.arrow")

    path = put(tmp_path / f"{DAY}.csv.gz", "\n".join([OPTIONS_HEADER, *many_lines(300)]))
    with monkeypatch.context() as patch:
        patch.setattr(sorted_rows.SortedRows, "finish", full)
        report = land(root, path)
    assert report.status == "failed"
    assert "disk was full" in report.reason
    assert not visible_files(root)
    assert not (root / "raw" / "polygon").exists() or not list((root / "raw" / "polygon").rglob("*.gz"))
    assert land(root, path).status == "landed"


def test_settings_say_what_they_are() -> None:
    with pytest.raises(ValueError, match="max_bad was 2"):
        Settings(max_bad=2)
    with pytest.raises(ValueError, match="wanted was"):
        Settings(wanted=())


def session_lines(zero_dte: int, other: int, strikes: int) -> str:
    """Prints over all of the regular hours of a full session."""
    lines = []
    close_ns = OPEN_NS + 23_400 * 10**9 - 86_400 * 10**9  # of the day before, a full one
    for n in range(zero_dte + other):
        expiry = "251223" if n < zero_dte else "260116"
        ts = close_ns - 23_400 * 10**9 + n * (23_400 * 10**9 // (zero_dte + other - 1))
        lines.append(f"O:SPY{expiry}C00{650 + n % strikes}000,209,0,300,1.5,{ts},2")
    return "\n".join([OPTIONS_HEADER, *lines])


@pytest.mark.parametrize(
    ("zero_dte", "other", "strikes", "verdicts"),
    [
        (60, 40, 30, {"volume_0dte_share": (0.6, "ok"), "strikes_0dte": (30, "ok")}),
        (20, 80, 10, {"volume_0dte_share": (0.2, "warn"), "strikes_0dte": (10, "warn")}),
    ],
)
def test_a_whole_session_is_judged_by_its_counts(
    root: Path, tmp_path: Path, zero_dte: int, other: int, strikes: int, verdicts: dict
) -> None:
    text = session_lines(zero_dte, other, strikes)
    path = put(tmp_path / "2025-12-23.csv.gz", text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (root / "raw").mkdir()
    simulation = {"scale": 0.0001, "files": [{"sha256": digest}]}
    (root / "raw" / "simulation.json").write_text(json.dumps(simulation))
    assert land(root, path).ok
    record = commits(root, "options/trades")["2025-12-23"]
    found = {q["check"]: (q["value"], q["verdict"]) for q in record["quality"]}
    assert found == verdicts | {
        "order_violations": (0, "ok"),
        "rows_0dte": (zero_dte, "ok" if 40 <= zero_dte <= 150 else "warn"),
    }
    assert {json.dumps(q["key"]) for q in record["quality"]} == {'{"underlying": "SPY"}'}
    assert record["status"] == "complete"


def test_part_of_a_day_says_so(root: Path, tmp_path: Path) -> None:
    land(root, put(tmp_path / f"{DAY}.csv.gz", STOCKS))
    (record,) = commits(root, "stocks/trades").values()
    assert [(q["check"], q["verdict"]) for q in record["quality"]] == [
        ("order_violations", "ok"), ("partial_day", "warn"),
    ]  # fmt: skip


def test_every_manifest_meets_its_schema(root: Path, tmp_path: Path) -> None:
    bad = packed(OPTIONS)[:-3]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.csv.gz").write_bytes(bad)
    for name, text in (
        (f"{DAY}.csv.gz", BAD),
        (f"s-{DAY}.csv.gz", STOCKS),
        ("2025-12-25.csv.gz", OPTIONS_HEADER),
    ):
        put(tmp_path / "in" / name, text)
    ingest(root, [tmp_path / "in"], recover=True)
    checked = 0
    for path in root.rglob("*.json"):
        name = str(path.relative_to(root))
        schemas = [s for s in CONTRACTS if re.fullmatch(CONTRACTS[s]["x-path"], name)]
        assert len(schemas) == 1, name
        assert [f.told for f in contracts.faults(json.loads(path.read_text()), schemas[0])] == [], name
        checked += 1
    assert checked >= 10


def test_recover_removes_what_killed_downloads_left(root: Path) -> None:
    left = root / "lake" / "_stage" / "s3-0123456789abcdef"
    held = root / "lake" / "_stage" / "api-SPY_2025-12-24.json"
    for folder in (left, held):
        folder.mkdir(parents=True)
        (folder / "x.part").write_bytes(b"half")
    lock = NameLock(held.with_suffix(".lock"))
    assert lock.take(wait=False)
    assert ingest(root, []).removed == []
    assert ingest(root, [], recover=True).removed == ["lake/_stage/s3-0123456789abcdef"]
    assert (left.exists(), held.exists()) == (False, True)
    lock.release()
