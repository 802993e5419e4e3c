"""Compaction of market bronze: the small files of an hour become one, under the feet of its readers.

An hour may hold many files: one for each delivery, and live segments come every few minutes. They are merged into one
file in event order, which is read back and compared with the digest of each part; then a record says that it stands
for them. The parts go in a later call, when no query that listed them can still be running. Whatever is killed in
between leaves a lake that reads the same.
"""

import datetime
import itertools
import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lake import atomic, merge, replaced
from lake.archive_units import as_replaced, event_order, landed_path
from lake.bronze import BronzeFile, paths, visible_files
from lake.commits import now_utc
from lake.locks import Locks
from lake.paths import bronze_dir, lake_dir, stage_dir
from lake.replaced import COMPACTED, LOCK, LOCK_TIMEOUT_S, Replacement

GRACE_S = 3_600
TARGET_BYTES = 128 << 20  # a file of this size gains nothing by growing
MERGED_SUFFIX = "-merged.parquet"
PLAN = "plan.json"  # in the stage: what is about to be placed

log = logging.getLogger(__name__)


@dataclass
class CompactReport:
    """What one call did. ``merged`` has a flat row for each new file, ``kept_apart`` the hours that stay and why."""

    merged: list[dict] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)  # paths below the data root
    bytes_deleted: int = 0
    kept_apart: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.merged or self.deleted)


def compact(
    root: Path, *, grace_s: float = GRACE_S, dry_run: bool = False, run_id: str = ""
) -> CompactReport:
    """Delete what earlier calls replaced more than ``grace_s`` ago, then merge every hour of several small files.

    With ``dry_run`` only the report is made. Rows, digests of partitions and build keys stay as they are. Raises
    LockTimeout when another compaction or retention runs, OSError when a write fails (the lake then reads as before).
    """
    report = CompactReport()
    stage = stage_dir(root) / "compact"
    stage_dir(root).mkdir(parents=True, exist_ok=True)
    locks = Locks(stage_dir(root))
    locks.take(LOCK, [], LOCK_TIMEOUT_S)
    try:
        _take_back(root, stage)
        stage.mkdir()
        files = visible_files(root)
        _delete_replaced(root, files, grace_s, report, dry_run=dry_run)
        for hour in _hours(root, files):
            _merge_hour(root, hour, stage, report, run_id, dry_run=dry_run)
        return report
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        locks.release()


# -- merging -----------------------------------------------------------------------------------------------------------


def _hours(root: Path, files: Iterable[BronzeFile]) -> Iterator[list[BronzeFile]]:
    """Files that may become one: of one hour, of complete deliveries of one source, in order of delivery.

    A better source takes an hour from a worse one (spec/market.md 4.3), so their rows must stay apart.
    """
    for _, hour in itertools.groupby((f for f in files if not f.is_archived), key=lambda f: f.hour_key):
        entries = list(hour)
        if len(paths(entries)) < 2:
            continue
        by_source: dict[str, list[BronzeFile]] = {}
        for file in entries:
            record = _commit_record(root, file)
            if record["status"] == "complete":
                by_source.setdefault(record["source"], []).append(file)
        for _, listed in sorted(by_source.items()):
            small = {p for p in paths(listed) if p.stat().st_size < TARGET_BYTES}
            if len(small) > 1:
                yield [f for f in listed if f.path in small]


def _commit_record(root: Path, file: BronzeFile) -> dict:
    dataset = bronze_dir(root) / "/".join(file.path.relative_to(bronze_dir(root)).parts[:2])
    return atomic.read_json(
        dataset / "_metadata" / f"date={file.date}" / f"commit-{file.delivery_id[:8]}.json"
    )


