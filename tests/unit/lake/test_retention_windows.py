"""Retention of execution bronze: a day lives on in the archive, client by client."""

import datetime
import json
import random
import shutil
from pathlib import Path

import pytest

from ingest.window_schema import BALANCE_SNAPSHOTS, EVENTS
from lake import atomic, retention, windows
from lake.paths import archive_dir
from lake.retention import Policy, Rules
from tests.fixtures.processes import count_instants, dies_at
from tests.unit.test_compaction_windows import DATE, compact, land, load, on_disk, rows

RUN = "20250601T000000Z_retention_00c0de"
DATASET = "balance_snapshots"


def rules(*held: str) -> Rules:
    return Rules((Policy("bronze/*", 90, -1, "date", True),), frozenset(held), datetime.date(2025, 6, 1))


def hashes(root: Path) -> list[tuple]:
    """What build keys see."""
    return [
        (m.file_name, m.content_hash, m.state == "provisional", m.incomplete)
        for m in windows.read_markers(root, DATASET)
    ]


def states(found: list[retention.Row]) -> list[tuple]:
    return [(row.unit.partition, row.state) for row in found]


def folders(*clients: int) -> list[str]:
    return [f"client_id={client}/date={DATE}" for client in clients]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_sealed_day_lives_on_in_the_archive(tmp_path, compacted):
    land(tmp_path)
    if compacted:
        compact(tmp_path)
        compact(tmp_path, grace_s=0)
    content, seen = rows(tmp_path), hashes(tmp_path)
    assert states(retention.archive(tmp_path, rules(), RUN)) == [(f, "archived") for f in folders(1, 2)]
    assert states(retention.delete(tmp_path, rules(), RUN)) == [
        (f, "would be deleted") for f in folders(1, 2)
    ]
    assert states(retention.delete(tmp_path, rules(), RUN, yes=True)) == [
        (f, "deleted") for f in folders(1, 2)
    ]
    assert on_disk(tmp_path) == []
    assert (rows(tmp_path), hashes(tmp_path)) == (content, seen)
    assert {m.state for m in windows.read_markers(tmp_path, DATASET)} == {"archived"}
    assert all(p.path.is_relative_to(archive_dir(tmp_path)) for p in windows.visible_parts(tmp_path, DATASET))
    assert states(retention.verify(tmp_path, rules())) == [(f, "verified") for f in folders(1, 2)]
    assert retention.delete(tmp_path, rules(), RUN, yes=True) == []
    assert not compact(tmp_path, grace_s=0).changed


def test_a_held_client_keeps_his_folder_while_the_other_goes(tmp_path):
    land(tmp_path)
    content, seen = rows(tmp_path), hashes(tmp_path)
    retention.archive(tmp_path, rules(), RUN)
    found = retention.delete(tmp_path, rules("2"), RUN, yes=True)
    assert states(found) == [(folders(1)[0], "deleted"), (folders(2)[0], "refused")]
    assert "client 2 is under legal hold" in found[1].problem
    assert (rows(tmp_path), hashes(tmp_path)) == (content, seen)
    assert {m.state for m in windows.read_markers(tmp_path, DATASET)} == {"sealed"}
    assert states(retention.delete(tmp_path, rules(), RUN, yes=True)) == [(folders(2)[0], "deleted")]
    assert (rows(tmp_path), hashes(tmp_path)) == (content, seen)
    assert {m.state for m in windows.read_markers(tmp_path, DATASET)} == {"archived"}


def test_a_hold_finds_a_client_in_the_rows_of_a_shared_file(tmp_path):
    land(tmp_path, EVENTS)
    retention.archive(tmp_path, rules(), RUN)
    (row,) = retention.delete(tmp_path, rules("1"), RUN, yes=True)
    assert row.state == "refused"
    (row,) = retention.delete(tmp_path, rules("3"), RUN, yes=True)
    assert row.state == "deleted"


def test_an_open_window_keeps_its_day(tmp_path):
    land(tmp_path, sealed=False)
    assert {row.state for row in retention.archive(tmp_path, rules(), RUN)} == {"refused"}
    found = retention.delete(tmp_path, rules(), RUN, yes=True)
    assert {row.problem for row in found} == {"a window of its day is not sealed"}


