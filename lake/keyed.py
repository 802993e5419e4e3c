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
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import atomic, commits, merge
from lake.commits import Commit, Partition
from lake.digest import ContentDigest
from lake.publish import StageError

MARK = "publishing"  # beside the records of a date: its files, old and new, while they are more than one record's
BATCH_ROWS = 16_384


def check_unique(staged: Path, key: Sequence[str], where: str) -> None:
    """Raises StageError when rows repeat a key. For keys that the order of rows doesn't show to be unique."""
    table = pq.read_table(staged, columns=list(key), partitioning=None)
    plain = [c.cast(c.type.storage_type) if isinstance(c.type, pa.UuidType) else c for c in table.columns]
    counts = pa.table(plain, names=list(key)).group_by(list(key)).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    if repeated.num_rows:
        row = {k: repeated[k][0].as_py() for k in key}
        raise StageError(f"{where}: {repeated['count_all'][0]} rows had the key {row}; nothing was published")


def publish(
    staged: Path, dataset_dir: Path, commit: Commit, keys: dict[str, str], lineage: Sequence[str]
) -> Partition:
    """Split ``staged``, whose rows stand in order of ``keys``, into the files of a date, and commit them.

    What they replace stays until `tidy`. Raises StageError for a key that no path can have.
    """
    before = commits.read_keyed(dataset_dir, commit.date)
    content = hashlib.sha256(f"{commit.build_key} {commit.content_digest}".encode()).hexdigest()[:8]
    parts = [*_split(staged, keys, lineage, f"{commit.dataset}, {commit.date}")]
    name = f"date={commit.date}/data-{content}.parquet"
    files = [
        {"path": f"{folder}/{name}", "rows": rows, "bytes": size, "content_digest": digest}
        for folder, _, rows, size, digest in parts
    ]
    new = Partition(dataset_dir, _with(commit, keys, files))
    metadata = new.metadata
    atomic.make_dirs(metadata)
    both = [f["path"] for f in (*(before.commit.files if before else ()), *files)]
    atomic.write_text(metadata / MARK, "".join(f"{path}\n" for path in dict.fromkeys(both)))
    for path in (metadata / f"status-{commit.build_key[:8]}.json", *metadata.glob("._tmp-*")):
        path.unlink(missing_ok=True)  # the verdict was on what this replaces
    for (_, part, *_), file in zip(parts, files, strict=True):
        target = dataset_dir / file["path"]
        atomic.make_dirs(target.parent)
        atomic.replace(part, target)
    commits.write_record(new)
    _remove_records(new)
    staged.unlink()
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


def _split(
    staged: Path, keys: dict[str, str], lineage: Sequence[str], where: str
) -> Iterator[tuple[str, Path, int, int, str]]:
    """(folders of the key, synced file, rows, bytes, content digest) of each key, one after the other."""
    with merge.open_paged(staged) as source:
        schema = source.schema_arrow.remove_metadata()
        held = pa.schema([f for f in schema if f.name not in keys])
        metadata = {k: v for k, v in (source.metadata.metadata or {}).items() if k != b"ARROW:schema"}
        options = merge.options_like(staged)
        batches = source.iter_batches(batch_size=BATCH_ROWS, use_threads=False)
        for number, (key, tables) in enumerate(
            itertools.groupby(_runs(batches, list(keys)), lambda run: run[0])
        ):
            folder = "/".join(
                f"{name}={_text(value, name, where)}" for name, value in zip(keys, key, strict=True)
            )
            out = staged.with_name(f"{staged.stem}.{number}.parquet")
            digest, rows = ContentDigest(held, lineage), 0
            with pq.ParquetWriter(out, held, **options) as writer:
                for table in merge.row_groups(t.select(held.names) for _, t in tables):
                    for batch in table.to_batches():
                        digest.update(batch)
                    rows += table.num_rows
                    writer.write_table(table, row_group_size=merge.ROW_GROUP_ROWS)
                writer.add_key_value_metadata(metadata)
            atomic.fsync_file(out)
            yield folder, out, rows, out.stat().st_size, digest.hexdigest()


def _runs(batches: Iterator[pa.RecordBatch], keys: list[str]) -> Iterator[tuple[tuple, pa.Table]]:
    """Rows of one key that follow each other, with the key."""
    for batch in batches:
        table = pa.Table.from_batches([batch])
        changes = np.zeros(max(batch.num_rows - 1, 0), dtype=bool)
        for name in keys:
            column = batch.column(name)
            changes |= pc.not_equal(column.slice(1), column.slice(0, batch.num_rows - 1)).to_numpy(
                zero_copy_only=False
            )
        starts = [0, *(np.flatnonzero(changes) + 1).tolist(), batch.num_rows] if batch.num_rows else []
        for start, end in itertools.pairwise(starts):
            yield tuple(batch.column(k)[start].as_py() for k in keys), table.slice(start, end - start)


def _text(value: object, name: str, where: str) -> str:
    """A key as a folder's name has it; every reader of Hive paths decodes it."""
    text = quote(str(value), safe="")
    if not text or len(text) > 200:
        raise StageError(
            f"{where}: path key {name} was {str(value)[:40]!r}, expected 1 to 200 characters in a path; nothing was "
            "published"
        )
    return text


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
