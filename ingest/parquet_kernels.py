"""Kernels of the Parquet encoder: a column of numbers to the bytes of one data page, before compression.

Source: Apache Parquet format 2.9, Encodings (RLE/bit-packing hybrid, RLE_DICTIONARY, DELTA_BINARY_PACKED).
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

MAX_CARDINALITY = 32_768  # a dictionary beyond this costs more than it saves in a row group of 122,880 rows
_TABLE = 4 * MAX_CARDINALITY
_SPREAD_CARDINALITY = 254  # the most codes that fit a byte beside the unused 0 and 255
_DELTA_BLOCK, _MINIBLOCKS, _MINIBLOCK = 1024, 32, 32

_I32, _I64, _U8 = types.int32[::1], types.int64[::1], types.uint8[::1]
# Indexes are unsigned where it counts: numba looks at each signed one whether it is below zero.
_U, _ONE, _GOLDEN = np.uint64, np.uint64(1), np.uint64(0x9E3779B97F4A7C15)
_NUMBERS = [types.Array(t, 1, "C", readonly=True) for t in (types.int32, types.int64)]


class Scratch:
    """Memory that the kernels work in, for columns of at most ``rows`` values; one per writing thread."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.starts = np.empty(rows + 1, np.int32)
        self.codes = np.empty(rows + 1, np.int32)
        self.table = np.empty(_TABLE, np.int32)
        self.counts = np.empty(MAX_CARDINALITY, np.int64)
        self.entries = np.empty(MAX_CARDINALITY + 256, np.int64)
        self.out = np.empty(10 * rows + 4096, np.uint8)


@njit(cache=True)
def put_varint(out, at, value):
    """Write an unsigned LEB128 at ``out[at]``; returns the position after it."""
    while value >= np.uint64(128):
        out[at] = np.uint8((value & np.uint64(127)) | np.uint64(128))
        at += 1
        value >>= np.uint64(7)
    out[at] = np.uint8(value)
    return at + 1


@njit(cache=True)
def find_runs(values, starts):
    """Positions in ``values`` (n,) at which a run of equal values starts, into ``starts`` (n + 1,); returns
    how many. ``starts`` gets n itself as one more, so that run j is ``starts[j]:starts[j + 1]``.
    """
    n = len(values)
    if n == 0:
        starts[0] = 0
        return 0
    starts[0] = 0
    runs = 1
    # Without a branch: where changes are a few in a hundred, each would be a misprediction.
    for i in range(1, n):
        starts[runs] = i
        runs += values[i] != values[i - 1]
    starts[runs] = n
    return runs


@njit(cache=True)
def _fill(table, bits, entries, found):
    """Make ``table`` one of 2 ** ``bits`` places with the numbers of the first ``found`` values."""
    mask = (_ONE << bits) - _ONE
    table[: np.int64(mask) + 1] = -1
    for c in range(found):
        slot = (_U(entries[c]) * _GOLDEN) >> (_U(64) - bits)
        while table[slot] >= 0:
            slot = (slot + _ONE) & mask
        table[slot] = c
    return mask


@njit(
    [
        types.UniTuple(types.int64, 2)(t, types.int64, types.int64, _I64, _I64, _I32, _I32, _I32, _I64, _I64)
        for t in _NUMBERS
    ],
    cache=True,
)
def code_values(values, before, last, old_entries, old_counts, starts, codes, table, entries, counts):
    """The runs of ``values`` (n,), the next of a column that ``before`` values came of, ``last`` the last of them.

    Distinct values are numbered in the order in which they appear: ``old_entries`` are those so far,
    ``old_counts`` how many runs have each; ``entries`` and ``counts`` get both, brought up to date. ``starts`` and
    ``codes`` (≥ n + 1,) get where in the column each new run starts, and its number. A run that goes on isn't a
    new one. Returns (number of new runs, number of values), (−1, −1) beyond `MAX_CARDINALITY` of these.
    """
    runs = find_runs(values, starts)
    first = 1 if before > 0 and runs > 0 and np.int64(values[0]) == last else 0
    found = len(old_entries)
    if first == runs:
        return 0, found
    for c in range(found):
        entries[c], counts[c] = old_entries[c], old_counts[c]
    bits = _U(10)
    while _U(found) << _ONE > (_ONE << bits) - _ONE:
        bits += _ONE
    mask = _fill(table, bits, entries, found)
    for j in range(_U(first), _U(runs)):
        start = starts[j]
        value = np.int64(values[_U(start)])
        slot = (_U(value) * _GOLDEN) >> (_U(64) - bits)
        code = table[slot]
        while code >= 0 and entries[_U(code)] != value:
            slot = (slot + _ONE) & mask
            code = table[slot]
        if code < 0:
            if found == MAX_CARDINALITY:
                return -1, -1
            code = np.int32(found)
            table[slot] = code
            entries[_U(found)], counts[_U(found)] = value, 0
            found += 1
            if _U(found) << _ONE > mask:  # half full: twice as large, filled anew
                bits += _ONE
                mask = _fill(table, bits, entries, found)
        counts[_U(code)] += 1
        to = j - _U(first)
        starts[to], codes[to] = start + before, code
    return runs - first, found


