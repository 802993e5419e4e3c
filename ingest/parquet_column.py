"""One column of a row group on its way to a Parquet column chunk: values come in parts, bytes go out at the end.

What is kept of a part are its runs: a book changes in 2 to 30 % of the rows, so that a row group's runs are a tenth
of its values. The chunk doesn't tell in how many parts its values came.
"""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import zstandard

from ingest import parquet_kernels as kernels
from ingest.parquet_footer import (
    Encoding,
    Physical,
    data_page_header,
    dictionary_page_header,
    physical_type,
    varint,
)

ZSTD_LEVEL = 3
_WIDTHS = {Physical.INT32: np.dtype("<i4"), Physical.INT64: np.dtype("<i8")}
_NONE = np.empty(0, np.int64)


class Workspace(threading.local):
    """What one thread works with, grown to the largest part and row group so far."""

    scratch: kernels.Scratch | None = None
    compressor: zstandard.ZstdCompressor | None = None

    def ready(self, rows: int) -> kernels.Scratch:
        if self.compressor is None:
            self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        if self.scratch is None or self.scratch.rows < rows:
            self.scratch = kernels.Scratch(rows)
        return self.scratch


workspace = Workspace()


class ColumnChunk:
    """The values of one column chunk, from the first ``add`` until ``encoded`` gives its bytes."""

    def __init__(self, field: pa.Field, *, delta: bool) -> None:
        self._field, self._delta = field, delta
        self._physical = physical_type(field)
        self._is_text = self._physical == Physical.BYTE_ARRAY
        self._kind = None if self._is_text else _stored(field.type)
        self._width = _WIDTHS.get(self._physical, np.dtype("<i4"))
        self._numbers_of: dict[str, int] = {}  # of texts: a number for each, in the order in which they came
        self._clear()

    def _clear(self) -> None:
        self.rows = self.nulls = self._count = 0
        self._valid: list[tuple[int, np.ndarray | None]] = []  # rows of each part and their bits, None: all
        self._whole: list[np.ndarray] | None = [] if self._delta else None  # values, where runs don't pay
        self._starts: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._runs, self._last = 0, 0
        self._entries = self._entry_runs = _NONE
        self._numbers_of.clear()

    def add(self, array: pa.Array) -> None:
        """Append the values of ``array``; nothing of its memory is kept."""
        if self._is_text and pa.types.is_dictionary(array.type) and array.dictionary.null_count:
            array = array.dictionary_decode()
        rows, nulls = len(array), array.null_count
        if nulls and not self._field.nullable:
            raise ValueError(f"column {self._field.name} had {nulls} NULLs, expected none")
        self.rows += rows
        self.nulls += nulls
        if self._field.nullable:
            self._valid.append((rows, np.packbits(_valid(array)) if nulls else None))
        if nulls == rows:
            return
        if self._is_text:
            values = self._text_numbers(array)
            if values is None:
                self._count += rows - nulls
                return
        else:
            values = _present(array, np.frombuffer(array.buffers()[1], self._kind), nulls)
        self._add_values(values)

    def _add_values(self, values: np.ndarray) -> None:
        if self._whole is None:
            found = self._add_runs(values)
            if found:
                self._count += len(values)
                return
            self._whole = (
                [self._decoded()] if self._count else []
            )  # too many for a dictionary, now and to the end
            self._forget_runs()
        self._whole.append(values.astype(self._width))  # a copy: the memory is the caller's
        self._count += len(values)

    def _add_runs(self, values: np.ndarray) -> bool:
        s = workspace.ready(len(values))
        runs, found = kernels.code_values(
            values, self._count, self._last, self._entries, self._entry_runs,
            s.starts, s.codes, s.table, s.entries, s.counts,
        )  # fmt: skip
        if found < 0:
            return False
        if runs:
            self._starts.append(s.starts[:runs].copy())
            self._codes.append(s.codes[:runs].astype(np.uint16))
            self._entries, self._entry_runs = s.entries[:found].copy(), s.counts[:found].copy()
            self._last = int(s.entries[s.codes[runs - 1]])
            self._runs += runs
        return True

    def _forget_runs(self) -> None:
        self._starts, self._codes, self._runs = [], [], 0
        self._entries = self._entry_runs = _NONE

    def _decoded(self) -> np.ndarray:
        """The values again, from their runs."""
        starts = np.concatenate([*self._starts, [self._count]])
        return np.repeat(self._entries[np.concatenate(self._codes)], np.diff(starts)).astype(self._width)

    def _text_numbers(self, array: pa.Array) -> np.ndarray | None:
        """The numbers of the texts that are not NULL; None where all go on the run before."""
        if not pa.types.is_dictionary(array.type):
            array = array.drop_null().dictionary_encode()
        known = self._numbers_of
        numbers = [known.setdefault(text, len(known)) for text in array.dictionary.to_pylist()]
        if len(numbers) == 1:  # its indexes need no look
            if self._runs and self._last == numbers[0]:
                return None
            return np.full(len(array) - array.null_count, numbers[0], np.int32)
        indices = array.indices
        kind = indices.type.to_pandas_dtype()
        values = _present(indices, np.frombuffer(indices.buffers()[1], kind), indices.null_count)
        if numbers == list(range(len(numbers))):
            return values.astype(np.int32, copy=False)
        return np.array(numbers, np.int32)[values]

    def encoded(self, *, statistics: bool) -> Encoded:
        """The finished chunk. The column is empty again after it, for the next row group."""
        made = _Page(self)
        compress = workspace.compressor.compress
        levels = self._levels()
        parts, raw_bytes, dictionary_bytes = [], 0, 0
        if made.dictionary is not None:
            packed = compress(made.dictionary)
            head = dictionary_page_header(
                entries=made.entries, raw_bytes=len(made.dictionary), bytes_out=len(packed)
            )
            raw_bytes += len(head) + len(made.dictionary)
            parts += [head, packed]
            dictionary_bytes = len(head) + len(packed)
        packed = compress(made.data)
        head = data_page_header(
            rows=self.rows, nulls=self.nulls, encoding=made.encoding, levels_bytes=len(levels),
            raw_bytes=len(made.data), bytes_out=len(packed),
        )  # fmt: skip
        raw_bytes += len(head) + len(levels) + len(made.data)
        parts += [head, levels, packed]
        told = statistics and self.nulls < self.rows
        encoded = Encoded(
            parts,
            made.encoding,
            raw_bytes,
            dictionary_bytes,
            (*made.extremes(), self.nulls) if told else None,
        )
        self._clear()
        return encoded

    def _levels(self) -> bytes:
        """Definition levels: 1 where a row has a value."""
        if not self._field.nullable or not self.rows:
            return b""
        if not self.nulls:
            return varint(self.rows << 1) + b"\x01"
        valid = np.concatenate(
            [
                np.ones(n, np.uint8) if bits is None else np.unpackbits(bits, count=n)
                for n, bits in self._valid
            ]
        )
        out = np.empty(6 * self.rows + 16, np.uint8)
        starts = workspace.ready(self.rows).starts
        return out[: kernels.encode_levels(valid, starts, out)].tobytes()


