"""The one content digest of every dataset (spec/market.md 11.1): of the rows, not of the bytes of a file.

A column's digest covers its name, its logical type, the validity bitmap and the canonical little-endian values;
the table's digest covers the columns' in schema order. Layout, compression, row groups, chunking and dictionary
encoding do not enter; values under NULL count as zero, −0.0 as 0.0. To be computed in one pass over batches, the
validity and the values of a column are hashed apart and their digests joined.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


class UndigestibleType(TypeError):
    """A column has a type that no canonical form is defined for."""


def logical_type(t: pa.DataType) -> str:
    """Name of a type that does not depend on how an engine stores it (dictionary, large or plain string, …)."""
    if pa.types.is_dictionary(t):
        return logical_type(t.value_type)
    if pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t):
        return "string"
    if pa.types.is_decimal(t):
        return f"decimal({t.precision},{t.scale})"
    if pa.types.is_date(t):
        return "date"
    if pa.types.is_timestamp(t):
        return f"timestamp(us{',UTC' if t.tz else ''})"
    if pa.types.is_list(t) or pa.types.is_large_list(t):
        return f"list<{logical_type(t.value_type)}>"
    if pa.types.is_struct(t):
        return "struct<" + ",".join(f"{f.name}:{logical_type(f.type)}" for f in t) + ">"
    if pa.types.is_boolean(t) or pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_null(t):
        return str(t)
    raise UndigestibleType(
        f"column type was {t}, expected a boolean, number, decimal, date, timestamp, string, list or struct"
    )


class _Bits:
    """Validity bits in row order, packed across batches: a byte is hashed when its eight rows are known."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.rest = np.zeros(0, dtype=np.uint8)
        self.rows = 0

    def all_set(self, n: int) -> None:
        if len(self.rest) == 0 and n % 8 == 0:
            self.rows += n
            self.hash.update(b"\xff" * (n // 8))
        else:
            self.update(np.ones(n, dtype=np.uint8))

    def update(self, bits: np.ndarray) -> None:
        self.rows += len(bits)
        bits = np.concatenate([self.rest, bits]) if len(self.rest) else bits
        whole = len(bits) // 8 * 8
        self.hash.update(np.packbits(bits[:whole], bitorder="little").data)
        self.rest = bits[whole:].astype(np.uint8)

    def digest(self) -> bytes:
        h = self.hash.copy()
        if len(self.rest):
            h.update(np.packbits(self.rest, bitorder="little").data)
        h.update(self.rows.to_bytes(8, "little"))
        return h.digest()


class _Column:
    def __init__(self, name: str, t: pa.DataType) -> None:
        self.name = name
        self.type = logical_type(t)
        self.bits = _Bits()
        self.values = hashlib.sha256()
        self.lengths: hashlib._Hash | None = None
        self.children: list[_Column] = []
        if self.type == "string" or self.type.startswith("list<"):
            self.lengths = hashlib.sha256()
        if self.type.startswith("list<"):
            self.children = [_Column("item", t.value_type)]
        elif self.type.startswith("struct<"):
            self.children = [_Column(f.name, f.type) for f in t]

    def update(self, array: pa.Array) -> None:
        n = len(array)
        if array.null_count == 0:
            self.bits.all_set(n)
        else:
            self.bits.update(pc.is_valid(array).to_numpy(zero_copy_only=False).view(np.uint8))
        if self.type == "string":
            self._update_strings(array)
        elif self.lengths is not None:
            self.lengths.update(_fill(pc.list_value_length(array), 0).cast(pa.int32()).to_numpy().data)
            self.children[0].update(pc.list_flatten(array))
        elif self.children:
            for child, values in zip(self.children, array.flatten(), strict=True):
                child.update(values)
        elif self.type != "null":
            self.values.update(_little_endian(array).data)

    def _update_strings(self, array: pa.Array) -> None:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        array = _fill(array.cast(pa.large_string()), "")
        offsets = np.frombuffer(array.buffers()[1], dtype=np.int64, count=len(array) + 1 + array.offset)[
            array.offset :
        ]
        self.lengths.update(np.ascontiguousarray(np.diff(offsets).astype("<i4")).data)
        data = array.buffers()[2]
        if data is not None and len(array):
            self.values.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])

    def digest(self) -> bytes:
        h = hashlib.sha256()
        for part in (self.name.encode(), self.type.encode()):
            h.update(len(part).to_bytes(4, "little") + part)
        h.update(self.bits.digest())
        if self.lengths is not None:
            h.update(self.lengths.digest())
        h.update(self.values.digest())
        for child in self.children:
            h.update(child.digest())
        return h.digest()


