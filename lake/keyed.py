"""Partitions with keys beside the date: one file for each key of a date, all of one commit record.

``silver/x/client_id=7/date=2024-12-01/data-<8 hex>.parquet`` holds one key's rows, and
``silver/x/_metadata/date=2024-12-01/commit-*.json`` lists the files of the date. Several files can't be replaced in one
step, a record can: the files of a build are named by what they are, and come beside those that they replace; then the
record is replaced; the files that it no longer lists go last, when the view over the dataset has been made anew. So at
any instant readers, by record or by view, see the old date whole or the new one whole.
Source: architecture D2; docs/adr/0015.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from lake import atomic, commits
from lake.commits import Commit, Partition
from lake.staging import StageFile

MARK = "publishing"  # beside the records of a date: its files, old and new, while they are more than one record's


def publish(
    staged: Sequence[StageFile], dataset_dir: Path, commit: Commit, keys: dict[str, str]
) -> Partition:
    """Put the stage files of a date, one for each key, in place and commit them.

    What they replace stays until `tidy`.
    """
    before = commits.read_keyed(dataset_dir, commit.date)
    content = hashlib.sha256(f"{commit.build_key} {commit.content_digest}".encode()).hexdigest()[:8]
    name = f"date={commit.date}/data-{content}.parquet"
    files = [
        {
            "path": f"{part.folder}/{name}",
            "rows": part.rows,
            "bytes": part.path.stat().st_size,
            "content_digest": part.content_digest,
        }
        for part in staged
    ]
    new = Partition(dataset_dir, _with(commit, keys, files))
    metadata = new.metadata
    atomic.make_dirs(metadata)
    both = [f["path"] for f in (*(before.commit.files if before else ()), *files)]
    atomic.write_text(metadata / MARK, "".join(f"{path}\n" for path in dict.fromkeys(both)))
    for path in (metadata / f"status-{commit.build_key[:8]}.json", *metadata.glob("._tmp-*")):
        path.unlink(missing_ok=True)  # the verdict was on what this replaces
    for part, file in zip(staged, files, strict=True):
        target = dataset_dir / file["path"]
        atomic.make_dirs(target.parent)
        atomic.fsync_file(part.path)
        atomic.replace(part.path, target)
    commits.write_record(new)
    _remove_records(new)
    return new


def _remove_records(current: Partition) -> None:
    """Delete the records beside a date's current one, and the verdicts on them."""
    names = {f"{kind}-{current.commit.build_key[:8]}.json" for kind in ("commit", "status")}
    for name in _listed(current.metadata):
        if name.startswith(("commit-", "status-", "._tmp-")) and name not in names:
            (current.metadata / name).unlink(missing_ok=True)


def _with(commit: Commit, keys: dict[str, str], files: list[dict]) -> Commit:
    return dataclasses.replace(
        commit, bytes=sum(f["bytes"] for f in files), path_keys=dict(keys), files=files
    )


def tidy(dataset_dir: Path, dates: Sequence[str] | None = None) -> None:
    """Delete what the records of some dates (by default all) no longer list: files that were replaced, and those that a
    killed build left. Call under the dataset's lock, when no view shows the old ones.
    """
    root = dataset_dir / "_metadata"
    if dates is None:
        dates = [n.removeprefix("date=") for n in _listed(root) if n.startswith("date=")]
    for date in dates:
        metadata = root / f"date={date}"
        if MARK not in _listed(metadata):
            continue
        current = commits.read_keyed(dataset_dir, date)
        kept = {f["path"] for f in current.commit.files} if current else set()
        for path in (metadata / MARK).read_text().splitlines():
            if path not in kept:
                (dataset_dir / path).unlink(missing_ok=True)
                _remove_empty(dataset_dir, (dataset_dir / path).parent)
        if current:
            _remove_records(current)
        (metadata / MARK).unlink()


def remove_unkeyed(dataset_dir: Path, date: str) -> None:
    """Delete a date as it stood before its model had path keys, record first."""
    folder = dataset_dir / f"date={date}"
    for path in (*folder.glob("_metadata/*"), folder / commits.DATA_FILE):
        path.unlink(missing_ok=True)
    for empty in (folder / "_metadata", folder):
        if empty.is_dir():
            empty.rmdir()


def remove(dataset_dir: Path, date: str) -> None:
    """Delete a date with path keys, record first: its model has none any more."""
    current = commits.read_keyed(dataset_dir, date)
    metadata = dataset_dir / "_metadata" / f"date={date}"
    for name in _listed(metadata):
        (metadata / name).unlink()
    if metadata.is_dir():
        metadata.rmdir()
    for file in current.commit.files if current else ():
        (dataset_dir / file["path"]).unlink(missing_ok=True)
        _remove_empty(dataset_dir, (dataset_dir / file["path"]).parent)


def _remove_empty(dataset_dir: Path, folder: Path) -> None:
    while folder != dataset_dir and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
