"""Kernels of `ingest.mbo_book`: one pass over the records of many instruments, their orders and levels in flat tables.

An order is a slot of one open hash table, a side of a book a stretch of one pool of levels, best last. Nothing here
allocates: a table that is full stops the pass, the caller makes a larger one, and it goes on with the same record.
"""

from __future__ import annotations

import databento_dbn
import numba as nb
import numpy as np
from numba import njit, types

from ingest.dbn_format import UNDEF_PRICE, signed_dtype

_MBP10 = signed_dtype(databento_dbn.MBP10Msg, ts_out=False)
# A record of mbp-10, and the number in the file of the MBO record that it is of.
MBP10 = np.dtype(
    {
        "names": [*_MBP10.names, "ordinal"],
        "formats": [*(_MBP10.fields[n][0] for n in _MBP10.names), "<i8"],
        "offsets": [*(_MBP10.fields[n][1] for n in _MBP10.names), _MBP10.itemsize],
        "itemsize": _MBP10.itemsize + 8,
    }
)
DEPTH = 10
F_LAST, F_TOB, F_SNAPSHOT, F_BAD_TS_RECV = 128, 64, 32, 8

# What makes a record unfit for the book; the rest of the file goes on without it.
RULES = ("", "ACTION", "SIDE", "PRICE_RANGE", "SIZE")
_BAD_ACTION, _BAD_SIDE, _BAD_PRICE, _BAD_SIZE = 1, 2, 3, 4

_A, _C, _F, _M, _N, _R, _T = (ord(c) for c in "ACFMNRT")
_BID, _ASK, _NONE = (ord(c) for c in "BAN")
_UNDEF, _PRICE_LIMIT = UNDEF_PRICE, 10**18
_ORDINAL = MBP10.itemsize // 8 - 1
_HEAD = 92 | 0x0A << 8  # length in words and rtype of mbp-10

# columns of an order: its id (the slot is free where the tag is -1), generation and book, key, size and side
_ID, TAG, _KEY, _SIZE_SIDE = 0, 1, 2, 3
# columns of a side: where its levels stand in the pool, for how many there is room, how many there are
_AT, _ROOM, _COUNT = 0, 1, 2
# columns of a level: key (price, on the ask side negated: the best is the last), size, orders
# columns of a book
_GENERATION, _ANCHORED, _GIVEN, _IN_SNAPSHOT, _PENDING, _SNAPSHOT_RECV, _SNAPSHOT_ROW = range(7)
# counters: what the run has seen, then what the tables hold
_UNKNOWN_CANCELS, _UNKNOWN_MODIFIES, _DUPLICATE_ADDS, _OVERFILLED, _SNAPSHOTS, _CLEARS = range(6)
_USED, _POOL_TOP, COUNTERS = 6, 7, 8
DONE, ORDERS_FULL, POOL_FULL, PARTIAL = range(4)

_FIRST_ROOM = 16  # levels of a side, to begin with

_IN = types.Array(nb.int64, 2, "C", readonly=True)
_I64, _I64_2 = nb.int64[::1], nb.int64[:, ::1]


@njit(cache=True)
def _home(order_id, book, mask):
    return ((order_id ^ book * 0x632BE59BD9B4E019) * -0x61C8864680B583EB >> 24) & mask


@njit(cache=True)
def _find(orders, order_id, tag, mask):
    """Slot of an order, or the free slot (as -slot - 1) where it would stand."""
    slot = _home(order_id, tag & 0x7FFFFFFF, mask)
    while orders[slot, TAG] != -1:
        if orders[slot, _ID] == order_id and orders[slot, TAG] == tag:
            return slot
        slot = (slot + 1) & mask
    return -slot - 1


@njit(cache=True)
def _forget(orders, slot, mask):
    """Free a slot and close the gap, so that no search passes over what isn't there any more."""
    hole = slot
    at = (slot + 1) & mask
    while orders[at, TAG] != -1:
        home = _home(orders[at, _ID], orders[at, TAG] & 0x7FFFFFFF, mask)
        if (at - home) & mask >= (at - hole) & mask:
            for c in range(4):
                orders[hole, c] = orders[at, c]
            hole = at
        at = (at + 1) & mask
    orders[hole, TAG] = -1


