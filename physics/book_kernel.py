"""The machine behind `physics.book`: rows of wide mbp-10 columns through one loop, into tape, states and best quotes.

All compiled functions of the pass stand in this one file: numba's cache of a function does not see an edit of another
file that it calls into.
"""

import numpy as np
from numba import njit, types

from physics.columns import I64, U8, read_only
from physics.units import SECOND_NS, TICK_MANTISSA

DEPTH = 10

F_LAST, F_SNAPSHOT, F_MAYBE_BAD_BOOK = 128, 32, 4
INVALID_MAX_NS = SECOND_NS
_R, _T, _F, _N = (ord(c) for c in "RTFN")

TILE = 256  # states whose levels are gathered at once: they stay in the second-level cache
NONE = -(2**62)
"""No instant, and the key of an absent level: below every price of its side."""

# Slots of the scalar state
_TS, _SEQ, _ORD, CELL = 0, 1, 2, 3
_STATE_TS, _SEGMENT, _SEGMENT_START, _BROKEN, _INVALID = 4, 5, 6, 7, 8
_CLOSED, _ENTRY_OPEN, _ENTRY_END, _GAP, _ROW = 9, 10, 11, 12, 13
_OFI, _OFI_L1 = 14, 15
_SCALARS = 16
STATE_FIELDS = 11

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
    """Levels of ``count`` rows into columns 1.. of ``keys`` and ``sizes``, 0 in size where a level is absent.

    A key is sign * price, so both sides descend from the best. Prices stay mantissas here: dividing by the
    tick is left to the few that change.
    """
    stride = np.uint64(step)
    for k in range(DEPTH):
        price, size, bits, offset = px[k], sz[k], valid[k], bit[k]
        if bits.size == 0:
            for r in range(count):
                i = np.uint64(rows[r])  # unsigned: no look for an index from the end
                keys[k, r + 1] = sign * price[i * stride]
                sizes[k, r + 1] = size[i]
        else:
            for r in range(count):
                i = rows[r]
                at = i + offset
                present = bits[at >> 3] >> (at & 7) & 1
                keys[k, r + 1] = sign * price[i * step]
                sizes[k, r + 1] = size[i] if present else 0


@njit(cache=True)
def _compact(keys, levels, side, at):
    """Present levels of a side to the front, best first, equal prices as one level; behind them `NONE` and 0.
    Returns their number.

    These helpers take whole arrays with indices: slicing a row would count references, which costs more
    than the work.
    """
    n = 0
    for k in range(DEPTH):
        size, key = levels[side, k, at], keys[side, k, at]
        if size <= 0:
            continue
        m = n
        while m > 0 and keys[side, m - 1, at] < key:  # only for a book out of order
            m -= 1
        if m > 0 and keys[side, m - 1, at] == key:
            levels[side, m - 1, at] += size
            continue
        for q in range(n, m, -1):
            keys[side, q, at] = keys[side, q - 1, at]
            levels[side, q, at] = levels[side, q - 1, at]
        keys[side, m, at] = key
        levels[side, m, at] = size
        n += 1
    for k in range(n, DEPTH):
        keys[side, k, at] = NONE
        levels[side, k, at] = 0
    return n


@njit(cache=True)
def _survey(keys, levels, count, with_flow, unusual, differs, flow, flow_best):
    """What is seen of ``count`` states of a side by comparing each with the one before it, as they were gathered.

    ``unusual``: how many levels are absent or out of order; where it is 0 for a state and for the one before,
    ``differs`` is 0 if both show the same, and ``flow`` and ``flow_best`` are what `_order_flow` gives. Level by level
    over many states, so that the compiler takes several states at a time.
    """
    unusual[: count + 1] = 0
    differs[: count + 1] = 0
    flow[: count + 1] = 0
    for k in range(DEPTH):
        now, was = keys[k, 1 : count + 1], keys[k, 0:count]
        size, size_was = levels[k, 1 : count + 1], levels[k, 0:count]
        above = keys[k - 1, 1 : count + 1] if k > 0 else now
        out, other, total = unusual[1 : count + 1], differs[1 : count + 1], flow[1 : count + 1]
        for r in range(count):
            out[r] += np.int64(size[r] <= 0)
            other[r] |= (now[r] ^ was[r]) | (size[r] ^ size_was[r])
        if k > 0:
            for r in range(count):
                out[r] += np.int64(now[r] >= above[r])
        if with_flow:
            for r in range(count):
                total[r] += (size[r] if now[r] >= was[r] else 0) - (size_was[r] if now[r] <= was[r] else 0)
            if k == 0:
                flow_best[1 : count + 1] = total


@njit(cache=True)
def _is_same(keys, levels, n, side, was, at):
    """Whether two states show the same side, which they do for one side of most events."""
    difference = n[side, was] ^ n[side, at]
    for k in range(DEPTH):
        difference |= keys[side, k, was] ^ keys[side, k, at]
        difference |= levels[side, k, was] ^ levels[side, k, at]
    return difference == 0


