"""Landing DBN files: once, whole, in any order; what can't land is told, kept aside, and leaves nothing."""

import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zstandard

from ingest.dbn import ingest
from ingest.expected import Expected
from ingest.file_report import IngestReport
from lake.atomic import sha256_file
from lake.bronze import visible_files
from lake.digest import file_digest
from lake.rollup import write_rollups
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import DAY, DAY_NS, HOUR_NS, IDS, records, snapshot, write_dbn


def day_of_files(folder: Path) -> list[Path]:
    """Trades and book of two days, the trades over midnight, as a vendor delivers them."""
    late = records("trades", 600, start_ns=DAY_NS + 23 * HOUR_NS + 50 * 60 * 10**9, step_ns=3 * 10**9)
    next_day = {s: [(DAY, DAY + datetime.timedelta(days=9), i)] for s, i in IDS.items()}
    return [
        write_dbn(folder / kit.name("trades"), "trades", records("trades", 400, step_ns=20 * 10**9)),
        write_dbn(
            folder / kit.name("mbp-10"),
            "mbp-10",
            records("mbp-10", 300, seed=2, step_ns=20 * 10**9),
            frames=3,
        ),
        write_dbn(folder / "late.dbn", "trades", late, head=kit.metadata("trades", mappings=next_day)),
    ]


def one(report: IngestReport) -> tuple[str, str | None]:
    (file,) = report.files
    return file.status, file.reason


