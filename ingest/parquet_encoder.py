"""Sorted market rows to a Parquet file, by an encoder that knows them: nearly every value repeats the row before.

What a general writer spends on a book is looking up each of its sixty prices, sizes and counts in a hash table
or compressing it in full. Here one pass finds the runs of equal values, a dictionary is asked once a run, and
the runs themselves are the page. See docs/adr/0006-own-parquet-encoder.md.

The files are plain Parquet: data pages of version 2, one a column chunk, ZSTD level 3; RLE_DICTIONARY,
DELTA_BINARY_PACKED for times and sequences, PLAIN where a dictionary doesn't pay. Equal rows give equal bytes.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import zstandard

from ingest import parquet_kernels as kernels
from ingest.parquet_footer import (
    MAGIC,
    Chunk,
    Encoding,
    Physical,
    RowGroup,
    data_page_header,
    dictionary_page_header,
    footer,
    physical_type,
    varint,
)

ZSTD_LEVEL = 3


class _Workspace(threading.local):
    """What one thread works with, grown to the largest row group so far."""

    scratch: kernels.Scratch | None = None
    compressor: zstandard.ZstdCompressor | None = None

    def ready(self, rows: int) -> kernels.Scratch:
        if self.compressor is None:
            self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        if self.scratch is None or self.scratch.rows < rows:
            self.scratch = kernels.Scratch(rows)
        return self.scratch


_workspace = _Workspace()


class ParquetEncoder:
    """One Parquet file under construction at ``path``; every ``write`` is a row group, ``close`` the footer.

    ``delta`` and ``statistics`` name columns, as far as the schema has them. ``bytes`` and ``sha256`` are of
    what has been written. Nothing is synced.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        *,
        delta: Collection[str],
        statistics: Collection[str],
        metadata: dict[str, str],
        created_by: str,
    ) -> None:
        self._schema, self._metadata, self._created_by = schema, metadata, created_by
        self._delta, self._statistics = frozenset(delta), frozenset(statistics)
        self._groups: list[RowGroup] = []
        self._hash = hashlib.sha256()
        self.bytes = 0
        self._file = open(path, "wb")  # noqa: SIM115  # closed by close() or abort()
        self._put(MAGIC)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, table: pa.Table) -> None:
        """Append ``table``, of the schema's columns in order, as one row group."""
        scratch = _workspace.ready(table.num_rows)
        group = RowGroup(table.num_rows, self.bytes)
        for field, column in zip(self._schema, table.columns, strict=True):
            array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            if pa.types.is_dictionary(array.type) and array.dictionary.null_count:
                array = array.dictionary_decode()
            if array.null_count and not field.nullable:
                raise ValueError(f"column {field.name} had {array.null_count} NULLs, expected none")
            group.chunks.append(self._write_chunk(field, array, scratch))
        self._groups.append(group)

    def close(self) -> None:
        self._put(footer(self._schema, self._groups, self._metadata, self._created_by))
        self._file.close()

    def abort(self) -> None:
        self._file.close()

    def _put(self, *parts: bytes) -> None:
        data = b"".join(parts)
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def _write_chunk(self, field: pa.Field, array: pa.Array, scratch: kernels.Scratch) -> Chunk:
        rows, nulls = len(array), array.null_count
        page = _Page(field, array, scratch, delta=field.name in self._delta)
        levels = _levels(field, array, scratch)
        compress = _workspace.compressor.compress
        start, chunk_raw, parts = self.bytes, 0, []
        if page.dictionary is not None:
            packed = compress(page.dictionary)
            head = dictionary_page_header(
                entries=page.entries, raw_bytes=len(page.dictionary), bytes_out=len(packed)
            )
            chunk_raw += len(head) + len(page.dictionary)
            parts += [head, packed]
        data_offset = start + sum(map(len, parts))
        packed = compress(page.data)
        head = data_page_header(
            rows=rows, nulls=nulls, encoding=page.encoding, levels_bytes=len(levels),
            raw_bytes=len(page.data), bytes_out=len(packed),
        )  # fmt: skip
        chunk_raw += len(head) + len(levels) + len(page.data)
        self._put(*parts, head, levels, packed)
        encodings = [page.encoding, Encoding.RLE]
        if page.dictionary is not None:
            encodings.insert(0, Encoding.PLAIN)
        return Chunk(
            field=field,
            encodings=encodings,
            values=rows,
            raw_bytes=chunk_raw,
            bytes_out=self.bytes - start,
            data_offset=data_offset,
            dictionary_offset=None if page.dictionary is None else start,
            statistics=(*page.extremes(), nulls) if field.name in self._statistics and nulls < rows else None,
        )


