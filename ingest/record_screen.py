"""One look at a block of fixed records: what all of them have in common tells whether any may be wrong."""

from __future__ import annotations

import numpy as np
from numba import njit, types

_TOGETHER = 4  # records joined at a time: the result is loaded and stored once for them
_TILE = 64  # records that stay in the first cache for their times and letters


@njit(
    [
        types.Tuple((types.int64, types.int64, types.boolean))(
            types.Array(types.int64, 1, "C", readonly=True), types.int64, types.int64, types.int64,
            types.int64, types.boolean[::1], types.int64[::1],
        )
    ],
    cache=True,
)  # fmt: skip
def screen(words, width, time_word, pair_word, pair_shift, known_pairs, joined):
    """Of records of ``width`` words each, ``words`` (n · width,), n ≥ 1: the least and greatest time, and whether
    ``known_pairs`` (65536,) is true of the two bytes at ``pair_shift`` of each ``pair_word``. ``joined`` (width,)
    gets the *or* of all records, word by word.
    """
    n = len(words) // width
    low = high = words[time_word]
    known = True
    joined[:] = 0
    whole = n // _TOGETHER * _TOGETHER
    for tile in range(0, n, _TILE):
        end = min(tile + _TILE, n)
        for first in range(tile, min(end, whole), _TOGETHER):
            a = np.uint64(first * width)
            b, c, d = a + np.uint64(width), a + np.uint64(2 * width), a + np.uint64(3 * width)
            for w in range(np.uint64(width)):
                joined[w] |= words[a + w] | words[b + w] | words[c + w] | words[d + w]
        for i in range(tile, end):
            at = np.uint64(i * width)
            ts = words[at + np.uint64(time_word)]
            low, high = min(low, ts), max(high, ts)
            known &= known_pairs[np.uint64((words[at + np.uint64(pair_word)] >> pair_shift) & 0xFFFF)]
    for i in range(whole, n):
        for w in range(width):
            joined[w] |= words[i * width + w]
    return low, high, known