def test_a_file_becomes_hours_of_exact_rows(tmp_path: Path, root: Path) -> None:
    rows = records("mbp-10", 500, step_ns=15 * 10**9)
    rows["price"][3], rows["size"][4], rows["ts_recv"][5] = (
        kit.UNDEF_PRICE,
        kit.UNDEF_SIZE,
        kit.UNDEF_TIMESTAMP,
    )
    rows["bid_px_09"][6], rows["bid_sz_09"][6] = kit.UNDEF_PRICE, kit.UNDEF_SIZE
    path = write_dbn(tmp_path / kit.name("mbp-10"), "mbp-10", rows)
    report = ingest(root, [path])
    (file,) = report.files
    assert (file.status, file.rows, file.bytes_in) == ("landed", 500, path.stat().st_size)
    table = kit.bronze(root, "futures.mbp10.v1").to_pydict()
    assert table["ordinal"] == list(range(500))
    for column, field in (("price", "price"), ("bid_px_09", "bid_px_09"), ("ask_px_00", "ask_px_00")):
        expected = [None if v == kit.UNDEF_PRICE else v for v in rows[field].tolist()]
        assert [None if v is None else int(v * 10**9) for v in table[column]] == expected
    assert table["size"] == [None if v == kit.UNDEF_SIZE else v for v in rows["size"].tolist()]
    assert table["ts_recv_ns"] == [None if v == kit.UNDEF_TIMESTAMP else v for v in rows["ts_recv"].tolist()]
    assert table["bid_sz_09"][6] == 0
    signs = {b"A": -1, b"B": 1, b"N": 0}
    trade = rows["action"] == b"T"
    assert table["aggressor"] == [signs[s] if t else 0 for s, t in zip(rows["side"], trade, strict=True)]
    assert table["hour"] == [(t - DAY_NS) // HOUR_NS for t in rows["ts_event"].tolist()]
    assert set(table["symbol"]) == {"ES"}
    assert set(table["contract"]) == {"ESZ5"}


def test_sequences_past_2_to_the_31_stay_positive(tmp_path: Path, root: Path) -> None:
    rows = records("trades", 10)
    rows["sequence"] = 2**31 - 5 + np.arange(10)
    assert ingest(root, [write_dbn(tmp_path / "a.dbn", "trades", rows)]).ok
    assert kit.bronze(root)["sequence"].to_pylist() == rows["sequence"].tolist()


def test_files_have_the_columns_and_encodings_of_the_spec(tmp_path: Path, root: Path) -> None:
    for schema in ("trades", "mbp-10"):
        ingest(root, [write_dbn(tmp_path / kit.name(schema), schema, records(schema, 50))])
    common = [
        "ts_event_ns",
        "ts_recv_ns",
        "source",
        "delivery_id",
        "ordinal",
        "_extra",
        "sequence",
        "publisher_id",
    ]
    common += [
        "instrument_id",
        "contract",
        "price",
        "size",
        "side",
        "aggressor",
        "flags",
        "depth",
        "ts_in_delta",
    ]
    levels = [f"{s}_px_{k:02d}" for s in ("bid", "ask") for k in range(10)]
    levels += [f"{s}_{w}_{k:02d}" for w in ("sz", "ct") for s in ("bid", "ask") for k in range(10)]
    expected = {"futures.trades.v1": common, "futures.mbp10.v1": [*common, "action", *levels]}
    nullable = {"ts_recv_ns", "_extra"}
    for file in visible_files(root):
        parquet = pq.ParquetFile(file.path)
        assert parquet.schema_arrow.names == expected[file.schema]
        may_be_null = nullable | (
            {"price", "size", *levels[:20]} if file.schema == "futures.mbp10.v1" else set()
        )
        assert {f.name for f in parquet.schema_arrow if f.nullable} == may_be_null
        extra = {k.decode(): v.decode() for k, v in parquet.metadata.metadata.items()}
        assert extra["schema_name"] == file.schema
        assert extra["schema_version"] == "1"
        assert extra["delivery_id"] == file.delivery_id
        assert "tickhouse_version" in extra
        group = parquet.metadata.row_group(0)
        columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        assert {c.compression for c in columns.values()} == {"ZSTD"}
        assert columns["price"].physical_type == "INT64"
        assert "RLE_DICTIONARY" in columns["price"].encodings
        for delta in ("ts_event_ns", "ts_recv_ns", "sequence", "ordinal", "ts_in_delta"):
            assert "DELTA_BINARY_PACKED" in columns[delta].encodings
        statistics = {name for name, c in columns.items() if c.is_stats_set}
        assert statistics == {"ts_event_ns", "sequence", "contract", "instrument_id"}
        assert str(parquet.schema.column(10).logical_type) == "Decimal(precision=18, scale=9)"


def test_receipts_commits_and_manifests_say_what_is_there(tmp_path: Path, root: Path) -> None:
    files = day_of_files(tmp_path / "in")
    report = ingest(root, files)
    assert report.ok
    for path, file in zip(files, report.files, strict=True):
        receipt = json.loads((root / "raw" / "_metadata" / f"receipt-{file.delivery_id}.json").read_text())
        assert receipt["sha256"] == sha256_file(path) == sha256_file(root / receipt["path"])
        assert receipt["delivery_id"] == receipt["sha256"][:16]
        assert receipt["bytes"] == path.stat().st_size
        assert receipt["record_count"] == file.rows
        assert receipt["status"] == "landed"
        assert receipt["format_version"] == 3
        assert receipt["date"] == "2025-12-15"
        mine = [f for f in visible_files(root) if f.delivery_id == file.delivery_id]
        assert sum(f.rows for f in mine) == file.rows
        assert min(f.ts_min_ns for f in mine) == receipt["ts_first_ns"]
        assert max(f.ts_max_ns for f in mine) == receipt["ts_last_ns"]
        for f in mine:
            assert f.content_digest == file_digest(f.path)
            table = pq.ParquetFile(f.path).read(columns=["ts_event_ns", "delivery_id"])
            assert table.num_rows == f.rows
            assert {t // HOUR_NS for t in table["ts_event_ns"].to_pylist()} == {(f.ts_min_ns) // HOUR_NS}
            assert set(table["delivery_id"].to_pylist()) == {file.delivery_id}
    late = json.loads(
        (root / "raw" / "_metadata" / f"receipt-{report.files[2].delivery_id}.json").read_text()
    )
    assert late["symbols"] == {"2025-12-15": {"17": "ESZ5"}, "2025-12-16": {"17": "ESZ5"}}
    assert not (root / "raw" / "manifest.json").exists()  # its cost grows with the lake
    write_rollups(root)
    raw = json.loads((root / "raw" / "manifest.json").read_text())
    assert [f["path"] for f in raw["files"]] == [
        "raw/dbn/mbp10/glbx-mdp3-20251215.mbp-10.dbn.zst",
        "raw/dbn/trades/glbx-mdp3-20251215.trades.dbn.zst",
        "raw/dbn/trades/late.dbn",
    ]
    manifest = json.loads((root / "lake" / "bronze" / "manifest.json").read_text())
    assert sum(p["rows"] for p in manifest["partitions"]) == 1300
    assert {p["date"] for p in manifest["partitions"]} == {"2025-12-15", "2025-12-16"}
    (run,) = (root / "_meta" / "runs").glob("*.json")
    record = json.loads(run.read_text())
    assert record["run_id"] == run.stem == report.run_id
    assert record["status"] == "ok"
    statuses = {"landed": 3, "already_landed": 0, "quarantined": 0, "failed": 0}
    assert record["counts"] == {**statuses, "rows": 1300, "rejected": 0}


def test_a_second_time_changes_nothing(tmp_path: Path, root: Path) -> None:
    files = day_of_files(tmp_path / "in")
    ingest(root, files)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in root.rglob("*") if p.is_file()}
    copy = tmp_path / "again" / "other name.dbn.zst"
    copy.parent.mkdir()
    copy.write_bytes(files[0].read_bytes())
    report = ingest(root, [*reversed(files), copy])
    assert {f.status for f in report.files} == {"already_landed"}
    assert [f.rows for f in report.files] == [600, 300, 400, 400]
    after = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in root.rglob("*") if p.is_file()}
    new = {p.parent.name for p in after.keys() - before.keys()}
    assert new == {"runs"}
    after = {p: v for p, v in after.items() if p in before}
    assert after == before


