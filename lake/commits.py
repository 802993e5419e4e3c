"""Commit records: what a partition of a silver or gold dataset holds, and what it was built from (architecture D2–D6).

A partition is one file of fixed name and one small JSON beside it, written last. Whoever finds a commit finds the file
that it describes; a file without a commit is whole, but of a build that did not end, and the next build makes it again.

A reader that holds the file open sees it whole, whatever a build does. DuckDB opens a file by name twice, for its
schema and for its rows: a query that meets a replacement in between fails, and is asked again.
"""

import datetime
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lake import atomic

DATA_FILE = "data.parquet"
RECORD_VERSION = 1


@dataclass(frozen=True)
class Commit:
    """One committed partition. ``inputs`` maps ``<dataset>/<date>`` to the content digest that was read."""

    dataset: str
    date: str
    params_digest: str | None
    rows: int
    bytes: int
    content_digest: str
    build_key: str
    code_digest: str
    inputs: dict[str, str]
    input_digest: str
    build_digest: str | None
    built_at: str
    run_id: str
    record_version: int = RECORD_VERSION
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Partition:
    """A committed partition on disk: its folder, its record, and the verdict of dbt's data tests on it."""

    folder: Path
    commit: Commit

    @property
    def is_archived(self) -> bool:
        return "archived" in self.commit.extra

    @property
    def file(self) -> Path:
        """Where the rows stand: in the folder or, when the record says so, in the archive."""
        if self.is_archived:
            return Path(os.path.normpath(self.folder / self.commit.extra["archived"]["path"]))
        return self.folder / DATA_FILE

    def status(self) -> dict[str, object]:
        """``{"status": "ok" | "failed", "error": …}``. A date is ok only after the data tests said so."""
        try:
            return atomic.read_json(_status_path(self.folder, self.commit))
        except FileNotFoundError:
            return {"status": "failed", "error": "not tested since it was built; run `dbt build`"}


def now_utc() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_partitions(dataset_dir: Path) -> dict[tuple[str | None, str], Partition]:
    """Every committed partition of a dataset, keyed by (first 8 of its params digest or None, ISO date), in order."""
    found: dict[tuple[str | None, str], Partition] = {}
    for params, folder in _partition_folders(dataset_dir):
        if partition := read_partition(folder):
            found[params, partition.commit.date] = partition
    return dict(sorted(found.items(), key=lambda kv: (kv[0][0] or "", kv[0][1])))


def read_partition(folder: Path) -> Partition | None:
    """The committed partition in a folder, None where there is none."""
    found = None
    for name in _names(folder / "_metadata", "commit-"):
        try:
            text = (folder / "_metadata" / name).read_bytes()
        except FileNotFoundError:  # a builder took it away just now: the date is not committed
            continue
        partition = Partition(folder, Commit(**json.loads(text)))
        if partition.file.is_file():
            found = partition
    return found


def _partition_folders(dataset_dir: Path) -> Iterator[tuple[str | None, Path]]:
    for name in _names(dataset_dir, "date="):
        yield None, dataset_dir / name
    for params in _names(dataset_dir, "params="):
        for name in _names(dataset_dir / params, "date="):
            yield params.removeprefix("params="), dataset_dir / params / name


def _names(folder: Path, prefix: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def publish(staged: Path, folder: Path, commit: Commit) -> Partition:
    """Put ``staged`` in place as the partition's file and commit it.

    The old record goes first, so that at no instant a record describes another file; the price is a date that is
    for a moment uncommitted, while a reader of its file still sees the whole old or the whole new one.
    """
    atomic.fsync_file(staged)
    metadata = folder / "_metadata"
    atomic.make_dirs(metadata)
    # What a killed writer left half-written goes too.
    old = [p for pattern in ("commit-*.json", "status-*.json", "._tmp-*") for p in metadata.glob(pattern)]
    for path in old:
        path.unlink()
    if old:
        atomic.fsync_dir(metadata)
    atomic.replace(staged, folder / DATA_FILE)
    atomic.write_json(metadata / f"commit-{commit.build_key[:8]}.json", asdict(commit))
    return Partition(folder, commit)


def mark_archived(partition: Partition, file: Path, sha256: str, content_hash: str) -> Partition:
    """Say in the record that the rows stand in ``file`` from now on: the partition still counts as built."""
    place = {"path": os.path.relpath(file, partition.folder), "sha256": sha256, "content_hash": content_hash}
    commit = replace(partition.commit, extra={**partition.commit.extra, "archived": place})
    record = partition.folder / "_metadata" / f"commit-{commit.build_key[:8]}.json"
    atomic.write_json(record, asdict(commit))
    return Partition(partition.folder, commit)


def mark(
    partition: Partition, ok: bool, error: str | None, run_id: str, tests_digest: str | None = None
) -> None:
    """Record the verdict of the data tests beside the commit that it is about.

    ``tests_digest`` says which tests passed on it, so that they need not read it again; None says nothing of that.
    """
    status = {
        "status": "ok" if ok else "failed",
        "error": error,
        "tests_digest": tests_digest,
        "run_id": run_id,
    }
    atomic.write_json(_status_path(partition.folder, partition.commit), status)


def _status_path(folder: Path, commit: Commit) -> Path:
    return folder / "_metadata" / f"status-{commit.build_key[:8]}.json"
