"""The four source tables: which of their columns are read, and how they differ from what is expected.

Only columns of the dataset are read, by name, and columns that nobody knows yet; one whose name speaks of a credential
never is. Source: spec/execution.md 3.1 to 3.5, 8.4.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import dict_row

from ingest.errors import RefusedFile, SourceUnreachable
from ingest.window_schema import WindowSchema

log = logging.getLogger(__name__)

TABLES = {
    "events": "stop_events",
    "orders": "audit_transactions",
    "operations": "operations",
    "balance_snapshots": "balance_snapshots",
}
NOT_LANDED = {"stop_events": ("request_payload_hash",)}
# Columns that a table need not have: lifted from a payload, or given by newer producers only.
_OPTIONAL = {
    "stop_events": ("event_seq", "stream_seq", "exchange_time", "trigger_type"),
    "audit_transactions": ("exchange_time",),
}
_CREDENTIAL = re.compile(
    r"key|secret|passw|pwd|passphrase|token|credential|private|signature|auth|cookie|session|dsn|mnemonic",
    re.IGNORECASE,
)
_WHOLE = {"int2", "int4", "int8"}
_TEXTS = {"text", "varchar", "bpchar", "citext"}

_COLUMNS = """
    select a.attname as name, pg_catalog.format_type(a.atttypid, a.atttypmod) as told, base.typname as kind,
        base.typtype = 'e' as is_enum, a.attnotnull as required,
        pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') as readable
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_type as own on own.oid = a.atttypid
    join pg_catalog.pg_type as base
        on base.oid = case when own.typtype = 'd' then own.typbasetype else own.oid end
    where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""
_UNIQUE = """
    select exists (
        select from pg_catalog.pg_index as i
        where i.indrelid = %s and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
            and (
                select array_agg(a.attname::text) from pg_catalog.pg_attribute as a
                where a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
            ) <@ %s::text[]
    )
"""


@dataclass(frozen=True)
class SourceTable:
    """What is read of a table. ``window`` is the SQL of the time that gives a row its hour; ``key`` are the columns
    that order the rows of one instant, with their types. ``fenced``: the database stamps ``ingested_at``, so that a
    fence can tell when a window is complete.
    """

    name: str
    relation: sql.Composable
    columns: tuple[str, ...]
    extra: tuple[str, ...]
    has_environment: bool
    window: sql.Composable
    key: tuple[tuple[sql.Composable, str], ...]
    fenced: bool
    may_lack_time: bool


def describe(connection: psycopg.Connection, schema: WindowSchema) -> SourceTable:
    """Look a table up in the catalogue and hold it against the dataset.

    Raises SourceUnreachable when there is no such table or column rights are missing, RefusedFile with the difference
    when a column is missing or of another type.
    """
    name = TABLES[schema.name]
    found = connection.execute(
        "select c.oid, n.nspname, c.relkind from pg_catalog.pg_class as c "
        "join pg_catalog.pg_namespace as n on n.oid = c.relnamespace where c.oid = pg_catalog.to_regclass(%s)",
        [name],
    ).fetchone()
    if found is None:
        raise SourceUnreachable(
            f"there was no table {name} on the search path, expected one to read {schema.name} from; create it, or "
            "name its schema by the option search_path of the connection string"
        )
    oid, namespace, relkind = found
    with connection.cursor(row_factory=dict_row) as cursor:
        columns = {row["name"]: row for row in cursor.execute(_COLUMNS, [oid])}
    _require_shape(name, schema, columns)
    fenced = "ingested_at" in columns and columns["ingested_at"]["required"]
    times = [n for n in ("ingested_at", schema.row_time) if n in columns]
    if fenced:
        window, may_lack_time = column("ingested_at"), False
    else:
        window = sql.SQL("coalesce({})").format(sql.SQL(", ").join(map(column, times)))
        window = window if len(times) > 1 else column(times[0])
        may_lack_time = not any(columns[n]["required"] for n in times)
    if (connection.execute(
        "select pg_catalog.has_table_privilege(%s::oid, 'INSERT, UPDATE, DELETE, TRUNCATE')", [oid]
    ).fetchone() or [False])[0]:  # fmt: skip
        log.warning(
            "the role may write to %s, expected it to read only; give the loader a role of its own", name
        )
    return SourceTable(
        name=name,
        relation=sql.SQL("{} as source").format(sql.Identifier(namespace, name)),
        columns=tuple(n for n in [*schema.columns.names, "ingested_at"] if n in columns),
        extra=_extra(name, schema, columns),
        has_environment="environment" in columns,
        window=window,
        key=_key(connection, oid, relkind, schema, columns),
        fenced=fenced,
        may_lack_time=may_lack_time,
    )