def test_any_order_and_any_split_into_calls_gives_the_same_bronze(tmp_path: Path) -> None:
    files = day_of_files(tmp_path / "in")
    ingest(tmp_path / "a", files)
    ingest(tmp_path / "b", [files[2], files[0], files[1]])
    for file in reversed(files):
        ingest(tmp_path / "c", [file])
    ingest(tmp_path / "d", [tmp_path / "in"])
    expected = snapshot(tmp_path / "a")
    for other in "bcd":
        assert snapshot(tmp_path / other) == expected


def test_files_that_share_an_hour_stand_beside_each_other(tmp_path: Path, root: Path) -> None:
    first = write_dbn(tmp_path / "a.dbn.zst", "trades", records("trades", 20, seed=1))
    second = write_dbn(tmp_path / "b.dbn.zst", "trades", records("trades", 30, seed=2))
    ingest(root, [first])
    ingest(root, [second])
    assert sorted(f.rows for f in visible_files(root)) == [20, 30]
    assert len({f.path.parent for f in visible_files(root)}) == 1


def test_raw_keeps_names_and_tells_equal_names_apart(tmp_path: Path, root: Path) -> None:
    first = write_dbn(tmp_path / "x" / "day.dbn.zst", "trades", records("trades", 5, seed=1))
    second = write_dbn(tmp_path / "y" / "day.dbn.zst", "trades", records("trades", 5, seed=2))
    ingest(root, [first, second])
    names = sorted(p.name for p in (root / "raw" / "dbn" / "trades").iterdir())
    assert names == sorted(["day.dbn.zst", f"day.{sha256_file(second)[:8]}.dbn.zst"])


def test_a_file_that_stands_in_raw_already_stays_where_it_is(root: Path) -> None:
    path = write_dbn(root / "raw" / "dbn" / "trades" / kit.name("trades"), "trades", records("trades", 5))
    inode = path.stat().st_ino
    report = ingest(root, [root / "raw" / "dbn"])
    assert report.files[0].raw_path == "raw/dbn/trades/glbx-mdp3-20251215.trades.dbn.zst"
    assert path.stat().st_ino == inode
    assert list(path.parent.iterdir()) == [path]


def test_simulated_files_are_known_by_their_sha256(tmp_path: Path, root: Path) -> None:
    ours = write_dbn(tmp_path / "sim.dbn.zst", "trades", records("trades", 5, seed=1))
    real = write_dbn(tmp_path / "real.dbn.zst", "trades", records("trades", 5, seed=2))
    (root / "raw").mkdir()
    listed = {"dates": ["2025-12-15"], "files": [{"path": "x", "sha256": sha256_file(ours)}]}
    (root / "raw" / "simulation.json").write_text(json.dumps(listed))
    ingest(root, [ours, real])
    sources = {
        f.delivery_id: set(pq.ParquetFile(f.path).read()["source"].to_pylist()) for f in visible_files(root)
    }
    assert sources == {sha256_file(ours)[:16]: {"sim"}, sha256_file(real)[:16]: {"databento_dbn"}}


def test_instruments_are_mapped_by_id_and_date_and_go_to_their_product(tmp_path: Path, root: Path) -> None:
    rows = records("trades", 60, start_ns=DAY_NS + 23 * HOUR_NS + 1800 * 10**9, step_ns=60 * 10**9)
    rows["instrument_id"][1::3], rows["instrument_id"][2::3] = 19, 20
    day = datetime.timedelta(days=1)
    mappings = {
        "ESZ5": [(DAY, DAY + day, 17)],
        "ESH6": [(DAY + day, DAY + 2 * day, 17)],  # the same id, another contract the next day
        "ESZ5-ESH6": [(DAY, DAY + 2 * day, 19)],
        "NQZ5": [(DAY, DAY + 2 * day, 20)],
    }
    path = write_dbn(tmp_path / "x.dbn.zst", "trades", rows, head=kit.metadata("trades", mappings=mappings))
    assert ingest(root, [path]).ok
    table = kit.bronze(root).to_pydict()
    by_ordinal = dict(
        zip(table["ordinal"], zip(table["contract"], table["symbol"], strict=True), strict=True)
    )
    for i, row in enumerate(rows):
        next_day = int(row["ts_recv"]) >= DAY_NS + 24 * HOUR_NS
        expected = {17: "ESH6" if next_day else "ESZ5", 19: "ESZ5-ESH6", 20: "NQZ5"}[
            int(row["instrument_id"])
        ]
        assert by_ordinal[i] == (expected, "NQ" if expected == "NQZ5" else "ES")
    assert {c for c, _ in by_ordinal.values()} == {"ESZ5", "ESH6", "ESZ5-ESH6", "NQZ5"}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("suffix", [".dbn", ".dbn.zst"])
