"""Commit records: what a partition of a silver or gold dataset holds, and what it was built from (architecture D2–D6).

A partition is one file of fixed name and one small JSON beside it, written last. Whoever finds a commit finds the file
that it describes; a file without a commit is whole, but of a build that did not end, and the next build makes it again.

With path keys (`meta.path_keys`) a date has one file for each key, and one record for all of them in
``_metadata/date=…`` at the dataset's root: see `lake.keyed`.

A reader that holds the file open sees it whole, whatever a build does. DuckDB opens a file by name twice, for its
schema and for its rows: a query that meets a replacement in between fails, and is asked again.
"""

import datetime
import functools
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from lake import atomic
from lake.read_once import ReadOnce

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
    # Only where there is something to say:
    # by index of the dataset, the dates that each mapped date reads (`lake.date_maps`);
    indexes: dict[str, dict[str, list[str]]] | None = None
    # columns that stand in the path, with their SQL types, and the file of each key (`lake.keyed`).
    path_keys: dict[str, str] | None = None
    files: list[dict] | None = None

    def record(self) -> dict[str, object]:
        """The JSON object of the record."""
        return {k: v for k, v in asdict(self).items() if v is not None or k not in _OPTIONAL}


_OPTIONAL = ("indexes", "path_keys", "files")


@dataclass(frozen=True)
class KeyFile:
    """The rows of one key of a date: ``key`` as text by column, ``digest`` of the columns that the file holds."""

    path: Path
    key: dict[str, str]
    rows: int
    bytes: int
    content_digest: str
    is_archived: bool


@dataclass(frozen=True)
class Partition:
    """A committed partition on disk: its folder, its record, and the verdict of dbt's data tests on it.

    With path keys ``folder`` is the dataset's.
    """

    folder: Path
    commit: Commit

    @property
    def is_keyed(self) -> bool:
        return self.commit.path_keys is not None

    @property
    def metadata(self) -> Path:
        """The folder of its records."""
        place = self.folder / "_metadata"
        return place / f"date={self.commit.date}" if self.is_keyed else place

    @property
    def is_archived(self) -> bool:
        """Whether its rows, or the rows of any of its keys, stand in the archive."""
        if self.is_keyed:
            return any(f.is_archived for f in self.key_files)
        return "archived" in self.commit.extra

    @functools.cached_property
    def key_files(self) -> tuple[KeyFile, ...]:
        """The files of a partition with path keys, in order of key; none where the date has no rows."""
        return tuple(
            KeyFile(
                path=Path(os.path.normpath(self.folder / f.get("archived", f)["path"])),
                key={k: unquote(v) for k, v in (p.split("=", 1) for p in f["path"].split("/")[:-2])},
                rows=f["rows"],
                bytes=f["bytes"],
                content_digest=f["content_digest"],
                is_archived="archived" in f,
            )
            for f in self.commit.files or ()
        )

    @functools.cached_property
    def paths(self) -> tuple[Path, ...]:
        """Every file with its rows."""
        return tuple(f.path for f in self.key_files) if self.is_keyed else (self.file,)

    @property
    def file(self) -> Path:
        """Where the rows stand: in the folder or, when the record says so, in the archive. Without path keys."""
        if self.is_keyed:
            raise ValueError(f"{self.folder} has a file for each key, expected a reader of `paths`")
        if self.is_archived:
            return Path(os.path.normpath(self.folder / self.commit.extra["archived"]["path"]))
        return self.folder / DATA_FILE

    def status(self) -> dict[str, object]:
        """``{"status": "ok" | "failed", "error": …}``. A date is ok only after the data tests said so."""
        try:
            return atomic.read_json(_status_path(self))
        except FileNotFoundError:
            return {"status": "failed", "error": "not tested since it was built; run `dbt build`"}


