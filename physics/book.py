"""Book states and the book tape of one contract's session, in one pass over its mbp-10 records.

A *state* is the book at the end of an exchange event. The *tape* has one row for every change of displayed
size between two consecutive valid states; the *states* keep the last valid state of every grid cell, with
what an as-of reader must know about segments. Formulas: spec market 7.1 and readings 21.6 to 21.8.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.columns import I64, U8, Batches, batches, column, read_only
from physics.order import KEY
from physics.units import MS_NS, SECOND_NS, TICK_MANTISSA

DEPTH = 10
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

`coverage_ns` in `physics.barrier` turns these into the covered part of any window, exactly as known at its
end.
"""

F_LAST, F_SNAPSHOT, F_MAYBE_BAD_BOOK = 128, 32, 4
INVALID_MAX_NS = SECOND_NS
_R, _T, _F, _N = (ord(c) for c in "RTFN")

_BLOCK = 8192  # rows of a kernel call: bounds its output to 40 changes a row, 11 MB
_TILE = 256  # rows whose levels are gathered row-major at once: stays in the second-level cache
_NONE = -(2**62)

# Slots of the scalar state
_TS, _SEQ, _ORD, _CELL = 0, 1, 2, 3
_STATE_TS, _SEGMENT, _SEGMENT_START, _BROKEN, _INVALID = 4, 5, 6, 7, 8
_CLOSED, _ENTRY_OPEN, _ENTRY_END, _GAP, _ROW = 9, 10, 11, 12, 13
_SCALARS = 14
_STATE_FIELDS = 9

_PX = types.UniTuple(I64, DEPTH)
_SZ = types.UniTuple(read_only(types.int32), DEPTH)
_VALID = types.UniTuple(U8, DEPTH)


@njit(cache=True)
def _is_state(action, flags, f_last_absent):
    """T, F and N never change the book, and a clear is no book yet."""
    if not f_last_absent and not flags & F_LAST:
        return False
    return action not in (_R, _T, _F, _N)


@njit(cache=True)
def _gather(rows, count, px, sz, valid, bit, step, sign, keys, sizes):
    """Levels of ``count`` rows into rows 1.. of ``keys`` and ``sizes``, 0 in size where a level is absent.

    A key is sign * price, so both sides descend from the best. Prices stay mantissas here: dividing by the
    tick is left to the few that change.
    """
    for k in range(DEPTH):
        price, size, bits, offset = px[k], sz[k], valid[k], bit[k]
        if bits.size == 0:
            for r in range(count):
                i = rows[r]
                keys[r + 1, k] = sign * price[i * step]
                sizes[r + 1, k] = size[i]
        else:
            for r in range(count):
                i = rows[r]
                at = i + offset
                present = bits[at >> 3] >> (at & 7) & 1
                keys[r + 1, k] = sign * price[i * step]
                sizes[r + 1, k] = size[i] if present else 0


@njit(cache=True)
def _compact(keys, levels, side, at):
    """Present levels of a side to the front, best first, equal prices as one level. Returns their number.

    These helpers take whole arrays with indices: slicing a row would count references, which costs more
    than the work.
    """
    in_order = 0
    for k in range(1, DEPTH):
        in_order += keys[side, at, k] < keys[side, at, k - 1]
    present = 0
    for k in range(DEPTH):
        present += levels[side, at, k] > 0
    if present == DEPTH and in_order == DEPTH - 1:  # nearly always
        return DEPTH
    n = 0
    for k in range(DEPTH):
        size, key = levels[side, at, k], keys[side, at, k]
        if size <= 0:
            continue
        m = n
        while m > 0 and keys[side, at, m - 1] < key:  # only for a book out of order
            m -= 1
        if m > 0 and keys[side, at, m - 1] == key:
            levels[side, at, m - 1] += size
            continue
        for q in range(n, m, -1):
            keys[side, at, q] = keys[side, at, q - 1]
            levels[side, at, q] = levels[side, at, q - 1]
        keys[side, at, m] = key
        levels[side, at, m] = size
        n += 1
    return n


@njit(cache=True)
def _is_same(keys, levels, n, side, was, at):
    """Whether two states show the same side, which they do for one side of most events."""
    difference = n[side, was] ^ n[side, at]
    for k in range(DEPTH):
        difference |= keys[side, was, k] ^ keys[side, at, k]
        difference |= levels[side, was, k] ^ levels[side, at, k]
    return difference == 0