def test_a_supplement_after_the_copy_was_made_refuses_the_deletion(tmp_path):
    land(tmp_path)
    retention.archive(tmp_path, rules(), RUN)
    load(tmp_path, BALANCE_SNAPSHOTS, [9], 5, sealed=True)
    content = rows(tmp_path)
    assert {row.state for row in retention.delete(tmp_path, rules(), RUN, yes=True)} == {"refused"}
    assert rows(tmp_path) == content
    retention.archive(tmp_path, rules(), RUN)
    assert {row.state for row in retention.delete(tmp_path, rules(), RUN, yes=True)} == {"deleted"}
    assert rows(tmp_path) == content


def test_a_supplement_that_comes_while_a_deletion_runs_is_not_lost(tmp_path, monkeypatch):
    land(tmp_path)
    retention.archive(tmp_path, rules(), RUN)
    planned = [*retention.units(tmp_path, rules().is_due)]
    load(tmp_path, BALANCE_SNAPSHOTS, [9], 5, sealed=True)
    content = rows(tmp_path)
    monkeypatch.setattr(retention, "units", lambda *_: planned)  # as they were before the load
    found = retention.delete(tmp_path, rules(), RUN, yes=True)
    assert {row.state for row in found} == {"refused"}
    assert "changed meanwhile" in found[0].problem
    assert rows(tmp_path) == content


def test_a_damaged_copy_refuses_deletion(tmp_path):
    land(tmp_path)
    retention.archive(tmp_path, rules(), RUN)
    copy = next((tmp_path / "lake/archive").rglob("client_id=1/**/*.parquet"))
    data = bytearray(copy.read_bytes())
    data[200] ^= 1
    copy.write_bytes(data)
    names = on_disk(tmp_path)
    found = retention.delete(tmp_path, rules(), RUN, yes=True)
    assert states(found) == [(folders(1)[0], "refused"), (folders(2)[0], "deleted")]
    assert len(on_disk(tmp_path)) == len(names) - 4


def test_the_archive_lists_the_hours(tmp_path):
    land(tmp_path)
    retention.archive(tmp_path, rules(), RUN)
    path = tmp_path / f"lake/archive/bronze/{DATASET}/month=2024-12/archive.json"
    for entry in json.loads(path.read_text())["partitions"]:
        assert entry["rows"] == sum(s["rows"] for s in entry["sources"]) == 40
        assert atomic.sha256_file(path.parent / entry["path"]) == entry["sha256"]


def through_retention(root: Path) -> None:
    compact(root)
    retention.archive(root, rules(), RUN)
    retention.delete(root, rules(), RUN, yes=True)


def kill_and_repair(base: Path, count: int) -> int:
    land(base / "fresh")
    content, seen = rows(base / "fresh"), hashes(base / "fresh")
    timed = Path(shutil.copytree(base / "fresh", base / "timed"))
    instants = count_instants(lambda: through_retention(timed), base / "instants")
    rng, killed = random.Random(20250601), 0  # noqa: S311
    for trial in range(count):
        copy = Path(shutil.copytree(base / "fresh", base / f"trial{trial}"))
        for _ in range(2):  # the second falls on what the first has left, which may have fewer instants
            killed += dies_at(lambda copy=copy: through_retention(copy), rng.randrange(instants))
            assert (rows(copy), hashes(copy)) == (content, seen)
        retention.archive(copy, rules(), RUN)
        retention.delete(copy, rules(), RUN, yes=True)
        assert (rows(copy), hashes(copy)) == (content, seen)
        assert on_disk(copy) == []
        assert {m.state for m in windows.read_markers(copy, DATASET)} == {"archived"}
        shutil.rmtree(copy)
    return killed


def test_a_kill_at_any_instant_leaves_every_row_in_a_verified_place(tmp_path):
    assert kill_and_repair(tmp_path, 6) >= 6


@pytest.mark.long
def test_kills_many_times(tmp_path):
    assert kill_and_repair(tmp_path, 60) >= 60