def _merge_hour(
    root: Path, hour: list[BronzeFile], stage: Path, report: CompactReport, run_id: str, *, dry_run: bool
) -> None:
    taken = {*paths(hour)[: merge.MAX_FAN_IN]}  # what is more comes with the next call
    entries = [f for f in hour if f.path in taken]
    parts = [as_replaced(root, f) for f in entries]
    folder = entries[0].path.parent
    final = folder / f"part-{replaced.name_of(p.path for p in parts)}{MERGED_SUFFIX}"
    where = f"{folder.relative_to(bronze_dir(root))}"
    row = {
        "partition": where,
        "files": len(taken),
        "rows": sum(f.rows for f in entries),
        "bytes_before": sum(p.stat().st_size for p in taken),
        "bytes_after": None,
    }
    if dry_run:
        report.merged.append(row)
        return
    staged = stage / final.name
    checked = [merge.Part(bronze_dir(root) / p.path, p.delivery_id, p.rows, p.content_digest) for p in parts]
    try:
        made = merge.merge(paths(entries), checked, staged, event_order(entries[0].schema), "delivery_id")
    except merge.MergeError as error:
        log.warning("kept apart partition=%s reason=%s", where, error)
        report.kept_apart.append(f"{where}: {error}")
        return
    replacement = Replacement(
        kind=COMPACTED,
        schema=entries[0].schema,
        date=entries[0].date,
        key=entries[0].key,
        hour=entries[0].hour,
        path=str(final.relative_to(lake_dir(root))),
        bytes=made.bytes,
        sha256=made.sha256,
        rows=made.rows,
        ts_min_ns=min(f.ts_min_ns for f in entries),
        ts_max_ns=max(f.ts_max_ns for f in entries),
        content_digest=made.content_digest,
        parts=parts,
        made_at=now_utc(),
        run_id=run_id,
    )
    record_path = replacement.record_path(root)
    plan = {"file": str(final.relative_to(root)), "record": str(record_path.relative_to(root))}
    atomic.write_json(stage / PLAN, plan)
    atomic.replace(staged, final)
    replaced.write(root, replacement)
    report.merged.append(row | {"bytes_after": made.bytes})
    log.info("merged partition=%s files=%d rows=%d bytes=%d", where, len(taken), made.rows, made.bytes)


def _take_back(root: Path, stage: Path) -> None:
    """Remove what a killed call left: its stage, and a file that it had placed and not yet recorded."""
    if (stage / PLAN).is_file():
        plan = atomic.read_json(stage / PLAN)
        record = root / plan["record"]
        for leftover in record.parent.glob("._tmp-*"):
            leftover.unlink()
        if not record.is_file():
            (root / plan["file"]).unlink(missing_ok=True)
    for path in stage.glob("*"):
        if path.name != PLAN:
            path.unlink()
    shutil.rmtree(stage, ignore_errors=True)


# -- deleting what was replaced ----------------------------------------------------------------------------------------


def _delete_replaced(
    root: Path, files: list[BronzeFile], grace_s: float, report: CompactReport, *, dry_run: bool
) -> None:
    """Delete the parts of merges that are old enough, and merges that a wider one or the archive has taken in."""
    visible = {landed_path(root, f) for f in files if not f.is_archived}
    visible |= {p.path for r in replaced.read_all(root) if r.kind == replaced.ARCHIVED for p in r.parts}
    standing = replaced.standing(root, visible)
    sound: dict[str, bool] = {}
    for old in replaced.read_all(root):
        if old.kind != COMPACTED or not old.paths <= standing.keys():
            continue
        newer = {standing[path].path: standing[path] for path in old.paths}
        if not all(_age_s(r) >= grace_s for r in newer.values()):
            continue
        goes = [bronze_dir(root) / path for path in sorted(old.paths)]
        is_standing = [*newer] == [old.path]
        if not is_standing:
            goes.append(old.file(root))
        goes = [path for path in goes if path.is_file()]
        if goes:
            for path, r in newer.items():
                if path not in sound:
                    sound[path] = r.file(root).is_file() and atomic.sha256_file(r.file(root)) == r.sha256
            if broken := [path for path in newer if not sound[path]]:
                raise ValueError(
                    f"lake/{broken[0]} was not the file that its record describes; the files it stands for are still "
                    "there: delete it and its record, and run again"
                )
        for path in goes:
            report.deleted.append(str(path.relative_to(root)))
            report.bytes_deleted += path.stat().st_size
            if not dry_run:
                path.unlink()
        if not is_standing and not dry_run:
            old.record_path(root).unlink(missing_ok=True)


def _age_s(replacement: Replacement) -> float:
    made = datetime.datetime.fromisoformat(replacement.made_at)
    return (datetime.datetime.now(datetime.UTC) - made).total_seconds()