@njit(cache=True)
def _above(pool, sides, side, key):
    """Index after the last level of a side whose key is at most ``key``: the better ones start there."""
    at, high = sides[side, _AT], sides[side, _COUNT]
    low = max(high - DEPTH - 2, 0)
    while high > low and pool[at + high - 1, 0] > key:
        high -= 1
    if high == low and high > 0 and pool[at + high - 1, 0] > key:
        low = 0
        while low < high:
            middle = (low + high) >> 1
            if pool[at + middle, 0] > key:
                high = middle
            else:
                low = middle + 1
    return high


@njit(cache=True)
def _room(pool, sides, side, free, counters):
    """Make room for one more level on a side; False when the pool has none left."""
    if sides[side, _COUNT] < sides[side, _ROOM]:
        return True
    old, count = sides[side, _AT], sides[side, _COUNT]
    size = max(2 * sides[side, _ROOM], _FIRST_ROOM)
    kind = 0
    while 1 << kind < size:
        kind += 1
    at = free[kind]
    if at >= 0:
        free[kind] = pool[at, 0]
    else:
        at = counters[_POOL_TOP]
        if at + size > len(pool):
            return False
        counters[_POOL_TOP] = at + size
    for i in range(count):
        for c in range(3):
            pool[at + i, c] = pool[old + i, c]
    if sides[side, _ROOM]:
        kind -= 1
        pool[old, 0] = free[kind]
        free[kind] = old
    sides[side, _AT], sides[side, _ROOM] = at, size
    return True


@njit(cache=True)
def _put(pool, sides, side, key, size):
    """Add one order to its level. Returns the number of better levels."""
    above = _above(pool, sides, side, key)
    at, count = sides[side, _AT], sides[side, _COUNT]
    if above > 0 and pool[at + above - 1, 0] == key:
        pool[at + above - 1, 1] += size
        pool[at + above - 1, 2] += 1
        return count - above
    for i in range(count, above, -1):
        for c in range(3):
            pool[at + i, c] = pool[at + i - 1, c]
    pool[at + above, 0], pool[at + above, 1], pool[at + above, 2] = key, size, 1
    sides[side, _COUNT] = count + 1
    return count - above


@njit(cache=True)
def _take(pool, sides, side, key, size, orders):
    """Take ``size`` and a number of ``orders`` (0 or 1) from a level. Returns the number of better levels."""
    above = _above(pool, sides, side, key)
    at, count = sides[side, _AT], sides[side, _COUNT]
    level = at + above - 1
    pool[level, 1] -= size
    pool[level, 2] -= orders
    if pool[level, 2] == 0:
        for i in range(level, at + count - 1):
            for c in range(3):
                pool[i, c] = pool[i + 1, c]
        sides[side, _COUNT] = count - 1
    return count - above


@njit(cache=True)
def _levels(pool, sides, book, out, row, first):
    """The ten best levels of both sides of a book as the words of a record, from word ``first`` on."""
    for k in range(DEPTH):
        word = first + 4 * k
        out[row, word] = out[row, word + 1] = _UNDEF
        out[row, word + 2] = out[row, word + 3] = 0
    for ask in range(2):
        side = 2 * book + ask
        last = sides[side, _AT] + sides[side, _COUNT] - 1
        for k in range(min(DEPTH, sides[side, _COUNT])):
            word = first + 4 * k
            key = pool[last - k, 0]
            out[row, word + ask] = -key if ask else key
            out[row, word + 2] |= (pool[last - k, 1] & 0xFFFFFFFF) << 32 * ask
            out[row, word + 3] |= (pool[last - k, 2] & 0xFFFFFFFF) << 32 * ask


@njit(cache=True)
def _clear(sides, books, book):
    """Empty a book: its orders are of an older generation from now on and go when the table is rebuilt."""
    sides[2 * book, _COUNT] = sides[2 * book + 1, _COUNT] = 0
    books[book, _GENERATION] += 1


