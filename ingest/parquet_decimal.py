"""Decimals into Parquet without converting them one by one.

A DECIMAL(18,9) column stored as integers and an INT64 column have the same bytes in a Parquet file; only the
schema in the footer tells them apart. pyarrow takes each decimal through a checked conversion, an eighth of the
cost of writing a book. So the columns are handed over as the int64 mantissas that they are, and the schema in
the footer is exchanged for the one that pyarrow itself writes for the decimals.
Source: Apache Parquet format 2.9, FileMetaData; Thrift compact protocol.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_MAGIC = b"PAR1"
_LIST = 9
_STRUCT = 12


def as_integers(schema: pa.Schema) -> pa.Schema:
    """The schema to hand to the writer: decimal64 fields as int64, all else as it is."""
    return pa.schema(
        [pa.field(f.name, pa.int64(), f.nullable) if pa.types.is_decimal64(f.type) else f for f in schema]
    )


def mantissas(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """``table`` in the schema of `as_integers`, over the same memory. Its columns must be of one chunk each."""
    columns = []
    for column in table.columns:
        (chunk,) = column.chunks
        if pa.types.is_decimal64(chunk.type):
            chunk = pa.Array.from_buffers(
                pa.int64(), len(chunk), chunk.buffers(), chunk.null_count, chunk.offset
            )
        columns.append(chunk)
    return pa.Table.from_arrays(columns, schema=schema)


def schema_bytes(schema: pa.Schema, options: dict) -> bytes:
    """The schema as it stands in the footer of a file that pyarrow writes with these options.

    To be kept by the caller: it costs as much as a small file.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **options):
        pass
    footer = _footer(sink.getvalue().to_pybytes())
    start = _schema_start(footer)
    return footer[start : _skip(footer, start + 1, _LIST)]


def put_schema(path: Path, old: bytes, new: bytes) -> None:
    """Exchange the schema in the footer of a closed Parquet file; nothing before the footer is touched.

    Raises ValueError when the footer's schema isn't ``old``.
    """
    with open(path, "r+b") as file:
        end = file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(end - length)
        footer = file.read(length)
        start = _schema_start(footer)
        if not footer.startswith(old, start):
            raise ValueError(
                f"schema in the footer of {path} was another one, expected the one it was written with"
            )
        footer = footer[:start] + new + footer[start + len(old) :]
        file.seek(end - length)
        file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)
        file.truncate()


def _footer(data: bytes) -> bytes:
    length = int.from_bytes(data[-8:-4], "little")
    return data[-8 - length : -8]


def _schema_start(footer: bytes) -> int:
    """Where the schema list starts in FileMetaData: its second field, after the version."""
    if footer[0] != 0x15:
        raise ValueError(
            f"footer began with {footer[0]:#04x}, expected 0x15, the format version as an integer"
        )
    _, at = _varint(footer, 1)
    if footer[at] != 0x10 | _LIST:
        raise ValueError(f"second field was {footer[at]:#04x}, expected 0x19, the list of schema elements")
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def _skip(data: bytes, at: int, kind: int) -> int:
    """Position after a value of Thrift's compact protocol."""
    if kind in (1, 2):  # a boolean in a struct is all in its type
        return at
    if kind == 3:
        return at + 1
    if kind in (4, 5, 6):
        return _varint(data, at)[1]
    if kind == 8:
        length, at = _varint(data, at)
        return at + length
    if kind == _LIST:
        count, element = data[at] >> 4, data[at] & 15
        at += 1
        if count == 15:
            count, at = _varint(data, at)
        for _ in range(count):
            at = _skip(data, at, element)
        return at
    if kind == _STRUCT:
        while data[at]:
            head = data[at]
            at += 1
            if not head >> 4:  # the field's number in full
                _, at = _varint(data, at)
            at = _skip(data, at, head & 15)
        return at + 1
    raise ValueError(f"value was of Thrift type {kind}, expected one that a Parquet schema has")
