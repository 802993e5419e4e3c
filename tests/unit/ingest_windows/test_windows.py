"""Hour windows: what a load makes of rows of any order, from any number of files, again and again, early and late."""

import hashlib
import json
import random
import shutil
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest import text_lines, window_hours, window_parts, window_runs
from ingest.environment import read_environment
from ingest.errors import FailedFile, RefusedFile
from ingest.ndjson import ingest_ndjson
from ingest.ndjson_rows import NdjsonParser
from ingest.text_lines import read_lines
from ingest.window_schema import EVENTS, ORDERS, WINDOW_SCHEMAS
from ingest.window_seal import seal_aged, seal_through
from ingest.windows import WindowLoad
from lake.digest import file_digest, table_digest
from lake.window_checkpoint import checkpoint_path, closed_dates
from lake.windows import PARTITION_KEYS, date_parts, read_date, read_markers, visible_parts
from tests.unit.ingest_windows import kit

HOUR = timedelta(hours=1)
LINEAGE = (
    "ingested_at",
    "loaded_at",
    "ingest_batch_id",
    "source_file",
    "row_hash",
    "schema_version",
    "environment",
    "_extra",
)


def land(root: Path, *files: Path, dataset: str = "events", **options: object):
    """Load files one call each, or a folder's in one call."""
    reports = [
        ingest_ndjson(root, dataset, str(f / "*.ndjson" if f.is_dir() else f), **options) for f in files
    ]
    return reports[-1]


def rows_of(root: Path, dataset: str = "events") -> pa.Table:
    tables = [pq.ParquetFile(part.path).read() for part in visible_parts(root, dataset)]
    return pa.concat_tables(tables)


def table_of(path: Path, schema=EVENTS) -> pa.Table:
    (block,) = [NdjsonParser(schema, "prod").parse(lines) for lines in read_lines(path)]
    assert not block.rejects
    return block.table


def snapshot(root: Path, table: pa.Table, schema=EVENTS, source: str = "postgres:main", **options: object):
    """A load as a database is read: everything that it holds of the windows."""
    with WindowLoad(root, schema, "prod", source_kind=source.partition(":")[0]) as load:
        load.add(table, source, np.arange(table.num_rows))
        return load.publish(**{"replace": True, **options})


# -- what stands there -----------------------------------------------------------------------------------------------


def test_a_row_stands_in_the_hour_it_was_stored(root: Path, tmp_path: Path):
    rows = kit.events(500, hours=30)
    land(root, kit.write(tmp_path / "a.ndjson", rows))
    for marker in read_markers(root, "events"):
        inside = [r for r in rows if marker.window_start[:13] == r["occurred_at"][:13]]
        assert marker.rows == len(inside)
        assert marker.min_occurred_at == min(r["occurred_at"] for r in inside)
        assert marker.max_occurred_at == max(r["occurred_at"] for r in inside)
        (part,) = marker.parts
        assert part.name.startswith(f"date={marker.date}/part-")
    assert rows_of(root).num_rows == 500


def test_ingested_at_decides_before_the_row_time(root: Path, tmp_path: Path):
    late = kit.event(1, kit.START, ingested_at=kit.instant(kit.START + 5 * HOUR))
    land(root, kit.write(tmp_path / "a.ndjson", [late]))
    (marker,) = read_markers(root, "events")
    assert (marker.window_start, marker.min_occurred_at) == (
        "2024-12-01T05:00:00Z",
        "2024-12-01T00:00:00.000000Z",
    )


@pytest.mark.parametrize(
    ("second", "window"),
    [
        (timedelta(hours=24) - timedelta(microseconds=1), "2024-12-01T23:00:00Z"),
        (timedelta(hours=24) - timedelta(seconds=1), "2024-12-01T23:00:00Z"),
        (timedelta(hours=24), "2024-12-02T00:00:00Z"),
        (timedelta(0), "2024-12-01T00:00:00Z"),
    ],
)
def test_bounds_of_a_day_are_half_open(root: Path, tmp_path: Path, second: timedelta, window: str):
    land(root, kit.write(tmp_path / "a.ndjson", [kit.event(1, kit.START + second)]))
    assert [(m.window_start, m.rows) for m in read_markers(root, "events")] == [(window, 1)]


