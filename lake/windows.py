"""Which parts of execution bronze exist for a reader: those that the marker of an hour window names.

A window is one UTC hour of one dataset over all its partition keys. Its marker ``commit-HH.json``, and those of
later supplements, ``commit-HH-sNN.json``, are written last. A day record, ``commit-day.json``, lists merged parts
that stand in for those of the markers it names; the markers stay, and with them the hashes that build keys see.
A marker whose rows were moved to the archive is marked ``archived``; the day record names the copies.
Source: spec/execution.md 3.1, 8.1; architecture D6.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from lake import atomic
from lake.locks import Locks
from lake.paths import bronze_dir, stage_dir

HOUR = timedelta(hours=1)
STATES = ("provisional", "sealed", "archived")
DAY_RECORD = "commit-day.json"
README = "README.md"

# Partition keys beside the date, in path order, with the SQL type that a reader gives them.
PARTITION_KEYS: dict[str, dict[str, str]] = {
    "events": {},
    "orders": {"client_id": "bigint"},
    "operations": {"client_id": "bigint"},
    "balance_snapshots": {"client_id": "bigint"},
    "trades": {},
    "agg_trades": {"symbol": "varchar"},
    "klines": {"bar_interval": "varchar", "symbol": "varchar"},
}


@dataclass(frozen=True)
class WindowPart:
    """One Parquet file of a window; ``name`` is its path below the dataset's folder."""

    name: str
    rows: int
    bytes: int
    sha256: str
    content_hash: str

    @functools.cached_property
    def key(self) -> dict[str, str]:
        """Values of the partition keys beside the date, as the path has them, decoded."""
        folders = (folder.partition("=") for folder in self.name.split("/")[:-1])
        # a copy in the archive stands in a month, and above the dataset's folder
        return {
            name: unquote(value)
            for name, is_key, value in folders
            if is_key and name not in ("date", "month")
        }

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0]

    def record(self) -> dict:
        return {
            "name": self.name,
            "rows": self.rows,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "content_hash": self.content_hash,
        }


@dataclass(frozen=True)
class Marker:
    """The commit record of one window, or of a supplement to it; ``number`` is 0 for the window itself.

    Times are as in the record: windows to the second, ``*_occurred_at`` to the microsecond, None without rows.
    No host, run or clock: the same rows give the same record.
    """

    dataset: str
    environment: str
    window_start: str
    window_end: str
    state: str
    rows: int
    min_occurred_at: str | None
    max_occurred_at: str | None
    schema_version: int
    incomplete: bool
    reject_rows: int
    content_hash: str
    parts: tuple[WindowPart, ...]
    number: int = 0

    @property
    def start(self) -> datetime:
        return parse_time(self.window_start)

    @property
    def date(self) -> str:
        return self.window_start[:10]

    @property
    def hour(self) -> int:
        return int(self.window_start[11:13])

    @property
    def file_name(self) -> str:
        return marker_name(self.hour, self.number)

    def record(self) -> dict:
        """The keys in their order."""
        return {
            "dataset": self.dataset,
            "environment": self.environment,
            "window_start": self.window_start,
            "window_end": self.window_end,
            "state": self.state,
            "rows": self.rows,
            "min_occurred_at": self.min_occurred_at,
            "max_occurred_at": self.max_occurred_at,
            "schema_version": self.schema_version,
            "incomplete": self.incomplete,
            "reject_rows": self.reject_rows,
            "content_hash": self.content_hash,
            "parts": [part.record() for part in self.parts],
        }


@dataclass(frozen=True)
class DayRecord:
    """Merged parts of one date; ``replaces`` gives the content hash of each marker, by file name, it stands for."""

    dataset: str
    environment: str
    date: str
    rows: int
    schema_version: int
    replaces: dict[str, str]
    parts: tuple[WindowPart, ...]

    def record(self) -> dict:
        return {
            "dataset": self.dataset,
            "environment": self.environment,
            "date": self.date,
            "rows": self.rows,
            "schema_version": self.schema_version,
            "replaces": dict(sorted(self.replaces.items())),
            "parts": [part.record() for part in self.parts],
        }


@dataclass(frozen=True)
class VisiblePart:
    """One readable file: where it is, and the date and state of what it holds."""

    path: Path
    part: WindowPart
    date: str
    provisional: bool


def dataset_dir(root: Path, dataset: str) -> Path:
    return bronze_dir(root) / dataset


def metadata_dir(root: Path, dataset: str, date: str) -> Path:
    """Where the markers of a date stand: in the date, or, with keys beside the date, at the dataset's root."""
    folder = dataset_dir(root, dataset)
    return (
        folder / "_metadata" / f"date={date}"
        if PARTITION_KEYS[dataset]
        else folder / f"date={date}" / "_metadata"
    )


def marker_name(hour: int, number: int = 0) -> str:
    return f"commit-{hour:02d}.json" if number == 0 else f"commit-{hour:02d}-s{number:02d}.json"


