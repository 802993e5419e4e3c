"""PostgreSQL to execution bronze: what to read, what to seal, and what became of it.

One call reads one table: fence, snapshot, pages, recount, and only then anything is published. The dataset's lock is
held from before the snapshot, so that of two calls the one with the older snapshot publishes first. A connection that
breaks starts the whole snapshot anew. Source: spec/execution.md 3.1, 8.4.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from ingest.errors import IngestError, RefusedFile, SourceUnreachable
from ingest.postgres import reader as source_reader
from ingest.postgres.connection import Interrupted, Source, connect, plain_errors, read_source
from ingest.postgres.reader import MAX_TIMELESS, Fence, Reader
from ingest.postgres.tables import TABLES, SourceTable, describe
from ingest.window_hours import MAX_GAP_HOURS
from ingest.window_publish import LoadReport
from ingest.window_schema import WINDOW_SCHEMAS
from ingest.windows import MAX_BAD, WindowLoad, told_rules
from lake.commits import now_utc
from lake.runs import new_run_id, write_run
from lake.windows import HOUR, read_markers

log = logging.getLogger(__name__)

SOURCE_KIND = "postgres"
Progress = Callable[[int], None]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ATTEMPTS = 4
FIRST_WAIT_S = 0.5  # doubled from attempt to attempt
# A transaction shows among the active ones a moment after its clock has started.
SETTLE = timedelta(seconds=60)
# Of a table that doesn't stamp its rows when they are stored.
REREAD = timedelta(hours=24)


@dataclass
class PostgresReport:
    """Outcome of a call. [start, end) was read, ``rows`` of it; None when there was nothing to read.

    Windows before ``sealed_through`` are sealed; where that is earlier than it might be, ``unsealed`` says why.
    ``timeless`` rows have a time that puts them in no window: they are kept aside. ``future_rows`` are later than the
    hour that is open, and wait.
    """

    run_id: str
    dataset: str
    table: str
    load: LoadReport
    start: datetime | None = None
    end: datetime | None = None
    rows: int = 0
    sealed_through: datetime | None = None
    unsealed: str | None = None
    timeless: int = 0
    future_rows: int = 0
    unknown_columns: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 published, 2 published with incomplete windows or rows without a window, 3 conflict."""
        code = self.load.exit_code
        return code or (2 if self.timeless else 0)


def ingest_postgres(
    root: Path,
    dataset: str,
    name: str,
    *,
    environment: str = "prod",
    start: datetime | None = None,
    end: datetime | None = None,
    max_bad: float = MAX_BAD,
    progress: Progress | None = None,
) -> PostgresReport:
    """Land ``dataset`` (a key of TABLES) out of the server whose DSN stands under ``name`` in the environment.

    Reads what is not sealed yet, or [start, end), full hours of UTC; publishes it as of one snapshot and seals the
    windows that are proven complete. Writes one run record, also of a call that failed.

    Raises SourceUnreachable when the server, the table or its rows can't be read (then nothing is published),
    RefusedFile for another environment, other columns or too many bad rows, ValueError for bounds or a name that are
    none.
    """
    run_id, started_at = new_run_id("ingest"), now_utc()
    call = _Call(root.resolve(), dataset, environment, start, end, max_bad, progress)
    source = read_source(name)
    report, failure = None, None
    try:
        report = _persistently(lambda: call.land(source, run_id), source)
    except IngestError as error:
        failure = error
    done = report or PostgresReport(run_id, dataset, TABLES[dataset], LoadReport(dataset))
    write_run(
        root,
        run_id,
        config={
            "command": f"ingest {dataset}",
            "source": f"{SOURCE_KIND}:{name}",
            "environment": environment,
            "start": None if start is None else start.isoformat(),
            "end": None if end is None else end.isoformat(),
            "max_bad": max_bad,
        },
        counts={
            "rows": done.load.rows,
            "new_rows": done.load.new_rows,
            "late_rows": done.load.late_rows,
            "rejected": done.load.rejected,
            "windows": done.load.windows,
            "incomplete": len(done.load.incomplete),
            "conflicts": len(done.load.conflicts),
            "timeless": done.timeless,
            "future_rows": done.future_rows,
        },
        status="ok" if failure is None and done.exit_code in (0, 2) else "failed",
        started_at=started_at,
    )
    if failure is not None:
        raise failure
    return done


