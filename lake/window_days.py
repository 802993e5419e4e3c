"""Days of execution bronze as a whole: their parts in one order, merged ones, and the day record that names them.

The canonical order of a date's parts is that of their markers: window, supplement, name. A merged part holds its parts
one behind the other in that order, so each is found again by its number of rows, also when a later supplement is put
between them. Source: spec/execution.md 3.1, 8.1.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lake import atomic, merge, windows
from lake.merge import Part, Slice
from lake.replaced import name_of
from lake.windows import DAY_RECORD, DayRecord, Marker, WindowPart

MERGED_SUFFIX = "-merged.parquet"
# What every load writes beside the business columns; content hashes leave it out.
LINEAGE = (
    "ingested_at", "loaded_at", "ingest_batch_id", "source_file", "row_hash", "schema_version", "environment", "_extra",
)  # fmt: skip


@dataclass(frozen=True)
class FolderDay:
    """One date of one combination of keys: its ``parts`` as landed, in canonical order, and where their rows stand."""

    folder: str  # below the dataset's folder
    parts: tuple[WindowPart, ...]
    slices: tuple[Slice, ...]

    @property
    def files(self) -> list[Path]:
        return [*dict.fromkeys(s.path for s in self.slices)]

    def as_parts(self, dataset_folder: Path) -> list[Part]:
        return [Part(dataset_folder / p.name, "", p.rows, p.content_hash) for p in self.parts]


@dataclass(frozen=True)
class Day:
    """One date of a dataset as its records have it."""

    dataset: str
    date: str
    markers: tuple[Marker, ...]
    record: DayRecord | None
    folders: tuple[FolderDay, ...]

    @property
    def is_sealed(self) -> bool:
        return all(marker.state != "provisional" for marker in self.markers)

    def with_parts(self, new: Mapping[str, WindowPart], root: Path) -> DayRecord:
        """A day record in which a new part stands for each folder of ``new``; of the others what stands now.

        It replaces every marker: all of them must be sealed.
        """
        dataset_folder = windows.dataset_dir(root, self.dataset)
        named = {p.name: p for p in (self.record.parts if self.record else ())}
        named |= {p.name: p for marker in self.markers for p in marker.parts}
        parts: list[WindowPart] = []
        for folder in self.folders:
            if folder.folder in new:
                parts.append(new[folder.folder])
            else:
                parts += [named[_name(path, dataset_folder)] for path in folder.files]
        first = self.markers[0]
        return DayRecord(
            dataset=self.dataset,
            environment=first.environment,
            date=self.date,
            rows=sum(part.rows for part in parts),
            schema_version=max(marker.schema_version for marker in self.markers),
            replaces={marker.file_name: marker.content_hash for marker in self.markers},
            parts=tuple(parts),
        )


def read_day(root: Path, dataset: str, date: str) -> Day:
    """Raises ValueError when the records of the date contradict each other."""
    dataset_folder = windows.dataset_dir(root, dataset)
    record = windows.read_day_record(root, dataset, date)
    markers = windows.read_date(root, dataset, date)
    by_folder: dict[str, list[tuple[WindowPart, bool]]] = {}
    for marker in markers:
        is_replaced = record is not None and marker.file_name in record.replaces
        for part in sorted(marker.parts, key=lambda p: p.name):
            by_folder.setdefault(part.folder, []).append((part, is_replaced))
    standing: dict[str, list[WindowPart]] = {}
    for part in record.parts if record else ():
        standing.setdefault(folder_of(part.name), []).append(part)
    folders = [
        FolderDay(
            folder,
            tuple(part for part, _ in parts),
            tuple(_slices(dataset_folder, parts, standing.get(folder, []))),
        )
        for folder, parts in sorted(by_folder.items())
    ]
    return Day(dataset, date, tuple(markers), record, tuple(folders))


def folder_of(name: str) -> str:
    """``../../archive/bronze/orders/month=2025-11/client_id=7/date=…/part-….parquet`` → ``client_id=7/date=…``."""
    return "/".join(f for f in name.split("/")[:-1] if "=" in f and not f.startswith("month="))


def _slices(
    dataset_folder: Path, parts: Iterable[tuple[WindowPart, bool]], standing: list[WindowPart]
) -> Iterable[Slice]:
    names = {part.name for part in standing}
    merged = [part for part in standing if part.name not in {p.name for p, _ in parts}]
    if len(merged) > 1:
        raise ValueError(f"{DAY_RECORD} named {len(merged)} merged parts of {merged[0].folder}, expected one")
    position = 0
    for part, is_replaced in parts:
        if not is_replaced or part.name in names:
            yield Slice(dataset_folder / part.name, 0, part.rows)
        elif merged:
            yield Slice(_path(dataset_folder, merged[0].name), position, part.rows)
            position += part.rows
        else:
            raise ValueError(f"{DAY_RECORD} replaced {part.name} and named nothing in its place; restore it")


def merge_folder(day: Day, folder: FolderDay, stage: Path, root: Path) -> tuple[Path, WindowPart]:
    """Write the folder's rows in canonical order to a file in ``stage``; returns it and the part it is to become.

    Raises MergeError when a landed part isn't what its marker says.
    """
    dataset_folder = windows.dataset_dir(root, day.dataset)
    staged = stage / f"{name_of(p.name for p in folder.parts)}.parquet"
    made = merge.concat(folder.slices, folder.as_parts(dataset_folder), staged, LINEAGE)
    name = f"{folder.folder}/part-{staged.stem}{MERGED_SUFFIX}"
    return staged, WindowPart(name, made.rows, made.bytes, made.sha256, made.content_digest)


def write_record(root: Path, record: DayRecord) -> None:
    """From now on readers see the parts that it names."""
    folder = windows.metadata_dir(root, record.dataset, record.date)
    atomic.make_dirs(folder)
    atomic.write_json(folder / DAY_RECORD, record.record())


def mark_archived(root: Path, day: Day) -> None:
    """Mark every marker of a date whose parts all stand in the archive; the day record says where."""
    folder = windows.metadata_dir(root, day.dataset, day.date)
    for marker in day.markers:
        if marker.state != "archived":
            atomic.write_json(folder / marker.file_name, replace(marker, state="archived").record())


def is_in_archive(name: str) -> bool:
    return name.startswith("../")


def _path(dataset_folder: Path, name: str) -> Path:
    return Path(os.path.normpath(dataset_folder / name))


def _name(path: Path, dataset_folder: Path) -> str:
    return Path(os.path.relpath(path, dataset_folder)).as_posix()