def most_entries(values: int) -> int:
    """Of how many distinct values a dictionary may be; where there are more, plain values take less."""
    return min(MAX_CARDINALITY, 64 + values // 2)


@njit(cache=True)
def _spread(entries, counts, found, places):
    """Give the most frequent values the places 2, 4, …, the others 1, 3, …; fills ``places`` (found,) and
    reorders ``entries``. Returns the new length of ``entries``, holes filled with a value that is there.

    A run's header is its doubled length: even, short ones the most frequent. With codes of the same form
    one Huffman table suits both, which is 3 to 4 % of the bytes of a book.
    """
    order = np.empty(found, np.int64)
    for c in range(found):
        order[c] = (-counts[c] << 16) | c
    order.sort()
    old = entries[:found].copy()
    last = 0
    for rank in range(found):
        c = order[rank] & 0xFFFF
        place = 2 * rank + 2 if rank < 127 else 2 * (rank - 127) + 1
        places[c] = place
        last = max(last, place)
    entries[: last + 1] = old[order[0] & 0xFFFF]
    for c in range(found):
        entries[places[c]] = old[c]
    return last + 1


@njit(cache=True)
def _put_runs(starts, runs, codes, width_bytes, out, at):
    to = _U(at)
    for j in range(_U(runs)):
        header = _U(starts[j + _ONE] - starts[j]) << _ONE
        while header >= _U(128):
            out[to] = np.uint8(header | _U(128))
            to += _ONE
            header >>= _U(7)
        out[to] = np.uint8(header)
        out[to + _ONE] = np.uint8(codes[j])
        to += _U(2)
        if width_bytes == 2:
            out[to] = np.uint8(codes[j] >> 8)
            to += _ONE
    return np.int64(to)


@njit(cache=True)
def _put_packed(starts, runs, codes, bits, out, at):
    n = starts[runs]
    groups = (n + 7) // 8
    at = put_varint(out, at, np.uint64(groups << 1 | 1))
    end = at + groups * bits
    if bits == 16:
        for j in range(runs):
            for i in range(starts[j], starts[j + 1]):
                out[at + 2 * i] = codes[j] & 255
                out[at + 2 * i + 1] = codes[j] >> 8
        out[at + 2 * n : end] = 0
        return end
    if bits == 8:
        for j in range(runs):
            for i in range(starts[j], starts[j + 1]):
                out[at + i] = codes[j]
        out[at + n : end] = 0
        return end
    byte, filled = 0, 0
    for j in range(runs):
        for _ in range(starts[j], starts[j + 1]):
            byte |= codes[j] << filled
            filled += bits
            if filled == 8:
                out[at] = byte
                at += 1
                byte, filled = 0, 0
    if filled:
        out[at] = byte
        at += 1
    out[at:end] = 0
    return end


@njit([types.UniTuple(types.int64, 2)(_I32, types.int64, _I32, types.int64, _I64, _I64, _U8)], cache=True)
def encode_runs(starts, runs, codes, found, counts, entries, out):
    """A column's runs, as `code_values` gives them, as a page of dictionary indexes; ``starts[runs]`` is the end.

    Returns (length of the page in ``out``, number of dictionary values in ``entries``).

    Where most rows repeat the row before, the page is runs only, also runs of one. Otherwise it is indexes
    of 1, 2, 4, 8 or 16 bits each: whole bytes and their even parts are what the compressor can tell apart.
    """
    n = starts[runs]
    bits = 1 if found <= 2 else 2 if found <= 4 else 4 if found <= 16 else 8 if found <= 256 else 16
    packed = 2 * runs > n if bits >= 8 else 8 * runs > n
    if packed:
        out[0] = bits
        return _put_packed(starts, runs, codes, bits, out, 1), found
    if runs > 64 and found <= _SPREAD_CARDINALITY:
        places = np.empty(found, np.int32)
        length = _spread(entries, counts, found, places)
        for j in range(_U(runs)):
            codes[j] = places[_U(codes[j])]
        out[0] = 8
        return _put_runs(starts, runs, codes, 1, out, 1), length
    out[0] = max(bits, 8) if found > 2 else 1
    return _put_runs(starts, runs, codes, 2 if bits == 16 else 1, out, 1), found


@njit([types.int64(_U8, _I32, _U8)], cache=True)
def encode_levels(valid, starts, out):
    """Definition levels of one optional column, 1 where ``valid`` (n,) is; returns their length in ``out``."""
    runs = find_runs(valid, starts)
    at = 0
    for j in range(runs):
        at = put_varint(out, at, np.uint64(starts[j + 1] - starts[j]) << np.uint64(1))
        out[at] = valid[starts[j]]
        at += 1
    return at


@njit(cache=True)
def _bit_length(value):
    """Bits of ``value`` seen as unsigned."""
    rest, bits = np.uint64(value), 0
    while rest:
        rest >>= np.uint64(1)
        bits += 1
    return bits


@njit(cache=True)
def _pack(values, count, bits, out, at):
    """The low ``bits`` of each value, least significant first; room for 8 bytes more than the result."""
    held, filled = np.uint64(0), 0
    mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - bits)
    for i in range(count):
        value = np.uint64(values[i]) & mask
        held |= value << np.uint64(filled)
        filled += bits
        if filled >= 64:
            for k in range(8):
                out[at + k] = np.uint8(held >> np.uint64(8 * k))
            at += 8
            filled -= 64
            used = bits - filled
            held = value >> np.uint64(used) if used < 64 else np.uint64(0)
    while filled > 0:
        out[at] = np.uint8(held)
        at += 1
        held >>= np.uint64(8)
        filled -= 8
    return at


