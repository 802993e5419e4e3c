"""Parquet's page headers and footer in Thrift's compact protocol, as far as a bronze file needs them.

Source: Apache Parquet format 2.9, parquet.thrift; Thrift compact protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

import pyarrow as pa

MAGIC = b"PAR1"
CODEC_ZSTD = 6
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _BINARY, _LIST, STRUCT = 1, 2, 3, 4, 5, 6, 8, 9, 12


class Physical(IntEnum):
    """Parquet's physical types."""

    INT32 = 1
    INT64 = 2
    BYTE_ARRAY = 6


class Encoding(IntEnum):
    """Parquet's encodings of values and levels."""

    PLAIN = 0
    RLE = 3
    DELTA_BINARY_PACKED = 5
    RLE_DICTIONARY = 8


class _Converted(IntEnum):
    UTF8 = 0
    DECIMAL = 5
    DATE = 6
    UINT_8 = 11
    INT_8 = 15
    INT_16 = 16


def varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


@lru_cache(maxsize=4096)
def _zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


class Struct:
    """A Thrift struct under construction; fields are added in the order of their numbers."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._last = 0

    def _head(self, number: int, kind: int) -> None:
        self._parts.append(bytes([(number - self._last) << 4 | kind]))
        self._last = number

    def boolean(self, number: int, value: bool) -> Struct:
        self._head(number, _TRUE if value else _FALSE)
        return self

    def byte(self, number: int, value: int) -> Struct:
        self._head(number, _BYTE)
        self._parts.append(bytes([value]))
        return self

    def i16(self, number: int, value: int) -> Struct:
        self._head(number, _I16)
        self._parts.append(_zigzag(value))
        return self

    def i32(self, number: int, value: int) -> Struct:
        self._head(number, _I32)
        self._parts.append(_zigzag(value))
        return self

    def i64(self, number: int, value: int) -> Struct:
        self._head(number, _I64)
        self._parts.append(_zigzag(value))
        return self

    def binary(self, number: int, value: bytes) -> Struct:
        self._head(number, _BINARY)
        self._parts.append(varint(len(value)) + value)
        return self

    def struct(self, number: int, value: Struct) -> Struct:
        self._head(number, STRUCT)
        self._parts.append(value.done())
        return self

    def list(self, number: int, kind: int, items: Sequence[bytes]) -> Struct:
        """A list of elements that are encoded already."""
        self._head(number, _LIST)
        count = len(items)
        self._parts.append(bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind]) + varint(count))
        self._parts += items
        return self

    def structs(self, number: int, values: Sequence[Struct]) -> Struct:
        return self.list(number, STRUCT, [v.done() for v in values])

    def i32s(self, number: int, values: Sequence[int]) -> Struct:
        return self.list(number, _I32, [_zigzag(v) for v in values])

    def binaries(self, number: int, values: Sequence[bytes]) -> Struct:
        return self.list(number, _BINARY, [varint(len(v)) + v for v in values])

    def done(self) -> bytes:
        return b"".join(self._parts) + b"\0"


def _value_type(t: pa.DataType) -> pa.DataType:
    return t.value_type if pa.types.is_dictionary(t) else t


@lru_cache(maxsize=4096)
def physical_type(column: pa.Field) -> Physical | None:
    """Where a column's values go; None for a type that the encoder doesn't serve."""
    t = _value_type(column.type)
    if pa.types.is_string(t):
        return Physical.BYTE_ARRAY
    if pa.types.is_int64(t):
        return Physical.INT64
    if pa.types.is_decimal(t) and 10 <= t.precision <= 18:
        return Physical.INT64
    if pa.types.is_date32(t) or t in (pa.int8(), pa.uint8(), pa.int16(), pa.int32()):
        return Physical.INT32
    return None


def serves(schema: pa.Schema) -> bool:
    """Whether the encoder knows every column's type: integers but UINT32 and UINT64, DECIMAL of 10 to 18
    digits, DATE and text.
    """
    return all(physical_type(f) is not None for f in schema)


def _integer(width: int, *, signed: bool) -> Struct:
    return Struct().struct(10, Struct().byte(1, width).boolean(2, signed))


def _element(field_: pa.Field) -> Struct:
    """The schema element of one column: type, repetition, name, and what the numbers mean."""
    t = _value_type(field_.type)
    element = (
        Struct().i32(1, physical_type(field_)).i32(3, int(field_.nullable)).binary(4, field_.name.encode())
    )
    if pa.types.is_string(t):
        return element.i32(6, _Converted.UTF8).struct(10, Struct().struct(1, Struct()))
    if pa.types.is_decimal(t):
        logical = Struct().struct(5, Struct().i32(1, t.scale).i32(2, t.precision))
        return element.i32(6, _Converted.DECIMAL).i32(7, t.scale).i32(8, t.precision).struct(10, logical)
    if pa.types.is_date32(t):
        return element.i32(6, _Converted.DATE).struct(10, Struct().struct(6, Struct()))
    if t == pa.int8():
        return element.i32(6, _Converted.INT_8).struct(10, _integer(8, signed=True))
    if t == pa.uint8():
        return element.i32(6, _Converted.UINT_8).struct(10, _integer(8, signed=False))
    if t == pa.int16():
        return element.i32(6, _Converted.INT_16).struct(10, _integer(16, signed=True))
    return element


def data_page_header(
    *, rows: int, nulls: int, encoding: Encoding, levels_bytes: int, raw_bytes: int, bytes_out: int
) -> bytes:
    """Header of a version 2 data page; ``raw_bytes`` and ``bytes_out`` are of the values, without the levels."""
    # Put together here, not by Struct: there are 72 of these for each row group of a book.
    return b"".join(
        (
            b"\x15\x06\x15",  # type: DATA_PAGE_V2
            _zigzag(levels_bytes + raw_bytes),
            b"\x15",
            _zigzag(levels_bytes + bytes_out),
            b"\x5c\x15",  # the header of version 2: rows with NULLs, NULLs, rows, encoding, lengths of the levels
            _zigzag(rows),
            b"\x15",
            _zigzag(nulls),
            b"\x15",
            _zigzag(rows),
            b"\x15",
            _zigzag(encoding),
            b"\x15",
            _zigzag(levels_bytes),
            b"\x15\x00\x11\x00\x00",  # no repetition levels; compressed; both structs end
        )
    )


def dictionary_page_header(*, entries: int, raw_bytes: int, bytes_out: int) -> bytes:
    return b"".join(
        (
            b"\x15\x04\x15",  # type: DICTIONARY_PAGE
            _zigzag(raw_bytes),
            b"\x15",
            _zigzag(bytes_out),
            b"\x4c\x15",
            _zigzag(entries),
            b"\x15\x00\x00\x00",  # PLAIN
        )
    )


@dataclass
class Chunk:
    """One column of one row group, as the footer has it. Offsets are from the start of the file."""

    field: pa.Field
    encodings: list[Encoding]
    values: int
    raw_bytes: int
    bytes_out: int
    data_offset: int
    dictionary_offset: int | None = None
    statistics: tuple[bytes, bytes, int] | None = None  # least and greatest value, number of NULLs

    def encoded(self) -> bytes:
        """A ColumnChunk; of its fields in ColumnMetaData put together here, see `data_page_header`."""
        parts = [
            b"\x26\x00\x1c",  # file_offset: 0, as nothing stands there; then the metadata
            _metadata_head(physical_type(self.field), tuple(self.encodings), self.field.name),
            b"\x16" + _zigzag(self.values),
            b"\x16" + _zigzag(self.raw_bytes),
            b"\x16" + _zigzag(self.bytes_out),
            b"\x26" + _zigzag(self.data_offset),
        ]
        statistics = b"\x3c"
        if self.dictionary_offset is not None:
            parts.append(b"\x26" + _zigzag(self.dictionary_offset))
            statistics = b"\x1c"
        if self.statistics is not None:
            least, greatest, nulls = self.statistics
            parts += [statistics, Struct().i64(3, nulls).binary(5, greatest).binary(6, least).done()]
        parts.append(b"\0\0")
        return b"".join(parts)


@lru_cache(maxsize=4096)
def _metadata_head(physical: Physical, encodings: tuple[Encoding, ...], name: str) -> bytes:
    head = Struct().i32(1, physical).i32s(2, encodings).binaries(3, [name.encode()]).i32(4, CODEC_ZSTD)
    return head.done()[:-1]  # it goes on


@dataclass
class RowGroup:
    """Its columns in schema order, and its rows."""

    rows: int
    offset: int
    chunks: list[Chunk] = field(default_factory=list)

    def struct(self, number: int) -> Struct:
        raw, out = sum(c.raw_bytes for c in self.chunks), sum(c.bytes_out for c in self.chunks)
        group = Struct().list(1, STRUCT, [c.encoded() for c in self.chunks]).i64(2, raw).i64(3, self.rows)
        return group.i64(5, self.offset).i64(6, out).i16(7, number)


def footer(schema: pa.Schema, groups: Sequence[RowGroup], metadata: dict[str, str], created_by: str) -> bytes:
    """What stands after the last row group: FileMetaData, its length, and the magic number."""
    root = Struct().i32(3, 0).binary(4, b"schema").i32(5, len(schema))
    pairs = [Struct().binary(1, k.encode()).binary(2, v.encode()) for k, v in metadata.items()]
    data = (
        Struct()
        .i32(1, 2)
        .structs(2, [root, *(_element(f) for f in schema)])
        .i64(3, sum(g.rows for g in groups))
        .structs(4, [g.struct(i) for i, g in enumerate(groups)])
        .structs(5, pairs)
        .binary(6, created_by.encode())
        # Each column's order is that of its type: without this a reader may not use the statistics.
        .structs(7, [Struct().struct(1, Struct()) for _ in schema])
        .done()
    )
    return data + len(data).to_bytes(4, "little") + MAGIC