def format_window(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def landed_dates(root: Path, dataset: str) -> list[str]:
    """Dates that hold a marker, in order."""
    folder = dataset_dir(root, dataset)
    pattern = "_metadata/date=*" if PARTITION_KEYS[dataset] else "date=*/_metadata"
    dates = {
        next(p for p in path.parts[::-1] if p.startswith("date="))[5:]
        for path in folder.glob(pattern)
        if next(path.glob("commit-*.json"), None) is not None
    }
    return sorted(dates)


def read_markers(root: Path, dataset: str, dates: list[str] | None = None) -> list[Marker]:
    """Markers and supplements of ``dates`` (default: all), in order of (window, number).

    Raises ValueError naming the file when a marker isn't what was written.
    """
    return [marker for date in landed_dates(root, dataset) if dates is None or date in set(dates)
            for marker in read_date(root, dataset, date)]  # fmt: skip


def read_date(root: Path, dataset: str, date: str) -> list[Marker]:
    folder = metadata_dir(root, dataset, date)
    markers = [read_marker(path) for path in folder.glob("commit-[0-9][0-9]*.json")]
    return sorted(markers, key=lambda marker: (marker.window_start, marker.number))


def read_marker(path: Path) -> Marker:
    record = atomic.read_json(path)
    number = path.stem.partition("-s")[2]
    try:
        parts = tuple(WindowPart(**part) for part in record.pop("parts"))
        return Marker(**record, parts=parts, number=int(number or 0))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} was no marker ({error}), expected what was written; restore it from a copy"
        ) from None


def read_day_record(root: Path, dataset: str, date: str) -> DayRecord | None:
    path = metadata_dir(root, dataset, date) / DAY_RECORD
    if not path.is_file():
        return None
    record = atomic.read_json(path)
    try:
        return DayRecord(**{**record, "parts": tuple(WindowPart(**part) for part in record["parts"])})
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} was no day record ({error}), expected what was written; restore it"
        ) from None


def visible_parts(root: Path, dataset: str, dates: list[str] | None = None) -> list[VisiblePart]:
    """Every readable file of a dataset, in order of (date, window, name): merged ones where a day was compacted.

    Raises ValueError when a day record stands for another content than its marker names.
    """
    wanted = landed_dates(root, dataset) if dates is None else sorted(dates)
    return [part for date in wanted for part in _visible_of(root, dataset, date)]


def _visible_of(root: Path, dataset: str, date: str) -> Iterator[VisiblePart]:
    folder = dataset_dir(root, dataset)
    # The day record first: should one appear in between, the markers' own parts are still there.
    day = read_day_record(root, dataset, date)
    markers = read_date(root, dataset, date)
    replaced = {} if day is None else day.replaces
    standing = [marker for marker in markers if marker.file_name in replaced]
    for marker in standing:
        if replaced[marker.file_name] != marker.content_hash:
            raise ValueError(
                f"{DAY_RECORD} of {dataset} {date} stood for another content of {marker.file_name}, expected its "
                "own; delete the day record if the parts of the hours are still there, or restore both from a copy"
            )
    if standing and day is not None:
        for part in day.parts:
            yield VisiblePart(Path(os.path.normpath(folder / part.name)), part, date, False)
    for marker in markers:
        if marker.file_name not in replaced and marker.state != "archived":
            provisional = marker.state == "provisional"
            yield from (VisiblePart(folder / part.name, part, date, provisional) for part in marker.parts)


@contextlib.contextmanager
def dataset_lock(root: Path, dataset: str, *, timeout_s: float = 600) -> Iterator[None]:
    """Hold the one lock of whoever writes a dataset of windows: a load, a seal, a compaction, a retention.

    Who holds it may delete parts that no record names. Raises `lake.locks.LockTimeout`.
    """
    atomic.make_dirs(stage_dir(root))
    locks = Locks(stage_dir(root))
    locks.take(f"bronze/{dataset}", (), timeout_s)
    try:
        yield
    finally:
        locks.release()


def remove_orphans(root: Path, dataset: str, date: str) -> int:
    """Delete the parts of a date that no record names; returns how many. Call under the dataset's lock."""
    folder = dataset_dir(root, dataset)
    records = read_date(root, dataset, date)
    day = read_day_record(root, dataset, date)
    named = {part.name for record in [*records, *([day] if day else [])] for part in record.parts}
    removed = 0
    for path in date_parts(root, dataset, date):
        if path.relative_to(folder).as_posix() not in named:
            path.unlink()
            removed += 1
    remove_temporaries(root, dataset, date)
    return removed


def remove_temporaries(root: Path, dataset: str, date: str) -> None:
    """Delete what a killed process left beside the records of a date. Call under the dataset's lock."""
    for leftover in metadata_dir(root, dataset, date).glob("._tmp-*"):
        leftover.unlink(missing_ok=True)


def date_parts(root: Path, dataset: str, date: str) -> list[Path]:
    """Part files on disk of one date, named by a record or not."""
    pattern = "/".join([*(f"{key}=*" for key in PARTITION_KEYS[dataset]), f"date={date}", "part-*.parquet"])
    return sorted(dataset_dir(root, dataset).glob(pattern))