class _Page:
    """The values of a column chunk, encoded but not compressed. Valid until the scratch is used again."""

    def __init__(self, field: pa.Field, array: pa.Array, scratch: kernels.Scratch, *, delta: bool) -> None:
        self._physical = physical_type(field)
        self._texts: list[bytes] | None = None
        self.dictionary: bytes | None = None
        self.entries = 0
        if pa.types.is_string(array.type):
            array = _text_codes(array)
        if pa.types.is_dictionary(array.type):
            self._texts = [text.encode() for text in array.dictionary.to_pylist()]
        values = _numbers(array)
        if delta:
            self.encoding = Encoding.DELTA_BINARY_PACKED
            length, least, greatest = kernels.encode_delta(values, scratch.out)
            self.data, self._extremes = scratch.out[:length].data, (least, greatest)
            return
        length, self.entries = kernels.encode_dictionary(
            values, scratch.starts, scratch.codes, scratch.table, scratch.counts, scratch.entries, scratch.out
        )
        if length < 0:
            self.encoding, self.entries = Encoding.PLAIN, 0
            self._set_plain(values)
            return
        self.encoding = Encoding.RLE_DICTIONARY
        self.data = scratch.out[:length].data
        entries = scratch.entries[: self.entries]
        if self._texts is not None:
            self._texts = [self._texts[i] for i in entries.tolist()]
            self.dictionary = _plain_texts(self._texts)
        else:
            self.dictionary = entries.astype(_WIDTHS[self._physical]).tobytes()
            self._extremes = (entries.min(), entries.max()) if len(entries) else None

    def _set_plain(self, values: np.ndarray) -> None:
        if self._texts is not None:
            self._texts = [self._texts[i] for i in values.tolist()]
            self.data = _plain_texts(self._texts)
            return
        self.data = np.ascontiguousarray(values, _WIDTHS[self._physical]).view(np.uint8).data
        self._extremes = (values.min(), values.max()) if len(values) else None

    def extremes(self) -> tuple[bytes, bytes]:
        """Least and greatest value in their plain form; of texts by their bytes."""
        if self._texts is not None:
            return min(self._texts), max(self._texts)
        width = _WIDTHS[self._physical].itemsize
        least, greatest = (int(v).to_bytes(width, "little", signed=True) for v in self._extremes)
        return least, greatest


_WIDTHS = {Physical.INT32: np.dtype("<i4"), Physical.INT64: np.dtype("<i8")}


def _levels(field: pa.Field, array: pa.Array, scratch: kernels.Scratch) -> bytes:
    if not field.nullable:
        return b""
    if array.null_count:
        out = np.empty(6 * len(array) + 16, np.uint8)
        return out[: kernels.encode_levels(_valid(array), scratch.starts, out)].tobytes()
    return varint(len(array) << 1) + b"\x01" if len(array) else b""


def _valid(array: pa.Array) -> np.ndarray:
    """1 where a row has a value, else 0, (n,) uint8."""
    n, at = len(array), array.offset
    if array.null_count == n:
        return np.zeros(n, np.uint8)
    bits = np.frombuffer(array.buffers()[0], np.uint8)[at // 8 :]
    return np.unpackbits(bits, bitorder="little", count=at % 8 + n)[at % 8 :]


def _numbers(array: pa.Array) -> np.ndarray:
    """The values that are not NULL as integers, contiguous: of a dictionary its indexes, of decimals their
    mantissas.
    """
    t = array.type
    if pa.types.is_dictionary(t):
        array, t = array.indices, array.type.index_type
    if array.null_count == len(array):
        return np.empty(0, np.int32)
    data, at, n = array.buffers()[1], array.offset, len(array)
    if pa.types.is_decimal128(t):  # so few digits that the lower half is all of it
        values = np.frombuffer(data, np.int64)[2 * at : 2 * (at + n) : 2]
    else:
        kind = (
            np.int64
            if pa.types.is_decimal64(t)
            else np.int32
            if pa.types.is_date32(t)
            else t.to_pandas_dtype()
        )
        values = np.frombuffer(data, kind)[at : at + n]
    if array.null_count:
        values = values[_valid(array).view(bool)]
    if values.dtype.itemsize < 4:
        return values.astype(np.int32)
    return np.ascontiguousarray(values)


def _text_codes(array: pa.Array) -> pa.DictionaryArray:
    """Texts without their NULLs as a dictionary."""
    if array.null_count == len(array):
        return pa.DictionaryArray.from_arrays(pa.nulls(0, pa.int32()), pa.nulls(0, pa.string()))
    return array.drop_null().dictionary_encode()


def _plain_texts(texts: list[bytes]) -> bytes:
    """Texts as PLAIN BYTE_ARRAY: each its length in 4 bytes, then its bytes."""
    return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))
