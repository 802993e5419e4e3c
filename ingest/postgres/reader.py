"""Rows of a source table inside one snapshot: fence, bounds, pages and counts.

Nothing here decides what a window becomes. Values come as text in PostgreSQL's exact notation and never through a
float. Source: spec/execution.md 3.1.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
import pyarrow as pa
from psycopg import sql

from ingest.errors import RefusedFile
from ingest.execution_rows import END_YEAR, FIRST_YEAR, Typed, type_rows
from ingest.json_text import BadJson, canonical, parse
from ingest.postgres.tables import SourceTable, column
from ingest.redaction import TEXT_COLUMNS
from ingest.window_schema import WindowSchema

FIRST = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
LAST = datetime(END_YEAR, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FIRST_PAGE_ROWS, MAX_PAGE_ROWS = 1_000, 5_000
PAGE_BYTES = 8 << 20  # of one page, which is held in memory
MAX_TIMELESS = 1_000

_FENCE = """
    select pg_catalog.statement_timestamp(),
        (
            select min(xact_start) from pg_catalog.pg_stat_activity
            where datid = own.oid and pid <> pg_catalog.pg_backend_pid()
        ),
        (
            select count(*) from pg_catalog.pg_stat_activity
            where datid = own.oid and pid <> pg_catalog.pg_backend_pid()
                and (backend_type is null or state = 'disabled' or query = '<insufficient privilege>')
        ),
        (select count(*) from pg_catalog.pg_prepared_xacts where database = own.datname),
        pg_catalog.pg_is_in_recovery()
    from pg_catalog.pg_database as own where own.datname = pg_catalog.current_database()
