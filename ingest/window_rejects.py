"""Lines that can't land, on their way to one file for each source file and window.

Source: spec/execution.md 3.1; architecture D6.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.rejects import RejectWriter
from ingest.window_hours import NO_WINDOW, inside
from ingest.window_runs import SortedRuns
from ingest.window_spool import Spool
from lake import atomic
from lake.paths import bronze_dir

REJECTS = pa.schema(
    [
        # hours since the epoch, null where the line says nothing of its time
        pa.field("_window", pa.int64()),
        pa.field("_file_no", pa.int32(), nullable=False),
        pa.field("line_no", pa.int64(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.string(), nullable=False),
    ]
)

Line = tuple[int, str, str, str]  # number, rule, reason, raw


class RejectQueue:
    """The rejects of a load in the order of their windows; ``windows`` are those that have some.

    A line without a time goes with the row before it, else with the first of its file. ``rejected`` and ``filtered``
    count lines inside and outside of the bounds.
    """

    def __init__(
        self,
        spool: Spool,
        stage: Path,
        discarded: Set[int],
        first_windows: Mapping[int, int],
        low: int | None,
        high: int | None,
    ) -> None:
        self.rejected = self.filtered = 0
        self.windows: set[int] = set()
        self._runs = SortedRuns(stage, "rejects-sorted", REJECTS, ("_window", "_file_no", "line_no"))
        for batch in spool.reader():
            self._add(batch, discarded, first_windows, low, high)
        self._files = itertools.groupby(self._lines(), key=lambda line: line[:2])
        self._next = next(self._files, None)

    def of(self, window: int) -> Iterator[tuple[int, Iterator[Line]]]:
        """Lines of a window by file number; windows and files are to be asked for and read in order."""
        while self._next is not None and self._next[0][0] == window:
            (_, file_no), lines = self._next
            yield file_no, (line[2:] for line in lines)
            self._next = next(self._files, None)

    def _add(
        self,
        batch: pa.RecordBatch,
        discarded: Set[int],
        first_windows: Mapping[int, int],
        low: int | None,
        high: int | None,
    ) -> None:
        windows, keep = [], []
        for told, file_no in zip(
            batch.column("_window").to_pylist(), batch.column("_file_no").to_pylist(), strict=True
        ):
            timeless = first_windows.get(file_no, NO_WINDOW if low is None else low)
            window = timeless if told is None else told
            kept = file_no not in discarded
            if kept and (inside(window, low, high) or window == NO_WINDOW):
                self.rejected += 1
                self.windows.add(window)
            elif kept:
                self.filtered, kept = self.filtered + 1, False
            windows.append(window)
            keep.append(kept)
        table = pa.Table.from_batches([batch]).set_column(0, REJECTS.field(0), pa.array(windows, pa.int64()))
        self._runs.add(table.filter(pa.array(keep, pa.bool_())))

    def _lines(self) -> Iterator[tuple]:
        for table in self._runs.tables():
            for batch in table.to_batches(max_chunksize=1024):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


@dataclass(frozen=True)
class StagedRejects:
    """A finished file in the stage, where it will stand, and how many lines it holds."""

    staged: Path
    final: Path
    rows: int


class DateRejects:
    """The files of rejects of one dataset and date: a run again gives each the same name."""

    def __init__(self, root: Path, dataset: str, environment: str, date: str, files: Sequence[str]) -> None:
        self.dataset, self.environment, self.date, self.files = dataset, environment, date, files
        self.folder = bronze_dir(root) / "_rejects" / f"dataset={dataset}" / f"date={date}"
        self.stale: list[Path] = []

    def stage(
        self, stage: Path, hour: int, rejects: Iterator[tuple[int, Iterator[Line]]]
    ) -> list[StagedRejects]:
        """One file for the lines of one source file that belong to one window."""
        made = []
        for file_no, lines in rejects:
            source_file = self.files[file_no]
            final = self._path(hour, source_file)
            writer = RejectWriter(
                stage,
                self.dataset,
                final.stem.rpartition("-")[2],
                source_file=source_file,
                environment=self.environment,
            )
            for line in lines:
                writer.add(*line, date=self.date)
            for done in writer.close():
                staged = done.staged.rename(stage / f"{final.name}.staged")
                made.append(StagedRejects(staged, final, done.rows))
        return made

    def rows(self, hour: int, staged: list[StagedRejects]) -> int:
        """Rejects of the window over all source files: those of this load, and those of earlier ones on disk."""
        gone = {r.final for r in staged} | set(self.stale)
        before = [p for p in self.folder.glob(f"part-{hour:02d}-*.parquet") if p not in gone]
        return sum(r.rows for r in staged) + sum(pq.read_metadata(path).num_rows for path in before)

    def find_stale(self, hour: int, staged: list[StagedRejects]) -> None:
        """Note the files of this load's sources that it has no lines for any more."""
        now = {r.final for r in staged}
        for source_file in self.files:
            path = self._path(hour, source_file)
            if path not in now and path.is_file():
                self.stale.append(path)

    def remove_stale(self) -> None:
        for path in self.stale:
            path.unlink(missing_ok=True)

    def keep_timeless(self, stage: Path, rejects: Iterator[tuple[int, Iterator[Line]]]) -> None:
        """Keep the lines of files without any row: they belong to no window, so no marker speaks of them."""
        stage.mkdir()
        atomic.make_dirs(self.folder)
        for one in self.stage(stage, 0, rejects):
            os.replace(one.staged, one.final)
        atomic.fsync_dir(self.folder)

    def _path(self, hour: int, source_file: str) -> Path:
        text = "\0".join([self.dataset, self.date, f"{hour:02d}", source_file])
        return self.folder / f"part-{hour:02d}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"
