"""Compaction: fewer files, the same rows, the same digests, and readers who notice nothing."""

import json
import random
import shutil
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from ingest import compaction
from ingest.compaction import compact
from lake import atomic, bronze, merge, replaced
from lake.digest import file_digest
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, print_at, write_receipt
from tests.fixtures.processes import count_instants, dies_at, fork

HOUR = at_ns("2025-12-15T14:00:00")
ORDER = ("ts_event_ns", "sequence", "ordinal")


def delivery(name: str, seed: int, rows: int = 200, **other: object) -> Delivery:
    """Rows of one hour in order, many at equal instants."""
    rng = random.Random(seed)  # noqa: S311
    instants = sorted(HOUR + rng.randrange(60) * 1_000_000_000 for _ in range(rows))
    return Delivery(
        name, {"trades": [print_at(t, 27_200 + rng.randrange(9), sequence=i // 3) for i, t in enumerate(instants)]},
        **other,
    )  # fmt: skip


def land(root: Path, count: int = 4) -> list[Delivery]:
    made = [delivery(f"d{i}", i) for i in range(count)]
    make_bronze(root, made)
    return made


def listed(root: Path) -> list[tuple]:
    """What a plan sees of bronze: everything but where the rows stand."""
    return [
        (f.schema, f.hour_key, f.name, f.rows, f.delivery_id, f.content_digest, f.state)
        for f in bronze.visible_files(root)
    ]


def rows(root: Path) -> list[tuple]:
    """Every row as a reader of the list sees it, in an order of its own."""
    names = [str(p) for p in bronze.paths(bronze.visible_files(root))]
    with duckdb.connect(config={"threads": 1}) as connection:
        return connection.execute(
            f"select delivery_id, ordinal, ts_event_ns, sequence, price, size from read_parquet({names}) order by all"
        ).fetchall()


def on_disk(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "lake/bronze").rglob("part-*.parquet"))


def test_an_hour_becomes_one_file_and_nothing_else_changes(tmp_path):
    land(tmp_path)
    before, content, names = listed(tmp_path), rows(tmp_path), on_disk(tmp_path)
    report = compact(tmp_path)
    assert [r["files"] for r in report.merged] == [4]
    assert report.kept_apart == report.deleted == []
    assert listed(tmp_path) == before
    assert rows(tmp_path) == content
    (merged,) = bronze.paths(bronze.visible_files(tmp_path))
    assert {*names} < {*on_disk(tmp_path)}, "who has an old list must find its files"

    table = pq.read_table(merged, partitioning=None)
    keys = list(zip(*(table[c].to_pylist() for c in (*ORDER, "delivery_id")), strict=True))
    assert keys == sorted(keys)
    assert table.num_rows == sum(f.rows for f in bronze.visible_files(tmp_path))

    again = compact(tmp_path)
    assert not again.changed
    later = compact(tmp_path, grace_s=0)
    assert sorted(Path(p).name for p in later.deleted) == names
    assert on_disk(tmp_path) == [merged.name]
    assert (listed(tmp_path), rows(tmp_path)) == (before, content)
    assert not compact(tmp_path, grace_s=0).changed


def test_a_later_delivery_of_a_merged_hour_is_merged_with_it(tmp_path):
    land(tmp_path)
    compact(tmp_path)
    compact(tmp_path, grace_s=0)
    make_bronze(tmp_path, [delivery("late", 9)])
    before, content = listed(tmp_path), rows(tmp_path)
    assert len(bronze.paths(bronze.visible_files(tmp_path))) == 2
    compact(tmp_path)
    assert (listed(tmp_path), rows(tmp_path)) == (before, content)
    assert len(bronze.paths(bronze.visible_files(tmp_path))) == 1
    compact(tmp_path, grace_s=0)
    assert len(on_disk(tmp_path)) == 1
    assert len([*replaced.read_all(tmp_path)]) == 1
    assert (listed(tmp_path), rows(tmp_path)) == (before, content)


def test_only_complete_deliveries_of_one_source_are_merged(tmp_path):
    make_bronze(
        tmp_path,
        [
            delivery("a", 1), delivery("b", 2), delivery("c", 3, source="databento_dbn"),
            delivery("open", 4, status="open"), delivery("unseen", 5, receipt=None),
        ],
    )  # fmt: skip
    compact(tmp_path)
    (record,) = replaced.read_all(tmp_path)
    assert {p.delivery_id for p in record.parts} == {delivery("a", 1).id, delivery("b", 2).id}
    assert len(bronze.paths(bronze.visible_files(tmp_path))) == 3


def test_a_merged_file_is_not_read_while_one_of_its_deliveries_is_not_visible(tmp_path):
    made = land(tmp_path, 3)
    compact(tmp_path)
    write_receipt(tmp_path, made[0], "quarantined")
    assert {f.delivery_id for f in bronze.visible_files(tmp_path)} == {d.id for d in made[1:]}
    assert len(rows(tmp_path)) == 400


def test_files_that_are_large_already_stay_as_they_are(tmp_path, monkeypatch):
    land(tmp_path)
    monkeypatch.setattr(compaction, "TARGET_BYTES", 100)
    assert not compact(tmp_path).changed


def test_a_dry_run_changes_nothing(tmp_path):
    land(tmp_path)
    names = on_disk(tmp_path)
    report = compact(tmp_path, dry_run=True)
    assert len(report.merged) == 1
    assert on_disk(tmp_path) == names
    compact(tmp_path)
    names = on_disk(tmp_path)
    assert len(compact(tmp_path, grace_s=0, dry_run=True).deleted) == 4
    assert on_disk(tmp_path) == names


@pytest.mark.parametrize("damage", ["content", "order", "truncated"])
def test_parts_that_are_not_what_their_records_say_stay_apart(tmp_path, damage):
    land(tmp_path)
    part = bronze.visible_files(tmp_path)[0].path
    table = pq.read_table(part, partitioning=None)
    if damage == "truncated":
        part.write_bytes(part.read_bytes()[:-10])
    else:
        changed = table.slice(1) if damage == "content" else table.take([*range(table.num_rows)][::-1])
        pq.write_table(changed, part, store_schema=False, store_decimal_as_integer=True)
    report = compact(tmp_path)
    assert len(report.kept_apart) == 1
    assert not report.changed
    assert [*replaced.read_all(tmp_path)] == []


def test_a_damaged_merged_file_costs_no_part(tmp_path):
    land(tmp_path)
    compact(tmp_path)
    (merged,) = bronze.paths(bronze.visible_files(tmp_path))
    merged.write_bytes(merged.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not the file that its record describes"):
        compact(tmp_path, grace_s=0)
    assert len(on_disk(tmp_path)) == 5


def test_the_thorough_recovery_knows_merged_files(tmp_path):
    sweep_orphans = pytest.importorskip("ingest.orphans").sweep_orphans
    land(tmp_path)
    compact(tmp_path)
    content = rows(tmp_path)
    merged = bronze.paths(bronze.visible_files(tmp_path))
    orphan = merged[0].parent / "part-0badc0de-000.parquet"
    shutil.copy(merged[0], orphan)
    assert [Path(p).name for p in sweep_orphans(tmp_path)] == [orphan.name]
    assert len(on_disk(tmp_path)) == 5
    compact(tmp_path, grace_s=0)
    assert sweep_orphans(tmp_path) == []
    assert rows(tmp_path) == content


def test_merging_in_small_blocks_gives_the_same_file(tmp_path, monkeypatch):
    land(tmp_path)
    parts = [
        merge.Part(f.path, f.delivery_id, f.rows, f.content_digest) for f in bronze.visible_files(tmp_path)
    ]
    made = set()
    for batch_rows, group_rows in ((1, 7), (13, 50), (8192, 122_880)):
        monkeypatch.setattr(merge, "BATCH_ROWS", batch_rows)
        monkeypatch.setattr(merge, "ROW_GROUP_ROWS", group_rows)
        out = tmp_path / "out.parquet"
        result = merge.merge([p.path for p in parts], parts, out, ORDER, "delivery_id")
        assert result.content_digest == file_digest(out)
        made.add(result.content_digest)
    assert len(made) == 1


def test_files_of_other_columns_are_refused_by_name(tmp_path):
    land(tmp_path, 2)
    parts = [
        merge.Part(f.path, f.delivery_id, f.rows, f.content_digest) for f in bronze.visible_files(tmp_path)
    ]
    pq.write_table(pq.read_table(parts[1].path, partitioning=None).drop_columns(["depth"]), parts[1].path)
    with pytest.raises(merge.MergeError, match="differ in depth"):
        merge.merge([p.path for p in parts], parts, tmp_path / "out.parquet", ORDER, "delivery_id")
    assert not (tmp_path / "out.parquet").exists()


# -- readers and kills -------------------------------------------------------------------------------------------------


def compacted_twice(root: Path) -> None:
    compact(root)
    compact(root, grace_s=0)


def test_a_reader_sees_the_same_rows_all_the_while(tmp_path):
    land(tmp_path, 6)
    before, content = listed(tmp_path), rows(tmp_path)
    held = bronze.paths(bronze.visible_files(tmp_path))
    child = fork(lambda: bool(compact(tmp_path).merged))
    looks = 0
    while child.poll() is None or looks == 0:
        assert listed(tmp_path) == before
        assert rows(tmp_path) == content
        assert all(p.is_file() for p in held), "a running query still has these names"
        looks += 1
    assert child.code == 0


def kill_and_repair(tmp_path: Path, count: int) -> int:
    land(tmp_path / "fresh", 5)
    before, content = listed(tmp_path / "fresh"), rows(tmp_path / "fresh")
    shutil.copytree(tmp_path / "fresh", tmp_path / "timed")
    instants = count_instants(lambda: compacted_twice(tmp_path / "timed"), tmp_path / "instants")
    rng, killed = random.Random(20251215), 0  # noqa: S311
    for trial in range(count):
        root = tmp_path / f"trial{trial}"
        shutil.copytree(tmp_path / "fresh", root)
        for _ in range(2):  # the second falls on what the first has left, which may have fewer instants
            killed += dies_at(lambda root=root: compacted_twice(root), rng.randrange(instants))
            assert (listed(root), rows(root)) == (before, content)
        compact(root)
        compact(root, grace_s=0)
        assert (listed(root), rows(root)) == (before, content)
        assert len(on_disk(root)) == 1, "nothing is left over"
        assert not any((root / "lake").rglob("._tmp-*"))
        shutil.rmtree(root)
    return killed


def test_a_kill_at_any_instant_leaves_the_same_rows(tmp_path):
    assert kill_and_repair(tmp_path, 6) >= 6


@pytest.mark.long
def test_kills_many_times(tmp_path):
    assert kill_and_repair(tmp_path, 60) >= 60


def test_records_are_json_of_one_line_of_truth(tmp_path):
    land(tmp_path)
    compact(tmp_path, run_id="20251215T000000Z_compact_00c0de")
    (path,) = tmp_path.glob("lake/bronze/futures/trades/_metadata/date=*/compact-*.json")
    record = json.loads(path.read_text())
    assert record["sha256"] == atomic.sha256_file(tmp_path / "lake" / record["path"])
    assert record["rows"] == sum(p["rows"] for p in record["parts"]) == 800