@njit(cache=True)
def _start_snapshot(pool, sides, books, book, saved, recv, counters):
    if books[book, _GIVEN] and not books[book, _PENDING]:
        _levels(pool, sides, book, saved, book, 0)
        books[book, _PENDING] = 1
    _clear(sides, books, book)
    books[book, _ANCHORED] = books[book, _IN_SNAPSHOT] = 1
    books[book, _SNAPSHOT_RECV] = recv
    counters[_SNAPSHOTS] += 1


@njit(cache=True)
def _end_snapshot(pool, sides, books, book, saved, records, i, out, n):
    """Record of a snapshot that changed the ten levels, given before the event ``i`` that follows. Returns 0 or 1."""
    books[book, _IN_SNAPSHOT] = 0
    if not books[book, _PENDING]:
        return 0
    books[book, _PENDING] = 0
    _levels(pool, sides, book, out, n, 6)
    same = True
    for word in range(4 * DEPTH):
        same &= out[n, 6 + word] == saved[book, word]
    if same:
        return 0
    out[n, 0] = records[i, 0] & ~0xFFFF | _HEAD
    out[n, 1] = min(records[i, 1], books[book, _SNAPSHOT_RECV])
    out[n, 2] = _UNDEF
    out[n, 3] = _A << 32 | _NONE << 40 | (F_LAST | F_SNAPSHOT | F_BAD_TS_RECV) << 48
    out[n, 4] = books[book, _SNAPSHOT_RECV]
    out[n, 5] = records[i, 6] & ~0xFFFFFFFF  # sequence of the event, no ts_in_delta
    out[n, _ORDINAL] = books[book, _SNAPSHOT_ROW]
    return 1


@njit([types.void(_I64_2, _I64_2, _I64_2, _I64)], cache=True)
def move_orders(old, orders, books, counters):
    """Every order of a current generation from one table into a larger, empty one."""
    mask = len(orders) - 1
    used = 0
    for slot in range(len(old)):
        tag = old[slot, TAG]
        if tag != -1 and books[tag & 0x7FFFFFFF, _GENERATION] == tag >> 31:
            new = -_find(orders, old[slot, _ID], tag, mask) - 1
            for c in range(4):
                orders[new, c] = old[slot, c]
            used += 1
    counters[_USED] = used


@njit([types.int64(_I64_2, _I64_2)], cache=True)
def live_orders(orders, books):
    count = 0
    for slot in range(len(orders)):
        tag = orders[slot, TAG]
        count += tag != -1 and books[tag & 0x7FFFFFFF, _GENERATION] == tag >> 31
    return count


