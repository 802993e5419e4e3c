"""What becomes of each window of a load: a new marker, an addition, a supplement, a conflict, or nothing.

One date at a time: its parts and rejects are built in the stage, moved into place, and then its markers are written.
Source: spec/execution.md 3.1.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.rejects import RejectWriter
from ingest.window_hours import (
    MAX_GAP_HOURS,  # noqa: F401 - the readers of a source take it from here
    NO_WINDOW,
    date_of,
    hour_of,
    inside,
    instant_text,
    pieces,
    start_text,
    wanted_windows,
)
from ingest.window_parts import (
    Lineage,
    StagedPart,
    Summary,
    WindowWriter,
    sort_order,
    source_kind,
    summarize,
)
from ingest.window_schema import WindowSchema
from ingest.window_spool import BucketSort, Spool, query
from lake import atomic
from lake.paths import bronze_dir
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

log = logging.getLogger(__name__)

_PART_NUMBER = re.compile(r"part-(\d{4,})\.parquet$")


@dataclass
class LoadReport:
    """What a load did. ``rows`` were accepted in the bounds, ``new_rows`` of them are new to bronze.

    ``late_rows`` went to supplements of sealed windows. ``windows`` had something published, ``unchanged`` already
    held it all. ``incomplete`` and ``conflicts`` list window starts.
    """

    dataset: str
    rows: int = 0
    new_rows: int = 0
    late_rows: int = 0
    rejected: int = 0
    filtered: int = 0
    windows: int = 0
    unchanged: int = 0
    empty_windows: int = 0
    bytes_out: int = 0
    incomplete: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    by_rule: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 published, 2 published with incomplete windows, 3 conflict."""
        return 3 if self.conflicts else 2 if self.incomplete else 0


@dataclass
class _Change:
    """A marker to write once its files stand; ``obsolete`` parts lose their last name by it."""

    marker: Marker
    moves: list[tuple[Path, Path]]
    obsolete: list[WindowPart]


@dataclass(frozen=True)
class _StagedRejects:
    staged: Path
    final: Path
    rows: int


@dataclass
class Publisher:
    """One ``publish`` of a load; the spools hold its rows and rejects, ``files`` their sources by number."""

    root: Path
    schema: WindowSchema
    environment: str
    source_kind: str
    stage: Path
    connection: duckdb.DuckDBPyConnection
    rows: Spool
    minutes: Counter[int]
    row_bytes: float
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
        counts = self._count_rows(low, high, report)
        rejects = self._assign_rejects(low, high, report)
        wanted = wanted_windows(sorted(counts), rejects, low, high)
        stream = self._sorted_windows(low, high)
        upcoming = next(stream, None)
        for date, windows in itertools.groupby(wanted, key=date_of):
            day = _Day(self, date, replace, seal_before, report)
            for window in windows:
                rows: Iterator[pa.Table] = iter(())
                if upcoming is not None and upcoming[0] == window:
                    rows = upcoming[1]
                day.window(window, rows, counts.get(window, {}), rejects.get(window, {}))
                if upcoming is not None and upcoming[0] == window:
                    for _ in rows:  # a window that took none of its rows
                        pass
                    upcoming = next(stream, None)
            day.commit()
        if NO_WINDOW in rejects and NO_WINDOW not in wanted:
            day = _Day(self, date_of(NO_WINDOW), replace, seal_before, report)
            day.timeless_rejects(rejects[NO_WINDOW])
        return report

    def _kept(self) -> str:
        """SQL: rows of files that weren't discarded."""
        return (
            f"_file_no not in ({', '.join(map(str, sorted(self.discarded)))})" if self.discarded else "true"
        )

    def _count_rows(self, low: int | None, high: int | None, report: LoadReport) -> dict[int, dict[int, int]]:
        """Rows by window and file number; those out of bounds only go to the report."""
        sql = f"select _window, _file_no, count(*) as n from rows where {self._kept()} group by all order by all"
        counts: dict[int, dict[int, int]] = defaultdict(dict)
        for row in query(self.connection, sql, {"rows": self.rows}).read_all().to_pylist():
            if inside(row["_window"], low, high):
                counts[row["_window"]][row["_file_no"]] = row["n"]
                report.rows += row["n"]
            else:
                report.filtered += row["n"]
        return counts

    def _sorted_windows(self, low: int | None, high: int | None) -> Iterator[tuple[int, Iterator[pa.Table]]]:
        """Each window with its rows in sort order, in one or more tables."""
        order = ["_window", *sort_order(self.schema)]
        sort = BucketSort(
            self.rows, self.stage, self.schema.window_column, order, self.minutes, self.row_bytes
        )
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

        for window, runs in itertools.groupby(pieces(sort.tables(mask)), key=lambda piece: piece[0]):
            yield window, (table for _, table in runs)

    def _assign_rejects(
        self, low: int | None, high: int | None, report: LoadReport
    ) -> dict[int, dict[int, list[tuple]]]:
        """Staged rejects by window and file; a line without a time goes with the row before it, else the next."""
        if not self.rejects.rows:
            return {}
        found: dict[int, dict[int, list[tuple]]] = defaultdict(lambda: defaultdict(list))
        sql = f"select * from rejects where {self._kept()} order by _file_no, line_no"
        table = query(self.connection, sql, {"rejects": self.rejects}).read_all()
        for row in table.to_pylist():
            window = row["_window"]
            if window is None:
                window = self.first_windows.get(row["_file_no"], NO_WINDOW if low is None else low)
            if not inside(window, low, high) and window != NO_WINDOW:
                report.filtered += 1
                continue
            report.rejected += 1
            found[window][row["_file_no"]].append((row["line_no"], row["rule"], row["reason"], row["raw"]))
        return found