"""


@dataclass(frozen=True)
class Fence:
    """``now``: the server's clock. Transactions that stored rows before ``quiet_before`` have ended, so that a snapshot
    taken later shows them all; None when that can't be told, with the ``reason``.
    """

    now: datetime
    quiet_before: datetime | None
    reason: str | None = None


def read_fence(connection: psycopg.Connection) -> Fence:
    """Ask who is writing. Call before the snapshot is taken: what ends between the two is in the snapshot."""
    now, oldest, hidden, prepared, standby = connection.execute(_FENCE).fetchone()
    reason = None
    if standby:
        reason = "the server is a standby, which doesn't show who writes; read from the primary"
    elif hidden:
        reason = f"transactions of {hidden} sessions are hidden from the role; grant it pg_read_all_stats"
    elif prepared:
        reason = f"{prepared} prepared transactions hide when they began; end them"
    return Fence(now, None if reason else min(now, oldest or now), reason)


@dataclass
class Page:
    """Typed rows of one page. ``first`` is the ordinal of its first row, from 1; ``hours``: rows read by hour since the
    epoch. ``raw(i)`` is the text of a row as it came.
    """

    typed: Typed
    first: int
    rows: int
    bytes: int
    hours: Counter[int]
    unknown: Counter[str]
    _names: list[str]
    _records: list[tuple]

    def raw(self, i: int) -> str:
        values = zip(self._names, self._records[i], strict=True)
        return json.dumps({name: value for name, value in values if value is not None}, ensure_ascii=False)


class Reader:
    """Reads one table in a snapshot that is open on ``connection``."""

    def __init__(
        self, connection: psycopg.Connection, table: SourceTable, schema: WindowSchema, environment: str
    ) -> None:
        self.connection, self.table, self.schema, self.environment = connection, table, schema, environment
        self.ordinal = 0
        self._keys = [(table.window, "timestamptz"), *table.key]
        self._names = [*table.columns, *table.extra]

    def first_time(self) -> datetime | None:
        """The earliest window time that is one."""
        query = sql.SQL("select min({w}) from {t} where {w} >= %s and {w} < %s")
        return self._execute(query, [FIRST, LAST]).fetchone()[0]

    def count_from(self, start: datetime) -> int:
        """Rows whose time is not before ``start``."""
        query = sql.SQL("select count(*) from {t} where {w} >= %s and {w} < %s")
        return self._execute(query, [start, LAST]).fetchone()[0]

    def count_hours(self, start: datetime, end: datetime) -> Counter[int]:
        """Rows by hour since the epoch, a statement for each day of [start, end)."""
        counts: Counter[int] = Counter()
        query = sql.SQL("select {hour}, count(*) from {t} where {w} >= %s and {w} < %s group by 1")
        while start < end:
            stop = min(start + DAY, end)
            counts.update(dict(self._execute(query, [start, stop]).fetchall()))
            start = stop
        return counts

    def pages(self, start: datetime, end: datetime) -> Iterator[Page]:
        """Rows with a time in [start, end), in order of time and key, a statement for each page."""
        after: list[str] | None = None
        limit = FIRST_PAGE_ROWS
        while True:
            records = self._page(start, end, after, limit)
            if not records:
                return
            after = list(records[-1][: len(self._keys)])
            page = self._typed(records)
            yield page
            limit = max(1, min(MAX_PAGE_ROWS, 2 * limit, limit * PAGE_BYTES // max(page.bytes, 1)))

    def timeless(self) -> tuple[list[str], bool]:
        """Texts of rows whose time puts them in no window (none, infinite, out of range); whether there are more."""
        where = "{w} < %s or {w} >= %s" + (" or {w} is null" if self.table.may_lack_time else "")
        query = sql.SQL("select {columns} from {t} where " + where + " limit %s")
        found = self._execute(query, [FIRST, LAST, MAX_TIMELESS + 1]).fetchall()
        lines = [
            json.dumps(
                {n: v for n, v in zip(self._names, row, strict=False) if v is not None}, ensure_ascii=False
            )
            for row in found[:MAX_TIMELESS]
        ]
        return lines, len(found) > MAX_TIMELESS

    def _page(self, start: datetime, end: datetime, after: list[str] | None, limit: int) -> list[tuple]:
        keys = sql.SQL(", ").join(expression for expression, _ in self._keys)
        where, params = sql.SQL("{w} >= %s and {w} < %s").format(w=self.table.window), [start, end]
        if after is not None:
            values = sql.SQL(", ").join(sql.SQL("%s::" + kind) for _, kind in self._keys)
            where += sql.SQL(" and ({}) > ({})").format(keys, values)
            params += after
        # Rows before it in the page bound a row, so that wide ones are not sent by the thousand; one always is.
        query = sql.SQL("""
            select * from (
                select {texts}, {hour}, {columns},
                    sum({size}) over (order by {keys} rows between unbounded preceding and 1 preceding) as before
                from {t} where {where} order by {keys} limit %s
            ) as page where coalesce(before, 0) < %s
        """)
        texts = sql.SQL(", ").join(sql.SQL("{}::text").format(expression) for expression, _ in self._keys)
        wide = [column(n) for n in self._names if n in self.table.extra or self._is_wide(n)]
        size = sql.SQL(" + ").join(
            sql.SQL("coalesce(pg_catalog.pg_column_size({}), 0)").format(n) for n in wide
        )
        parts = {"texts": texts, "where": where, "keys": keys, "size": size if wide else sql.SQL("0")}
        return self._execute(query, [*params, limit, PAGE_BYTES], **parts).fetchall()

    def _is_wide(self, name: str) -> bool:
        return name in TEXT_COLUMNS or (name != "ingested_at" and self.schema.is_json(name))

    def _execute(self, query: sql.SQL, params: list, **parts: sql.Composable) -> psycopg.Cursor:
        w = self.table.window
        columns = [sql.SQL(self._text(n)).format(column(n)) for n in self.table.columns]
        columns += [sql.SQL("pg_catalog.to_jsonb({})::text").format(column(n)) for n in self.table.extra]
        if self.table.has_environment:
            columns.append(sql.SQL("source.environment::text"))
        composed = query.format(
            w=w,
            t=self.table.relation,
            hour=sql.SQL("floor(extract(epoch from {}) / 3600)::int").format(w),
            columns=sql.SQL(", ").join(columns),
            **parts,
        )
        return self.connection.execute(composed, params)

    def _text(self, name: str) -> str:
        # The null of JSON, which mappers of objects store, is no value, as in a file.
        is_json = name != "ingested_at" and self.schema.is_json(name)
        return "nullif({}::text, 'null')" if is_json else "{}::text"

    def _typed(self, records: list[tuple]) -> Page:
        keys = len(self._keys)
        columns = list(zip(*records, strict=True))[:-1]  # but for `before`
        hours = Counter(columns[keys])
        values = columns[keys + 1 :]
        if self.table.has_environment:
            self._check_environment(values[-1])
            values = values[:-1]
        known = len(self.table.columns)
        arrays = {
            n: pa.array(column, pa.string()) for n, column in zip(self.table.columns, values, strict=False)
        }
        size = sum(array.nbytes for array in arrays.values())
        unknown: Counter[str] = Counter()
        faults: dict[int, tuple[str, str]] = {}
        if self.table.extra:
            arrays["_extra"] = self._extra(values[known:], unknown, faults)
            size += arrays["_extra"].nbytes
        typed = type_rows(pa.table(arrays), self.schema, faults)
        first = self.ordinal + 1
        self.ordinal += len(records)
        rows = [record[keys + 1 :][: len(self._names)] for record in records] if typed.rejects else []
        return Page(typed, first, len(records), size, hours, unknown, self._names, rows)

    def _extra(
        self, columns: list[tuple], unknown: Counter[str], faults: dict[int, tuple[str, str]]
    ) -> pa.Array:
        made: list[str | None] = []
        for row, values in enumerate(zip(*columns, strict=True)):
            pairs = [(n, v) for n, v in zip(self.table.extra, values, strict=True) if v is not None]
            unknown.update(n for n, _ in pairs)
            try:
                made.append(canonical({n: parse(v) for n, v in pairs}) if pairs else None)
            except BadJson as error:
                faults[row] = ("JSON", f"an unknown column: {error}")
                made.append(None)
        return pa.array(made, pa.string())

    def _check_environment(self, values: tuple) -> None:
        other = next((v for v in values if v not in (None, self.environment)), None)
        if other is not None:
            raise RefusedFile(
                f"a row was of environment {other[:20]!r}, expected {self.environment}; load it into a lake of its own"
            )
