"""Compaction of execution bronze: one part for each key of a sealed day, the same rows, the same hashes."""

import datetime
import random
import shutil
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ingest.compaction import CompactReport
from ingest.compaction_windows import compact_windows
from ingest.window_schema import BALANCE_SNAPSHOTS, EVENTS, LINEAGE, WindowSchema
from ingest.windows import WindowLoad
from lake import window_days, windows
from lake.digest import table_digest
from tests.fixtures.processes import count_instants, dies_at, fork

DAY = datetime.datetime(2024, 12, 1, tzinfo=datetime.UTC)
DATE = "2024-12-01"
HOUR = datetime.timedelta(hours=1)


def table(schema: WindowSchema, hour: int, seed: int, rows: int = 20) -> pa.Table:
    """Rows of one hour, of two clients; what a column must not leave out has a plain value."""
    rng = random.Random(seed * 100 + hour)  # noqa: S311
    at = [
        DAY + hour * HOUR + datetime.timedelta(microseconds=rng.randrange(3_600_000_000)) for _ in range(rows)
    ]
    columns = []
    for f in schema.columns:
        if pa.types.is_timestamp(f.type):
            values = at
        elif f.name == "client_id":
            values = [1 + i % 2 for i in range(rows)]
        elif schema.is_uuid(f.name):
            values = [f"{rng.getrandbits(128):032x}" for _ in range(rows)]
            values = [f"{v[:8]}-{v[8:12]}-{v[12:16]}-{v[16:20]}-{v[20:]}" for v in values]
        elif schema.is_json(f.name):
            values = ["{}"] * rows
        elif pa.types.is_integer(f.type):
            values = [rng.randrange(1, 9) if f.name != schema.primary_key[0] else seed * 10_000 + hour * 100 + i
                      for i in range(rows)]  # fmt: skip
        elif pa.types.is_boolean(f.type):
            values = [False] * rows
        elif pa.types.is_decimal(f.type):
            values = [Decimal(rng.randrange(10)) for _ in range(rows)]
        else:
            values = [f"x{rng.randrange(10)}" for _ in range(rows)]
        columns.append(pa.array(values, f.type))
    return pa.Table.from_arrays(columns, schema=schema.columns)


def load(root: Path, schema: WindowSchema, hours: list[int], seed: int, *, sealed: bool) -> None:
    with WindowLoad(root, schema, "testnet", source_kind="ndjson") as one:
        for hour in hours:
            rows = table(schema, hour, seed)
            one.add(rows, f"file{seed}.ndjson", np.arange(1, rows.num_rows + 1))
        one.publish(start=DAY, end=DAY + 24 * HOUR, sealed=sealed)


def land(root: Path, schema: WindowSchema = BALANCE_SNAPSHOTS, *, sealed: bool = True) -> None:
    """A day of three hours with rows, one of them in two loads."""
    load(root, schema, [3, 4, 20], 1, sealed=False)
    load(root, schema, [4], 2, sealed=sealed)


def compact(root: Path, *, grace_s: float = 3600, dry_run: bool = False) -> CompactReport:
    report = CompactReport()
    compact_windows(root, report, grace_s=grace_s, dry_run=dry_run)
    return report


def markers(root: Path, schema: WindowSchema = BALANCE_SNAPSHOTS) -> list[windows.Marker]:
    return windows.read_markers(root, schema.name)


def rows(root: Path, schema: WindowSchema = BALANCE_SNAPSHOTS) -> list[tuple]:
    """Every row of the visible parts, lineage too, with the keys of its path."""
    found = []
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for visible in windows.visible_parts(root, schema.name):
            sql = f"select * from read_parquet('{visible.path}', hive_partitioning = false)"
            key = (visible.date, *visible.part.key.items())
            found += [(key, *map(str, row)) for row in connection.execute(sql).fetchall()]
    return sorted(found)


def on_disk(root: Path, schema: WindowSchema = BALANCE_SNAPSHOTS) -> list[str]:
    return sorted(p.name for p in windows.date_parts(root, schema.name, DATE))


@pytest.mark.parametrize("schema", [BALANCE_SNAPSHOTS, EVENTS])
def test_a_sealed_day_becomes_one_part_for_each_key(tmp_path, schema):
    land(tmp_path, schema)
    before, content, names = markers(tmp_path, schema), rows(tmp_path, schema), on_disk(tmp_path, schema)
    keys = 2 if schema.keys else 1
    report = compact(tmp_path)
    assert [r["files"] for r in report.merged] == [4] * keys
    assert not report.kept_apart
    assert (markers(tmp_path, schema), rows(tmp_path, schema)) == (before, content)
    assert len(windows.visible_parts(tmp_path, schema.name)) == keys
    assert {*names} < {*on_disk(tmp_path, schema)}, "who has an old list must find its files"
    assert not compact(tmp_path).changed
    assert len(compact(tmp_path, grace_s=0).deleted) == 4 * keys
    assert len(on_disk(tmp_path, schema)) == keys
    assert (markers(tmp_path, schema), rows(tmp_path, schema)) == (before, content)
    assert not compact(tmp_path, grace_s=0).changed