class Encoded:
    """Bytes of a column chunk, and what the footer says of them."""

    def __init__(
        self,
        parts: list[bytes],
        encoding: Encoding,
        raw_bytes: int,
        dictionary_bytes: int,
        statistics: tuple[bytes, bytes, int] | None,
    ) -> None:
        self.parts = parts
        self.encodings = [encoding, Encoding.RLE]
        if dictionary_bytes:
            self.encodings.insert(0, Encoding.PLAIN)
        self.raw_bytes, self.dictionary_bytes = raw_bytes, dictionary_bytes
        self.statistics = statistics


class _Page:
    """The values of a column chunk, encoded but not compressed. Valid until the scratch is used again."""

    def __init__(self, c: ColumnChunk) -> None:
        self._width, count = c._width, c._count
        self._texts = list(c._numbers_of) if c._is_text else None
        self.dictionary: bytes | None = None
        self.entries = 0
        s = workspace.ready(count)
        if c._delta:
            self.encoding = Encoding.DELTA_BINARY_PACKED
            values = c._whole[0] if len(c._whole) == 1 else np.concatenate([np.empty(0, c._width), *c._whole])
            length, least, greatest = kernels.encode_delta(values, s.out)
            self.data, self._extremes = s.out[:length].data, (least, greatest)
            return
        if c._whole is not None or len(c._entries) > kernels.most_entries(count):
            self.encoding = Encoding.PLAIN
            self._set_plain(c._decoded() if c._whole is None else np.concatenate(c._whole))
            return
        self.encoding = Encoding.RLE_DICTIONARY
        runs, found, at = c._runs, len(c._entries), 0
        s.entries[:found] = c._entries
        for starts, codes in zip(c._starts, c._codes, strict=True):
            s.starts[at : at + len(starts)], s.codes[at : at + len(codes)] = starts, codes
            at += len(starts)
        s.starts[runs] = count
        length, self.entries = kernels.encode_runs(
            s.starts, runs, s.codes, found, c._entry_runs, s.entries, s.out
        )
        self.data = s.out[:length].data
        entries = s.entries[: self.entries]
        if self._texts is not None:
            self._texts = [self._texts[i] for i in entries.tolist()]
            self.dictionary = _plain_texts(self._texts)
        else:
            self.dictionary = entries.astype(c._width).tobytes()
            self._extremes = (entries.min(), entries.max()) if len(entries) else None

    def _set_plain(self, values: np.ndarray) -> None:
        if self._texts is not None:
            self._texts = [self._texts[i] for i in values.tolist()]
            self.data = _plain_texts(self._texts)
            return
        self.data = values.view(np.uint8).data
        self._extremes = values.min(), values.max()

    def extremes(self) -> tuple[bytes, bytes]:
        """Least and greatest value in their plain form; of texts by their bytes."""
        if self._texts is not None:
            texts = [text.encode() for text in set(self._texts)]
            return min(texts), max(texts)
        least, greatest = (
            int(v).to_bytes(self._width.itemsize, "little", signed=True) for v in self._extremes
        )
        return least, greatest


