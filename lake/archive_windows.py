"""Days of execution bronze as units of the archive: one for each date of one combination of keys."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lake import window_days, windows
from lake.archive import Entry, Unit
from lake.merge import MergeError
from lake.paths import archive_dir
from lake.window_days import LINEAGE, MERGED_SUFFIX, Day, FolderDay
from lake.window_readme import write_readme
from lake.windows import PARTITION_KEYS, WindowPart


def window_folders(root: Path, wanted: Callable[[str, str], bool]) -> Iterator[Unit]:
    """Every unit of execution bronze that ``wanted`` asks for by (dataset, date), archived ones too."""
    for dataset in PARTITION_KEYS:
        if not windows.dataset_dir(root, dataset).is_dir():
            continue
        for date in windows.landed_dates(root, dataset):
            if wanted(f"bronze/{dataset}", date):
                day = window_days.read_day(root, dataset, date)
                yield from (_unit(root, day, folder) for folder in day.folders)


def _unit(root: Path, day: Day, folder: FolderDay) -> Unit:
    dataset_folder = windows.dataset_dir(root, day.dataset)
    is_archived = all(path.is_relative_to(archive_dir(root)) for path in folder.files)
    landed = [dataset_folder / part.name for part in folder.parts]
    merged = sorted((dataset_folder / folder.folder).glob(f"part-*{MERGED_SUFFIX}"))

    def mark(file: Path, entry: Entry) -> None:
        fresh = window_days.read_day(root, day.dataset, day.date)
        now = {f.folder: f.parts for f in fresh.folders}
        if now.get(folder.folder) != folder.parts or not fresh.is_sealed:
            raise MergeError(f"{day.dataset} {day.date} changed meanwhile; archive it again")
        record = fresh.record
        if not is_archived:
            name = Path(os.path.relpath(file, dataset_folder)).as_posix()
            part = WindowPart(name, entry.rows, entry.bytes, entry.sha256, entry.content_hash)
            record = fresh.with_parts({folder.folder: part}, root)
            window_days.write_record(root, record)
        if all(window_days.is_in_archive(p.name) for p in record.parts):
            window_days.mark_archived(root, fresh)
            write_readme(root, day.dataset, day.date)

    return Unit(
        dataset=f"bronze/{day.dataset}",
        date=day.date,
        partition=folder.folder,
        parts=tuple(folder.as_parts(dataset_folder)),
        sources=() if is_archived else tuple(folder.files),
        deletes=tuple(path for path in [*landed, *merged] if path.is_file()),
        slices=folder.slices,
        exclude=LINEAGE,
        is_archived=is_archived,
        blocked=None if day.is_sealed else "a window of its day is not sealed",
        mark=mark,
    )
