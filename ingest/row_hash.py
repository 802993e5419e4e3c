"""The hash of one bronze row: SHA-256 of the canonical JSON array of its contract columns.

Decimals as fixed-scale strings, times ``YYYY-MM-DDTHH:MM:SS.ffffffZ``, UUIDs in lower case, objects with keys in byte
order and no spaces, null as ``null``; characters outside ASCII as UTF-8, control characters as ``\\uXXXX`` in lower
case or their short form. Serves idempotence and conflict detection. Source: spec/execution.md 2.4.
"""

from __future__ import annotations

import functools
import json

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.window_schema import WindowSchema

_QUOTE = "'\"'"
_PLAIN = r'^[^"\\\x00-\x1f]*$'


def row_hashes(table: pa.Table, schema: WindowSchema, connection: duckdb.DuckDBPyConnection) -> pa.Array:
    """Hex hashes of the rows of ``table``, in their order; it has at least the columns of the schema."""
    return _select("sha256({})", table, schema, connection)


def canonical_rows(table: pa.Table, schema: WindowSchema, connection: duckdb.DuckDBPyConnection) -> pa.Array:
    """The texts that are hashed, one a row."""
    return _select("{}", table, schema, connection)


def _select(
    expression: str, table: pa.Table, schema: WindowSchema, connection: duckdb.DuckDBPyConnection
) -> pa.Array:
    columns = [_prepared(table.column(field.name), field) for field in schema.columns]
    connection.register("_unhashed", pa.Table.from_arrays(columns, schema.columns.names))
    # One call for all: a chain of || makes every prefix of the text.
    pieces = ["'['"]
    for field in schema.columns:
        parts = _sql(schema, field)
        pieces += [f"coalesce({' || '.join(parts)}, 'null')"] if field.nullable else parts
        pieces.append("','")
    array = f"concat({', '.join(pieces[:-1])}, ']')"
    hashes = connection.execute(f"select {expression.format(array)} as text from _unhashed").to_arrow_table()
    connection.unregister("_unhashed")
    return hashes.column("text").combine_chunks()


def _prepared(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """Times without their zone (they are UTC), so that they print without a calendar; texts as JSON strings."""
    if pa.types.is_timestamp(field.type):
        return column.cast(pa.timestamp("us"))
    if pa.types.is_string(field.type) and (field.metadata or {}).get(b"type") != b"JSON":
        plain = pc.all(pc.match_substring_regex(column, _PLAIN), skip_nulls=True).as_py()
        if plain is False:
            return pa.chunked_array(
                [[None if v is None else _quoted(v)[1:-1] for v in column.to_pylist()]], pa.string()
            )
    return column


@functools.lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _sql(schema: WindowSchema, field: pa.Field) -> list[str]:
    """Pieces of SQL whose texts one after the other are the value; null when it is null."""
    name = f'"{field.name}"'
    if schema.is_json(field.name):
        return [name]
    if pa.types.is_string(field.type):
        return [_QUOTE, name, _QUOTE]
    if pa.types.is_decimal(field.type):
        return [_QUOTE, f"{name}::varchar", _QUOTE]
    if pa.types.is_timestamp(field.type):
        return [_QUOTE, f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ')", _QUOTE]
    return [f"{name}::varchar"]


_NIBBLES = np.zeros(256, dtype=np.uint8)
_NIBBLES[[*b"0123456789abcdef"]] = range(16)


def packed_hashes(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) S32: hex hashes of rows, none null, as their bytes."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.zeros(0, dtype="S32")
    start = np.frombuffer(array.buffers()[1], np.int32, 1, array.offset * 4)[0]
    digits = _NIBBLES[np.frombuffer(array.buffers()[2], np.uint8, 64 * len(array), start)].reshape(-1, 2)
    return (digits[:, 0] << 4 | digits[:, 1]).view("S32")
