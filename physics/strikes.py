"""Strikes of option prints as small numbers, so that kernels keep sums by strike in arrays."""

import numpy as np
from numba import njit, types

from physics.columns import I32

TABLE_MILLI = 1 << 22
"""Strikes that span less, in thousandths of a dollar, are looked up in a table: all that SPY ever listed do."""


@njit([types.void(I32, types.int32, types.int32[::1])], cache=True)
def _mark(strike, low, table):
    for i in range(strike.size):
        table[strike[i] - low] = 1


@njit([types.void(I32, types.int32, types.int32[::1], types.int32[::1])], cache=True)
def _look_up(strike, low, table, of):
    for i in range(strike.size):
        of[i] = table[strike[i] - low]


def numbered(strike: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct strikes, ascending, and the place of each print's strike among them.

    Shapes:   (n,) int32 gives (k,) int32 and (n,) int32.
    Empty:    no prints, no strikes.
    Cost:     O(n), 4 ns a print; O(n log n) where strikes span more than `TABLE_MILLI`.
    """
    if not strike.size:
        return strike, np.empty(0, np.int32)
    low, high = strike.min(), strike.max()
    if int(high) - int(low) >= TABLE_MILLI:
        strikes, of = np.unique(strike, return_inverse=True)
        return strikes, of.astype(np.int32)
    table = np.zeros(int(high) - int(low) + 1, np.int32)
    _mark(strike, low, table)
    present = np.flatnonzero(table)
    table[present] = np.arange(present.size)
    of = np.empty(strike.size, np.int32)
    _look_up(strike, low, table, of)
    return (present + low).astype(np.int32), of
