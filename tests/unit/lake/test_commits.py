"""Publishing one partition: a crash before any of its steps leaves the old or the new one, and never a false record."""

import json
import os
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import atomic, commits
from lake.digest import file_digest, table_digest
from tests.fixtures.processes import fork

DATE = "2025-12-15"
OLD, NEW = pa.table({"n": [1, 2]}), pa.table({"n": [1, 2, 3]})
STEPS = ("fsync", "replace", "unlink", "open", "mkdir")  # of the module os: what publishing does to the disk


def commit_of(table: pa.Table, staged: Path, build_key: str) -> commits.Commit:
    return commits.Commit(
        dataset="silver/datasets/x",
        date=DATE,
        params_digest=None,
        rows=table.num_rows,
        bytes=staged.stat().st_size,
        content_digest=table_digest(table),
        build_key=build_key,
        code_digest="c",
        inputs={},
        input_digest="i",
        build_digest=None,
        built_at=commits.now_utc(),
        run_id="r",
    )


def publish(root: Path, table: pa.Table, build_key: str, params: str | None = None) -> commits.Partition:
    staged = root / "_stage" / "x.parquet"
    staged.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, staged)
    dataset = root / "x" if params is None else root / "x" / f"params={params}"
    return commits.publish(staged, dataset / f"date={DATE}", commit_of(table, staged, build_key))


def found(root: Path) -> dict:
    return commits.read_partitions(root / "x")


def crash_before(step: int) -> None:
    """From here on, count calls that touch the disk, and die before number ``step`` does."""
    calls = 0

    def dying(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))


@pytest.mark.parametrize("fresh", [False, True], ids=["over an old one", "first"])
def test_a_crash_before_any_step_leaves_old_or_new_and_no_false_record(tmp_path, fresh):
    seen = set()
    for step in range(100):
        root = tmp_path / str(step)
        if not fresh:
            commits.mark(publish(root, OLD, "a" * 64), True, None, "r")

        def work(root=root, step=step) -> bool:
            crash_before(step)
            publish(root, NEW, "b" * 64)
            return True

        code = fork(work).wait()
        file = root / "x" / f"date={DATE}" / "data.parquet"
        content = table_digest(pq.read_table(file, partitioning=None)) if file.exists() else None
        assert content in ({None} if fresh else {table_digest(OLD)}) | {table_digest(NEW)}
        committed = [p.commit.content_digest for p in found(root).values()]
        assert committed in ([], [content])
        seen.add((content, bool(committed)))

        repaired = publish(root, NEW, "b" * 64)
        assert [*found(root).values()] == [repaired]
        assert repaired.status()["status"] == "failed"  # the old verdict was about the old file
        left = {p.name for p in (root / "x").rglob("*") if p.is_file()}
        assert left == {"data.parquet", f"commit-{'b' * 8}.json"}
        if code == 0:
            break
    else:
        pytest.fail("publishing never came to its end")
    old = None if fresh else table_digest(OLD)
    assert seen == {(old, not fresh), (old, False), (table_digest(NEW), False), (table_digest(NEW), True)}


def test_a_file_without_its_record_is_not_committed_nor_a_record_without_its_file(tmp_path):
    partition = publish(tmp_path, OLD, "a" * 64)
    record = next((partition.folder / "_metadata").glob("commit-*.json"))
    text = record.read_text()
    record.unlink()
    assert found(tmp_path) == {}
    record.write_text(text)
    assert [*found(tmp_path)] == [(None, DATE)]
    partition.file.unlink()
    assert found(tmp_path) == {}


def test_param_sets_are_kept_apart_and_in_order(tmp_path):
    for params in ("bbbbbbbb", "aaaaaaaa"):
        publish(tmp_path, OLD, "a" * 64, params)
    assert [*found(tmp_path)] == [("aaaaaaaa", DATE), ("bbbbbbbb", DATE)]


def test_a_verdict_is_about_one_commit(tmp_path):
    partition = publish(tmp_path, OLD, "a" * 64)
    assert partition.status() == {
        "status": "failed",
        "error": "not tested since it was built; run `dbt build`",
    }
    commits.mark(partition, True, None, "r", "e" * 64)
    assert partition.status() == {"status": "ok", "error": None, "tests_digest": "e" * 64, "run_id": "r"}
    commits.mark(partition, False, "data tests failed: x", "r")
    assert partition.status()["error"] == "data tests failed: x"
    assert publish(tmp_path, OLD, "a" * 64).status()["status"] == "failed"


def test_a_record_says_what_stands_beside_it(tmp_path):
    partition = publish(tmp_path, NEW, "b" * 64)
    record = json.loads((partition.folder / "_metadata" / f"commit-{'b' * 8}.json").read_text())
    assert record["rows"] == pq.read_metadata(partition.file).num_rows == 3
    assert record["content_digest"] == file_digest(partition.file)
    assert record["bytes"] == partition.file.stat().st_size


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    target = tmp_path / "a.json"
    atomic.write_json(target, {"a": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_json(target, {"a": 2})
    assert json.loads(target.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_each_step_is_on_disk_before_the_next_relies_on_it(tmp_path, monkeypatch):
    """Power loss can't be caused here, so the order of syncs and renames is what is held."""
    publish(tmp_path, OLD, "a" * 64)
    trace = []
    real = {name: getattr(os, name) for name in ("fsync", "replace", "unlink")}

    def named(path: object) -> str:
        path = Path(os.fsdecode(path))
        return "temporary" if path.name.startswith("._tmp-") else path.name

    def synced(fd: int) -> None:
        trace.append(("sync", named(os.readlink(f"/proc/self/fd/{fd}"))))
        real["fsync"](fd)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(
        os, "replace", lambda a, b: (trace.append(("replace", named(b))), real["replace"](a, b))
    )
    monkeypatch.setattr(os, "unlink", lambda a: (trace.append(("unlink", named(a))), real["unlink"](a)))
    publish(tmp_path, NEW, "b" * 64)
    assert trace == [
        ("sync", "x.parquet"),
        ("unlink", f"commit-{'a' * 8}.json"),
        ("sync", "_metadata"),
        ("replace", "data.parquet"),
        ("sync", f"date={DATE}"),
        ("sync", "temporary"),
        ("replace", f"commit-{'b' * 8}.json"),
        ("sync", "_metadata"),
    ]


def test_new_folders_are_synced_where_they_are_entered(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic, "fsync_dir", lambda path: synced.append(path.name))
    atomic.make_dirs(tmp_path / "a" / "b")
    atomic.make_dirs(tmp_path / "a" / "b")
    assert synced == [tmp_path.name, "a"]


def test_a_record_that_is_taken_away_while_it_is_read_is_no_commit(tmp_path, monkeypatch):
    publish(tmp_path, OLD, "a" * 64)
    real = os.listdir

    def listed(folder: object) -> list[str]:
        names = real(folder)
        for name in names:
            if name.startswith("commit-"):
                (Path(folder) / name).unlink()
        return names

    monkeypatch.setattr(os, "listdir", listed)
    assert found(tmp_path) == {}
