"""Sealing of hour windows: from then on they are immutable, and what comes later is a supplement.

Source: spec/execution.md 3.1.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ingest.environment import read_environment
from ingest.window_markers import write_marker
from ingest.window_parts import Summarizer
from ingest.window_schema import WINDOW_SCHEMAS
from lake import atomic
from lake.window_checkpoint import closed_dates, write_closed
from lake.window_readme import write_readme
from lake.windows import (
    HOUR,
    Marker,
    dataset_lock,
    format_window,
    landed_dates,
    metadata_dir,
    parse_time,
    read_date,
    remove_temporaries,
)

log = logging.getLogger(__name__)

SEAL_AFTER = timedelta(hours=24)


@dataclass(frozen=True)
class SealReport:
    """``sealed`` windows were provisional, ``empty`` ones had no marker and are sealed without rows."""

    dataset: str
    through: str
    sealed: int
    empty: int


def seal_through(root: Path, dataset: str, through: datetime) -> SealReport:
    """Seal every window of a dataset that ends at or before ``through``.

    An hour without a marker, between the dataset's first window and ``through``, is sealed without rows: whoever
    seals says that all of it has come. A dataset without any window is left alone. Raises `lake.locks.LockTimeout`.
    """
    with dataset_lock(root, dataset):
        return _seal(root, dataset, through, fill=True)


def seal_aged(root: Path, dataset: str) -> SealReport:
    """Seal the windows that ended 24 h or more before the end of the dataset's newest one."""
    with dataset_lock(root, dataset):
        dates = landed_dates(root, dataset)
        if not dates:
            return SealReport(dataset, "", 0, 0)
        newest = max(parse_time(marker.window_end) for marker in read_date(root, dataset, dates[-1]))
        return _seal(root, dataset, newest - SEAL_AFTER, fill=False)


def _seal(root: Path, dataset: str, through: datetime, *, fill: bool) -> SealReport:
    through = through.astimezone(UTC)
    dates = [date for date in landed_dates(root, dataset) if date <= f"{through:%Y-%m-%d}"]
    closed = closed_dates(root, dataset) & set(dates)
    markers = {}
    for date in dates:
        if fill or date not in closed:
            markers |= {m.window_start: m for m in read_date(root, dataset, date) if not m.number}
            remove_temporaries(root, dataset, date)
    due = [m for m in markers.values() if m.state == "provisional" and parse_time(m.window_end) <= through]
    changed = [dataclasses.replace(marker, state="sealed") for marker in due]
    empty = _missing(root, dataset, markers, through) if fill and markers else []
    for date in sorted({marker.date for marker in [*changed, *empty]}):
        metadata = metadata_dir(root, dataset, date)
        atomic.make_dirs(metadata)
        for marker in [*changed, *empty]:
            if marker.date == date:
                write_marker(metadata, marker)
        atomic.fsync_dir(metadata)
        write_readme(root, dataset, date)
    still_open = {m.date for m in markers.values() if m.state == "provisional" and m not in due}
    # The last date may yet get hours that are still to come.
    write_closed(root, dataset, (closed_dates(root, dataset) | set(dates[:-1])) - still_open)
    log.info("sealed dataset=%s through=%s windows=%d empty=%d", dataset, through, len(changed), len(empty))
    return SealReport(dataset, format_window(through), len(changed), len(empty))


def _missing(root: Path, dataset: str, markers: dict[str, Marker], through: datetime) -> list[Marker]:
    schema = WINDOW_SCHEMAS[dataset]
    nothing = Summarizer(schema).summary()
    made, start = [], min(parse_time(name) for name in markers)
    while start + HOUR <= through:
        if format_window(start) not in markers:
            made.append(
                Marker(
                    dataset=dataset,
                    environment=read_environment(root) or "",
                    window_start=format_window(start),
                    window_end=format_window(start + HOUR),
                    state="sealed",
                    rows=0,
                    min_occurred_at=None,
                    max_occurred_at=None,
                    schema_version=schema.version,
                    incomplete=False,
                    reject_rows=0,
                    content_hash=nothing.content_hash,
                    parts=(),
                )
            )
        start += HOUR
    return made
