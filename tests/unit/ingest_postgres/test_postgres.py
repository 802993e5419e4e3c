"""Rows out of a real PostgreSQL server: the same as from a file, each once, and sealed when they are all there."""

import random
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.ndjson import ingest_ndjson
from ingest.postgres import reader
from ingest.postgres.load import ingest_postgres
from lake.windows import read_markers
from tests.unit.ingest_postgres import kit
from tests.unit.ingest_postgres.kit import Database
from tests.unit.ingest_windows import kit as rows_kit
from tests.unit.ingest_windows.kit import START

SEED_ROWS = {
    "events": lambda: kit.stamped(rows_kit.events(400, hours=30), seconds=2),
    "orders": lambda: [rows_kit.order(n, START + timedelta(minutes=7 * n)) for n in range(200)],
    "operations": lambda: [rows_kit.operation(n, START + timedelta(minutes=11 * n)) for n in range(120)],
    "balance_snapshots": lambda: [rows_kit.balance(n, START + timedelta(minutes=13 * n)) for n in range(120)],
}


@pytest.mark.parametrize("dataset", kit.NAMES)
def test_the_same_rows_give_the_same_hashes_as_from_a_file(
    dataset: str, database: Database, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.postgres.reader.FIRST_PAGE_ROWS", 7)
    rows = SEED_ROWS[dataset]()
    database.insert(dataset, rows)
    report = ingest_postgres(root, dataset, "DSN")
    assert (report.exit_code, report.rows) == (0, len(rows))
    other = tmp_path / "of-files"
    ingest_ndjson(other, dataset, str(rows_kit.write(tmp_path / "rows.ndjson", rows)))
    assert kit.hashes(root, dataset) == kit.hashes(other, dataset)
    assert sum(m.rows for m in read_markers(root, dataset)) == len(rows)


def test_a_window_seals_when_it_has_ended_and_the_next_call_reads_only_what_is_open(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.insert("events", kit.stamped(rows_kit.events(60, hours=3), seconds=0))
    kit.set_clock(monkeypatch, START + timedelta(hours=2, minutes=30))
    first = ingest_postgres(root, "events", "DSN")
    assert first.sealed_through == START + timedelta(hours=2)
    assert first.future_rows == 0
    assert [state for state, _ in kit.states(root).values()] == ["sealed", "sealed", "provisional"]
    kit.set_clock(monkeypatch, START + timedelta(hours=4, minutes=10))
    second = ingest_postgres(root, "events", "DSN")
    assert second.start == START + timedelta(hours=2)
    assert [state for state, _ in kit.states(root).values()] == ["sealed"] * 4 + ["provisional"]
    assert [rows for _, rows in kit.states(root).values()][3:] == [0, 0]
    before = [(p, p.stat().st_mtime_ns) for p in kit.marker_files(root)]
    assert ingest_postgres(root, "events", "DSN").load.unchanged == 1
    assert [(p, p.stat().st_mtime_ns) for p in kit.marker_files(root)] == before


def test_a_page_of_wide_rows_is_bounded_by_their_bytes(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    rng = random.Random(1)  # noqa: S311 - values of a test
    rows = rows_kit.events(120, hours=2)
    for row in rows[40:80]:
        row["payload_json"] = {"noise": rng.randbytes(3_000).hex()}
    database.insert("events", kit.stamped(rows, seconds=0))
    monkeypatch.setattr(reader, "PAGE_BYTES", 30_000)
    sizes = []
    true_typed = reader.Reader._typed

    def typed(self, records):
        page = true_typed(self, records)
        sizes.append(page.bytes)
        return page

    monkeypatch.setattr(reader.Reader, "_typed", typed)
    assert ingest_postgres(root, "events", "DSN").rows == 120
    assert max(sizes) < 2 * 30_000 + 40 * 500
    assert len(kit.landed(root)) == 120