@njit(
    [
        types.UniTuple(types.int64, 3)(
            *(_IN, types.Array(nb.int64, 1, "C", readonly=True), types.int64, types.int64),
            *(_I64_2, _I64_2, _I64_2, _I64, _I64_2, _I64_2, _I64),
            *(_I64_2, nb.uint8[::1], types.int64),
        )
    ],
    cache=True,
)
def rebuild(
    records, book_of, start, first_row, orders, sides, pool, free, books, saved, counters, out, bad, n
):
    """Apply records from ``start`` on; returns (where it stopped, records given so far, why it stopped).

    ``records`` (k, 7 or 8) are MBO records as 64-bit words, ``book_of`` (k,) their books. ``out`` gets mbp-10 records
    (47 words, see `MBP10`); ``bad`` (k,) gets the index in `RULES` of what is wrong with a record. Tables that are too
    small stop it before the record that doesn't fit, which is then taken again.
    """
    mask = len(orders) - 1
    for i in range(start, len(records)):
        word = records[i, 4]
        action, side_code, flags = word >> 48 & 0xFF, word >> 56 & 0xFF, word >> 32 & 0xFF
        if action in (_F, _N):
            continue
        book = book_of[i]
        if flags & F_SNAPSHOT and action in (_R, _A):
            recv = records[i, 5]
            if action == _R or not books[book, _IN_SNAPSHOT] or books[book, _SNAPSHOT_RECV] != recv:
                _start_snapshot(pool, sides, books, book, saved, recv, counters)
            books[book, _SNAPSHOT_ROW] = first_row + i
            if action == _R:
                continue
        elif books[book, _IN_SNAPSHOT]:
            n += _end_snapshot(pool, sides, books, book, saved, records, i, out, n)
        price, size = records[i, 3], word & 0xFFFFFFFF
        depth = np.int64(0)
        if action == _R:
            _clear(sides, books, book)
            books[book, _ANCHORED] = 1
            counters[_CLEARS] += 1
        elif action == _T:
            pass
        elif action in (_A, _M, _C):
            order_id = records[i, 2]
            tag = books[book, _GENERATION] << 31 | book
            slot = _find(orders, order_id, tag, mask)
            known = slot >= 0
            if action == _C:
                if not known:
                    if not books[book, _ANCHORED]:
                        return i, n, PARTIAL
                    counters[_UNKNOWN_CANCELS] += 1
                    continue
                side = 2 * book + (orders[slot, _SIZE_SIDE] & 1)
                rest = orders[slot, _SIZE_SIDE] >> 1
                counters[_OVERFILLED] += size > rest
                taken = min(size, rest)
                depth = _take(pool, sides, side, orders[slot, _KEY], taken, np.int64(taken == rest))
                if taken == rest:
                    _forget(orders, slot, mask)
                    counters[_USED] -= 1
                else:
                    orders[slot, _SIZE_SIDE] -= taken << 1
                if depth >= DEPTH:
                    continue
            else:
                if not known and side_code not in (_BID, _ASK):
                    bad[i] = _BAD_SIDE
                    continue
                if price == _UNDEF or price >= _PRICE_LIMIT or price <= -_PRICE_LIMIT:
                    bad[i] = _BAD_PRICE
                    continue
                if size > 0x7FFFFFFF or (size == 0 and not known):
                    bad[i] = _BAD_SIZE
                    continue
                if not known and action == _M and not books[book, _ANCHORED]:
                    return i, n, PARTIAL
                ask = orders[slot, _SIZE_SIDE] & 1 if known else np.int64(side_code == _ASK)
                side = 2 * book + ask
                if not known and 2 * (counters[_USED] + 1) > len(orders):
                    return i, n, ORDERS_FULL
                if not _room(pool, sides, side, free, counters):
                    return i, n, POOL_FULL
                key = -price if ask else price
                old_depth = np.int64(DEPTH)
                if known:
                    counters[_DUPLICATE_ADDS] += action == _A
                    rest = orders[slot, _SIZE_SIDE] >> 1
                    old_depth = _take(pool, sides, side, orders[slot, _KEY], rest, 1)
                else:
                    counters[_UNKNOWN_MODIFIES] += action == _M
                    slot = -slot - 1
                    counters[_USED] += 1
                if size == 0:
                    _forget(orders, slot, mask)
                    counters[_USED] -= 1
                    depth = sides[side, _COUNT] - _above(pool, sides, side, key)
                else:
                    orders[slot, _ID], orders[slot, TAG] = order_id, tag
                    orders[slot, _KEY], orders[slot, _SIZE_SIDE] = key, size << 1 | ask
                    depth = _put(pool, sides, side, key, size)
                if depth >= DEPTH and old_depth >= DEPTH:
                    continue
                depth = min(depth, DEPTH - 1)
            if flags & F_SNAPSHOT:
                continue
        else:
            bad[i] = _BAD_ACTION
            continue
        out[n, 0] = records[i, 0] & ~0xFFFF | _HEAD
        out[n, 1], out[n, 2] = records[i, 1], price
        out[n, 3] = size | action << 32 | side_code << 40 | flags << 48 | depth << 56
        out[n, 4], out[n, 5] = records[i, 5], records[i, 6]
        _levels(pool, sides, book, out, n, 6)
        books[book, _GIVEN] = 1
        out[n, _ORDINAL] = first_row + i
        n += 1
    return len(records), n, DONE