@njit([types.UniTuple(types.int64, 3)(t, _U8) for t in _NUMBERS], cache=True)
def encode_delta(values, out):
    """``values`` (n,) as DELTA_BINARY_PACKED in blocks of 1,024; returns (length in ``out``, minimum, maximum).

    Differences wrap around in the width of the type, as the format wants it. n may be 0.
    """
    n = len(values)
    narrow = values.itemsize == 4
    at = put_varint(out, 0, np.uint64(_DELTA_BLOCK))
    at = put_varint(out, at, np.uint64(_MINIBLOCKS))
    at = put_varint(out, at, np.uint64(n))
    first = np.int64(values[0]) if n else np.int64(0)
    at = put_varint(out, at, np.uint64((first << 1) ^ (first >> 63)))
    low = high = first
    deltas = np.empty(_DELTA_BLOCK, np.int64)
    for start in range(1, n, _DELTA_BLOCK):
        count = min(_DELTA_BLOCK, n - start)
        least = np.int64(0x7FFFFFFFFFFFFFFF)
        for i in range(count):
            value = np.int64(values[start + i])
            delta = value - np.int64(values[start + i - 1])
            if narrow:
                delta = np.int64(np.int32(delta))
            deltas[i] = delta
            least = min(least, delta)
            low, high = min(low, value), max(high, value)
        at = put_varint(out, at, np.uint64((least << 1) ^ (least >> 63)))
        widths = at
        at += _MINIBLOCKS
        for m in range(_MINIBLOCKS):
            begin = m * _MINIBLOCK
            if begin >= count:
                out[widths + m] = 0
                continue
            union = np.int64(0)
            for i in range(begin, begin + _MINIBLOCK):
                deltas[i] = deltas[i] - least if i < count else 0
                union |= deltas[i]
            bits = _bit_length(union & 0xFFFFFFFF if narrow else union)
            out[widths + m] = bits
            if bits:
                at = _pack(deltas[begin : begin + _MINIBLOCK], _MINIBLOCK, bits, out, at)
    return at, low, high