def test_the_content_hash_of_each_window_can_be_read_out_of_the_merged_part(tmp_path):
    land(tmp_path, EVENTS)
    compact(tmp_path)
    compact(tmp_path, grace_s=0)
    (merged,) = windows.visible_parts(tmp_path, "events")
    with duckdb.connect(config={"threads": 1}) as connection:
        for marker in markers(tmp_path, EVENTS):
            names = ", ".join(f'"{n}"' for n in EVENTS.columns.names)
            found = connection.execute(
                f"select {names} from read_parquet('{merged.path}') where ingested_at >= ?::timestamptz and "
                "ingested_at < ?::timestamptz order by ingested_at, event_id, row_hash",
                [marker.window_start, marker.window_end],
            ).to_arrow_table()
            assert found.num_rows == marker.rows
            if marker.rows:
                assert table_digest(found.cast(EVENTS.columns)) == marker.content_hash


def test_an_open_day_is_left_alone(tmp_path):
    land(tmp_path, sealed=False)
    assert not compact(tmp_path).changed


def test_a_supplement_is_merged_into_its_place(tmp_path):
    land(tmp_path)
    compact(tmp_path)
    compact(tmp_path, grace_s=0)
    load(tmp_path, BALANCE_SNAPSHOTS, [3], 7, sealed=True)
    before, content = markers(tmp_path), rows(tmp_path)
    assert any(marker.number for marker in before)
    assert len(windows.visible_parts(tmp_path, "balance_snapshots")) == 4
    assert len(compact(tmp_path).merged) == 2
    assert (markers(tmp_path), rows(tmp_path)) == (before, content)
    compact(tmp_path, grace_s=0)
    assert len(on_disk(tmp_path)) == 2
    day = window_days.read_day(tmp_path, "balance_snapshots", DATE)
    for folder in day.folders:
        assert [p.name for p in folder.parts] != sorted(p.name for p in folder.parts), "in order of windows"
        times = pc.cast(pa.concat_tables([_table(path) for path in folder.files])["created_at"], pa.int64())
        hours = [t // 3_600_000_000 for t in times.to_pylist()]
        assert hours == sorted(hours)


def _table(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        import pyarrow.parquet as pq  # noqa: PLC0415

        return pq.read_table(source)


def test_a_load_after_a_compaction_adds_nothing_that_is_there(tmp_path):
    land(tmp_path)
    compact(tmp_path)
    compact(tmp_path, grace_s=0)
    before, content = markers(tmp_path), rows(tmp_path)
    with WindowLoad(tmp_path, BALANCE_SNAPSHOTS, "testnet", source_kind="ndjson", whole_files=True) as one:
        again = table(BALANCE_SNAPSHOTS, 20, 1)
        one.add(again, "file1.ndjson", np.arange(again.num_rows))
        one.publish(sealed=True)
    assert (markers(tmp_path), rows(tmp_path)) == (before, content)


def test_parts_that_are_not_what_their_marker_says_stay_apart(tmp_path):
    land(tmp_path)
    victim = windows.visible_parts(tmp_path, "balance_snapshots")[0].path
    other = windows.visible_parts(tmp_path, "balance_snapshots")[1].path
    shutil.copy(other, victim)
    report = compact(tmp_path)
    assert len(report.kept_apart) == 1
    assert len(report.merged) == 1


def test_a_damaged_merged_part_costs_nothing(tmp_path):
    land(tmp_path)
    compact(tmp_path)
    merged = windows.visible_parts(tmp_path, "balance_snapshots")[0].path
    merged.write_bytes(merged.read_bytes()[:-1])
    names = on_disk(tmp_path)
    with pytest.raises(ValueError, match="not the file that commit-day"):
        compact(tmp_path, grace_s=0)
    assert on_disk(tmp_path) == names


def test_a_dry_run_changes_nothing(tmp_path):
    land(tmp_path)
    names = on_disk(tmp_path)
    assert len(compact(tmp_path, dry_run=True).merged) == 2
    assert on_disk(tmp_path) == names
    assert windows.read_day_record(tmp_path, "balance_snapshots", DATE) is None


def test_lineage_is_what_loaders_write():
    assert LINEAGE.names == list(window_days.LINEAGE)


def compacted_twice(root: Path) -> None:
    compact(root)
    compact(root, grace_s=0)


def kill_and_repair(tmp_path: Path, count: int) -> int:
    land(tmp_path / "fresh")
    before, content = markers(tmp_path / "fresh"), rows(tmp_path / "fresh")
    shutil.copytree(tmp_path / "fresh", tmp_path / "timed")
    instants = count_instants(lambda: compacted_twice(tmp_path / "timed"), tmp_path / "instants")
    rng, killed = random.Random(20241201), 0  # noqa: S311
    for trial in range(count):
        root = tmp_path / f"trial{trial}"
        shutil.copytree(tmp_path / "fresh", root)
        for _ in range(2):  # the second falls on what the first has left, which may have fewer instants
            killed += dies_at(lambda root=root: compacted_twice(root), rng.randrange(instants))
            assert (markers(root), rows(root)) == (before, content)
        compact(root)
        compact(root, grace_s=0)
        assert (markers(root), rows(root)) == (before, content)
        assert len(on_disk(root)) == 2
        shutil.rmtree(root)
    return killed


def test_a_kill_at_any_instant_leaves_the_same_rows(tmp_path):
    assert kill_and_repair(tmp_path, 6) >= 6


@pytest.mark.long
def test_kills_many_times(tmp_path):
    assert kill_and_repair(tmp_path, 60) >= 60


def test_a_reader_sees_the_same_rows_all_the_while(tmp_path):
    land(tmp_path)
    content = rows(tmp_path)
    child = fork(lambda: bool(compact(tmp_path).merged))
    looks = 0
    while child.poll() is None or looks == 0:
        assert rows(tmp_path) == content
        looks += 1
    assert child.code == 0