@pytest.mark.parametrize("ts_out", [False, True])
def test_versions_frames_and_send_times(
    tmp_path: Path, root: Path, version: int, suffix: str, ts_out: bool
) -> None:
    rows = records("trades", 40)
    head = kit.metadata("trades", version=version, ts_out=ts_out)
    data = rows
    if ts_out:
        data = np.zeros(40, [("record", rows.dtype), ("ts_out", "<u8")])
        data["record"], data["record"]["length"] = rows, 14
    path = write_dbn(tmp_path / f"x{suffix}", "trades", data, head=head, frames=7)
    report = ingest(root, [path])
    assert report.ok, report.files
    table = kit.bronze(root).to_pydict()
    assert table["sequence"] == rows["sequence"].tolist()
    assert table["size"] == rows["size"].tolist()


def test_skippable_frames_and_frames_without_checksum_are_read(tmp_path: Path, root: Path) -> None:
    rows = records("trades", 3000)
    data = kit.metadata("trades") + rows.tobytes()
    plain = zstandard.ZstdCompressor(write_checksum=False, write_content_size=False)
    skip = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"hello"
    path = tmp_path / "x.dbn.zst"
    path.write_bytes(plain.compress(data[:70_000]) + skip + plain.compress(data[70_000:]))
    assert ingest(root, [path]).files[0].rows == 3000


def test_a_file_without_rows_lands_with_its_receipt(tmp_path: Path, root: Path) -> None:
    path = write_dbn(tmp_path / kit.name("trades"), "trades", records("trades", 0))
    (file,) = ingest(root, [path]).files
    assert (file.status, file.rows, file.date) == ("landed", 0, "2025-12-15")
    assert visible_files(root) == []
    (marker,) = (root / "lake" / "bronze").glob("futures/trades/_metadata/date=2025-12-15/commit-*.json")
    assert json.loads(marker.read_text())["files"] == []
    receipt = json.loads((root / "raw" / "_metadata" / f"receipt-{file.delivery_id}.json").read_text())
    assert [receipt[f"{what}_count"] for what in ("record", "accepted", "rejected", "filtered")] == [0] * 4
    write_rollups(root)
    assert json.loads((root / "lake" / "bronze" / "manifest.json").read_text())["partitions"] == []
    assert ingest(root, [path]).files[0].status == "already_landed"


def test_dates_of_the_window_without_rows_leave_a_marker(tmp_path: Path, root: Path) -> None:
    """Two days of rows out of a window of four; and one whose end isn't told marks what it has."""
    day = 24 * HOUR_NS
    days = {s: [(DAY, DAY + datetime.timedelta(days=9), i)] for s, i in IDS.items()}
    rows = records("trades", 40, step_ns=10**9)
    rows["ts_event"][20:] += 2 * day
    rows["ts_recv"][20:] += 2 * day
    head = kit.metadata("trades", mappings=days, start=DAY_NS + HOUR_NS, end=DAY_NS + 3 * day + 1)
    assert ingest(root, [write_dbn(tmp_path / "a.dbn", "trades", rows, head=head)]).ok
    markers = sorted((root / "lake" / "bronze").glob("futures/trades/_metadata/date=*/commit-*.json"))
    found = {p.parent.name: sum(f["rows"] for f in json.loads(p.read_text())["files"]) for p in markers}
    assert found == {f"date=2025-12-{15 + n}": r for n, r in enumerate((20, 0, 20, 0))}
    for end, dates in ((None, {"2025-12-15"}), (DAY_NS + 4000 * day, {"2025-12-15"})):
        lake = tmp_path / f"lake-{end}"
        head = kit.metadata("trades", mappings=days, end=end)
        assert ingest(lake, [write_dbn(tmp_path / "b.dbn", "trades", rows[:20], head=head)]).ok
        folders = (lake / "lake" / "bronze" / "futures" / "trades" / "_metadata").iterdir()
        assert {p.name.removeprefix("date=") for p in folders} == dates


def test_progress_counts_the_bytes_of_each_file(tmp_path: Path, root: Path) -> None:
    files = day_of_files(tmp_path / "in")
    seen: dict[Path, list[tuple[int, int]]] = {}
    ingest(root, files, progress=lambda path, done, size: seen.setdefault(path, []).append((done, size)))
    for path in files:
        size = path.stat().st_size
        assert seen[path][-1] == (size, size)
        assert [d for d, _ in seen[path]] == sorted(d for d, _ in seen[path])