def _persistently(work: Callable[[], PostgresReport], source: Source) -> PostgresReport:
    """``work``, from its beginning again after a connection that broke, ATTEMPTS times at most."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            log.info("reading again source=%s attempt=%d: %s", source.name, attempt + 1, reason)
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
        try:
            return work()
        except Interrupted as error:
            reason = str(error)
    raise SourceUnreachable(
        f"{reason}, {ATTEMPTS} times; nothing was published, run again when the server is back"
    )


@dataclass
class _Call:
    root: Path
    dataset: str
    environment: str
    start: datetime | None
    end: datetime | None
    max_bad: float
    progress: Progress | None

    def land(self, source: Source, run_id: str) -> PostgresReport:
        """One attempt."""
        schema = WINDOW_SCHEMAS[self.dataset]
        report = PostgresReport(run_id, self.dataset, TABLES[self.dataset], LoadReport(self.dataset))
        # The share of bad rows is judged here: those without a window would count again in every call.
        with WindowLoad(self.root, schema, self.environment, source_kind=SOURCE_KIND, max_bad=1) as load:
            with connect(source) as connection, plain_errors(source):
                table = describe(connection, schema)
                fence = source_reader.read_fence(connection)
                with _snapshot(connection):
                    reader = Reader(connection, table, schema, self.environment)
                    low, high = self._bounds(reader, table, fence.now)
                    counts = self._read(reader, load, low, high, report)
                    if self.end is None:
                        report.future_rows = reader.count_from(high)
                limit = None if fence.quiet_before is None else fence.quiet_before - SETTLE
                if limit is not None and not table.fenced:
                    limit = min(limit, fence.now - REREAD)
                report.unsealed = fence.reason or _held_back(fence)
                sealed_through = self._proven(reader, low, high, limit, counts, report)
            if low < high:
                report.start, report.end = low, high
                report.load = load.publish(
                    start=self._first_marker(low, counts),
                    end=high,
                    replace=True,
                    sealed_through=sealed_through,
                )
                report.sealed_through = sealed_through
        _warn(report)
        return report

    def _bounds(self, reader: Reader, table: SourceTable, now: datetime) -> tuple[datetime, datetime]:
        """The hours to read: up to the one that is open by the server's clock."""
        high = _floor(now) + HOUR
        if self.end is not None:
            high = min(high, self.end)
        if self.start is not None:
            if self.start >= high:
                raise ValueError(
                    f"--start was {self.start.isoformat()}, expected before {high.isoformat()}, the end or the "
                    "server's open hour; choose an earlier one"
                )
            return self.start, high
        _, low = _landed(self.root, self.dataset)
        if low is None:
            first = reader.first_time()
            low = _floor(first if first is not None and first < high else high - HOUR)
        elif not table.fenced:
            low = min(low, _floor(now - REREAD))
        return min(low, high), high

    def _read(
        self, reader: Reader, load: WindowLoad, low: datetime, high: datetime, report: PostgresReport
    ) -> Counter[int]:
        """All rows of [low, high) into the load, and the rows that have no window; gives rows by hour."""
        source_file = f"{SOURCE_KIND}:{report.table}"
        counts: Counter[int] = Counter()
        unknown: Counter[str] = Counter()
        for page in reader.pages(low, high) if low < high else ():
            load.add(page.typed.table, source_file, page.typed.rows + page.first)
            for row, rule, reason, at in page.typed.rejects:
                load.reject(
                    page.first + row, rule, reason, page.raw(row), source_file=source_file, window_start=at
                )
            counts.update(page.hours)
            unknown.update(page.unknown)
            if self.progress is not None:
                self.progress(page.rows)
        report.rows = counts.total()
        self._judge(load.counts(source_file)[1], report.rows, load.by_rule)
        report.unknown_columns = dict(sorted(unknown.items()))
        if self.start is None and self.end is None:
            lines, more = reader.timeless()
            report.timeless = len(lines) + more
            for number, line in enumerate(lines, report.rows + 1):
                reason = "the time of its window was none, infinite or out of range, expected an instant"
                load.reject(number, "TS_RANGE", reason, line, source_file=source_file, window_start=EPOCH)
        load.count_read(report.rows + min(report.timeless, MAX_TIMELESS), source_file)
        return counts

    def _first_marker(self, low: datetime, counts: Counter[int]) -> datetime | None:
        """From where on an hour without rows has a marker that says so; not before the first row there ever was.

        None, where this load finds the first: then a long quiet after it stays open.
        """
        if self.start is not None:
            return self.start
        first, _ = _landed(self.root, self.dataset)
        if first is None and counts:
            return None
        found = [EPOCH + min(counts) * HOUR] if counts else []
        return max(low, min([*found, *([first] if first else [])], default=low))

    def _judge(self, rejected: int, read: int, by_rule: Counter[str]) -> None:
        """Raises RefusedFile when too many rows are bad. A single one never stops a load, unless none is allowed."""
        if rejected > max(self.max_bad * read, 1 if self.max_bad else 0):
            raise RefusedFile(
                f"{rejected:,} of {read:,} rows were bad ({told_rules(by_rule)}), expected a share of at most "
                f"{self.max_bad:g}; mend the source, or raise --max-bad"
            )

    def _proven(
        self,
        reader: Reader,
        low: datetime,
        high: datetime,
        limit: datetime | None,
        counts: Counter[int],
        report: PostgresReport,
    ) -> datetime | None:
        """The end of the last window that may be sealed: nobody writes it any more, and a recount finds what was read.

        The recount sees what was committed after the snapshot, too.
        """
        limit = None if limit is None else min(_floor(limit), high)
        if limit is None or limit <= low:
            return None
        again = reader.count_hours(low, limit)
        for hour in range(_hour(low), _hour(limit)):
            if again[hour] != counts[hour]:
                start = EPOCH + hour * HOUR
                report.unsealed = (
                    f"a recount of the window {start:%Y-%m-%dT%H:%MZ} found {again[hour]:,} rows, not the "
                    f"{counts[hour]:,} read"
                )
                return start if start > low else None
        return limit


