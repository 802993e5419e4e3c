"""What can be archived, as units: hours of market bronze, days of execution bronze, built dates, raw files."""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from lake import atomic, commits, merge, released, replaced
from lake.archive import Entry, Unit
from lake.archive_windows import window_folders
from lake.bronze import BronzeFile, paths, visible_files
from lake.digest import file_digest
from lake.merge import Part
from lake.paths import bronze_dir, lake_dir, receipts_dir
from lake.replaced import ARCHIVED, COMPACTED, Replaced, Replacement

Wanted = Callable[[str, str], bool]  # (dataset, ISO date)


def units(root: Path, wanted: Wanted) -> Iterator[Unit]:
    """Every unit of the lake that ``wanted`` asks for, archived ones too, in order of (dataset, date, partition)."""
    found = [
        *market_hours(root, wanted),
        *window_folders(root, wanted),
        *built_dates(root, wanted),
        *raw_files(root, wanted),
    ]
    yield from sorted(found, key=lambda u: (u.dataset, u.date, u.partition, u.is_archived))


# -- market bronze -----------------------------------------------------------------------------------------------------


def event_order(schema: str) -> tuple[str, ...]:
    """Columns that order the rows of a bronze schema (spec/market.md 1.3)."""
    sequence = ("sequence",) if schema.startswith(("futures.trades.", "futures.mbp10.")) else ()
    return ("ts_event_ns", *sequence, "ordinal")


def landed_path(root: Path, file: BronzeFile) -> str:
    """Path below ``lake/bronze`` of a file that isn't archived, as its commit record has it."""
    return str((file.path.parent / file.name).relative_to(bronze_dir(root)))


def as_replaced(root: Path, file: BronzeFile) -> Replaced:
    return Replaced(landed_path(root, file), file.delivery_id, file.rows, file.content_digest)


def market_hours(root: Path, wanted: Wanted) -> Iterator[Unit]:
    """One unit for each hour of each key and source: its files that stand in bronze; and one for each copy in the
    archive. A better source takes an hour from a worse one (spec/market.md 4.3), so their rows stay apart.
    """
    hours: dict[tuple, list[BronzeFile]] = {}
    for file in visible_files(root):
        if not file.is_archived and wanted(_dataset(root, file), file.date):
            hours.setdefault((*file.hour_key, file.source), []).append(file)
    merges = [r for r in replaced.read_all(root) if r.kind == COMPACTED]
    for files in hours.values():
        yield _hot_hour(root, files, merges)
    for replacement in replaced.read_all(root):
        if replacement.kind == ARCHIVED:
            unit = _archived_hour(root, replacement, merges)
            if wanted(unit.dataset, unit.date):
                yield unit


def _hot_hour(root: Path, files: list[BronzeFile], merges: list[Replacement]) -> Unit:
    first = files[0]
    parts = [as_replaced(root, f) for f in files]
    sources = paths(files)
    blocked = None
    if any('"open"' in f.state for f in files):
        blocked = "its commit is open, not complete: more is to come, or a quality check failed"
    elif len(sources) > merge.MAX_FAN_IN:
        blocked = f"it has {len(sources)} files; run `tickhouse compact` first"

    def mark(file: Path, entry: Entry) -> None:
        replacement = Replacement(
            kind=ARCHIVED,
            schema=first.schema,
            date=first.date,
            key=first.key,
            hour=first.hour,
            path=str(file.relative_to(lake_dir(root))),
            bytes=entry.bytes,
            sha256=entry.sha256,
            rows=entry.rows,
            ts_min_ns=min(f.ts_min_ns for f in files),
            ts_max_ns=max(f.ts_max_ns for f in files),
            content_digest=entry.content_hash,
            parts=parts,
            made_at=entry.archived_at,
            run_id=entry.run_id,
        )
        replaced.write(root, replacement)

    return Unit(
        dataset=_dataset(root, first),
        date=first.date,
        partition=_partition(parts[0].path),
        parts=tuple(Part(bronze_dir(root) / p.path, p.delivery_id, p.rows, p.content_digest) for p in parts),
        sources=tuple(sources),
        deletes=_leftovers(root, {p.path for p in parts}, merges),
        order=event_order(first.schema),
        owner_column="delivery_id",
        blocked=blocked,
        mark=mark,
    )


def _archived_hour(root: Path, replacement: Replacement, merges: list[Replacement]) -> Unit:
    path = replacement.parts[0].path
    return Unit(
        dataset="bronze/" + "/".join(path.split("/")[:2]),
        date=replacement.date,
        partition=_partition(path),
        parts=tuple(replacement.as_parts(root)),
        sources=(),
        deletes=_leftovers(root, replacement.paths, merges),
        order=event_order(replacement.schema),
        owner_column="delivery_id",
        is_archived=True,
    )


def _leftovers(root: Path, landed: set[str] | frozenset[str], merges: list[Replacement]) -> tuple[Path, ...]:
    """What of some landed files still stands in bronze: themselves, merges of them, and those merges' records."""
    mine = [m for m in merges if m.paths <= landed]
    candidates = [
        *(bronze_dir(root) / path for path in sorted(landed)),
        *(m.file(root) for m in mine),
        *(m.record_path(root) for m in mine),
    ]
    return tuple(path for path in candidates if path.is_file())