def _fill(array: pa.Array, value: object) -> pa.Array:
    return pc.fill_null(array, value) if array.null_count else array


def _little_endian(array: pa.Array) -> np.ndarray:
    """Fixed-width values as contiguous little-endian numbers, zero under NULL."""
    t = array.type
    if pa.types.is_dictionary(t):
        return _little_endian(array.dictionary_decode())
    if pa.types.is_decimal(t):
        width = t.bit_width // 8
        raw = np.frombuffer(array.buffers()[1], dtype=np.uint8)[
            array.offset * width : (array.offset + len(array)) * width
        ]
        raw = raw.reshape(-1, width)
        # The width follows from the precision, not from how wide the engine stored it. Two's complement,
        # little-endian: cutting drops sign bytes only, and widening repeats the sign.
        canonical = 8 if t.precision <= 18 else 16 if t.precision <= 38 else 32
        if width < canonical:
            sign = np.where(raw[:, -1:] & 0x80, 0xFF, 0).astype(np.uint8)
            raw = np.hstack([raw, np.repeat(sign, canonical - width, axis=1)])
        values = np.ascontiguousarray(raw[:, :canonical])
        return _zero_nulls(values, array)
    if pa.types.is_boolean(t):
        return _fill(array, False).to_numpy(zero_copy_only=False).view(np.uint8)
    if pa.types.is_date(t):
        array = array.cast(pa.date32()).cast(pa.int32())
    elif pa.types.is_timestamp(t):
        array = array.cast(pa.timestamp("us", t.tz)).cast(pa.int64())
    values = _fill(array, 0).to_numpy()
    if values.dtype.kind == "f":
        values = values + 0.0  # turns −0.0 into 0.0
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _zero_nulls(values: np.ndarray, array: pa.Array) -> np.ndarray:
    if array.null_count:
        values = values.copy()
        values[~pc.is_valid(array).to_numpy(zero_copy_only=False)] = 0
    return values


class ContentDigest:
    """Digest of a table that arrives in batches, its rows in key order.

    ``exclude`` names the columns that are lineage (run_id, created_at, …) and stay out. Batches must have the
    schema's columns, by name; a field's nullability and encoding do not matter.
    """

    def __init__(self, schema: pa.Schema, exclude: Collection[str] = ()) -> None:
        self.columns = [_Column(f.name, f.type) for f in schema if f.name not in exclude]

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        for column in self.columns:
            values = batch.column(column.name)
            for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
                column.update(chunk)

    def hexdigest(self) -> str:
        h = hashlib.sha256()
        for column in self.columns:
            h.update(column.digest())
        return h.hexdigest()


def table_digest(table: pa.Table, exclude: Collection[str] = ()) -> str:
    digest = ContentDigest(table.schema, exclude)
    digest.update(table)
    return digest.hexdigest()


def file_digest(path: Path, exclude: Collection[str] = ()) -> str:
    """Content digest of a Parquet file, one row group at a time: memory is bounded by a row group."""
    with pq.ParquetFile(path) as file:
        digest = ContentDigest(file.schema_arrow, exclude)
        for batch in file.iter_batches(batch_size=122_880, use_threads=False):
            digest.update(batch)
        return digest.hexdigest()
