"""Fixed records to contiguous columns: the buffer between a DBN stream and a Parquet row group.

A block of 8,192 records fits the processor's second cache; `record_columns` reads each record of it once.
Nothing here loops over rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from ingest.bronze_schema import (
    LEVEL_PRICES,
    LEVEL_SIZES,
    PRICE,
    PRICE_LIMIT,
    BronzeSchema,
)
from ingest.dbn_format import UNDEF_PRICE, UNDEF_SIZE, UNDEF_TIMESTAMP
from ingest.errors import RefusedFile
from ingest.record_columns import ColumnCopy

# bronze column → (record field, type in the buffer); ordinal and contract come from outside the record
_FIELDS = {
    "ts_event_ns": ("ts_event", "<i8"),
    "ts_recv_ns": ("ts_recv", "<i8"),
    "sequence": ("sequence", "<i8"),
    "publisher_id": ("publisher_id", "<i2"),
    "instrument_id": ("instrument_id", "<i4"),
    "price": ("price", "<i8"),
    "size": ("size", "<i4"),
    "side": ("side", "u1"),
    "action": ("action", "u1"),
    "flags": ("flags", "u1"),
    "depth": ("depth", "u1"),
    "ts_in_delta": ("ts_in_delta", "<i4"),
}
_ACTIONS = "ACFMNRT"
_SIDES = "ABN"
_TRADE = ord("T")


def _codes(letters: str) -> np.ndarray:
    table = np.full(256, -1, dtype=np.int8)
    for code, letter in enumerate(letters):
        table[ord(letter)] = code
    return table


_ACTION_CODES = _codes(_ACTIONS)
_SIDE_CODES = _codes(_SIDES)
_AGGRESSOR = np.zeros(256, dtype=np.int8)
_AGGRESSOR[ord("B")], _AGGRESSOR[ord("A")] = 1, -1


class RowBuffer:
    """Up to ``capacity`` rows of one bronze schema as columns, in the order they were appended.

    All columns are carved from one allocation, which goes back to the system when the buffer is dropped.
    """

    def __init__(self, schema: BronzeSchema, capacity: int) -> None:
        self.is_mbp = "action" in schema.arrow.names
        fields = self.fields(schema)
        self._sources = {name: field for name, (field, _) in fields.items()}
        kinds = {name: np.dtype(kind) for name, (_, kind) in fields.items()}
        kinds |= {"ordinal": np.dtype("<i8"), "contract": np.dtype("<i4")}
        self.row_bytes = sum(k.itemsize for k in kinds.values())
        # Each column starts on a cache line of its own.
        sizes = {name: -(-capacity * kind.itemsize // 64) * 64 for name, kind in kinds.items()}
        block = np.empty(sum(sizes.values()), dtype=np.uint8)
        self.columns: dict[str, np.ndarray] = {}
        self._block, self._kinds, self._places = block, kinds, {}
        self._copy: ColumnCopy | None = None  # made when the layout of the records is known
        self._layout: np.dtype | None = None
        at = 0
        for name, kind in kinds.items():
            self.columns[name] = block[at : at + capacity * kind.itemsize].view(kind)
            self._places[name] = at
            at += sizes[name]
        self.capacity, self.memory_bytes = capacity, block.nbytes
        self.rows = 0

    @classmethod
    def fields(cls, schema: BronzeSchema) -> dict[str, tuple[str, str]]:
        """The buffer's columns: the field of the record that each is copied from, and the type it has here."""
        if "action" not in schema.arrow.names:
            return _FIELDS
        return _FIELDS | {c: (c, "<i8") for c in LEVEL_PRICES} | {c: (c, "<i4") for c in LEVEL_SIZES}

    def append(self, records: np.ndarray, ordinals: np.ndarray | int, contracts: np.ndarray) -> None:
        """Copy ``records`` (n,) in; ``ordinals`` is (n,) or the first of n consecutive ones, ``contracts``
        (n,) codes.
        """
        start, end = self.rows, self.rows + len(records)
        copy = self._copier(records.dtype)
        if not start:
            copy.forget()
        left: Iterable[str] = copy.left
        if copy.serves(records):
            copy.copy(records, start)
        else:
            copy.doubt()
            left = self._sources
        for name in left:
            self.columns[name][start:end] = records[self._sources[name]]
        if isinstance(ordinals, int):
            ordinals = np.arange(ordinals, ordinals + len(records))
        self.columns["ordinal"][start:end] = ordinals
        self.columns["contract"][start:end] = contracts
        self.rows = end

    def _copier(self, layout: np.dtype) -> ColumnCopy:
        if self._copy is None or self._layout is not layout:
            known = self._copy is not None
            self._copy = ColumnCopy(layout, self._sources, self._places, self._kinds, self._block)
            self._layout = layout
            if known:
                self._copy.doubt()
        return self._copy

    def _plausible(self, column: str, bits: int) -> bool:
        """Whether all values of ``column`` are known to be non-negative and of at most so many bits."""
        return self._copy is not None and 0 <= self._copy.seen(column) < 1 << bits

    def sort(self) -> None:
        """Bring the rows into (ts_event_ns, sequence, ordinal) order; rows of equal time and sequence keep
        theirs.
        """
        n = self.rows
        ts, sequence = self.columns["ts_event_ns"][:n], self.columns["sequence"][:n]
        back = ts[1:] < ts[:-1]
        back |= (ts[1:] == ts[:-1]) & (sequence[1:] < sequence[:-1])
        if not back.any():
            return
        order = np.lexsort((sequence, ts))
        for column in self.columns.values():
            column[:n] = column[:n][order]

    def take_over(self, other: RowBuffer) -> None:
        """Copy all rows of a smaller buffer in front of nothing: this one must be empty."""
        for name, column in self.columns.items():
            column[: other.rows] = other.columns[name][: other.rows]
        self.rows = other.rows
        if other._layout is not None:
            self._copier(other._layout).adopt(other._copy)

    def key(self, row: int) -> tuple[int, int]:
        return int(self.columns["ts_event_ns"][row]), int(self.columns["sequence"][row])

    def drop(self, rows: int) -> None:
        """Forget the first ``rows`` rows."""
        for column in self.columns.values():
            column[: self.rows - rows] = column[rows : self.rows]  # overlaps are taken care of
        self.rows -= rows

    def table(
        self, schema: BronzeSchema, rows: int, contracts: list[str], source: str, delivery_id: str
    ) -> pa.Table:
        """The first ``rows`` rows as an Arrow table over this buffer's memory: use it before the next
        append.

        Sentinels become NULL (level sizes: 0). Raises RefusedFile naming the record where a value has no
        place in the schema: an unknown action or side, a price beyond DECIMAL(18,9), a size beyond INTEGER,
        a trade without price or size.
        """
        made: dict[str, pa.Array] = {
            "source": constant(source, rows),
            "delivery_id": constant(delivery_id, rows),
            "_extra": pa.nulls(rows, pa.string()),
            "contract": self.contracts(rows, contracts),
            "price": self._price("price", rows, nullable=self.is_mbp),
            "size": self._size(rows),
            "side": self._letters("side", _SIDE_CODES, _SIDES, rows),
            "aggressor": self._aggressor(rows),
        }
        ts_recv = self.columns["ts_recv_ns"][:rows]
        if self._plausible("ts_recv_ns", 63):
            made["ts_recv_ns"] = plain(pa.int64(), ts_recv)
        else:
            made["ts_recv_ns"] = nullable(pa.int64(), ts_recv, ts_recv != UNDEF_TIMESTAMP)
        actions = self._letters("action", _ACTION_CODES, _ACTIONS, rows)
        if self.is_mbp:
            made["action"] = actions
            made |= {c: self._price(c, rows, nullable=True) for c in LEVEL_PRICES}
            for c in LEVEL_SIZES:
                self._level_size(c, rows)
        else:
            self._require(self.columns["action"][:rows] == _TRADE, "action", "T in the trades schema")
        self._require(self.columns["instrument_id"][:rows] >= 0, "instrument_id", "at most 2147483647")
        self._require(self.columns["publisher_id"][:rows] >= 0, "publisher_id", "at most 32767")
        arrays = [
            made[f.name] if f.name in made else plain(f.type, self.columns[f.name][:rows])
            for f in schema.arrow
        ]
        return pa.Table.from_arrays(arrays, schema=schema.arrow)

    def _require(self, good: np.ndarray, column: str, expected: str) -> None:
        if not good.all():
            row = int(np.argmin(good))
            value = int(self.columns[column][row])
            if value < 0 and "px" not in column and column != "price":
                value += 1 << 8 * self.columns[column].itemsize  # as the file has it: unsigned
            was = repr(chr(value)) if column in ("action", "side") else value
            raise RefusedFile(
                f"{column} was {was} in record {int(self.columns['ordinal'][row])}, expected {expected}; "
                "the file is damaged or of another encoding, fetch it again"
            )

    def _letters(self, column: str, codes: np.ndarray, letters: str, rows: int) -> pa.Array:
        coded = codes[self.columns[column][:rows]]
        if len(coded) and coded.min() < 0:
            self._require(coded >= 0, column, "one of " + ", ".join(letters))
        return _dictionary(pa.int8(), coded, list(letters))

    def _aggressor(self, rows: int) -> pa.Array:
        """+1 buyer, −1 seller, 0 unknown: of trades. Other book records have no aggressor."""
        aggressor = _AGGRESSOR[self.columns["side"][:rows]]
        if self.is_mbp:
            aggressor *= self.columns["action"][:rows] == _TRADE
        return plain(pa.int8(), aggressor)

    def contracts(self, rows: int, contracts: list[str]) -> pa.Array:
        """Contract symbols of the first ``rows`` rows."""
        # Only the contracts that occur: a row group's statistics and dictionary should not name the others.
        codes = self.columns["contract"][:rows]
        if rows and (codes == codes[0]).all():
            return _dictionary(pa.int32(), np.zeros(rows, dtype=np.int32), [contracts[codes[0]]])
        used = np.flatnonzero(np.bincount(codes, minlength=len(contracts)))
        compact = np.zeros(len(contracts), dtype=np.int32)
        compact[used] = np.arange(len(used))
        return _dictionary(pa.int32(), compact[codes], [contracts[i] for i in used])

    def _price(self, column: str, rows: int, *, nullable: bool) -> pa.Array:
        values = self.columns[column][:rows]
        valid = None
        # Seen as unsigned, one maximum tells: negative prices and the sentinel are huge.
        if not self._plausible(column, 59) and values.view(np.uint64).max(initial=0) >= PRICE_LIMIT:
            valid = values != UNDEF_PRICE
            if not nullable:
                self._require(valid, column, "a price on every trade")
            values[~valid] = 0  # the sentinel does not fit DECIMAL(18,9), not even under NULL
            if values.max(initial=0) >= PRICE_LIMIT or values.min(initial=0) <= -PRICE_LIMIT:
                self._require(np.abs(values) < PRICE_LIMIT, column, "less than 10^18 billionths")
        return _masked(PRICE, values, None if valid is None or valid.all() else valid)

    def _size(self, rows: int) -> pa.Array:
        values = self.columns["size"][:rows]
        if not self.is_mbp:
            self._require(values >= 1, "size", "1 to 2147483647")
            return plain(pa.int32(), values)
        if self._plausible("size", 31):
            return plain(pa.int32(), values)
        if values.min(initial=0) < 0:
            self._require((values >= 0) | (values == UNDEF_SIZE), "size", "0 to 2147483647")
        return nullable(pa.int32(), values, values != UNDEF_SIZE)

    def _level_size(self, column: str, rows: int) -> None:
        values = self.columns[column][:rows]
        if not self._plausible(column, 31) and values.min(initial=0) < 0:
            values[values == UNDEF_SIZE] = 0  # an empty level
            self._require(values >= 0, column, "0 to 2147483647")


# pa.array would do for the next few, but its first call imports pandas: 0.1 s and 50 MB for nothing.
def plain(t: pa.DataType, values: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(t, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _masked(t: pa.DataType, values: np.ndarray, valid: np.ndarray | None) -> pa.Array:
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(t, len(values), [bits, pa.py_buffer(values)])


def nullable(t: pa.DataType, values: np.ndarray, valid: np.ndarray) -> pa.Array:
    """Values (n,) of a column, zero (in place) and NULL where ``valid`` (n,) is False."""
    if valid.all():
        return plain(t, values)
    values[~valid] = 0
    return _masked(t, values, valid)


def _dictionary(index: pa.DataType, codes: np.ndarray, values: list[str]) -> pa.Array:
    text = [v.encode() for v in values]
    ends = np.cumsum([0, *(len(v) for v in text)], dtype=np.int32)
    strings = pa.Array.from_buffers(
        pa.string(), len(text), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(text))]
    )
    return pa.DictionaryArray.from_arrays(plain(index, codes), strings, safe=False)


def constant(value: str, rows: int) -> pa.Array:
    return _dictionary(pa.int8(), np.zeros(rows, dtype=np.int8), [value])