# --- what can't land ---------------------------------------------------------------------------------------------

GOOD = records("trades", 3000)


def _cut(n: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:-n]


def _flip(share: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        at = int(len(data) * share)
        return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]

    return flip


def _changed(**fields: object) -> np.ndarray:
    rows = GOOD.copy()
    for field, value in fields.items():
        rows[field][1234] = value
    return rows


BAD_BYTES = {
    "cut in its last frame": (_cut(7), ".dbn.zst", "zstd frame was cut"),
    "cut by half": (lambda d: d[: len(d) // 2], ".dbn.zst", "zstd frame was cut"),
    "cut by one byte": (_cut(1), ".dbn.zst", "zstd frame was cut"),
    "a byte flipped": (_flip(0.5), ".dbn.zst", "was damaged"),
    "a byte flipped early": (_flip(0.1), ".dbn.zst", "was damaged"),
    "with a foreign tail": (lambda d: d + b"not a frame", ".dbn.zst", "expected a zstd frame"),
    "cut in its last record": (_cut(7), ".dbn", "last record was 41 bytes after 2999 whole ones, expected 48"),
    "cut in its header": (lambda d: d[:100], ".dbn", "metadata was 92 bytes, expected"),
    "empty": (lambda d: b"", ".dbn", "expected b'DBN'"),
    "a few bytes": (lambda d: d[:5], ".dbn", "expected a DBN header"),
    "no DBN": (lambda d: b"ts_event,price\n1,2\n", ".dbn", "expected b'DBN'"),
    "no DBN inside zstd": (lambda d: zstandard.compress(b"ts_event,price\n"), ".dbn.zst", "expected b'DBN'"),
    "a fragment": (lambda d: d[-48 * 3000 :], ".dbn", "expected b'DBN'"),
    "of a later version": (lambda d: b"DBN\x04" + d[4:], ".dbn", "DBN version was 4, expected 1, 2 or 3"),
    "with a damaged header": (lambda d: d[:8] + b"\xff" * 60 + d[68:], ".dbn", "metadata could not be decoded"),
    "with a huge header": (lambda d: d[:4] + b"\xff" * 4 + d[8:], ".dbn", "metadata length was 4294967295"),
}  # fmt: skip
REFUSING_ROWS = {
    "an unmapped id": (_changed(instrument_id=99), "instrument id 99 had no symbol on 2025-12-15 (record 1234)"),
    "a record of another kind": (_changed(rtype=10), "record 1234 was of rtype 0x0a and 48 bytes"),
    "a record of another length": (_changed(length=92), "record 1234 was of rtype 0x00 and 368 bytes"),
}  # fmt: skip
# field, value → rule, reason
BAD_ROWS = {
    "a time too old": ("ts_event", 5, "TS_RANGE", "ts_event was 5, expected a time between"),
    "no time": ("ts_event", kit.UNDEF_TIMESTAMP, "TS_RANGE", "ts_event was 18446744073709551615, expected"),
    "a time too late": ("ts_event", 4_102_444_800 * 10**9, "TS_RANGE", "ts_event was 4102444800000000000, exp"),
    "no price": ("price", kit.UNDEF_PRICE, "PRICE_MISSING", "price was 9223372036854775807, expected a price"),
    "a price too long": ("price", 10**18, "PRICE_RANGE", "price was 1000000000000000000, expected less than"),
    "a price too low": ("price", -(10**18), "PRICE_RANGE", "price was -1000000000000000000, expected less than"),
    "the lowest price": ("price", -(2**63), "PRICE_RANGE", "price was -9223372036854775808, expected less than"),
    "no size": ("size", kit.UNDEF_SIZE, "SIZE", "size was 4294967295, expected 1 to 2147483647"),
    "size zero": ("size", 0, "SIZE", "size was 0, expected 1 to 2147483647"),
    "an unknown side": ("side", b"X", "SIDE", "side was 'X', expected one of A, B, N"),
    "an unknown action": ("action", b"Z", "ACTION", "action was 'Z', expected one of T"),
    "a book action": ("action", b"A", "ACTION", "action was 'A', expected one of T"),
    "a publisher too large": ("publisher_id", 40_000, "PUBLISHER_ID", "publisher_id was 40000, expected at most"),
    "an id too large": ("instrument_id", 2**31, "INSTRUMENT_ID", "instrument_id was 2147483648, expected at most"),
}  # fmt: skip
BAD_BOOK_ROWS = {
    "a size at a level": ("bid_sz_03", 2**31, "SIZE", "bid_sz_03 was 2147483648, expected 0 to 2147483647"),
    "a count at a level": ("ask_ct_09", 2**32 - 2, "SIZE", "ask_ct_09 was 4294967294, expected 0 to"),
    "a price at a level": ("ask_px_09", 10**18, "PRICE_RANGE", "ask_px_09 was 1000000000000000000, expected"),
    "a size": ("size", 2**31, "SIZE", "size was 2147483648, expected 0 to 2147483647"),
    "an action": ("action", b"Q", "ACTION", "action was 'Q', expected one of A, C, F, M, N, R, T"),
}  # fmt: skip


def assert_refused_alone(tmp_path: Path, root: Path, bad: Path, reason: str) -> None:
    """``bad`` is quarantined with ``reason``, leaves nothing in bronze, and the file after it lands."""
    good = write_dbn(tmp_path / "good.dbn.zst", "trades", records("trades", 10, seed=5))
    alone = tmp_path / "alone"
    ingest(alone, [good])
    report = ingest(root, [bad, good])
    assert [f.status for f in report.files] == ["quarantined", "landed"]
    assert not report.ok
    told = report.files[0].reason
    assert reason in told
    assert "\n" not in told
    kept = root / "raw" / "_quarantine" / bad.name
    assert kept.read_bytes() == bad.read_bytes()
    receipt = f"raw/_metadata/receipt-{report.files[0].delivery_id}.json"
    assert kit.tree(root) - kit.tree(alone) == {receipt, f"raw/_quarantine/{bad.name}"}
    assert kit.tree(alone) <= kit.tree(root)
    entry = json.loads((root / receipt).read_text())
    assert (entry["status"], entry["reason"], entry["path"]) == (
        "quarantined",
        told,
        f"raw/_quarantine/{bad.name}",
    )
    assert kit.bronze(root).equals(kit.bronze(alone))
    again = ingest(root, [bad])
    assert one(again) == ("quarantined", told)
    assert (root / receipt).read_text() == json.dumps(entry, indent=1, ensure_ascii=False) + "\n"
    assert kit.tree(root) - kit.tree(alone) == {receipt, f"raw/_quarantine/{bad.name}"}


@pytest.mark.parametrize("case", BAD_BYTES)
def test_damaged_files_are_kept_aside(tmp_path: Path, root: Path, case: str) -> None:
    damage, suffix, reason = BAD_BYTES[case]
    bad = write_dbn(tmp_path / f"bad{suffix}", "trades", GOOD, frames=3)
    bad.write_bytes(damage(bad.read_bytes()))
    assert_refused_alone(tmp_path, root, bad, reason)


@pytest.mark.parametrize("case", REFUSING_ROWS)
def test_rows_that_belong_to_no_contract_or_schema_refuse_their_file(
    tmp_path: Path, root: Path, case: str
) -> None:
    rows, reason = REFUSING_ROWS[case]
    assert_refused_alone(tmp_path, root, write_dbn(tmp_path / "bad.dbn.zst", "trades", rows), reason)


def assert_lands_without(
    root: Path, path: Path, schema: str, bad: dict[int, tuple[str, str]], n: int
) -> None:
    """``path`` lands but for its rows ``bad`` (number → rule and begin of the reason), which are kept aside."""
    (file,) = ingest(root, [path]).files
    assert (file.status, file.rows, file.rejected) == ("landed", n - len(bad), len(bad))
    receipt = json.loads((root / "raw" / "_metadata" / f"receipt-{file.delivery_id}.json").read_text())
    counts = [receipt[f"{what}_count"] for what in ("record", "accepted", "rejected", "filtered")]
    assert counts == [n, n - len(bad), len(bad), 0]
    name = {"trades": "futures.trades.v1", "mbp-10": "futures.mbp10.v1"}[schema]
    assert sorted(kit.bronze(root, name)["ordinal"].to_pylist()) == [i for i in range(n) if i not in bad]
    kept = kit.rejects(root)
    assert sorted(row[2] for row in kept) == sorted(bad)
    for dataset, date, line_no, rule, reason, raw in kept:
        assert (dataset, date) == ("futures_" + schema.replace("-", ""), "2025-12-15")
        assert rule == bad[line_no][0]
        assert reason.startswith(bad[line_no][1])
        assert json.loads(raw)["sequence"] > 0
    listed = {f["path"]: f for f in receipt["rejects"]}
    on_disk = [p for p in (root / "lake" / "bronze" / "_rejects").rglob("*") if p.is_file()]
    assert {str(p.relative_to(root / "lake" / "bronze")) for p in on_disk} == set(listed)
    for p in on_disk:
        entry = listed[str(p.relative_to(root / "lake" / "bronze"))]
        assert (entry["bytes"], entry["sha256"]) == (p.stat().st_size, sha256_file(p))
        sources = pq.ParquetFile(p).read()["source_file"].to_pylist()
        assert set(sources) == {receipt["path"]}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_break_the_schema_are_kept_aside(tmp_path: Path, root: Path, case: str) -> None:
    field, value, rule, reason = BAD_ROWS[case]
    path = write_dbn(tmp_path / "bad.dbn.zst", "trades", _changed(**{field: value}))
    assert_lands_without(root, path, "trades", {1234: (rule, reason)}, len(GOOD))


@pytest.mark.parametrize("case", BAD_BOOK_ROWS)
def test_book_rows_that_break_the_schema_are_kept_aside(tmp_path: Path, root: Path, case: str) -> None:
    field, value, rule, reason = BAD_BOOK_ROWS[case]
    rows = records("mbp-10", 200)
    rows[field][7] = value
    path = write_dbn(tmp_path / "bad.dbn.zst", "mbp-10", rows)
    assert_lands_without(root, path, "mbp-10", {7: (rule, reason)}, len(rows))


def test_a_row_is_kept_aside_once_whatever_it_breaks_and_wherever_it_stands(
    tmp_path: Path, root: Path
) -> None:
    """At both ends of the file and of blocks, many in one block, of an hour that has to be sorted again."""
    rows = records("trades", 20_000, step_ns=10**8)
    rows["ts_event"][15_000] = rows["ts_event"][0] - 1  # before what is written: a second reading
    bad = [0, 8191, 8192, 9000, *range(16_384, 16_484), 19_999]
    rows["size"][bad], rows["side"][bad], rows["price"][bad] = 0, b"?", kit.UNDEF_PRICE
    path = write_dbn(tmp_path / "bad.dbn.zst", "trades", rows)
    expected = dict.fromkeys(bad, ("SIDE", "side was '?'"))
    assert_lands_without(root, path, "trades", expected, len(rows))
    raw = json.loads(kit.rejects(root)[0][-1])
    assert raw["price"] == kit.UNDEF_PRICE
    assert raw["size"] == 0
    assert raw["side"] == "?"
    assert raw["ts_event"] == int(rows["ts_event"][0])


@pytest.mark.parametrize("suffix", [".dbn", ".dbn.zst"])
def test_a_file_with_too_many_bad_rows_is_refused(tmp_path: Path, root: Path, suffix: str) -> None:
    rows = records("trades", 1000)
    rows["size"][:7], rows["side"][7:11] = 0, b"?"
    path = write_dbn(tmp_path / f"bad{suffix}", "trades", rows)
    assert_refused_alone(
        tmp_path, root, path, "11 of 1,000 rows were bad (SIDE 4, SIZE 7; the first: size was 0"
    )
    assert ingest(root, [path], max_bad=0.011).files[0].status == "landed"
    assert len(kit.rejects(root)) == 11
    assert not list((root / "raw" / "_quarantine").iterdir())


def test_a_bad_file_that_stands_in_raw_is_moved_and_told_once(tmp_path: Path, root: Path) -> None:
    bad = write_dbn(root / "raw" / "dbn" / "trades" / kit.name("trades"), "trades", GOOD)
    bad.write_bytes(bad.read_bytes()[:-5])
    good = write_dbn(root / "raw" / "dbn" / "trades" / "good.dbn", "trades", records("trades", 10, seed=5))
    whole = bad.read_bytes()
    report = ingest(root, [root / "raw" / "dbn"])
    assert sorted(f.status for f in report.files) == ["landed", "quarantined"]
    assert not bad.exists()
    assert (root / "raw" / "_quarantine" / bad.name).read_bytes() == whole
    again = ingest(root, [root / "raw" / "dbn"], recover=True)
    assert [(f.path, f.status) for f in again.files] == [(good, "already_landed")]
    # Placed again, it is moved again, to the copy that is there.
    bad.write_bytes(whole)
    assert not ingest(root, [root / "raw" / "dbn"]).ok
    assert not bad.exists()
    assert ingest(root, [root / "raw" / "dbn"]).ok
    assert one(ingest(root, [root / "raw" / "_quarantine" / bad.name]))[0] == "quarantined"
    assert (root / "raw" / "_quarantine" / bad.name).read_bytes() == whole


def test_a_file_other_than_the_delivery_list_says_is_kept_aside(tmp_path: Path, root: Path) -> None:
    path = write_dbn(tmp_path / "a.dbn.zst", "trades", records("trades", 20))
    size, sha256 = path.stat().st_size, sha256_file(path)
    for other, told in (
        (Expected(bytes=size + 1), f"{size + 1:,} by the vendor's list"),
        (Expected(bytes=size, sha256="0" * 64), "expected 0000000000000000…"),
        (Expected(record_count=21), "held 20 records, expected 21"),
    ):
        status, reason = one(ingest(root, [path], expected={path: other}))
        assert status == "quarantined"
        assert told in reason
    assert visible_files(root) == []
    right = Expected("GLBX-1", "2025-12-17T00:00:00Z", size, sha256, 20)
    assert one(ingest(root, [path], expected={path: right}))[0] == "landed"
    receipt = json.loads((root / "raw" / "_metadata" / f"receipt-{sha256[:16]}.json").read_text())
    assert (receipt["request_id"], receipt["downloaded_at"]) == ("GLBX-1", "2025-12-17T00:00:00Z")


@pytest.mark.parametrize("schema", ["mbp-1", "tbbo", "statistics", None])
def test_other_schemas_are_refused_by_name(tmp_path: Path, root: Path, schema: str | None) -> None:
    stype_in = "raw_symbol" if schema else None
    bad = write_dbn(tmp_path / "bad.dbn", "trades", GOOD, head=kit.metadata(schema, stype_in=stype_in))
    assert_refused_alone(
        tmp_path, root, bad, f"schema was {schema or 'mixed'}, expected trades, mbp-10, mbo, "
    )


@pytest.mark.parametrize(
    ("mappings", "reason"),
    [
        ({}, "instrument id 17 had no symbol on 2025-12-15 (record 0)"),
        (
            {"ESZ5": [(DAY - datetime.timedelta(days=1), DAY, 17)]},
            "instrument id 17 had no symbol on 2025-12-15",
        ),
        ({"ES.c.0": [(DAY, DAY + datetime.timedelta(days=1), 17)]}, "symbols were continuous (ES.c.0)"),
        (
            {s: [(DAY, DAY + datetime.timedelta(days=1), 17)] for s in ("ESZ5", "ESH6")},
            "instrument id 17 had several symbols on 2025-12-15 (record 0)",
        ),
    ],
)
def test_mappings_that_do_not_name_every_row_refuse_the_file(
    tmp_path: Path, root: Path, mappings: dict, reason: str
) -> None:
    bad = write_dbn(tmp_path / "bad.dbn.zst", "trades", GOOD, head=kit.metadata("trades", mappings=mappings))
    assert_refused_alone(tmp_path, root, bad, reason)


def test_a_refused_file_that_is_mended_by_an_update_lands(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dbn(tmp_path / kit.name("trades"), "trades", records("trades", 10))
    monkeypatch.setattr("ingest.dbn_checks.TS_EVENT_MAX_NS", 5)
    assert one(ingest(root, [path]))[0] == "quarantined"
    monkeypatch.undo()
    assert one(ingest(root, [path])) == ("landed", None)
    ingest(tmp_path / "fresh", [path])
    assert snapshot(root) == snapshot(tmp_path / "fresh")


def test_what_is_not_there_or_holds_nothing_is_told(tmp_path: Path, root: Path) -> None:
    good = write_dbn(tmp_path / "good.dbn", "trades", records("trades", 10))
    (tmp_path / "empty").mkdir()
    report = ingest(root, [tmp_path / "absent.dbn", tmp_path / "empty", good])
    assert [f.status for f in report.files] == ["failed", "failed", "landed"]
    assert "path was not there" in report.files[0].reason
    assert "folder had no .dbn" in report.files[1].reason
    assert not list((root / "raw").glob("_quarantine/*"))


def test_an_unreadable_file_is_told_and_nothing_kept(tmp_path: Path, root: Path) -> None:
    bad = write_dbn(tmp_path / "bad.dbn", "trades", records("trades", 10))
    bad.chmod(0)
    if os.access(bad, os.R_OK):  # root reads everything: a folder in the file's place can't be read either
        bad.unlink()
        bad.symlink_to("/proc/self/mem")
    good = write_dbn(tmp_path / "good.dbn", "trades", records("trades", 10, seed=3))
    report = ingest(root, [bad, good])
    assert [f.status for f in report.files] == ["failed", "landed"]
    assert "could not read the file" in report.files[0].reason
    assert not (root / "raw" / "_quarantine").exists()


def test_folders_are_searched_without_hidden_and_private_ones(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "in"
    write_dbn(folder / "a" / "b" / "one.dbn.zst", "trades", records("trades", 3, seed=1))
    write_dbn(folder / "two.dbn", "trades", records("trades", 4, seed=2))
    write_dbn(folder / "_quarantine" / "no.dbn", "trades", records("trades", 5, seed=3))
    write_dbn(folder / "a" / "._tmp-no.dbn", "trades", records("trades", 6, seed=4))
    (folder / "notes.txt").write_text("no market data")
    report = ingest(root, [folder, folder / "two.dbn"])
    assert sorted(f.rows for f in report.files) == [3, 4]