@contextlib.contextmanager
def _snapshot(connection: psycopg.Connection) -> Iterator[None]:
    """One transaction that sees one state of the database, and writes nothing; it ends with the connection at last."""
    connection.execute("begin isolation level repeatable read, read only")
    yield
    connection.execute("commit")


def _landed(root: Path, dataset: str) -> tuple[datetime | None, datetime | None]:
    """The dataset's first window, and the first hour from there on that is not sealed; None without any window.

    A hole is an hour that nobody has read, unless it is so long that a load leaves it open.
    """
    closed = {m.start: m.state != "provisional" for m in read_markers(root, dataset) if not m.number}
    first = min(closed, default=None)
    expected = first
    for start in sorted(closed):
        hole = HOUR <= start - expected < MAX_GAP_HOURS * HOUR
        if hole or not closed[start]:
            return first, expected if hole else start
        expected = start + HOUR
    return first, expected


def _held_back(fence: Fence) -> str | None:
    """What to say of a transaction that keeps a window open that has ended."""
    if _floor(fence.quiet_before - SETTLE) < _floor(fence.now - SETTLE):
        return f"a transaction has been open since {fence.quiet_before:%Y-%m-%dT%H:%M:%SZ}; end it"
    return None


def _warn(report: PostgresReport) -> None:
    if report.timeless:
        log.warning("timeless_rows table=%s rows=%d: kept aside, mend them", report.table, report.timeless)
    if report.future_rows:
        log.warning("future_rows table=%s rows=%d: they land in their hour", report.table, report.future_rows)


def _floor(when: datetime) -> datetime:
    return when.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _hour(when: datetime) -> int:
    return int(when.timestamp()) // 3600
