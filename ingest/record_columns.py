"""Fields of fixed records to columns in one pass: a tile of records is read once and stays in the first cache.

Column by column, as numpy does it, each field's pass fetches every record again from the second cache.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit, types

_TILE = 64  # records: 24 KB of a book with ten levels
_I64, _I32, _PLACES = types.int64[::1], types.int32[::1], types.int64[:, ::1]
_WORDS8, _WORDS4 = (types.Array(t, 1, "C", readonly=True) for t in (types.int64, types.int32))


@njit(cache=True)
def _copy_tile(words, stride, places, out, start, low, high, seen):
    for c in range(len(places)):
        source, target = places[c, 0], places[c, 1] + start
        union = np.int64(0)
        for i in range(low, high):
            value = words[np.uint64(i * stride + source)]
            out[np.uint64(target + i)] = value
            union |= value
        seen[c] |= union


@njit(
    [
        types.void(
            types.int64, types.int64, types.int64, _WORDS8, _PLACES, _I64, _I64, _WORDS4, _PLACES, _I32, _I64
        )
    ],
    cache=True,
)
def _copy(rows, start, stride, words8, places8, out8, seen8, words4, places4, out4, seen4):
    """Copy ``rows`` records of ``stride`` words of 8 bytes; ``places`` (k, 2) are a field's word in the record and
    the word in ``out`` where its column starts. ``seen`` (k,) gets the *or* of all values of each.
    """
    for low in range(0, rows, _TILE):
        high = min(low + _TILE, rows)
        _copy_tile(words8, stride, places8, out8, start, low, high, seen8)
        _copy_tile(words4, 2 * stride, places4, out4, start, low, high, seen4)


class ColumnCopy:
    """How the fields of one record layout go to the columns of one ``block`` of memory.

    ``fields`` gives the field of each column, ``places`` the byte in ``block`` at which it starts, ``kinds`` its
    type. Those of 4 and 8 bytes, of the same size and aligned in the record, are copied here; ``left`` are the
    others.
    """

    def __init__(
        self,
        layout: np.dtype,
        fields: Mapping[str, str],
        places: Mapping[str, int],
        kinds: Mapping[str, np.dtype],
        block: np.ndarray,
    ) -> None:
        self._words = layout.itemsize // 8
        self._out8, self._out4 = block.view(np.int64), block.view(np.int32)
        by_size: dict[int, list[str]] = {8: [], 4: []}
        self.left = []
        for name, field in fields.items():
            kind, offset = layout.fields[field][:2]
            fits = kind.itemsize == kinds[name].itemsize in by_size and offset % kind.itemsize == 0
            (by_size[kind.itemsize] if fits else self.left).append(name)
        tables = {}
        for size, names in by_size.items():
            table = [(layout.fields[fields[n]][1] // size, places[n] // size) for n in names]
            tables[size] = np.array(table, dtype=np.int64).reshape(-1, 2)
        self._places8, self._places4 = tables[8], tables[4]
        self._seen8, self._seen4 = (np.zeros(len(by_size[size]), dtype=np.int64) for size in (8, 4))
        self._seen = {
            n: (s, i) for size, s in ((8, self._seen8), (4, self._seen4)) for i, n in enumerate(by_size[size])
        }

    @staticmethod
    def serves(records: np.ndarray) -> bool:
        return records.flags.c_contiguous and records.itemsize % 8 == 0 and records.ctypes.data % 8 == 0

    def copy(self, records: np.ndarray, start: int) -> None:
        """Copy ``records`` (n,) to rows ``start`` and on."""
        words8, words4 = records.view(np.int64), records.view(np.int32)
        _copy(
            len(records), start, self._words, words8, self._places8, self._out8, self._seen8,
            words4, self._places4, self._out4, self._seen4,
        )  # fmt: skip

    def seen(self, name: str) -> int:
        """The *or* of all values copied to a column since ``forget``, signed: a bit not set here is in none of them.
        −1 for a column that isn't copied here.
        """
        where = self._seen.get(name)
        return -1 if where is None else int(where[0][where[1]])

    def forget(self) -> None:
        self._seen8[:] = 0
        self._seen4[:] = 0

    def adopt(self, other: ColumnCopy) -> None:
        """Rows came from another block of the same columns."""
        self._seen8[:], self._seen4[:] = other._seen8, other._seen4

    def doubt(self) -> None:
        """Rows came another way: any bit may be set."""
        self._seen8[:] = -1
        self._seen4[:] = -1
