"""Book states, the book tape and the best quotes of one contract's session, in one pass over its mbp-10 records.

A *state* is the book at the end of an exchange event. The *tape* has one row for every change of displayed
size between two consecutive valid states; the *states* keep the last valid state of every grid cell, with
what an as-of reader must know about segments, and the cell's order flow. Formulas: spec market 7.1 and 7.5,
readings 21.6 to 21.8.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from physics import book_kernel
from physics.book_kernel import DEPTH, NONE
from physics.columns import Batches, batches, column
from physics.order import KEY, interleave, unfilled
from physics.units import MS_NS, SECOND_NS

SIDES = ("bid", "ask")
LEVELS = tuple(f"{k:02d}" for k in range(DEPTH))

BOOK_COLUMNS = (
    *KEY,
    "action",
    "flags",
    *(f"{side}_{what}_{k}" for side in SIDES for what in ("px", "sz") for k in LEVELS),
)
"""Columns that a pass reads. Prices are DECIMAL(18,9), or their int64 mantissa."""

TAPE_SCHEMA = pa.schema(
    [
        pa.field("ts_event_ns", pa.int64(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("side", pa.int8(), nullable=False),
        pa.field("tick", pa.int32(), nullable=False),
        pa.field("delta", pa.int32(), nullable=False),
    ]
)

STATES_SCHEMA = pa.schema(
    [
        pa.field("cell_end_ns", pa.int64(), nullable=False),
        pa.field("last_record_ns", pa.int64(), nullable=False),
        pa.field("state_ts_ns", pa.int64()),
        pa.field("segment_id", pa.int32()),
        pa.field("segment_start_ns", pa.int64()),
        pa.field("is_broken", pa.bool_(), nullable=False),
        pa.field("invalid_since_ns", pa.int64()),
        pa.field("closed_cover_ns", pa.int64(), nullable=False),
        pa.field("entry_segment_end_ns", pa.int64()),
        pa.field("ofi", pa.int64(), nullable=False),
        pa.field("ofi_l1", pa.int64(), nullable=False),
        *(
            field
            for side in SIDES
            for k in LEVELS
            for field in (
                pa.field(f"{side}_tick_{k}", pa.int32()),
                pa.field(f"{side}_size_{k}", pa.int32(), nullable=False),
            )
        ),
    ]
)
"""One row per grid cell [cell_end_ns - grid, cell_end_ns) that had any book record, as known at
`cell_end_ns`.

An as-of at a multiple t of the grid reads the row with the largest `cell_end_ns` <= t.

* `last_record_ns`: time of the last book record of any kind: the segment is broken later than that + GAP_S.
* `state_ts_ns` and the levels: the last valid state so far, however old; null before the first. Levels are
  the present ones, best first; a missing level has a null tick and size 0.
* `segment_id` (from 1), `segment_start_ns`: the segment of that state.
* `is_broken`: a break was seen since that state, so its segment ended with it.
* `invalid_since_ns`: first state of the invalid run that is still running.
* `closed_cover_ns`: total length, first to last state, of the segments that had ended.
* `entry_segment_end_ns`: where the segment that was running when the cell began ended, if it did in this
cell.
* `ofi`, `ofi_l1`: order flow imbalance of the cell's events, contracts: summed over all ten levels, and of the
best alone (spec market 7.5).

