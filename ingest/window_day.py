"""What becomes of each window of a date: a new marker, an addition, a supplement, a conflict, or nothing.

Parts and rejects of the date are built in the stage, moved into place, and then its markers are written.
Source: spec/execution.md 3.1.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.row_hash import packed_hashes
from ingest.window_hours import instant_text, start_text
from ingest.window_markers import write_marker
from ingest.window_parts import Lineage, StagedPart, Summary, WindowWriter, source_kind, summarize
from ingest.window_rejects import DateRejects, Line, StagedRejects
from ingest.window_report import LoadReport
from ingest.window_schema import TIME
from lake import atomic
from lake.window_checkpoint import reopen
from lake.window_readme import write_readme
from lake.windows import (
    HOUR,
    Marker,
    WindowPart,
    dataset_dir,
    date_parts,
    metadata_dir,
    read_date,
    read_day_record,
)

if TYPE_CHECKING:
    from ingest.window_publish import Publisher

log = logging.getLogger(__name__)

BATCH_ROWS = 32_768
_PART_NUMBER = re.compile(r"part-(\d{4,})\.parquet$")


@dataclass
class _Change:
    """A marker to write once its files stand; ``obsolete`` parts lose their last name by it."""

    marker: Marker
    moves: list[tuple[Path, Path]]
    obsolete: list[WindowPart]


class Day:
    """The windows of one date: planned one by one, committed together."""

    def __init__(
        self, load: Publisher, date: str, replace: bool, seal_before: float, report: LoadReport
    ) -> None:
        self.load, self.schema, self.date = load, load.schema, date
        self.replace, self.seal_before, self.report = replace, seal_before, report
        self.folder = dataset_dir(load.root, load.schema.name)
        self.markers: dict[int, list[Marker]] = defaultdict(list)
        for marker in read_date(load.root, load.schema.name, date):
            self.markers[marker.hour].append(marker)
        self.changes: list[_Change] = []
        self.rejects = DateRejects(load.root, load.schema.name, load.environment, date, load.files)
        self._numbers: dict[str, int] | None = None

    # -- one window ----------------------------------------------------------------------------------------------

    def window(
        self,
        window: int,
        rows: Iterator[pa.Table],
        counts: dict[int, int],
        rejects: Iterator[tuple[int, Iterator[Line]]],
    ) -> None:
        """Build what the window gets in the stage. ``counts`` are its rows by file number."""
        hour = window % 24
        existing = self.markers[hour]
        base = existing[0] if existing else None
        stage = self.load.stage / f"{window}"
        stage.mkdir()
        lineage = Lineage(
            loaded_at=self.load.loaded_at,
            environment=self.load.environment,
            ingest_batch_id=self._batch_id(window, counts),
            source_kind=self.load.source_kind,
            files=self.load.files,
        )
        writer = WindowWriter(self.schema, stage, self.date, lineage)
        closed = base is not None and base.state != "provisional"
        filtered, missing = self._unseen(rows, existing, closed)
        try:
            for table in filtered:
                writer.add(table)
            staged = writer.close()
        except BaseException:
            writer.abort()
            raise
        staged_rejects = self.rejects.stage(stage, hour, rejects)
        if self.replace:
            self.rejects.find_stale(hour, staged_rejects)
        if closed:
            change = self._supplement(window, existing, staged, writer, staged_rejects, missing)
        else:
            change = self._base(window, base, staged, writer, staged_rejects)
        self.report.empty_windows += not counts
        if change is not None:
            self.changes.append(change)
            self.report.windows += 1
        else:
            self.report.unchanged += 1
        rejected = change.marker.reject_rows if change else sum(m.reject_rows for m in existing)
        if rejected:
            self.report.incomplete.append(start_text(window))

    def _unseen(
        self, rows: Iterator[pa.Table], existing: list[Marker], closed: bool
    ) -> tuple[Iterator[pa.Table], list[int]]:
        """The rows that may be new to the window, and a cell that will hold how many landed rows weren't met."""
        missing = [0]
        parts = [part for marker in existing for part in marker.parts]
        if not parts or existing[0].state == "archived":
            return rows, missing
        if self.replace and (closed or self.schema.versioned):
            return self._not_landed(rows, self._landed_hashes(existing), missing), missing
        if self.load.whole_files and not self.replace:
            held = self._landed_files(existing)
            again = pa.array([i for i, name in enumerate(self.load.files) if name in held], pa.int32())
            if len(again):
                return (t.filter(pc.invert(pc.is_in(t.column("_file_no"), again))) for t in rows), missing
        return rows, missing

    def _not_landed(
        self, rows: Iterator[pa.Table], landed: np.ndarray, missing: list[int]
    ) -> Iterator[pa.Table]:
        met = np.zeros(len(landed), dtype=bool)
        for table in rows:
            hashes = packed_hashes(table.column("row_hash"))
            place = np.minimum(np.searchsorted(landed, hashes), max(len(landed) - 1, 0))
            known = landed[place] == hashes if len(landed) else np.zeros(len(hashes), dtype=bool)
            met[place[known]] = True
            yield table.filter(pa.array(~known))
        missing[0] = len(landed) - int(met.sum())

    def _landed_files(self, existing: list[Marker]) -> set[str]:
        """Source files of the window's landed rows."""
        found: set[str] = set()
        for column in self._landed("source_file", existing):
            found.update(column.unique().to_pylist())
        return found

    def _landed_hashes(self, existing: list[Marker]) -> np.ndarray:
        """(n,) S32: the distinct hashes of the window's landed rows, sorted."""
        found = [packed_hashes(column) for column in self._landed("row_hash", existing)]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype="S32")

    def _landed(self, column: str, existing: list[Marker]) -> Iterator[pa.Array]:
        """A column of the window's landed rows in batches, wherever a compaction has put them."""
        paths = [self.folder / part.name for marker in existing for part in marker.parts]
        if any(not path.is_file() for path in paths):
            day = read_day_record(self.load.root, self.schema.name, self.date)
            merged = () if day is None else day.parts
            paths = [path for path in paths if path.is_file()] + [self.folder / part.name for part in merged]
        time = self.schema.window_column
        start = pa.scalar(existing[0].start, TIME)
        end = pa.scalar(existing[0].start + HOUR, TIME)
        for path in paths:
            with pq.ParquetFile(path, read_dictionary=["source_file"]) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=[time, column], use_threads=False):
                    at = batch.column(time)
                    inside = pc.and_(pc.greater_equal(at, start), pc.less(at, end))
                    yield batch.column(column).filter(inside)

    def _base(
        self,
        window: int,
        base: Marker | None,
        staged: list[StagedPart],
        writer: WindowWriter,
        rejects: list[StagedRejects],
    ) -> _Change | None:
        """The window's own marker, new or in place of a provisional one."""
        landed = list(base.parts) if base else []
        kept, spare = landed, landed
        replace = self.replace and not self.schema.versioned
        if replace:
            spare = [part for part in landed if source_kind(self.folder / part.name) == self.load.source_kind]
            kept = [part for part in landed if part not in spare]
        parts, moves, dropped = [*kept], [], 0
        paths = [(self.folder / part.name, part.key) for part in kept]
        for part in staged:
            same = next(
                (p for p in spare if (p.folder, p.content_hash) == (part.folder, part.content_hash)), None
            )
            if same is not None:
                dropped += 1
                if replace and same not in parts:
                    parts.append(same)
                    paths.append((self.folder / same.name, same.key))
                continue
            named = part.named(self._next_number(part.folder))
            parts.append(named)
            moves.append((part.staged, self.folder / named.name))
            paths.append((part.staged, named.key))
        parts.sort(key=lambda part: part.name)
        state = "sealed" if window < self.seal_before else "provisional"
        reject_rows = self.rejects.rows(window % 24, rejects)
        same_rows = base is not None and parts == list(base.parts)
        if same_rows and (base.state, base.reject_rows) == (state, reject_rows):
            return None
        if same_rows:
            summary = _summary_of(base)
        elif kept or (dropped and not replace):
            summary = summarize(paths, self.schema, self.load.stage / f"{window}")
        else:
            summary = writer.summarizer.summary()
        marker = self._marker(window, summary, parts, state, reject_rows)
        self.report.new_rows += sum(
            part.rows for part in staged if (part.staged in {src for src, _ in moves})
        )
        moves += [(r.staged, r.final) for r in rejects]
        return _Change(marker, moves, [part for part in landed if part not in parts])

    def _supplement(
        self,
        window: int,
        existing: list[Marker],
        staged: list[StagedPart],
        writer: WindowWriter,
        rejects: list[StagedRejects],
        missing: list[int],
    ) -> _Change | None:
        """A marker of its own for late rows, or for the lines of late files that could not land."""
        landed = {(part.folder, part.content_hash) for marker in existing for part in marker.parts}
        whole = {marker.content_hash for marker in existing}
        new = [part for part in staged if (part.folder, part.content_hash) not in landed]
        if existing[0].state == "archived":
            if new and writer.summarizer.summary().content_hash not in whole:
                self._conflict(window, "stands in the archive and differs; restore it from there first")
            return None
        if missing[0] and not self.schema.versioned:
            self._conflict(
                window, f"is sealed and the source lacks {missing[0]:,} of its rows; find out who took them"
            )
            return None
        # By count, not by which files are new: a file that a killed load left has no marker that speaks of it.
        late_rejects = self.rejects.rows(window % 24, rejects) - sum(m.reject_rows for m in existing)
        if not new and late_rejects <= 0:
            return None
        if len(new) == len(staged):
            summary = writer.summarizer.summary()
        else:
            paths = [(part.staged, part.named(1).key) for part in new]
            summary = summarize(paths, self.schema, self.load.stage / f"{window}")
        parts, moves = [], [(r.staged, r.final) for r in rejects]
        for part in new:
            named = part.named(self._next_number(part.folder))
            parts.append(named)
            moves.append((part.staged, self.folder / named.name))
        number = existing[-1].number + 1
        marker = self._marker(window, summary, parts, "sealed", max(late_rejects, 0), number)
        self.report.new_rows += summary.rows
        self.report.late_rows += summary.rows
        log.warning(
            "late_rows dataset=%s window=%s rows=%d", self.schema.name, start_text(window), summary.rows
        )
        return _Change(marker, moves, [])

    def _conflict(self, window: int, why: str) -> None:
        log.error("conflict dataset=%s window=%s: it %s", self.schema.name, start_text(window), why)
        self.report.conflicts.append(f"{start_text(window)} {why}")

    def _marker(
        self,
        window: int,
        summary: Summary,
        parts: list[WindowPart],
        state: str,
        reject_rows: int,
        number: int = 0,
    ) -> Marker:
        if summary.rows != sum(part.rows for part in parts):
            raise RuntimeError(
                f"parts of {start_text(window)} held other rows than its summary; report this as a fault"
            )
        return Marker(
            dataset=self.schema.name,
            environment=self.load.environment,
            window_start=start_text(window),
            window_end=start_text(window + 1),
            state=state,
            rows=summary.rows,
            min_occurred_at=instant_text(summary.low),
            max_occurred_at=instant_text(summary.high),
            schema_version=self.schema.version,
            incomplete=reject_rows > 0,
            reject_rows=reject_rows,
            content_hash=summary.content_hash,
            parts=tuple(parts),
            number=number,
        )

    def _batch_id(self, window: int, counts: dict[int, int]) -> str:
        inputs = sorted(self.load.files[file_no] for file_no in counts)
        text = "\0".join(
            [self.schema.name, self.load.environment, start_text(window), self.load.source_kind, *inputs]
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def _next_number(self, folder: str) -> int:
        if self._numbers is None:
            self._numbers = defaultdict(int)
            names = [
                p.relative_to(self.folder).as_posix()
                for p in date_parts(self.load.root, self.schema.name, self.date)
            ]
            names += [part.name for markers in self.markers.values() for m in markers for part in m.parts]
            for name in names:
                if match := _PART_NUMBER.search(name):
                    parent = name.rpartition("/")[0]
                    self._numbers[parent] = max(self._numbers[parent], int(match[1]))
        self._numbers[folder] += 1
        return self._numbers[folder]

    # -- the date ------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Files into place, markers after them; at any instant each window is what it was or what it shall be."""
        load = self.load
        plan = load.stage / f"plan-{self.date}.json"
        if self.changes:
            atomic.write_json(plan, {"dataset": self.schema.name, "date": self.date})
            reopen(load.root, self.schema.name, self.date)
            folders = set()
            for src, dst in (move for change in self.changes for move in change.moves):
                if dst.parent not in folders:
                    atomic.make_dirs(dst.parent)
                    folders.add(dst.parent)
                os.replace(src, dst)
            for folder in folders:
                atomic.fsync_dir(folder)
            metadata = metadata_dir(load.root, self.schema.name, self.date)
            atomic.make_dirs(metadata)
            for change in self.changes:
                write_marker(metadata, change.marker)
                self.report.bytes_out += sum(p.bytes for p in change.marker.parts if not self._had(change, p))
            atomic.fsync_dir(metadata)
        self.rejects.remove_stale()
        write_readme(load.root, self.schema.name, self.date)
        if not any(change.obsolete for change in self.changes):
            plan.unlink(missing_ok=True)

    def _had(self, change: _Change, part: WindowPart) -> bool:
        return any(part in marker.parts for marker in self.markers[change.marker.hour])


def _summary_of(marker: Marker) -> Summary:
    low, high = (
        None if t is None else datetime.fromisoformat(t)
        for t in (marker.min_occurred_at, marker.max_occurred_at)
    )
    return Summary(marker.rows, low, high, marker.content_hash)
