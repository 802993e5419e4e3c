"""Files of orders through the whole ingest: rows under their own numbers, what is left out counted."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ingest import dbn
from ingest.dbn import ingest
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import DAY_NS, HOUR_NS, IDS, UNDEF_PRICE, bronze, write_dbn
from tests.unit.ingest.test_mbo_book import FIELDS, LAST, event, slow, stream

NAMES = {100: "ESZ5", 101: "ESH6", 102: "NQZ5"}


def orders(n: int, seed: int) -> np.ndarray:
    """A random stream of three contracts of two products, 14:00 and later of the day."""
    records = stream(seed, n)
    for old, contract in NAMES.items():
        records["instrument_id"][records["instrument_id"] == old] = IDS[contract]
    records["ts_event"] += np.uint64(14 * HOUR_NS)
    records["ts_recv"] += np.uint64(14 * HOUR_NS)
    return records


def receipt_of(root: Path) -> dict:
    (path,) = (root / "raw" / "_metadata").glob("receipt-*.json")
    return json.loads(path.read_text())


def expected_rows(records: np.ndarray) -> list[dict]:
    contracts = {i: c for c, i in IDS.items()}
    rows = []
    for number, *own, depth, levels in slow(records):
        row = dict(zip(FIELDS, own, strict=True))
        row |= {"ordinal": number, "depth": depth, "contract": contracts[row["instrument_id"]]}
        for k, level in enumerate(levels):
            for column, value in zip(
                ("bid_px", "bid_sz", "bid_ct", "ask_px", "ask_sz", "ask_ct"), level, strict=True
            ):
                row[f"{column}_{k:02d}"] = value
        rows.append(row)
    return sorted(rows, key=lambda r: (r["ts_event"], r["sequence"], r["ordinal"]))


def assert_landed(root: Path, expected: list[dict]) -> None:
    table = bronze(root, "futures.mbp10.v1").sort_by(
        [("ts_event_ns", "ascending"), ("sequence", "ascending"), ("ordinal", "ascending")]
    )
    assert len(table) == len(expected) > 500
    for name in expected[0]:
        ours = table[{"ts_event": "ts_event_ns", "ts_recv": "ts_recv_ns"}.get(name, name)].to_pylist()
        theirs = [r[name] for r in expected]
        if name == "price" or "_px_" in name:
            assert [UNDEF_PRICE if v is None else int(v * 10**9) for v in ours] == theirs, name
        else:
            assert ours == theirs, name


def test_a_file_of_orders_lands_as_the_book_it_builds(tmp_path: Path, root: Path) -> None:
    records = orders(2500, seed=21)
    path = write_dbn(tmp_path / kit.name("mbo"), "mbo", records)
    (file,) = ingest(root, [path]).files
    expected = expected_rows(records)
    assert (file.status, file.schema, file.rows) == ("landed", "mbo", len(expected))
    assert_landed(root, expected)
    receipt = receipt_of(root)
    assert receipt["path"] == f"raw/dbn/mbo/{kit.name('mbo')}"
    assert receipt["record_count"] == len(records)
    assert receipt["filtered_count"] == len(records) - len(expected)
    # The stream has its oddities: they are counted and warned of.
    commits = (root / "lake" / "bronze" / "futures" / "mbp10" / "_metadata").rglob("commit-*.json")
    quality = {q["check"]: q for c in commits for q in json.loads(c.read_text())["quality"]}
    assert quality["orders_unknown_cancels"]["value"] > 0
    assert quality["orders_unknown_cancels"]["verdict"] == "warn"


def test_hours_that_come_back_are_built_from_a_second_reading(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The book is built again from its first order on, whatever the hours of its events."""
    records = orders(30_000, seed=22)
    third = len(records) // 3
    # By its own clock the middle third is an hour ahead of the others: the first hour is over, and comes back.
    records["ts_event"][third : 2 * third] += np.uint64(HOUR_NS)
    records["ts_recv"][third:] += np.uint64(HOUR_NS + HOUR_NS // 20)
    path = write_dbn(tmp_path / "m.dbn.zst", "mbo", records)
    readings = []
    once = dbn._rows_again
    monkeypatch.setattr(dbn, "_rows_again", lambda *of: readings.append(of) or once(*of))
    (file,) = ingest(root, [path]).files
    assert (file.status, file.partitions) == ("landed", 4)
    assert len(readings) == 1
    table = bronze(root, "futures.mbp10.v1")
    assert sorted(set(table["hour"].to_pylist())) == [14, 15]
    ordinals = table["ordinal"].to_pylist()
    assert len(set(ordinals)) == len(ordinals) == file.rows
    other = tmp_path / "in_order"
    records["ts_event"][third : 2 * third] -= np.uint64(HOUR_NS)
    ingest(other, [write_dbn(tmp_path / "n.dbn.zst", "mbo", records)])
    # A snapshot's record takes its time from its neighbours; all else is as it was, hour aside.
    levels = [c for c in table.column_names if c[:4] in ("bid_", "ask_")]
    columns = ["ordinal", "action", "side", "price", "size", "depth", *levels]
    assert (
        table.select(columns)
        .sort_by("ordinal")
        .equals(bronze(other, "futures.mbp10.v1").select(columns).sort_by("ordinal"))
    )


def test_records_unfit_for_the_book_are_kept_aside_under_their_numbers(tmp_path: Path, root: Path) -> None:
    rows = [
        event("R", 0, side=b"N", price=UNDEF_PRICE, size=0),
        *(event("A", i, price=(4800 - i) * 10**9) for i in range(1, 6)),
        event("A", 7, side=b"N"),
        event("?", 8),
        event("A", 9, size=0),
        event("A", 10, price=UNDEF_PRICE),
        event("T", 0, side=b"Q"),
        event("C", 1),
    ]
    path = write_dbn(tmp_path / "m.dbn", "mbo", np.concatenate(rows))
    (file,) = ingest(root, [path], max_bad=1).files
    assert (file.status, file.rows, file.rejected) == ("landed", 7, 5)
    rejects = [
        row
        for part in (root / "lake" / "bronze" / "_rejects" / "dataset=futures_mbp10").rglob("*.parquet")
        for row in pq.ParquetFile(part).read().to_pylist()
    ]
    assert {r["line_no"]: r["rule"] for r in rejects} == {
        6: "SIDE",
        7: "ACTION",
        8: "SIZE",
        9: "PRICE_RANGE",
        10: "SIDE",
    }
    assert json.loads(next(r["raw"] for r in rejects if r["line_no"] == 7))["order_id"] == 8
    assert receipt_of(root)["filtered_count"] == 0
    assert bronze(root, "futures.mbp10.v1")["ordinal"].to_pylist() == [0, 1, 2, 3, 4, 5, 11]


def test_a_partial_day_is_quarantined_and_leaves_nothing(tmp_path: Path, root: Path) -> None:
    records = orders(900, seed=23)
    started = np.flatnonzero(records["flags"] & 32 == 0)[0]
    path = write_dbn(tmp_path / "m.dbn.zst", "mbo", records[started:])
    (file,) = ingest(root, [path]).files
    assert file.status == "quarantined"
    assert (
        "which nothing had added, expected the file to start with the day's opening snapshot" in file.reason
    )
    assert not (root / "lake" / "bronze").exists()


def test_an_unnamed_instrument_is_told_with_the_number_of_its_record(tmp_path: Path, root: Path) -> None:
    far = event("A", 1, flags=40)  # of the snapshot: gives no row
    rows = np.concatenate([far, event("A", 2, flags=LAST), event("A", 3, instrument_id=999)])
    (file,) = ingest(root, [write_dbn(tmp_path / "m.dbn", "mbo", rows)]).files
    assert file.status == "quarantined"
    assert "instrument id 999 had no symbol on 2025-12-15 (record 2)" in file.reason
    assert int(rows["ts_event"][0]) > DAY_NS