def column(name: str) -> sql.Identifier:
    """A column of the table, never one of the result: they have the same names, but hold text."""
    return sql.Identifier("source", name)


def is_credential(name: str) -> bool:
    """Whether a column of this name is never read; columns of the contract are not asked about."""
    return bool(_CREDENTIAL.search(name))


def _require_shape(table: str, schema: WindowSchema, columns: dict[str, dict]) -> None:
    expected = {f.name: f for f in schema.columns}
    optional = set(_OPTIONAL.get(table, ()))
    if schema.name == "balance_snapshots":
        flat = {n for n in expected if n not in ("client_id", "snapshot_time", "balances", "created_at")}
        optional |= flat if "balances" in columns and not flat & columns.keys() else {"balances"}
    missing = [n for n in expected if n not in columns and n not in optional]
    wrong = []
    for n, kind, told in [(f.name, *_accepted(f, schema)) for f in schema.columns] + [
        ("ingested_at", {"timestamptz"}, "timestamp with time zone"),
        ("environment", _TEXTS, "text"),
    ]:
        if n in columns and columns[n]["kind"] not in kind and not (columns[n]["is_enum"] and kind is _TEXTS):
            wrong.append(f"{n} of type {columns[n]['told']} (expected {told})")
    if missing or wrong:
        parts = [f"without {', '.join(missing)}"] if missing else []
        parts += [f"with {', '.join(wrong)}"] if wrong else []
        new = sorted(
            columns.keys() - expected.keys() - {"ingested_at", "environment", *NOT_LANDED.get(table, ())}
        )
        parts += [f"and with the unknown {', '.join(new)}"] if new else []
        raise RefusedFile(
            f"table {table} came {' '.join(parts)}, expected the columns of {schema.name}; the source has changed, "
            "adapt the loader or the table"
        )
    closed = [n for n in [*expected, "ingested_at"] if n in columns and not columns[n]["readable"]]
    if closed:
        raise SourceUnreachable(
            f"the role may not read {', '.join(closed)} of {table}, expected select on it; grant that and run again"
        )
    absent = [n for n in expected if n not in columns]
    if absent:
        log.info("table=%s has no column %s; they land as null", table, ", ".join(absent))


def _accepted(field: pa.Field, schema: WindowSchema) -> tuple[set[str], str]:
    if schema.is_json(field.name):
        return {"jsonb", "json"}, "jsonb"
    if schema.is_uuid(field.name):
        return {"uuid"}, "uuid"
    if pa.types.is_timestamp(field.type):
        return {"timestamptz"}, "timestamp with time zone"
    if pa.types.is_decimal(field.type):
        return {"numeric"}, "numeric"
    if pa.types.is_integer(field.type):
        return _WHOLE, "bigint or integer"
    if pa.types.is_boolean(field.type):
        return {"bool"}, "boolean"
    return _TEXTS, "text or varchar"


def _extra(table: str, schema: WindowSchema, columns: dict[str, dict]) -> tuple[str, ...]:
    known = {*schema.columns.names, "ingested_at", "environment", *NOT_LANDED.get(table, ())}
    unknown = [n for n in columns if n not in known]
    read = tuple(n for n in unknown if not is_credential(n) and columns[n]["readable"])
    left = [n for n in unknown if n not in read]
    if read:
        log.warning("schema drift table=%s: unknown columns go to _extra: %s", table, ", ".join(read))
    if left:
        log.warning("schema drift table=%s: columns that are never read: %s", table, ", ".join(left))
    return read


def _key(
    connection: psycopg.Connection, oid: int, relkind: str, schema: WindowSchema, columns: dict[str, dict]
) -> tuple[tuple[sql.Composable, str], ...]:
    """The primary key where the table holds to it; else the place of a row, which is unique in any table."""
    names = list(schema.primary_key)
    unique = connection.execute(_UNIQUE, [oid, names]).fetchone()[0]
    if relkind in ("v", "f") or (unique and all(columns[n]["required"] for n in names)):
        return tuple((column(n), columns[n]["told"]) for n in names)
    log.info("table=%s has no unique key over %s; rows are paged by their place", TABLES[schema.name], names)
    return (column("tableoid"), "oid"), (column("ctid"), "tid")