@njit(cache=True)
def _diff(keys, levels, n, side, was, at, out_side, out_tick, out_delta, w):
    """Changes of a side between two states, inside the visible range of both, by ascending tick, from row
    ``w`` on. Returns the end.
    """
    low = NONE
    old_n, new_n = n[side, was], n[side, at]
    if old_n == DEPTH:
        low = keys[side, DEPTH - 1, was]
    if new_n == DEPTH:
        low = max(low, keys[side, DEPTH - 1, at])
    i = j = 0
    first = w
    while True:
        a = keys[side, i, was] if i < old_n else NONE
        b = keys[side, j, at] if j < new_n else NONE
        top = max(a, b)
        if top == NONE or top < low:
            break
        delta = 0
        if b == top:
            delta = levels[side, j, at]
            j += 1
        if a == top:
            delta -= levels[side, i, was]
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
def _order_flow(keys, levels, side, was, at):
    """A side's order flow between two states: of all levels, and of the best.

    Cont, Kukanov and Stoikov 2014: level by level the size now where the price is no worse than before, less the
    size before where it is no better. A key ascends to the better price on both sides.
    """
    total = first = 0
    for k in range(DEPTH):
        before, now = keys[side, k, was], keys[side, k, at]
        flow = (now >= before) * levels[side, k, at] - (now <= before) * levels[side, k, was]
        total += flow
        if k == 0:
            first = flow
    return total, first


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
def state_row(s, grid_ns, keys, levels, n, fields, ticks, sizes, v):
    """Column ``v`` of the states: the scalars, and the book in column ``s[_ROW]`` of ``keys`` and ``levels``."""
    fields[0, v] = (s[CELL] + 1) * grid_ns
    fields[1, v] = s[_TS]
    fields[2, v] = s[_STATE_TS]
    fields[3, v] = s[_SEGMENT]
    fields[4, v] = s[_SEGMENT_START]
    fields[5, v] = s[_BROKEN]
    fields[6, v] = s[_INVALID]
    fields[7, v] = s[_CLOSED]
    fields[8, v] = s[_ENTRY_END]
    fields[9, v] = s[_OFI]
    fields[10, v] = s[_OFI_L1]
    at = s[_ROW]
    for side in range(2):
        for k in range(DEPTH):
            column = side * DEPTH + k
            if k < n[side, at]:
                key = keys[side, k, at]
                ticks[column, v] = (key if side == 0 else -key) // TICK_MANTISSA
                sizes[column, v] = levels[side, k, at]
            else:
                ticks[column, v] = 0
                sizes[column, v] = 0


@njit(cache=True)
def _is_new_best(keys, levels, was, at):
    """Whether a price or a size of the best bid or ask differs between two states."""
    difference = keys[0, 0, was] ^ keys[0, 0, at] | keys[1, 0, was] ^ keys[1, 0, at]
    return (difference | levels[0, 0, was] ^ levels[0, 0, at] | levels[1, 0, was] ^ levels[1, 0, at]) != 0


_W64 = types.int64[::1]
_W32_2 = types.int32[:, ::1]
_W64_2 = types.int64[:, ::1]
_W64_3 = types.int64[:, :, ::1]