def _dataset(root: Path, file: BronzeFile) -> str:
    """``bronze/futures/trades``: as in ``futures.trades.v1``."""
    return "/".join(["bronze", *file.schema.split(".")[:-1]])


def _partition(path: str) -> str:
    """``futures/trades/symbol=ES/date=…/hour=14/part-….parquet`` → ``symbol=ES/date=…/hour=14``."""
    return "/".join(path.split("/")[2:-1])


# -- silver and gold ---------------------------------------------------------------------------------------------------


def built_dates(root: Path, wanted: Wanted) -> Iterator[Unit]:
    """One unit for each committed partition of silver and gold; of datasets with path keys for each key of a date."""
    for layer in ("silver", "gold"):
        for folder in commits.dataset_dirs(lake_dir(root) / layer):
            dataset = folder.relative_to(lake_dir(root)).as_posix()
            reason = _must_stay(folder, dataset)
            for partition in commits.read_partitions(folder).values():
                if wanted(dataset, partition.commit.date):
                    yield from _built_date(folder, dataset, partition, reason)


def _built_date(
    folder: Path, dataset: str, partition: commits.Partition, reason: str | None
) -> Iterator[Unit]:
    commit = partition.commit
    if partition.is_keyed:
        files = [(folder / f["path"], f.get("archived", {}), f["rows"]) for f in commit.files]
        now = {
            folder / f["path"]: file.path for f, file in zip(commit.files, partition.key_files, strict=True)
        }
    else:
        hot = partition.folder / commits.DATA_FILE
        files, now = [(hot, commit.extra.get("archived", {}), commit.rows)], {hot: partition.file}
    for hot, archived, rows in files:
        # The record's digest leaves lineage columns out; the copy has to hold these as well.
        digest = archived.get("content_hash") or file_digest(now[hot])
        yield Unit(
            dataset=dataset,
            date=commit.date,
            partition=hot.parent.relative_to(folder).as_posix(),
            parts=(Part(hot, "", rows, digest),),
            sources=() if archived else (hot,),
            deletes=tuple(path for path in (hot,) if path.is_file()),
            is_archived=bool(archived),
            blocked=reason,
            mark=functools.partial(_mark_built, partition, hot),
        )


def _mark_built(partition: commits.Partition, hot: Path, file: Path, entry: Entry) -> None:
    if partition.is_keyed:
        now = commits.read_keyed(partition.folder, partition.commit.date)
        # Other keys of the date may have been moved since: their entries say so, and nothing else.
        mine = [f for f in (now.commit.files if now else ()) if partition.folder / f["path"] == hot]
        if not mine or now.commit.build_key != partition.commit.build_key:
            raise merge.MergeError(f"{hot} was built anew meanwhile; archive it again")
        if "archived" not in mine[0]:
            commits.mark_key_archived(now, hot, file, entry.sha256, entry.content_hash)
        return
    if partition.is_archived:
        return
    now = commits.read_partition(partition.folder)
    if now is None or now.commit != partition.commit:
        raise merge.MergeError(f"{partition.folder} was built anew meanwhile; archive it again")
    commits.mark_archived(partition, file, entry.sha256, entry.content_hash)


def _must_stay(folder: Path, dataset: str) -> str | None:
    if dataset.startswith("gold/training"):
        return "gold training sets stay"
    if released.state_of(folder) == "released":
        return "it is of a released version"
    return None


# -- raw files ---------------------------------------------------------------------------------------------------------


def raw_files(root: Path, wanted: Wanted) -> Iterator[Unit]:
    """One unit for each raw file that was landed. Its date is the receipt's, or the day it came."""
    for path in sorted(receipts_dir(root).glob("receipt-*.json")):
        receipt = atomic.read_json(path)
        if receipt["status"] not in ("landed", "archived") or not receipt.get("path"):
            continue
        relative, day = (
            Path(receipt["path"]),
            receipt.get("date") or (receipt.get("downloaded_at") or "")[:10],
        )
        if relative.is_absolute() or relative.parts[0] != "raw" or not day:
            continue  # landed from where it stands, or of no age
        dataset = relative.parent.as_posix()
        if not wanted(dataset, day):
            continue
        file, is_archived = root / relative, receipt["status"] == "archived"
        unit = Unit(
            dataset=dataset,
            date=day,
            partition=relative.name,
            parts=(Part(file, "", receipt["record_count"] or 0, receipt["sha256"]),),
            sources=() if is_archived else (file,),
            deletes=(file,) if file.is_file() else (),
            is_parquet=False,
            is_archived=is_archived,
        )

        def mark(copy: Path, entry: Entry, path: Path = path, receipt: dict = receipt) -> None:
            if receipt["status"] == "archived":
                return
            uri = os.path.relpath(copy, root)
            atomic.write_json(path, {**receipt, "status": "archived", "archived_uri": uri})

        yield replace(unit, mark=mark)