`coverage_ns` in `physics.asof` turns these into the covered part of any window, exactly as known at its
end.
"""

BBO_SCHEMA = pa.schema(
    [
        pa.field("ts_event_ns", pa.int64(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("bid_tick", pa.int32()),
        pa.field("ask_tick", pa.int32()),
        pa.field("bid_size", pa.int32(), nullable=False),
        pa.field("ask_size", pa.int32(), nullable=False),
    ]
)
"""One row per valid state whose best bid or ask, price or size, differs from the valid state before it, whatever
segment that was in, and one for the first. An absent side has a null tick and size 0.
"""

_BLOCK = 8192  # rows of a kernel call: bounds its output to 40 changes a row, 11 MB


class BookRows(NamedTuple):
    """What some records completed: rows of `TAPE_SCHEMA`, `STATES_SCHEMA` and `BBO_SCHEMA`."""

    tape: pa.RecordBatch
    states: pa.RecordBatch
    bbo: pa.RecordBatch


class BookPass:
    """The pass over the mbp-10 records of one contract and session, fed batch by batch.

    ``update(batch)`` takes the next records in total order and gives the rows that they complete; ``finish()``
    gives the rest. How the stream is cut into batches changes nothing. Memory
    is one batch and its output.

    ``gap_s``: seconds without any book record that break a segment. ``grid_ms``: the grid of the states.
    ``gaps``: (from_ns, to_ns) intervals that the manifest lists as missing; they break between two records
    whose interval overlaps one. ``f_last_absent``: the vendor marks no event ends, so every record counts
    as one. ``want_tape``, ``want_states``, ``want_bbo``: leave out what isn't needed; the work for it is saved.
    """

    def __init__(
        self,
        gap_s: float,
        grid_ms: int,
        gaps: Iterable[tuple[int, int]] = (),
        *,
        f_last_absent: bool = False,
        want_tape: bool = True,
        want_states: bool = True,
        want_bbo: bool = True,
    ) -> None:
        if grid_ms <= 0 or int(grid_ms) != grid_ms:
            raise ValueError(f"grid_ms was {grid_ms}, expected a positive whole number of milliseconds")
        self._gap_ns = round(gap_s * SECOND_NS)
        self._grid_ns = int(grid_ms) * MS_NS
        self._gap_from, self._gap_to = _merged(gaps)
        self._f_last_absent = f_last_absent
        self._want = want_tape, want_states, want_bbo
        self._s, self._keys, self._levels, self._n = book_kernel.blank()
        self._rows = 0

    def update(self, batch: pa.RecordBatch) -> BookRows:
        """Next records, in total order, with at least `BOOK_COLUMNS`. Returns the rows they complete.

        Errors: ValueError for a record out of order (with its row in the stream) or a null where none may be,
        TypeError for a price that isn't DECIMAL(18,9) or int64, KeyError for a missing column.
        """
        ts, sequence, ordinal = (column(batch, name, np.int64) for name in KEY)
        action = _action_codes(batch)
        flags = column(batch, "flags", np.uint8)
        sides, bits, steps = [], [], set()
        for side in SIDES:
            prices = [_mantissa(batch, f"{side}_px_{k}") for k in LEVELS]
            sides += [
                tuple(p[0] for p in prices),
                tuple(column(batch, f"{side}_sz_{k}", np.int32) for k in LEVELS),
                tuple(p[2] for p in prices),
            ]
            bits.append(np.array([p[3] for p in prices], np.int64))
            steps |= {p[1] for p in prices}
        if len(steps) != 1:
            raise TypeError("price columns were of several types, expected one for all 20")

        tape, states, bbo = _Tape(batch.num_rows), _States(batch.num_rows), _Bbo(batch.num_rows)
        want_tape, want_states, want_bbo = self._want
        w = v = b = 0
        for start in range(0, batch.num_rows, _BLOCK):
            stop = min(start + _BLOCK, batch.num_rows)
            if want_tape:
                tape.reserve(w + (stop - start) * 4 * DEPTH, w)
            if want_states:
                states.reserve(v + stop - start, v)
            if want_bbo:
                bbo.reserve(b + stop - start, b)
            w, v, b, disorder = book_kernel.run(
                ts,
                sequence,
                ordinal,
                action,
                flags,
                *sides,
                *bits,
                next(iter(steps)),
                start,
                stop,
                self._gap_ns,
                self._grid_ns,
                self._gap_from,
                self._gap_to,
                self._f_last_absent,
                *self._want,
                self._s,
                self._keys,
                self._levels,
                self._n,
                w,
                *tape.columns,
                v,
                *states.columns,
                b,
                *bbo.columns,
            )
            if disorder >= 0:
                key = int(ts[disorder]), int(sequence[disorder]), int(ordinal[disorder])
                raise ValueError(
                    f"{KEY} was {key} in row {self._rows + disorder} after {tuple(self._s[:3].tolist())}, "
                    "expected non-decreasing keys; sort the stream by them"
                )
        self._rows += batch.num_rows
        return BookRows(tape.batch(w), states.batch(v), bbo.batch(b))

    def open_cell(self) -> pa.RecordBatch:
        """The states row of the cell that is still open, as of now; no row before the first record.

        A live reader uses it when its as-of is a grid instant that no later record has closed yet.
        """
        states = _States(1)
        if self._s[book_kernel.CELL] == NONE or not self._want[1]:
            return states.batch(0)
        states.reserve(1, 0)
        book_kernel.state_row(self._s, self._grid_ns, self._keys, self._levels, self._n, *states.columns, 0)
        return states.batch(1)

    def finish(self) -> BookRows:
        """What the end of the session completes: the last cell's states row, and nothing else."""
        return BookRows(_Tape(0).batch(0), self.open_cell(), _Bbo(0).batch(0))


def passes(
    source: Batches, *, gap_s: float, grid_ms: int, gaps: Iterable[tuple[int, int]] = (), **options: bool
) -> Iterator[BookRows]:
    """The rows of each batch of ``source``, then of the end. ``options`` as in `BookPass`."""
    book = BookPass(gap_s, grid_ms, gaps, **options)
    for batch in batches(source):
        yield book.update(batch)
    yield book.finish()