class _Day:
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
        self.reject_folder = (
            bronze_dir(load.root) / "_rejects" / f"dataset={load.schema.name}" / f"date={date}"
        )
        self.stale_rejects: list[Path] = []
        self._numbers: dict[str, int] | None = None

    # -- one window ----------------------------------------------------------------------------------------------

    def window(
        self, window: int, rows: Iterator[pa.Table], counts: dict[int, int], rejects: dict[int, list[tuple]]
    ) -> None:
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
        staged_rejects = self._stage_rejects(stage, hour, rejects)
        if self.replace:
            self._find_stale_rejects(hour, staged_rejects)
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
            return self._not_landed(rows, self._landed("row_hash", existing), missing), missing
        if self.load.whole_files and not self.replace:
            held = self._landed("source_file", existing)
            names = self.load.files
            again = pa.array([i for i, name in enumerate(names) if name in set(held.to_pylist())], pa.int32())
            if len(again):
                return (t.filter(pc.invert(pc.is_in(t.column("_file_no"), again))) for t in rows), missing
        return rows, missing

    def _not_landed(
        self, rows: Iterator[pa.Table], hashes: pa.Array, missing: list[int]
    ) -> Iterator[pa.Table]:
        met: set[int] = set()
        for table in rows:
            index = pc.index_in(table.column("row_hash"), hashes)
            met.update(pc.drop_null(index).unique().to_pylist())
            yield table.filter(pc.is_null(index))
        missing[0] = len(hashes) - len(met)

    def _landed(self, column: str, existing: list[Marker]) -> pa.Array:
        """Distinct values of a column over the window's landed rows, wherever a compaction has put them."""
        start = existing[0].start
        paths = [self.folder / part.name for marker in existing for part in marker.parts]
        if any(not path.is_file() for path in paths):
            day = read_day_record(self.load.root, self.schema.name, self.date)
            merged = () if day is None else day.parts
            paths = [path for path in paths if path.is_file()] + [self.folder / part.name for part in merged]
        time = self.schema.window_column
        files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        sql = f"""
            select distinct "{column}" as value from read_parquet([{files}], hive_partitioning = false)
            where {time} >= timestamptz '{start.isoformat()}' and {time} < timestamptz '{(start + HOUR).isoformat()}'
        """
        with self.load.connection.cursor() as cursor:  # the sorted rows still stream on the connection itself
            cursor.execute("set TimeZone = 'UTC'")
            return cursor.execute(sql).to_arrow_table().column("value").combine_chunks()

    def _base(
        self,
        window: int,
        base: Marker | None,
        staged: list[StagedPart],
        writer: WindowWriter,
        rejects: list[_StagedRejects],
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
        reject_rows = self._reject_rows(window % 24, rejects)
        same_rows = base is not None and parts == list(base.parts)
        if same_rows and (base.state, base.reject_rows) == (state, reject_rows):
            return None
        if same_rows:
            summary = _summary_of(base)
        elif kept or (dropped and not replace):
            with self.load.connection.cursor() as cursor:
                cursor.execute("set TimeZone = 'UTC'")
                summary = summarize(paths, self.schema, cursor)
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
        rejects: list[_StagedRejects],
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
        late_rejects = [r for r in rejects if not r.final.is_file()]
        if not new and not late_rejects:
            return None
        if len(new) == len(staged):
            summary = writer.summarizer.summary()
        else:
            paths = [(part.staged, part.named(1).key) for part in new]
            with self.load.connection.cursor() as cursor:
                cursor.execute("set TimeZone = 'UTC'")
                summary = summarize(paths, self.schema, cursor)
        parts, moves = [], [(r.staged, r.final) for r in late_rejects]
        for part in new:
            named = part.named(self._next_number(part.folder))
            parts.append(named)
            moves.append((part.staged, self.folder / named.name))
        reject_rows = sum(r.rows for r in late_rejects)
        marker = self._marker(window, summary, parts, "sealed", reject_rows, number=existing[-1].number + 1)
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

    # -- rejects -------------------------------------------------------------------------------------------------

    def _reject_path(self, hour: int, source_file: str) -> Path:
        text = "\0".join([self.schema.name, self.date, f"{hour:02d}", source_file])
        return (
            self.reject_folder / f"part-{hour:02d}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"
        )

    def _stage_rejects(self, stage: Path, hour: int, rejects: dict[int, list[tuple]]) -> list[_StagedRejects]:
        """One file for the lines of one source file that belong to one window: a run again gives it the same name."""
        made = []
        for file_no, lines in sorted(rejects.items()):
            source_file = self.load.files[file_no]
            final = self._reject_path(hour, source_file)
            writer = RejectWriter(
                stage,
                self.schema.name,
                final.stem.rpartition("-")[2],
                source_file=source_file,
                environment=self.load.environment,
            )
            for line in lines:
                writer.add(*line, date=self.date)
            for done in writer.close():
                staged = done.staged.rename(stage / f"{final.name}.staged")
                made.append(_StagedRejects(staged, final, done.rows))
        return made

    def _reject_rows(self, hour: int, staged: list[_StagedRejects]) -> int:
        """Rejects of the window over all source files: those of this load, and those of earlier ones on disk."""
        gone = {r.final for r in staged} | set(self.stale_rejects)
        before = [p for p in self.reject_folder.glob(f"part-{hour:02d}-*.parquet") if p not in gone]
        return sum(r.rows for r in staged) + sum(pq.read_metadata(path).num_rows for path in before)

    def _find_stale_rejects(self, hour: int, staged: list[_StagedRejects]) -> None:
        now = {r.final for r in staged}
        for source_file in self.load.files:
            path = self._reject_path(hour, source_file)
            if path not in now and path.is_file():
                self.stale_rejects.append(path)

    def timeless_rejects(self, rejects: dict[int, list[tuple]]) -> None:
        """Keep the lines of files without any row: they belong to no window, so no marker speaks of them."""
        stage = self.load.stage / "timeless"
        stage.mkdir()
        atomic.make_dirs(self.reject_folder)
        for one in self._stage_rejects(stage, 0, rejects):
            os.replace(one.staged, one.final)
        atomic.fsync_dir(self.reject_folder)

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
        for path in self.stale_rejects:
            path.unlink(missing_ok=True)
        write_readme(load.root, self.schema.name, self.date)
        if not any(change.obsolete for change in self.changes):
            plan.unlink(missing_ok=True)

    def _had(self, change: _Change, part: WindowPart) -> bool:
        return any(part in marker.parts for marker in self.markers[change.marker.hour])


def write_marker(metadata: Path, marker: Marker) -> None:
    """Write one marker whole; the caller syncs the folder. A sealed one never takes the place of another content.

    Raises FileExistsError when a sealed marker or a supplement with other rows stands there.
    """
    path = metadata / marker.file_name
    if (marker.state == "sealed" and not path.exists()) or marker.number:
        mine = metadata / f"._tmp-{os.getpid()}-{marker.file_name}"
        atomic.write_json(mine, marker.record())
        try:
            os.link(mine, path)
        except FileExistsError:
            if atomic.read_json(path)["content_hash"] != marker.content_hash:
                raise
        finally:
            mine.unlink(missing_ok=True)
        return
    atomic.write_json(path, marker.record())


def _summary_of(marker: Marker) -> Summary:
    low, high = (
        None if t is None else datetime.fromisoformat(t)
        for t in (marker.min_occurred_at, marker.max_occurred_at)
    )
    return Summary(marker.rows, low, high, marker.content_hash)