@njit(cache=True)
def _diff(keys, levels, n, side, was, at, out_side, out_tick, out_delta, w):
    """Changes of a side between two states, inside the visible range of both, by ascending tick, from row
    ``w`` on. Returns the end.
    """
    low = _NONE
    old_n, new_n = n[side, was], n[side, at]
    if old_n == DEPTH:
        low = keys[side, was, DEPTH - 1]
    if new_n == DEPTH:
        low = max(low, keys[side, at, DEPTH - 1])
    i = j = 0
    first = w
    while True:
        a = keys[side, was, i] if i < old_n else _NONE
        b = keys[side, at, j] if j < new_n else _NONE
        top = max(a, b)
        if top == _NONE or top < low:
            break
        delta = 0
        if b == top:
            delta = levels[side, at, j]
            j += 1
        if a == top:
            delta -= levels[side, was, i]
            i += 1
        if delta != 0:
            out_side[w] = side
            out_tick[w] = (top if side == 0 else -top) // TICK_MANTISSA
            out_delta[w] = delta
            w += 1
    if side == 0:  # bids come best first, which is descending
        left, right = first, w - 1
        while left < right:
            out_tick[left], out_tick[right] = out_tick[right], out_tick[left]
            out_delta[left], out_delta[right] = out_delta[right], out_delta[left]
            left += 1
            right -= 1
    return w


@njit(cache=True)
def _break(s):
    """End the running segment at its last state; the next valid state is a reference only."""
    if s[_SEGMENT] > 0 and s[_BROKEN] == 0:
        s[_CLOSED] += s[_STATE_TS] - s[_SEGMENT_START]
        if s[_ENTRY_OPEN] == 1:
            s[_ENTRY_END] = s[_STATE_TS]
            s[_ENTRY_OPEN] = 0
        s[_BROKEN] = 1


@njit(cache=True)
def _state_row(s, grid_ns, keys, levels, n, fields, ticks, sizes, v):
    """Column ``v`` of the states: the scalars, and the book in row 0 of ``keys[side]`` and
    ``levels[side]``.
    """
    fields[0, v] = (s[_CELL] + 1) * grid_ns
    fields[1, v] = s[_TS]
    fields[2, v] = s[_STATE_TS]
    fields[3, v] = s[_SEGMENT]
    fields[4, v] = s[_SEGMENT_START]
    fields[5, v] = s[_BROKEN]
    fields[6, v] = s[_INVALID]
    fields[7, v] = s[_CLOSED]
    fields[8, v] = s[_ENTRY_END]
    at = s[_ROW]
    for side in range(2):
        for k in range(DEPTH):
            column = side * DEPTH + k
            if k < n[side, at]:
                key = keys[side, at, k]
                ticks[column, v] = (key if side == 0 else -key) // TICK_MANTISSA
                sizes[column, v] = levels[side, at, k]
            else:
                ticks[column, v] = 0
                sizes[column, v] = 0


_W64 = types.int64[::1]
_W32_2 = types.int32[:, ::1]
_W64_2 = types.int64[:, ::1]
_W64_3 = types.int64[:, :, ::1]