def book_tape(
    source: Batches, *, gap_s: float, gaps: Iterable[tuple[int, int]] = (), f_last_absent: bool = False
) -> Iterator[pa.RecordBatch]:
    """Tape of the session in `TAPE_SCHEMA`, ascending by (ts_event_ns, sequence, ordinal, side, tick),
    unique.

    ``source`` holds `BOOK_COLUMNS` of one contract and session in total order; nothing gives no batch at all.
    ``delta`` is the change of displayed contracts at ``tick`` on ``side`` (0 bid, 1 ask), never 0.
    Source: spec market 7.1.
    """
    wanted = {"want_states": False, "want_bbo": False}
    for rows in passes(source, gap_s=gap_s, grid_ms=100, gaps=gaps, f_last_absent=f_last_absent, **wanted):
        if rows.tape.num_rows:
            yield rows.tape


def book_states(
    source: Batches,
    *,
    gap_s: float,
    grid_ms: int,
    gaps: Iterable[tuple[int, int]] = (),
    f_last_absent: bool = False,
) -> Iterator[pa.RecordBatch]:
    """States of the session in `STATES_SCHEMA`, strictly ascending by ``cell_end_ns``. Input as
    `book_tape`.
    """
    wanted = {"want_tape": False, "want_bbo": False}
    for rows in passes(
        source, gap_s=gap_s, grid_ms=grid_ms, gaps=gaps, f_last_absent=f_last_absent, **wanted
    ):
        if rows.states.num_rows:
            yield rows.states


def bbo_changes(
    source: Batches, *, gap_s: float, gaps: Iterable[tuple[int, int]] = (), f_last_absent: bool = False
) -> Iterator[pa.RecordBatch]:
    """Best quotes of the session in `BBO_SCHEMA`, ascending by (ts_event_ns, sequence, ordinal). Input as
    `book_tape`.
    """
    wanted = {"want_tape": False, "want_states": False}
    for rows in passes(source, gap_s=gap_s, grid_ms=100, gaps=gaps, f_last_absent=f_last_absent, **wanted):
        if rows.bbo.num_rows:
            yield rows.bbo


def session_records(
    book: Any, *, contract: str | None, from_ns: int, until_ns: int, known: dict[str, Any]
) -> tuple[Iterator[pa.RecordBatch], dict[str, Any]]:
    """Records of a contract in [from_ns, until_ns) in total order, and the ``gaps`` and ``f_last_absent`` of a pass
    over them.

    ``book``: a DuckDB relation over `stg_futures__mbp10`; ``known``: what the manifest says of its files, `gaps` as
    (contract or None, from_ns, to_ns) and `f_last_absent`. The records are read as they are asked for: take them all
    before the relation's connection runs another query.
    """
    rows = book.filter(
        f"contract = '{contract or ''}' and ts_event_ns >= {from_ns} and ts_event_ns < {until_ns}"
    )
    columns = ", ".join(BOOK_COLUMNS)
    # Hours of several deliveries were merged apart and stand outside the stream's order: few rows, sorted here.
    shared = rows.filter("is_shared_hour").project(columns).order(", ".join(KEY)).to_arrow_table()
    stream = rows.filter("not is_shared_hour").project(columns).to_arrow_reader(32_768)
    missing = {"gaps": unfilled(known["gaps"], contract, shared), "f_last_absent": known["f_last_absent"]}
    return interleave(stream, shared), missing