def _stored(t: pa.DataType) -> np.dtype:
    """How Arrow stores the values of a type; of wide decimals, whose digits fit the lower half, two words each."""
    if pa.types.is_decimal(t):
        return np.dtype("<i8") if t.bit_width == 64 else np.dtype([("low", "<i8"), ("high", "<i8")])
    return np.dtype("<i4") if pa.types.is_date32(t) else np.dtype(t.to_pandas_dtype())


def _present(array: pa.Array, stored: np.ndarray, nulls: int) -> np.ndarray:
    """The values that are not NULL as integers of 4 or 8 bytes, contiguous. ``stored`` starts before the offset."""
    at = array.offset
    values = stored[at : at + len(array)]
    if values.dtype.names:
        values = values["low"]
    if nulls:
        values = values[_valid(array).view(bool)]
    return values.astype(np.int32) if values.dtype.itemsize < 4 else np.ascontiguousarray(values)


def _valid(array: pa.Array) -> np.ndarray:
    """1 where a row has a value, else 0, (n,) uint8."""
    n, at = len(array), array.offset
    if array.null_count == n:
        return np.zeros(n, np.uint8)
    if not array.null_count:
        return np.ones(n, np.uint8)
    bits = np.frombuffer(array.buffers()[0], np.uint8)[at // 8 :]
    return np.unpackbits(bits, bitorder="little", count=at % 8 + n)[at % 8 :]


def _plain_texts(texts: list[str]) -> bytes:
    """Texts as PLAIN BYTE_ARRAY: each its length in 4 bytes, then its bytes."""
    encoded = {text: (data := text.encode(), len(data).to_bytes(4, "little")) for text in set(texts)}
    return b"".join(part for text in texts for part in encoded[text][::-1])