def test_the_marker_has_the_keys_of_the_specification_in_order(root: Path, tmp_path: Path):
    land(root, kit.write(tmp_path / "a.ndjson", kit.events(50, hours=1)))
    (path,) = (root / "lake/bronze/events/date=2024-12-01/_metadata").glob("commit-*.json")
    record = json.loads(path.read_text())
    assert path.name == "commit-00.json"
    assert list(record) == [
        "dataset", "environment", "window_start", "window_end", "state", "rows", "min_occurred_at",
        "max_occurred_at", "schema_version", "incomplete", "reject_rows", "content_hash", "parts",
    ]  # fmt: skip
    (part,) = record["parts"]
    assert list(part) == ["name", "rows", "bytes", "sha256", "content_hash"]
    file = root / "lake/bronze/events" / part["name"]
    assert part["bytes"] == file.stat().st_size
    assert part["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert part["content_hash"] == record["content_hash"] == file_digest(file, exclude=LINEAGE)


def test_keys_stand_in_the_path_and_types_are_exact(root: Path, tmp_path: Path):
    rows = [kit.order(n, kit.START + timedelta(minutes=n)) for n in range(100)]
    land(root, kit.write(tmp_path / "a.ndjson", rows), dataset="orders")
    assert set(PARTITION_KEYS) == set(WINDOW_SCHEMAS)
    assert {name: tuple(PARTITION_KEYS[name]) for name in PARTITION_KEYS} == {
        n: s.keys for n, s in WINDOW_SCHEMAS.items()
    }
    (folder,) = {p.path.parents[2] for p in visible_parts(root, "orders")}
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        columns = connection.execute(
            f"select * from read_parquet('{folder}/*/*/*.parquet', hive_partitioning = true, "
            "hive_types = {'client_id': bigint, 'date': date})"
        )
        types = {d[0]: str(d[1]) for d in columns.description}
        client_ids = connection.execute(
            f"select distinct client_id from read_parquet('{folder}/*/*/*.parquet', hive_partitioning = true)"
        ).fetchall()
    assert {c for (c,) in client_ids} == {1, 2, 3}
    assert (types["quantity"], types["risk_percent"], types["leverage"]) == (
        "DECIMAL(20,8)",
        "DECIMAL(5,2)",
        "SMALLINT",
    )
    assert types["created_at"] == types["loaded_at"] == "TIMESTAMP WITH TIME ZONE"
    assert "client_id" not in pq.read_schema(visible_parts(root, "orders")[0].path).names
    assert (
        rows_of(root, "orders")["exchange_time"][0].as_py().isoformat() == "2024-12-01T00:00:00.123000+00:00"
    )


def test_the_content_hash_is_that_of_the_rows_in_order_of_time_and_key(root: Path, tmp_path: Path):
    rows = [kit.order(n, kit.START + timedelta(seconds=n // 3)) for n in range(90)]
    shuffled = random.Random(3).sample(rows, len(rows))  # noqa: S311
    land(root, kit.write(tmp_path / "a.ndjson", shuffled), dataset="orders")
    (marker,) = read_markers(root, "orders")
    table = table_of(
        kit.write(
            tmp_path / "sorted.ndjson", sorted(rows, key=lambda r: (r["created_at"], r["transaction_id"]))
        ),
        ORDERS,
    )
    assert marker.content_hash == table_digest(table.select(ORDERS.columns.names))
    assert len(marker.parts) == 3


def test_hours_without_rows_have_markers(root: Path, tmp_path: Path):
    rows = [kit.event(1, kit.START), kit.event(2, kit.START + 3 * HOUR)]
    report = land(root, kit.write(tmp_path / "a.ndjson", rows))
    assert [(m.hour, m.rows, len(m.parts)) for m in read_markers(root, "events")] == [
        (0, 1, 1),
        (1, 0, 0),
        (2, 0, 0),
        (3, 1, 1),
    ]
    assert report.load.empty_windows == 2


def test_bounds_cut_rows_and_mark_what_was_read(root: Path, tmp_path: Path):
    path = kit.write(tmp_path / "a.ndjson", kit.events(300, hours=6))
    report = land(root, path, start=kit.START + 2 * HOUR, end=kit.START + 8 * HOUR)
    assert [m.hour for m in read_markers(root, "events")] == list(range(2, 8))
    assert report.load.rows + report.load.filtered == 300
    assert report.load.filtered == sum(r["occurred_at"] < "2024-12-01T02" for r in kit.events(300, hours=6))
    land(root, path)
    assert sum(m.rows for m in read_markers(root, "events")) == 300
    with pytest.raises(ValueError, match="full hour"):
        land(root, path, start=kit.START + timedelta(minutes=30))


def test_a_page_for_people_follows_from_the_markers(root: Path, tmp_path: Path):
    land(root, kit.write(tmp_path / "a.ndjson", kit.events(50, hours=2)))
    page = (root / "lake/bronze/events/date=2024-12-01/_metadata/README.md").read_text()
    assert "| commit-00.json | 2024-12-01T00:00:00Z | provisional |" in page
    seal_through(root, "events", kit.START + HOUR)
    assert (
        "| commit-00.json | 2024-12-01T00:00:00Z | sealed |"
        in (root / "lake/bronze/events/date=2024-12-01/_metadata/README.md").read_text()
    )


# -- again, in another order, in other files -------------------------------------------------------------------------


def test_order_of_rows_and_files_does_not_matter(root: Path, tmp_path: Path):
    rows = kit.events(400, hours=5)
    land(root, kit.write(tmp_path / "a.ndjson", rows))
    expected = kit.windows(root)
    shuffled = random.Random(5).sample(rows, len(rows))  # noqa: S311
    for name, cut in (("one call", 100), ("calls", 250)):
        other = tmp_path / name
        files = [kit.write(other / "b.ndjson", shuffled[:cut]), kit.write(other / "a.ndjson", shuffled[cut:])]
        land(other / "root", *([other] if name == "one call" else files))
        assert kit.windows(other / "root") == expected, name


def test_what_does_not_fit_in_memory_is_sorted_on_disk(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = kit.events(2000, hours=50)
    random.Random(2).shuffle(rows)  # noqa: S311
    path = kit.write(tmp_path / "a.ndjson", rows)
    land(root, path)
    monkeypatch.setattr(text_lines, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(window_runs, "RUN_BYTES", 60_000)
    monkeypatch.setattr(window_runs, "POOL_BYTES", 20_000)
    monkeypatch.setattr(window_runs, "BATCH_ROWS", 30)
    monkeypatch.setattr(window_runs, "FAN_IN", 5)
    monkeypatch.setattr(window_hours, "PENDING_ROWS", 7)
    monkeypatch.setattr(window_parts, "PENDING_ROWS", 5)
    land(tmp_path / "other", path)
    assert kit.windows(root) == kit.windows(tmp_path / "other")
    assert not (tmp_path / "other/lake/_stage/windows-events").exists()


def test_a_file_again_changes_nothing(root: Path, tmp_path: Path):
    path = kit.write(tmp_path / "a.ndjson", kit.events(200))
    land(root, path)
    before = {p: p.stat().st_mtime_ns for p in (root / "lake/bronze").rglob("*") if p.is_file()}
    copy = shutil.copy(path, tmp_path / "copy.ndjson")
    for again in (path, copy):
        assert [f.status for f in land(root, again).files] == ["already_landed"]
    assert {p: p.stat().st_mtime_ns for p in (root / "lake/bronze").rglob("*") if p.is_file()} == before


def test_the_same_rows_in_other_words_are_not_added_again(root: Path, tmp_path: Path):
    rows = kit.events(200)
    land(root, kit.write(tmp_path / "a.ndjson", rows))
    before = kit.windows(root)
    other = [
        json.dumps(dict(reversed(row.items())), indent=None, separators=(" ,", " : ")) for row in rows[::-1]
    ]
    report = land(root, kit.write(tmp_path / "b.ndjson", other))
    assert report.load.new_rows == 0
    assert kit.windows(root) == before


def test_bronze_keeps_copies_of_a_row(root: Path, tmp_path: Path):
    rows = kit.events(100, hours=1)
    land(
        root,
        kit.write(tmp_path / "a.ndjson", [*rows, *rows[:10]]),
        kit.write(tmp_path / "b.ndjson", rows[50:]),
    )
    hashes = rows_of(root)["row_hash"].to_pylist()
    assert (len(hashes), len(set(hashes))) == (160, 100)
    (marker,) = read_markers(root, "events")
    assert (marker.rows, len(marker.parts)) == (160, 2)
    assert [p.rows for p in marker.parts] == [110, 50]


def test_a_file_that_came_in_part_is_completed_whatever_comes_with_it(root: Path, tmp_path: Path):
    """A killed load published some windows of a.ndjson; the next call brings b.ndjson of the same hours with it."""
    folder = tmp_path / "in"
    a, b = (kit.write(folder / f"{n}.ndjson", kit.events(100, seed=s)) for n, s in (("a", 1), ("b", 2)))
    with WindowLoad(root, EVENTS, "prod", source_kind="ndjson", whole_files=True) as load:
        name = f"raw/events/events/a.ndjson#{hashlib.sha256(a.read_bytes()).hexdigest()[:8]}"
        load.add(table_of(a), name, np.arange(1, 101))
        load.publish(end=kit.START + 3 * HOUR)
    land(root, folder)
    other = tmp_path / "other"
    land(other, folder)
    assert kit.windows(root) == kit.windows(other)
    assert b.is_file()


def test_another_file_of_the_same_name_lands_though_the_first_one_is_gone(root: Path, tmp_path: Path):
    path = kit.write(tmp_path / "daily.ndjson", kit.events(50, hours=1))
    land(root, path)
    (root / "raw/events/events/daily.ndjson").unlink()
    assert land(root, kit.write(path, kit.events(50, seed=2, hours=1))).load.new_rows == 50
    assert rows_of(root).num_rows == 100


# -- provisional, sealed, late ---------------------------------------------------------------------------------------


def test_a_snapshot_replaces_what_its_kind_had_and_nothing_else(root: Path, tmp_path: Path):
    rows = kit.events(60, hours=2)
    land(root, kit.write(tmp_path / "a.ndjson", rows[:10]))
    full = table_of(kit.write(tmp_path / "full.ndjson", rows))
    snapshot(root, full.slice(10, 20))
    snapshot(root, full.slice(10))
    assert sorted(rows_of(root)["event_id"].to_pylist()) == sorted(r["event_id"] for r in rows)
    again = snapshot(root, full.slice(10))
    assert (again.windows, again.unchanged) == (0, 2)
    # rows that the source no longer has go from an open window, the parts of the refresh before only later
    emptied = snapshot(root, full.slice(10, 5), start=kit.START, end=kit.START + 2 * HOUR)
    assert emptied.windows == 2
    assert rows_of(root).num_rows == 15


def test_both_sources_give_the_same_hashes(root: Path, tmp_path: Path):
    rows = [kit.order(n, kit.START + timedelta(minutes=n)) for n in range(200)]
    path = kit.write(tmp_path / "a.ndjson", rows)
    land(root, path, dataset="orders")
    snapshot(tmp_path / "other", table_of(path, ORDERS), ORDERS)
    hashes = [[m.content_hash for m in read_markers(r, "orders")] for r in (root, tmp_path / "other")]
    assert hashes[0] == hashes[1]


def test_old_windows_seal_and_late_rows_are_a_supplement(root: Path, tmp_path: Path):
    report = land(root, kit.write(tmp_path / "a.ndjson", kit.events(500, hours=30)))
    assert report.sealed == 6
    assert [m.state for m in read_markers(root, "events")] == ["sealed"] * 6 + ["provisional"] * 24
    late = kit.write(tmp_path / "late.ndjson", kit.events(5, seed=2, hours=1))
    before = read_date(root, "events", "2024-12-01")[0]
    report = land(root, late)
    assert (report.load.late_rows, report.exit_code) == (5, 0)
    window, supplement = read_date(root, "events", "2024-12-01")[:2]
    assert window == before
    assert (supplement.file_name, supplement.state, supplement.rows) == ("commit-00-s01.json", "sealed", 5)
    assert rows_of(root).num_rows == 505
    land(root, kit.write(tmp_path / "later.ndjson", kit.events(2, seed=3, hours=1)))
    assert [m.number for m in read_date(root, "events", "2024-12-01")[:3]] == [0, 1, 2]


def test_a_snapshot_of_a_sealed_window_adds_what_is_new_and_refuses_what_is_gone(root: Path, tmp_path: Path):
    full = table_of(kit.write(tmp_path / "a.ndjson", kit.events(60, hours=1)))
    assert snapshot(root, full.slice(0, 50), sealed=True).new_rows == 50
    (marker,) = read_markers(root, "events")
    assert marker.state == "sealed"
    assert snapshot(root, full.slice(0, 50), sealed=True).unchanged == 1
    report = snapshot(root, full)
    assert (report.late_rows, report.exit_code) == (10, 0)
    assert snapshot(root, full).late_rows == 0
    gone = snapshot(root, full.slice(1))
    assert gone.exit_code == 3
    assert "lacks 1 of its rows" in gone.conflicts[0]
    assert rows_of(root).num_rows == 60


def test_an_old_hour_that_comes_late_seals_too(root: Path, tmp_path: Path):
    """Dates that were closed once are not read again, until one of them gets an open window."""
    days = [kit.event(n, kit.START + timedelta(days=n)) for n in range(5)]
    land(root, kit.write(tmp_path / "a.ndjson", days))
    assert closed_dates(root, "events") == {f"2024-12-0{n}" for n in (1, 2, 3)}
    old = kit.START - timedelta(days=3)
    land(
        root,
        kit.write(tmp_path / "b.ndjson", [kit.event(9, old), kit.event(10, kit.START + timedelta(hours=30))]),
    )
    markers = {m.window_start: m for m in read_markers(root, "events")}
    assert markers["2024-11-28T00:00:00Z"].state == "sealed"
    assert markers["2024-12-02T06:00:00Z"].state == "sealed"
    checkpoint_path(root, "events").unlink()
    assert seal_aged(root, "events").sealed == 0
    assert {"2024-11-28", "2024-12-01"} <= closed_dates(root, "events")


def test_seal_fills_the_hours_that_nothing_came_of(root: Path, tmp_path: Path):
    land(root, kit.write(tmp_path / "a.ndjson", [kit.event(1, kit.START)]))
    report = seal_through(root, "events", kit.START + timedelta(hours=30, minutes=59))
    assert (report.sealed, report.empty) == (1, 29)
    markers = read_markers(root, "events")
    assert [m.state for m in markers] == ["sealed"] * 30
    assert markers[-1].window_end == "2024-12-02T06:00:00Z"
    assert seal_through(root, "events", kit.START + 30 * HOUR).sealed == 0
    assert seal_aged(root, "orders").sealed == 0


# -- what is refused -------------------------------------------------------------------------------------------------


def test_one_lake_holds_one_environment(root: Path, tmp_path: Path):
    path = kit.write(tmp_path / "a.ndjson", kit.events(10))
    land(root, path, environment="testnet")
    assert read_environment(root) == "testnet"
    with pytest.raises(RefusedFile, match="the lake holds testnet"):
        land(root, kit.write(tmp_path / "b.ndjson", kit.events(10, seed=2)))
    assert {m.environment for m in read_markers(root, "events")} == {"testnet"}
    assert set(rows_of(root)["environment"].to_pylist()) == {"testnet"}


def test_rows_that_do_not_add_up_are_not_landed(root: Path, tmp_path: Path):
    table = table_of(kit.write(tmp_path / "a.ndjson", kit.events(10)))
    with WindowLoad(root, EVENTS, "prod", source_kind="api") as load:
        load.add(table, "x", np.arange(10))
        load.count_read(11, "x")
        with pytest.raises(FailedFile, match="11 rows, but 10"):
            load.publish()
    assert read_markers(root, "events") == []


def test_too_many_rejects_land_nothing(root: Path, tmp_path: Path):
    table = table_of(kit.write(tmp_path / "a.ndjson", kit.events(10)))
    with WindowLoad(root, EVENTS, "prod", source_kind="api", max_bad=0.1) as load:
        load.add(table, "x", np.arange(10))
        for n in range(2):
            load.reject(n, "CAST", "no number", "{}", source_file="x")
        with pytest.raises(RefusedFile, match="CAST 2"):
            load.publish()
    assert read_markers(root, "events") == []
    assert not (root / "lake/_stage/windows-events").exists()


def test_a_null_in_a_required_column_is_the_parsers_fault(root: Path, tmp_path: Path):
    table = table_of(kit.write(tmp_path / "a.ndjson", kit.events(10)))
    broken = table.set_column(table.schema.get_field_index("symbol"), "symbol", pa.nulls(10, pa.string()))
    with (
        WindowLoad(root, EVENTS, "prod", source_kind="api") as load,
        pytest.raises(ValueError, match="symbol was null"),
    ):
        load.add(broken, "x", np.arange(10))


def test_parts_that_no_marker_names_go_with_the_next_load(root: Path, tmp_path: Path):
    land(root, kit.write(tmp_path / "a.ndjson", kit.events(30, hours=1)))
    orphan = date_parts(root, "events", "2024-12-01")[0].with_name("part-0007.parquet")
    orphan.write_bytes(b"half")
    stage = root / "lake/_stage/windows-events"
    stage.mkdir()
    (stage / "plan-2024-12-01.json").write_text("{}")
    land(root, kit.write(tmp_path / "b.ndjson", kit.events(30, seed=2, hours=1)))
    assert [p.name for p in date_parts(root, "events", "2024-12-01")] == [
        "part-0001.parquet",
        "part-0002.parquet",
    ]
    assert not stage.exists()