@njit(
    [
        types.UniTuple(types.int64, 3)(
            *(I64, I64, I64, U8, U8),  # ts, sequence, ordinal, action, flags
            *(_PX, _SZ, _VALID, _PX, _SZ, _VALID),  # bid, ask
            *(I64, I64, types.int64),  # validity offsets, step of the prices
            *(types.int64, types.int64),  # rows [start, stop)
            *(types.int64, types.int64, I64, I64, types.boolean),  # gap, grid, manifest gaps, f_last_absent
            *(types.boolean, types.boolean),  # want tape, want states
            *(_W64, _W64_3, _W64_3, _W64_2),  # state
            types.int64,
            *(_W64, _W64, _W64, types.int8[::1], types.int32[::1], types.int32[::1]),  # tape
            types.int64,
            *(_W64_2, _W32_2, _W32_2),  # states
        )
    ],
    cache=True,
    error_model="numpy",
)
def _pass(
    ts,
    sequence,
    ordinal,
    action,
    flags,
    bid_px,
    bid_sz,
    bid_valid,
    ask_px,
    ask_sz,
    ask_valid,
    bid_bit,
    ask_bit,
    step,
    start,
    stop,
    gap_ns,
    grid_ns,
    gap_from,
    gap_to,
    f_last_absent,
    want_tape,
    want_states,
    s,
    keys,
    levels,
    n,
    w,
    out_ts,
    out_seq,
    out_ord,
    out_side,
    out_tick,
    out_delta,
    v,
    out_fields,
    out_ticks,
    out_sizes,
):
    """Rows [start, stop) through the state machine, writing tape from row ``w`` and states from column
    ``v`` on.

    ``keys``, ``levels`` (2, tile + 1, 10) and ``n`` (2, tile + 1) hold the book: row 0 is the last valid
    state when a tile begins, rows 1.. are the tile's states, and ``s[_ROW]`` says which row is the last
    valid state now. Returns (tape rows, states, first disordered row or -1).
    """
    rows = np.empty(_TILE, np.int64)
    for tile in range(start, stop, _TILE):
        end = min(tile + _TILE, stop)
        count = 0
        for i in range(tile, end):
            rows[count] = i
            count += _is_state(action[i], flags[i], f_last_absent)
        _gather(rows, count, bid_px, bid_sz, bid_valid, bid_bit, step, 1, keys[0], levels[0])
        _gather(rows, count, ask_px, ask_sz, ask_valid, ask_bit, step, -1, keys[1], levels[1])

        at = 0
        for i in range(tile, end):
            t = ts[i]
            if s[_CELL] != _NONE:
                if t < s[_TS] or (
                    t == s[_TS]
                    and (sequence[i] < s[_SEQ] or (sequence[i] == s[_SEQ] and ordinal[i] < s[_ORD]))
                ):
                    return w, v, i
                if t >= (s[_CELL] + 1) * grid_ns:
                    if want_states:
                        _state_row(s, grid_ns, keys, levels, n, out_fields, out_ticks, out_sizes, v)
                        v += 1
                    s[_CELL] = t // grid_ns
                    s[_ENTRY_OPEN] = 1 if s[_SEGMENT] > 0 and s[_BROKEN] == 0 else 0
                    s[_ENTRY_END] = _NONE
                if t - s[_TS] > gap_ns:
                    _break(s)
                while s[_GAP] < gap_to.size and gap_to[s[_GAP]] <= s[_TS]:
                    s[_GAP] += 1
                if s[_GAP] < gap_to.size and gap_from[s[_GAP]] < t:
                    _break(s)
            else:
                s[_CELL] = t // grid_ns
            s[_TS] = t
            s[_SEQ] = sequence[i]
            s[_ORD] = ordinal[i]
            if action[i] == _R or flags[i] & (F_SNAPSHOT | F_MAYBE_BAD_BOOK):
                _break(s)
            if at == count or rows[at] != i:
                continue

            at += 1
            bids = _compact(keys, levels, 0, at)
            asks = _compact(keys, levels, 1, at)
            if bids > 0 and asks > 0 and keys[0, at, 0] >= -keys[1, at, 0]:
                if s[_INVALID] == _NONE:
                    s[_INVALID] = t
                continue
            if s[_INVALID] != _NONE:
                if t - s[_INVALID] > INVALID_MAX_NS:
                    _break(s)
                s[_INVALID] = _NONE
            n[0, at] = bids
            n[1, at] = asks
            if s[_BROKEN] == 1:
                s[_SEGMENT] += 1
                s[_SEGMENT_START] = t
                s[_BROKEN] = 0
            elif want_tape:
                first = w
                was = s[_ROW]
                for side in range(2):
                    if not _is_same(keys, levels, n, side, was, at):
                        w = _diff(keys, levels, n, side, was, at, out_side, out_tick, out_delta, w)
                for q in range(first, w):
                    out_ts[q] = t
                    out_seq[q] = sequence[i]
                    out_ord[q] = ordinal[i]
            s[_STATE_TS] = t
            s[_ROW] = at
        keys[:, 0] = keys[:, s[_ROW]]
        levels[:, 0] = levels[:, s[_ROW]]
        n[:, 0] = n[:, s[_ROW]]
        s[_ROW] = 0
    return w, v, -1