@njit(
    [
        types.UniTuple(types.int64, 4)(
            *(I64, I64, I64, U8, U8),  # ts, sequence, ordinal, action, flags
            *(_PX, _SZ, _VALID, _PX, _SZ, _VALID),  # bid, ask
            *(I64, I64, types.int64),  # validity offsets, step of the prices
            *(types.int64, types.int64),  # rows [start, stop)
            *(types.int64, types.int64, I64, I64, types.boolean),  # gap, grid, manifest gaps, f_last_absent
            *(types.boolean, types.boolean, types.boolean),  # want tape, states, best quotes
            *(_W64, _W64_3, _W64_3, _W64_2),  # state
            types.int64,
            *(_W64, _W64, _W64, types.int8[::1], types.int32[::1], types.int32[::1]),  # tape
            types.int64,
            *(_W64_2, _W32_2, _W32_2),  # states
            types.int64,
            *(_W64_2, _W32_2, _W32_2),  # best quotes
        )
    ],
    cache=True,
    error_model="numpy",
)
def run(
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
    want_bbo,
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
    b,
    bbo_keys,
    bbo_ticks,
    bbo_sizes,
):
    """Rows [start, stop) through the state machine, writing tape from row ``w``, states from column ``v`` and best
    quotes from column ``b`` on.

    ``keys``, ``levels`` (2, 10, tile + 1) and ``n`` (2, tile + 1) hold the book: column 0 is the last valid state when
    a tile begins, columns 1.. are the tile's states, and ``s[_ROW]`` says which column is the last valid state now.
    Returns (tape rows, states, best quotes, first disordered row or -1).
    """
    rows = np.empty(TILE, np.int64)
    unusual, differs = np.zeros((2, TILE + 1), np.int64), np.zeros((2, TILE + 1), np.int64)
    flow, flow_best = np.zeros((2, TILE + 1), np.int64), np.zeros((2, TILE + 1), np.int64)
    for tile in range(start, stop, TILE):
        end = min(tile + TILE, stop)
        count = 0
        for i in range(tile, end):
            rows[count] = i
            count += _is_state(action[i], flags[i], f_last_absent)
        _gather(rows, count, bid_px, bid_sz, bid_valid, bid_bit, step, 1, keys[0], levels[0])
        _gather(rows, count, ask_px, ask_sz, ask_valid, ask_bit, step, -1, keys[1], levels[1])
        for side in range(2):
            _survey(
                keys[side],
                levels[side],
                count,
                want_states,
                unusual[side],
                differs[side],
                flow[side],
                flow_best[side],
            )

        at = 0
        for i in range(tile, end):
            t = ts[i]
            if s[CELL] != NONE:
                if t < s[_TS] or (
                    t == s[_TS]
                    and (sequence[i] < s[_SEQ] or (sequence[i] == s[_SEQ] and ordinal[i] < s[_ORD]))
                ):
                    return w, v, b, i
                if t >= (s[CELL] + 1) * grid_ns:
                    if want_states:
                        state_row(s, grid_ns, keys, levels, n, out_fields, out_ticks, out_sizes, v)
                        v += 1
                    s[CELL] = t // grid_ns
                    s[_ENTRY_OPEN] = 1 if s[_SEGMENT] > 0 and s[_BROKEN] == 0 else 0
                    s[_ENTRY_END] = NONE
                    s[_OFI] = 0
                    s[_OFI_L1] = 0
                if t - s[_TS] > gap_ns:
                    _break(s)
                while s[_GAP] < gap_to.size and gap_to[s[_GAP]] <= s[_TS]:
                    s[_GAP] += 1
                if s[_GAP] < gap_to.size and gap_from[s[_GAP]] < t:
                    _break(s)
            else:
                s[CELL] = t // grid_ns
            s[_TS] = t
            s[_SEQ] = sequence[i]
            s[_ORD] = ordinal[i]
            if action[i] == _R or flags[i] & (F_SNAPSHOT | F_MAYBE_BAD_BOOK):
                _break(s)
            if at == count or rows[at] != i:
                continue

            at += 1
            bids = DEPTH if unusual[0, at] == 0 else _compact(keys, levels, 0, at)
            asks = DEPTH if unusual[1, at] == 0 else _compact(keys, levels, 1, at)
            if bids > 0 and asks > 0 and keys[0, 0, at] >= -keys[1, 0, at]:
                if s[_INVALID] == NONE:
                    s[_INVALID] = t
                continue
            if s[_INVALID] != NONE:
                if t - s[_INVALID] > INVALID_MAX_NS:
                    _break(s)
                s[_INVALID] = NONE
            n[0, at] = bids
            n[1, at] = asks
            was = s[_ROW]
            if want_bbo and (s[_STATE_TS] == NONE or _is_new_best(keys, levels, was, at)):
                bbo_keys[0, b] = t
                bbo_keys[1, b] = sequence[i]
                bbo_keys[2, b] = ordinal[i]
                for side in range(2):
                    key = keys[side, 0, at]
                    bbo_ticks[side, b] = (
                        (key if side == 0 else -key) // TICK_MANTISSA if n[side, at] > 0 else 0
                    )
                    bbo_sizes[side, b] = levels[side, 0, at]
                b += 1
            if s[_BROKEN] == 1:
                s[_SEGMENT] += 1
                s[_SEGMENT_START] = t
                s[_BROKEN] = 0
            elif want_tape or want_states:
                first = w
                for side in range(2):
                    if was == at - 1 and unusual[side, at] == 0 and unusual[side, was] == 0:  # nearly always
                        if differs[side, at] == 0:
                            continue
                        total, best = flow[side, at], flow_best[side, at]
                    else:
                        if _is_same(keys, levels, n, side, was, at):
                            continue
                        total, best = _order_flow(keys, levels, side, was, at)
                    s[_OFI] += (1 - 2 * side) * total  # what asks add is subtracted
                    s[_OFI_L1] += (1 - 2 * side) * best
                    if want_tape:
                        w = _diff(keys, levels, n, side, was, at, out_side, out_tick, out_delta, w)
                for q in range(first, w):
                    out_ts[q] = t
                    out_seq[q] = sequence[i]
                    out_ord[q] = ordinal[i]
            s[_STATE_TS] = t
            s[_ROW] = at
        keys[:, :, 0] = keys[:, :, s[_ROW]]
        levels[:, :, 0] = levels[:, :, s[_ROW]]
        n[:, 0] = n[:, s[_ROW]]
        s[_ROW] = 0
    return w, v, b, -1


def blank() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(scalars, keys, levels, numbers of levels) before the first record, as `run` carries them on."""
    s = np.zeros(_SCALARS, np.int64)
    s[[CELL, _STATE_TS, _SEGMENT_START, _INVALID, _ENTRY_END]] = NONE
    s[_BROKEN] = 1  # before the first state: it is a reference only
    keys = np.full((2, DEPTH, TILE + 1), NONE, np.int64)
    return s, keys, np.zeros((2, DEPTH, TILE + 1), np.int64), np.zeros((2, TILE + 1), np.int64)
