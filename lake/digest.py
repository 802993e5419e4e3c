"""The one content digest of every dataset (spec/market.md 11.1): of the rows, not of the bytes of a file.

A column's digest covers its name, its logical type, the validity bitmap and the canonical little-endian values;
the table's digest covers the columns' in schema order. Layout, compression, row groups, chunking and dictionary
encoding do not enter; values under NULL count as zero, −0.0 as 0.0. To be computed in one pass over batches, the
validity and the values of a column are hashed apart and their digests joined.
"""

import functools
import hashlib
import sys
import threading
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa


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
    if isinstance(t, pa.UuidType):
        return "uuid"
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


_PAIRED_ROWS = 1 << 13
_PATTERN_STEP = 1 << 13
_PATTERN_STATES = 256  # kept of each pattern: hours of up to 2 million rows
_PATTERNS = 256
_states: dict[bytes, list] = {}  # pattern → sha256 after 0, 1, 2, … times _PATTERN_STEP repetitions
_states_lock = threading.Lock()


def _repeated(pattern: bytes, count: int) -> "hashlib._Hash":
    """sha256 of ``count`` times ``pattern``. The hours of a delivery start with the same constant columns, and most
    validity is all ones: what was hashed once is gone on from.
    """
    with _states_lock:
        if pattern not in _states and len(_states) >= _PATTERNS:
            _states.clear()
        states = _states.setdefault(pattern, [hashlib.sha256()])
        step = min(count // _PATTERN_STEP, _PATTERN_STATES)
        while len(states) <= step:
            state = states[-1].copy()
            state.update(pattern * _PATTERN_STEP)
            states.append(state)
        state = states[step].copy()
    rest = count - step * _PATTERN_STEP
    while rest:
        part = min(rest, 1 << 16)
        state.update(pattern * part)
        rest -= part
    return state


class _Stream:
    """sha256 of bytes in parts; the repetitions that it starts with are counted, and hashed at need."""

    def __init__(self) -> None:
        self._pattern, self._count = b"", 0
        self._hash: hashlib._Hash | None = None

    def repeat(self, pattern: bytes, count: int) -> None:
        if not count or not pattern:
            return
        if self._hash is None and self._pattern in (b"", pattern):
            self._pattern = pattern
            self._count += count
        else:
            self._started().update(pattern * count)

    def update(self, data: bytes | memoryview) -> None:
        self._started().update(data)

    def _started(self) -> "hashlib._Hash":
        if self._hash is None:
            self._hash = _repeated(self._pattern, self._count)
        return self._hash

    def in_pairs(self, pairs: "_Pairs", rows: int) -> bool:
        """Whether the next update may go through ``pairs``: what began with few rows goes on with hashlib."""
        if self._hash is None and rows >= _PAIRED_ROWS:
            self._hash = pairs.new()
            while self._count:
                part = min(self._count, _PATTERN_STEP)
                self._hash.update(self._pattern * part)
                self._count -= part
        return isinstance(self._hash, pairs.new)

    def pair(self, pairs: "_Pairs", values: np.ndarray) -> None:
        pairs.add(self._hash, values)

    def copy(self) -> "hashlib._Hash":
        return self._started().copy() if self._hash else _repeated(self._pattern, self._count)

    def digest(self) -> bytes:
        return self.copy().digest()


class _Pairs:
    """Updates that wait for another one of their size: two are hashed at once, in two thirds of the time."""

    def __init__(self) -> None:
        from lake.paired_sha256 import Sha256, update_two  # noqa: PLC0415

        self.new, self._both = Sha256, update_two
        self._waiting: dict[int, tuple] = {}

    def add(self, hash_: object, values: np.ndarray) -> None:
        for waiting, _ in self._waiting.values():
            if hash_ is waiting:
                self.flush()
                break
        other = self._waiting.pop(values.nbytes, None)
        if other is None:
            self._waiting[values.nbytes] = (hash_, values)
        else:
            self._both(*other, hash_, values)

    def flush(self) -> None:
        for hash_, values in self._waiting.values():
            hash_.update(values)
        self._waiting.clear()


@functools.cache
def _has_pairs() -> bool:
    from lake.paired_sha256 import available  # noqa: PLC0415

    return available()


def _pairs() -> _Pairs | None:
    """Only where numba is at work anyway: it is too large to be imported for this."""
    return _Pairs() if "numba" in sys.modules and _has_pairs() else None


class _Bits:
    """Validity bits in row order, packed across batches: a byte is hashed when its eight rows are known."""

    def __init__(self) -> None:
        self.stream = _Stream()
        self.rest = np.zeros(0, dtype=np.uint8)
        self.rows = 0

    def constant(self, bit: int, n: int) -> None:
        if len(self.rest):
            head = min(n, 8 - len(self.rest))
            self.update(np.full(head, bit, dtype=np.uint8))
            n -= head
        self.rows += n
        self.stream.repeat(b"\xff" if bit else b"\0", n // 8)
        if n % 8:
            self.rest = np.full(n % 8, bit, dtype=np.uint8)

    def update(self, bits: np.ndarray) -> None:
        self.rows += len(bits)
        bits = np.concatenate([self.rest, bits]) if len(self.rest) else bits
        whole = len(bits) // 8 * 8
        packed = np.packbits(bits[:whole], bitorder="little")
        if len(packed) == 1:  # the eighth row of a constant
            self.stream.repeat(packed.tobytes(), 1)
        else:
            self.stream.update(packed.data)
        self.rest = bits[whole:].astype(np.uint8)

    def digest(self) -> bytes:
        h = self.stream.copy()
        if len(self.rest):
            h.update(np.packbits(self.rest, bitorder="little").data)
        h.update(self.rows.to_bytes(8, "little"))
        return h.digest()


class _Column:
    def __init__(self, name: str, t: pa.DataType) -> None:
        self.name = name
        self.type = logical_type(t)
        self.bits = _Bits()
        self.values = _Stream()
        self.lengths: _Stream | None = None
        self.children: list[_Column] = []
        self._stored_type: pa.DataType | None = None  # of the array before
        self._stored_kind: np.dtype | None = None
        if self.type == "string" or self.type.startswith("list<"):
            self.lengths = _Stream()
        if self.type.startswith("list<"):
            self.children = [_Column("item", t.value_type)]
        elif self.type.startswith("struct<"):
            self.children = [_Column(f.name, f.type) for f in t]

    def update(self, array: pa.Array, pairs: _Pairs | None = None) -> None:
        n = len(array)
        if array.null_count in (0, n):
            self.bits.constant(int(array.null_count == 0), n)
        else:
            self.bits.update(_is_valid(array).view(np.uint8))
        if self.type == "string":
            self._update_strings(array, pairs)
        elif self.lengths is not None:
            import pyarrow.compute as pc  # noqa: PLC0415

            lengths = pc.list_value_length(array).cast(pa.int32())
            counts = _zero_nulls(_buffer(lengths, np.dtype("<i4")), lengths)
            self.lengths.update(counts.data)
            # Arrow can't flatten NULLs alone to structs that hold a UUID.
            if counts.any():
                self.children[0].update(pc.list_flatten(array))
        elif self.children:
            for child, values in zip(self.children, array.flatten(), strict=True):
                child.update(values)
        elif self.type != "null":
            self._update_values(self._numbers(array), pairs)

    def _numbers(self, array: pa.Array) -> np.ndarray:
        """As `_little_endian`; the usual column, whose memory is canonical already, without asking for its type."""
        if array.type != self._stored_type:
            self._stored_type, self._stored_kind = array.type, _canonical_kind(array.type)
        if self._stored_kind is None or array.null_count:
            return _little_endian(array)
        return _buffer(array, self._stored_kind)

    def _update_values(self, values: np.ndarray, pairs: _Pairs | None) -> None:
        n = len(values)
        # Three rows tell nearly always that a column isn't constant.
        if n and _alike(values, n // 2) and _alike(values, n - 1) and (values == values[0]).all():
            self.values.repeat(values[:1].tobytes(), n)
        elif pairs is not None and self.values.in_pairs(pairs, n):
            self.values.pair(pairs, values)
        else:
            self.values.update(values.data)

    def _update_strings(self, array: pa.Array, pairs: _Pairs | None) -> None:
        n = len(array)
        if array.null_count == n:
            self.lengths.repeat(bytes(4), n)
            return
        if pa.types.is_dictionary(array.type):
            if self._update_from_few(array, pairs):
                return
            array = array.dictionary_decode()
        array = array.cast(pa.large_string())
        offsets = _offsets(array)
        lengths = _zero_nulls(np.diff(offsets).astype("<i4"), array)
        self.lengths.update(np.ascontiguousarray(lengths).data)
        if array.null_count and lengths.sum(dtype=np.int64) != offsets[-1] - offsets[0]:
            array = array.drop_null()  # texts stand under NULLs
            offsets = _offsets(array)
        data = array.buffers()[2]
        if data is not None and len(array):
            self.values.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])

    def _update_from_few(self, array: pa.DictionaryArray, pairs: _Pairs | None) -> bool:
        """Texts that are all of one length, straight from their numbers; False where there is more to it."""
        texts, indices, n = array.dictionary, array.indices, len(array)
        if (
            array.null_count
            or texts.null_count
            or not 0 < len(texts) <= 1024
            or not pa.types.is_string(texts.type)
        ):
            return False
        distinct = [text.encode() for text in texts.to_pylist()]
        length = len(distinct[0])
        if any(len(text) != length for text in distinct):
            return False
        self.lengths.repeat(length.to_bytes(4, "little"), n)
        if len(distinct) == 1:
            self.values.repeat(distinct[0], n)
        elif length:
            table = np.frombuffer(b"".join(distinct), dtype=np.uint8)
            table = table.view(f"u{length}") if length in (1, 2, 4, 8) else table.reshape(-1, length)
            self._update_values(table[_buffer(indices, _number_type(indices.type))], pairs)
        return True

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


def _alike(values: np.ndarray, row: int) -> bool:
    """Whether ``row`` equals the first one; numbers (n,) without the detour over arrays."""
    same = values[row] == values[0]
    return bool(same if values.ndim == 1 else same.all())


def _offsets(array: pa.LargeStringArray) -> np.ndarray:
    """int64 (n + 1,): where each text starts in the data, and where the last one ends."""
    n = len(array)
    return np.frombuffer(array.buffers()[1], dtype=np.int64, count=n + 1 + array.offset)[array.offset :]


# Not array.to_numpy: its first call imports pandas, 0.1 s and 50 MB.
def _buffer(array: pa.Array, kind: np.dtype) -> np.ndarray:
    """The values of a fixed-width array, zero-copy; under NULL stands anything."""
    if not len(array):
        return np.empty(0, dtype=kind)
    start = array.offset * kind.itemsize
    return np.frombuffer(array.buffers()[1], dtype=kind, count=len(array), offset=start)


def _number_type(t: pa.DataType) -> np.dtype:
    kind = "f" if pa.types.is_floating(t) else "i" if pa.types.is_signed_integer(t) else "u"
    return np.dtype(f"<{kind}{t.bit_width // 8}")


def _canonical_kind(t: pa.DataType) -> np.dtype | None:
    """Type of the numbers of an array whose memory is what is hashed; None where there is more to it."""
    if pa.types.is_integer(t):
        return _number_type(t)
    return np.dtype("<i8") if pa.types.is_decimal64(t) else None


def _is_valid(array: pa.Array) -> np.ndarray:
    """Boolean (n,): which rows are not NULL."""
    if pa.types.is_dictionary(array.type):  # a number may stand for a NULL in the dictionary
        array = array.is_valid()
        return _bits(array.buffers()[1], array.offset, len(array))
    return _bits(array.buffers()[0], array.offset, len(array))


def booleans(array: pa.BooleanArray | pa.ChunkedArray) -> np.ndarray:
    """Boolean (n,) of an array without NULLs."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return _bits(array.buffers()[1], array.offset, len(array))


def _bits(buffer: pa.Buffer, offset: int, n: int) -> np.ndarray:
    packed = np.frombuffer(buffer, dtype=np.uint8)[offset // 8 :]
    return np.unpackbits(packed, count=offset % 8 + n, bitorder="little")[offset % 8 :].view(bool)


def _little_endian(array: pa.Array) -> np.ndarray:
    """Fixed-width values as contiguous little-endian numbers, zero under NULL; decimals wider than 64 bits as
    rows of bytes.
    """
    t = array.type
    if pa.types.is_dictionary(t):
        return _little_endian(array.dictionary_decode())
    if isinstance(t, pa.UuidType):  # its sixteen bytes as they are written
        return _zero_nulls(_buffer(array.storage, np.dtype("V16")).view(np.uint8).reshape(-1, 16), array)
    if pa.types.is_decimal(t):
        width = t.bit_width // 8
        # The width follows from the precision, not from how wide the engine stored it. Two's complement,
        # little-endian: cutting drops sign bytes only, and widening repeats the sign.
        canonical = 8 if t.precision <= 18 else 16 if t.precision <= 38 else 32
        if width == canonical == 8:
            return _zero_nulls(_buffer(array, np.dtype("<i8")), array)
        raw = _buffer(array, np.dtype(f"V{width}")).view(np.uint8).reshape(-1, width)
        if width < canonical:
            sign = np.where(raw[:, -1:] & 0x80, 0xFF, 0).astype(np.uint8)
            raw = np.hstack([raw, np.repeat(sign, canonical - width, axis=1)])
        return _zero_nulls(np.ascontiguousarray(raw[:, :canonical]), array)
    if pa.types.is_boolean(t):
        values = (
            _bits(array.buffers()[1], array.offset, len(array)) if len(array) else np.empty(0, dtype=bool)
        )
        return _zero_nulls(values.view(np.uint8), array)
    if pa.types.is_date(t):
        array = array.cast(pa.date32()).cast(pa.int32())
    elif pa.types.is_timestamp(t):
        array = array.cast(pa.timestamp("us", t.tz)).cast(pa.int64())
    values = _zero_nulls(_buffer(array, _number_type(array.type)), array)
    if values.dtype.kind == "f":
        values = values + 0.0  # turns −0.0 into 0.0
    return values


def _zero_nulls(values: np.ndarray, array: pa.Array) -> np.ndarray:
    if array.null_count:
        values = values.copy()
        values[~_is_valid(array)] = 0
    return values


class ContentDigest:
    """Digest of a table that arrives in batches, its rows in key order.

    ``exclude`` names the columns that are lineage (run_id, created_at, …) and stay out. Batches must have the
    schema's columns, by name; a field's nullability and encoding do not matter.
    """

    def __init__(self, schema: pa.Schema, exclude: Collection[str] = ()) -> None:
        self.columns = [_Column(f.name, f.type) for f in schema if f.name not in exclude]

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        pairs = _pairs() if batch.num_rows >= _PAIRED_ROWS else None
        for column in self.columns:
            values = batch.column(column.name)
            for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
                column.update(chunk, pairs)
        if pairs is not None:
            pairs.flush()

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
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as file:
        digest = ContentDigest(file.schema_arrow, exclude)
        for batch in file.iter_batches(batch_size=122_880, use_threads=False):
            digest.update(batch)
        return digest.hexdigest()
