"""Publishing of a load: its windows in order, one date at a time. Source: spec/execution.md 3.1."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ingest.window_day import Day
from ingest.window_hours import (
    MAX_GAP_HOURS,  # noqa: F401 - the readers of a source take it from here
    NO_WINDOW,
    date_of,
    hour_of,
    inside,
    pieces,
    wanted_windows,
)
from ingest.window_rejects import DateRejects, RejectQueue
from ingest.window_report import LoadReport
from ingest.window_runs import SortedRuns
from ingest.window_schema import WindowSchema
from ingest.window_spool import Spool


@dataclass
class Publisher:
    """One ``publish`` of a load; ``rows`` and ``rejects`` are what it took, ``files`` their sources by number.

    ``counts`` are rows by (window, file number), ``first_windows`` the window of each file's first row.
    """

    root: Path
    schema: WindowSchema
    environment: str
    source_kind: str
    stage: Path
    rows: SortedRuns
    counts: Counter[tuple[int, int]]
    first_windows: dict[int, int]
    rejects: Spool
    files: Sequence[str]
    discarded: set[int]
    whole_files: bool
    loaded_at: datetime

    def publish(
        self,
        *,
        start: datetime | None,
        end: datetime | None,
        replace: bool,
        sealed: bool,
        sealed_through: datetime | None = None,
    ) -> LoadReport:
        report = LoadReport(self.schema.name)
        seal_before = math.inf if sealed else -math.inf if sealed_through is None else hour_of(sealed_through)
        low, high = hour_of(start), hour_of(end)
        counts = self._in_bounds(low, high, report)
        rejects = RejectQueue(self.rejects, self.stage, self.discarded, self.first_windows, low, high)
        report.rejected, report.filtered = rejects.rejected, report.filtered + rejects.filtered
        wanted = wanted_windows(sorted(counts), rejects.windows, low, high)
        if NO_WINDOW in rejects.windows and NO_WINDOW not in wanted:
            timeless = DateRejects(
                self.root, self.schema.name, self.environment, date_of(NO_WINDOW), self.files
            )
            timeless.keep_timeless(self.stage / "timeless", rejects.of(NO_WINDOW))
        stream = self._sorted_windows(low, high)
        upcoming = next(stream, None)
        for date, windows in itertools.groupby(wanted, key=date_of):
            day = Day(self, date, replace, seal_before, report)
            for window in windows:
                rows: Iterator[pa.Table] = iter(())
                if upcoming is not None and upcoming[0] == window:
                    rows = upcoming[1]
                day.window(window, rows, counts.get(window, {}), rejects.of(window))
                if upcoming is not None and upcoming[0] == window:
                    for _ in rows:  # a window that took none of its rows
                        pass
                    upcoming = next(stream, None)
            day.commit()
        return report

    def _in_bounds(self, low: int | None, high: int | None, report: LoadReport) -> dict[int, dict[int, int]]:
        """Rows by window and file number; those out of bounds only go to the report."""
        counts: dict[int, dict[int, int]] = defaultdict(dict)
        for (window, file_no), rows in self.counts.items():
            if file_no in self.discarded:
                continue
            if inside(window, low, high):
                counts[window][file_no] = rows
                report.rows += rows
            else:
                report.filtered += rows
        return counts

    def _sorted_windows(self, low: int | None, high: int | None) -> Iterator[tuple[int, Iterator[pa.Table]]]:
        """Each window with its rows in sort order, in one or more tables."""
        gone = pa.array(sorted(self.discarded), pa.int32())

        def mask(batch: pa.RecordBatch) -> pa.Array | None:
            keep = []
            if low is not None:
                keep.append(pc.greater_equal(batch.column("_window"), low))
            if high is not None:
                keep.append(pc.less(batch.column("_window"), high))
            if len(gone):
                keep.append(pc.invert(pc.is_in(batch.column("_file_no"), gone)))
            return functools.reduce(pc.and_, keep) if keep else None

        runs = itertools.groupby(pieces(self.rows.tables(mask)), key=lambda piece: piece[0])
        for window, tables in runs:
            yield window, (table for _, table in tables)