def _merged(gaps: Iterable[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the gaps, ascending and disjoint."""
    merged: list[list[int]] = []
    for start, end in sorted((int(a), int(b)) for a, b in gaps):
        if end < start:
            raise ValueError(f"gap was [{start}, {end}], expected an end that is not before its start")
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    starts_and_ends = np.array(merged, np.int64).reshape(-1, 2)
    return starts_and_ends[:, 0].copy(), starts_and_ends[:, 1].copy()


def _mantissa(batch: pa.RecordBatch, name: str) -> tuple[np.ndarray, int, np.ndarray, int]:
    """(int64 values, their step, validity bits or none, bit offset) of a price column, without a copy."""
    if name not in batch.schema.names:
        raise KeyError(f"column {name!r} is missing, expected BOOK_COLUMNS; it had {batch.schema.names}")
    values = batch.column(name)
    step = 1
    if pa.types.is_decimal(values.type):
        if values.type.scale != 9 or values.type.byte_width not in (8, 16) or values.type.precision > 18:
            raise TypeError(f"{name} was {values.type}, expected a decimal of precision 18 and scale 9")
        step = values.type.byte_width // 8  # the low word of a decimal128 comes first and holds all 18 digits
    elif not pa.types.is_int64(values.type):
        raise TypeError(f"{name} was {values.type}, expected DECIMAL(18,9) or its int64 mantissa")
    validity, data = values.buffers()
    if data is None:
        return np.zeros(0, np.int64), step, np.zeros(0, np.uint8), 0
    words = np.frombuffer(data, np.int64)[values.offset * step : (values.offset + len(values)) * step]
    if validity is None or values.null_count == 0:
        return words, step, np.zeros(0, np.uint8), 0
    return words, step, np.frombuffer(validity, np.uint8), values.offset


def _action_codes(batch: pa.RecordBatch) -> np.ndarray:
    """ASCII code of the one-letter action of every row."""
    if "action" not in batch.schema.names:
        raise KeyError(f"column 'action' is missing, expected BOOK_COLUMNS; it had {batch.schema.names}")
    values = batch.column("action")
    if values.null_count:
        raise ValueError("action was null, expected one letter in every row")
    if pa.types.is_uint8(values.type):
        return column(batch, "action", np.uint8)
    if pa.types.is_dictionary(values.type):
        letters = [str(letter) for letter in values.dictionary.to_pylist()]
        if any(len(letter) != 1 for letter in letters):
            raise ValueError(f"action was one of {letters}, expected single letters")
        codes = np.array([ord(letter) for letter in letters] or [0], np.uint8)
        return codes[values.indices.to_numpy(zero_copy_only=False)]
    text = values if pa.types.is_string(values.type) else values.cast(pa.string())
    _, offsets, data = text.buffers()
    if data is None or not len(text):
        if len(text):
            raise ValueError("action was empty, expected one letter in every row")
        return np.zeros(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    if bounds[-1] - bounds[0] != len(text):
        raise ValueError("action was longer or shorter than one letter in some row, expected exactly one")
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]


class _Tape:
    """Tape rows under construction: columns that grow, and go to Arrow without a copy."""

    def __init__(self, rows: int) -> None:
        self._hint = 2 * rows
        self.columns = [np.empty(0, f.type.to_pandas_dtype()) for f in TAPE_SCHEMA]

    def reserve(self, rows: int, used: int) -> None:
        if rows > self.columns[0].size:
            self.columns = [_grown(c, max(self._hint, 2 * rows), used) for c in self.columns]

    def batch(self, rows: int) -> pa.RecordBatch:
        return pa.record_batch([pa.array(c[:rows]) for c in self.columns], schema=TAPE_SCHEMA)


class _States:
    """States under construction: scalars, ticks and sizes, one column each."""

    def __init__(self, rows: int) -> None:
        self._hint = rows // 4
        self.columns = [
            np.empty((book_kernel.STATE_FIELDS, 0), np.int64),
            np.empty((2 * DEPTH, 0), np.int32),
            np.empty((2 * DEPTH, 0), np.int32),
        ]

    def reserve(self, rows: int, used: int) -> None:
        if rows > self.columns[0].shape[1]:
            self.columns = [_grown(c, max(self._hint, 2 * rows), used) for c in self.columns]

    def batch(self, rows: int) -> pa.RecordBatch:
        fields, ticks, sizes = (c[:, :rows] for c in self.columns)
        no_state = fields[3] == 0
        arrays = [
            pa.array(fields[0]),
            pa.array(fields[1]),
            pa.array(fields[2], mask=no_state),
            pa.array(fields[3].astype(np.int32), mask=no_state),
            pa.array(fields[4], mask=no_state),
            pa.array(fields[5] == 1),
            pa.array(fields[6], mask=fields[6] == NONE),
            pa.array(fields[7]),
            pa.array(fields[8], mask=fields[8] == NONE),
            pa.array(fields[9]),
            pa.array(fields[10]),
        ]
        for tick, size in zip(ticks, sizes, strict=True):
            absent = size == 0
            arrays += [pa.array(tick, mask=absent if absent.any() else None), pa.array(size)]
        return pa.record_batch(arrays, schema=STATES_SCHEMA)


class _Bbo:
    """Best quotes under construction: keys, ticks and sizes, one column each."""

    def __init__(self, rows: int) -> None:
        self._hint = rows // 2
        self.columns = [np.empty((3, 0), np.int64), np.empty((2, 0), np.int32), np.empty((2, 0), np.int32)]

    def reserve(self, rows: int, used: int) -> None:
        if rows > self.columns[0].shape[1]:
            self.columns = [_grown(c, max(self._hint, 2 * rows), used) for c in self.columns]

    def batch(self, rows: int) -> pa.RecordBatch:
        keys, ticks, sizes = (c[:, :rows] for c in self.columns)
        arrays = [
            *(pa.array(key) for key in keys),
            *(pa.array(tick, mask=size == 0) for tick, size in zip(ticks, sizes, strict=True)),
            *(pa.array(size) for size in sizes),
        ]
        return pa.record_batch(arrays, schema=BBO_SCHEMA)


def _grown(columns: np.ndarray, rows: int, used: int) -> np.ndarray:
    grown = np.empty((*columns.shape[:-1], rows), columns.dtype)
    grown[..., :used] = columns[..., :used]
    return grown