def now_utc() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_partitions(dataset_dir: Path) -> dict[tuple[str | None, str], Partition]:
    """Every committed partition of a dataset, keyed by (first 8 of its params digest or None, ISO date), in order."""
    found: dict[tuple[str | None, str], Partition] = {}
    root = str(dataset_dir)
    for params in (None, *_names(root, "params=")):
        place = root if params is None else f"{root}/{params}"
        for name in _names(place, "date="):
            if partition := _read(f"{place}/{name}/_metadata"):
                found[params and params.removeprefix("params="), partition.commit.date] = partition
    for name in _names(f"{root}/_metadata", "date="):
        if partition := _read(f"{root}/_metadata/{name}"):
            found[None, partition.commit.date] = partition
    return dict(sorted(found.items(), key=lambda kv: (kv[0][0] or "", kv[0][1])))


def dataset_dirs(layer: Path) -> list[Path]:
    """Folders below a layer's that hold commit records, in order."""
    found: set[Path] = set()
    for place, folders, _ in os.walk(layer):
        path = Path(place)
        if path.name == "_metadata" and any(f.startswith("date=") for f in folders):
            found |= {path.parent for f in folders if _names(f"{place}/{f}", "commit-")}
        elif path.name == "_metadata" and path.parent.name.startswith("date=") and _names(place, "commit-"):
            folder = path.parents[1]
            found.add(folder.parent if folder.name.startswith("params=") else folder)
        # Of a folder of one key or date only the records are of interest.
        inside = path.name.startswith("date=")
        folders[:] = [f for f in folders if f == "_metadata" or not inside]
    return sorted(found)


def read_partition(folder: Path) -> Partition | None:
    """The committed partition in a folder, None where there is none."""
    return _read(f"{folder}/_metadata")


def read_keyed(dataset_dir: Path, date: str) -> Partition | None:
    """The committed partition of a date of a dataset with path keys, None where there is none."""
    return _read(f"{dataset_dir}/_metadata/date={date}")


def _read(metadata: str) -> Partition | None:
    found = None
    for name in _names(metadata, "commit-"):
        try:
            partition, paths = _record(f"{metadata}/{name}")
        except FileNotFoundError:  # a builder took it away just now: the date is not committed
            continue
        is_newer = found is None or found.commit.built_at <= partition.commit.built_at
        if is_newer and all(map(os.path.isfile, paths)):
            found = partition
    return found


def _made(path: str) -> tuple[Partition, list[str]]:
    """What a record says, and its files."""
    with open(path, "rb") as f:
        partition = Partition(Path(path.rpartition("/_metadata")[0]), Commit(**json.loads(f.read())))
    return partition, list(map(str, partition.paths))


_record = ReadOnce(_made)


def _names(folder: str, prefix: str) -> list[str]:
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
    atomic.write_json(metadata / f"commit-{commit.build_key[:8]}.json", commit.record())
    return Partition(folder, commit)


def mark_archived(partition: Partition, file: Path, sha256: str, content_hash: str) -> Partition:
    """Say in the record that the rows stand in ``file`` from now on: the partition still counts as built."""
    place = _archived(partition, file, sha256, content_hash)
    commit = replace(partition.commit, extra={**partition.commit.extra, "archived": place})
    return write_record(Partition(partition.folder, commit))


def mark_key_archived(
    partition: Partition, hot: Path, file: Path, sha256: str, content_hash: str
) -> Partition:
    """Say of the one key whose rows stood in ``hot`` that they stand in ``file`` from now on."""
    place = _archived(partition, file, sha256, content_hash)
    name = hot.relative_to(partition.folder).as_posix()
    files = [{**f, "archived": place} if f["path"] == name else f for f in partition.commit.files]
    return write_record(Partition(partition.folder, replace(partition.commit, files=files)))


def _archived(partition: Partition, file: Path, sha256: str, content_hash: str) -> dict[str, str]:
    return {"path": os.path.relpath(file, partition.folder), "sha256": sha256, "content_hash": content_hash}


def write_record(partition: Partition) -> Partition:
    """Write a partition's record, whole, over the one of its build key."""
    atomic.write_json(record_path(partition), partition.commit.record())
    return partition


def record_path(partition: Partition) -> Path:
    return partition.metadata / f"commit-{partition.commit.build_key[:8]}.json"


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
    atomic.write_json(_status_path(partition), status)


def _status_path(partition: Partition) -> Path:
    return partition.metadata / f"status-{partition.commit.build_key[:8]}.json"