class BookPass:
    """The pass over the mbp-10 records of one contract and session, fed batch by batch.

    ``update(batch)`` takes the next records in total order and gives the tape rows and the states rows that
    they complete; ``finish()`` gives the rest. How the stream is cut into batches changes nothing. Memory
    is one batch and its output.

    ``gap_s``: seconds without any book record that break a segment. ``grid_ms``: the grid of the states.
    ``gaps``: (from_ns, to_ns) intervals that the manifest lists as missing; they break between two records
    whose interval overlaps one. ``f_last_absent``: the vendor marks no event ends, so every record counts
    as one. ``want_tape``, ``want_states``: leave out what isn't needed; the work for it is saved.
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
    ) -> None:
        if grid_ms <= 0 or int(grid_ms) != grid_ms:
            raise ValueError(f"grid_ms was {grid_ms}, expected a positive whole number of milliseconds")
        self._gap_ns = round(gap_s * SECOND_NS)
        self._grid_ns = int(grid_ms) * MS_NS
        self._gap_from, self._gap_to = _merged(gaps)
        self._f_last_absent = f_last_absent
        self._want_tape, self._want_states = want_tape, want_states

        self._s = np.zeros(_SCALARS, np.int64)
        self._s[[_CELL, _STATE_TS, _SEGMENT_START, _INVALID, _ENTRY_END]] = _NONE
        self._s[_BROKEN] = 1  # before the first state: it is a reference only
        self._keys = np.zeros((2, _TILE + 1, DEPTH), np.int64)
        self._levels = np.zeros((2, _TILE + 1, DEPTH), np.int64)
        self._n = np.zeros((2, _TILE + 1), np.int64)
        self._rows = 0

    def update(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """Next records, in total order, with at least `BOOK_COLUMNS`. Returns (tape rows, states rows).

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

        tape, states = _Tape(batch.num_rows), _States(batch.num_rows)
        w = v = 0
        for start in range(0, batch.num_rows, _BLOCK):
            stop = min(start + _BLOCK, batch.num_rows)
            if self._want_tape:
                tape.reserve(w + (stop - start) * 4 * DEPTH, w)
            if self._want_states:
                states.reserve(v + stop - start, v)
            w, v, disorder = _pass(
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
                self._want_tape,
                self._want_states,
                self._s,
                self._keys,
                self._levels,
                self._n,
                w,
                *tape.columns,
                v,
                *states.columns,
            )
            if disorder >= 0:
                key = int(ts[disorder]), int(sequence[disorder]), int(ordinal[disorder])
                raise ValueError(
                    f"{KEY} was {key} in row {self._rows + disorder} after {tuple(self._s[:3].tolist())}, "
                    "expected non-decreasing keys; sort the stream by them"
                )
        self._rows += batch.num_rows
        return tape.batch(w), states.batch(v)

    def open_cell(self) -> pa.RecordBatch:
        """The states row of the cell that is still open, as of now; no row before the first record.

        A live reader uses it when its as-of is a grid instant that no later record has closed yet.
        """
        states = _States(1)
        if self._s[_CELL] == _NONE or not self._want_states:
            return states.batch(0)
        states.reserve(1, 0)
        _state_row(self._s, self._grid_ns, self._keys, self._levels, self._n, *states.columns, 0)
        return states.batch(1)

    def finish(self) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """What the end of the session completes: no tape rows, and the last cell's states row."""
        return _Tape(0).batch(0), self.open_cell()


def passes(
    source: Batches, *, gap_s: float, grid_ms: int, gaps: Iterable[tuple[int, int]] = (), **options: bool
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """(tape rows, states rows) of each batch of ``source``, then of the end. ``options`` as in `BookPass`."""
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
    for tape, _ in passes(
        source, gap_s=gap_s, grid_ms=100, gaps=gaps, f_last_absent=f_last_absent, want_states=False
    ):
        if tape.num_rows:
            yield tape


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
    for _, states in passes(
        source, gap_s=gap_s, grid_ms=grid_ms, gaps=gaps, f_last_absent=f_last_absent, want_tape=False
    ):
        if states.num_rows:
            yield states


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
            np.empty((_STATE_FIELDS, 0), np.int64),
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
            pa.array(fields[6], mask=fields[6] == _NONE),
            pa.array(fields[7]),
            pa.array(fields[8], mask=fields[8] == _NONE),
        ]
        for tick, size in zip(ticks, sizes, strict=True):
            absent = size == 0
            arrays += [pa.array(tick, mask=absent if absent.any() else None), pa.array(size)]
        return pa.record_batch(arrays, schema=STATES_SCHEMA)


def _grown(columns: np.ndarray, rows: int, used: int) -> np.ndarray:
    grown = np.empty((*columns.shape[:-1], rows), columns.dtype)
    grown[..., :used] = columns[..., :used]
    return grown
