"""Compaction of execution bronze: the hourly parts of a sealed day become one for each key.

The merged parts are read back and compared with the content hash of every part; then the day record names them. Parts
that it replaced go in a later call, when no query that listed them can still be running. Source: spec/execution.md 3.1.
"""

import logging
import os
import shutil
import time
from pathlib import Path

from ingest.compaction import CompactReport
from lake import atomic, windows
from lake.locks import Locks
from lake.merge import MergeError
from lake.paths import stage_dir
from lake.replaced import LOCK, LOCK_TIMEOUT_S
from lake.window_days import (
    MERGED_SUFFIX,
    Day,
    FolderDay,
    is_in_archive,
    merge_folder,
    read_day,
    write_record,
)
from lake.windows import DAY_RECORD, PARTITION_KEYS

TARGET_BYTES = 128 << 20  # files of this size and more stay as they are

log = logging.getLogger(__name__)


def compact_windows(root: Path, report: CompactReport, *, grace_s: float, dry_run: bool) -> None:
    """Delete what was replaced more than ``grace_s`` ago, then merge the parts of every sealed day; add to ``report``.

    Raises LockTimeout when a load holds a dataset for long, OSError when a write fails (the lake then reads as before).
    """
    stage_dir(root).mkdir(parents=True, exist_ok=True)
    locks = Locks(stage_dir(root))
    locks.take(LOCK, [], LOCK_TIMEOUT_S)
    try:
        _compact_datasets(root, report, grace_s, dry_run=dry_run)
    finally:
        locks.release()


def _compact_datasets(root: Path, report: CompactReport, grace_s: float, *, dry_run: bool) -> None:
    for dataset in PARTITION_KEYS:
        if not windows.dataset_dir(root, dataset).is_dir():
            continue
        stage = stage_dir(root) / f"compact-{dataset}"
        with windows.dataset_lock(root, dataset):
            shutil.rmtree(stage, ignore_errors=True)  # of a call that was killed
            stage.mkdir()
            try:
                for date in windows.landed_dates(root, dataset):
                    day = read_day(root, dataset, date)
                    _delete_replaced(root, day, report, grace_s, dry_run=dry_run)
                    if day.is_sealed:
                        _merge_day(root, day, stage, report, dry_run=dry_run)
            finally:
                shutil.rmtree(stage, ignore_errors=True)


def _merge_day(root: Path, day: Day, stage: Path, report: CompactReport, *, dry_run: bool) -> None:
    new, rows = {}, []
    for folder in day.folders:
        if not _pays(folder):
            continue
        where = f"{day.dataset}/{folder.folder}"
        row = {
            "partition": where,
            "files": len(folder.files),
            "rows": sum(p.rows for p in folder.parts),
            "bytes_before": sum(path.stat().st_size for path in folder.files),
            "bytes_after": None,
        }
        if dry_run:
            report.merged.append(row)
            continue
        try:
            staged, part = merge_folder(day, folder, stage, root)
        except MergeError as error:
            log.warning("kept apart partition=%s reason=%s", where, error)
            report.kept_apart.append(f"{where}: {error}")
            continue
        atomic.replace(staged, windows.dataset_dir(root, day.dataset) / part.name)
        new[folder.folder] = part
        rows.append(row | {"bytes_after": part.bytes})
    if new:
        write_record(root, day.with_parts(new, root))
        report.merged += rows
        log.info("merged dataset=%s date=%s partitions=%d", day.dataset, day.date, len(new))


def _pays(folder: FolderDay) -> bool:
    small = [path for path in folder.files if path.stat().st_size < TARGET_BYTES]
    return len(folder.files) > 1 and len(small) > 1


def _delete_replaced(root: Path, day: Day, report: CompactReport, grace_s: float, *, dry_run: bool) -> None:
    """Delete parts that the day record replaced, and merged ones that no record names any more."""
    dataset_folder = windows.dataset_dir(root, day.dataset)
    named = {part.name: part for part in (day.record.parts if day.record else ())}
    replaced = day.record.replaces if day.record else {}
    unnamed = [
        path
        for path in windows.date_parts(root, day.dataset, day.date)
        if path.name.endswith(MERGED_SUFFIX) and path.relative_to(dataset_folder).as_posix() not in named
    ]
    parts = [
        p
        for marker in day.markers
        if marker.file_name in replaced
        for p in marker.parts
        if p.name not in named
    ]
    goes = [path for path in (dataset_folder / p.name for p in parts) if path.is_file()]
    record = windows.metadata_dir(root, day.dataset, day.date) / DAY_RECORD
    if goes or (unnamed and day.record):
        if time.time() - record.stat().st_mtime < grace_s:
            return
        for name, part in named.items():
            file = Path(os.path.normpath(dataset_folder / name))
            is_new = name.endswith(MERGED_SUFFIX) or is_in_archive(name)
            if is_new and not (file.is_file() and atomic.sha256_file(file) == part.sha256):
                raise ValueError(
                    f"{file} was not the file that {DAY_RECORD} describes; the parts it stands for are still there: "
                    f"delete {record} and run again"
                )
    for path in [*goes, *(p for p in unnamed if time.time() - p.stat().st_mtime >= grace_s)]:
        report.deleted.append(str(path.relative_to(root)))
        report.bytes_deleted += path.stat().st_size
        if not dry_run:
            path.unlink()
