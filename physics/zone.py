"""Running totals of a stream of changes near levels: one pass, whatever the number of windows and points."""

import numpy as np
from numba import njit, types

from physics.columns import I8, I32, I64


@njit(cache=True)
def _read(e, low_tick, side, low, width, zone, running, out):
    first = 2 * (side[e] * width + low_tick[e] - low)
    up = down = 0
    for k in range(zone):
        up += running[first + 2 * k]
        down += running[first + 2 * k + 1]
    out[e, 0], out[e, 1] = up, down


@njit(
    [
        types.UniTuple(types.int64, 2)(
            *(I64, I8, I32, I32),
            *(I64, I64, I64, types.int64, types.int64, types.int64, types.int64),
            *(types.int64[::1], types.int64[:, ::1], types.int64),
        )
    ],
    cache=True,
)
def _advance(
    ts, side, tick, delta, instants, low_tick, of_side, at, low, width, zone, running, out, previous
):
    """Running totals per (side, tick) over rows in order, read at each instant that is passed.

    ``running[2 * (side * width + tick - low)]`` holds the increases at a price, the slot after it the
    decreases. Instants ascend. Returns (next instant, first row whose time is before the one before it, or -1).
    """
    next_ns = instants[at] if at < instants.size else 2**62
    for i in range(ts.size):
        t = ts[i]
        if t < previous:
            return at, i
        previous = t
        if t >= next_ns:
            while at < instants.size and instants[at] <= t:
                _read(at, low_tick, of_side, low, width, zone, running, out)
                at += 1
            next_ns = instants[at] if at < instants.size else 2**62
        k = np.int64(tick[i]) - low
        if 0 <= k < width:
            d = np.int64(delta[i])
            running[2 * (side[i] * width + k) + (d < 0)] += abs(d)
    return at, -1


@njit(
    [
        types.void(
            *(types.int64, I64, I64, types.int64, types.int64, types.int64),
            *(types.int64[::1], types.int64[:, ::1]),
        )
    ],
    cache=True,
)
def _read_rest(at, low_tick, of_side, low, width, zone, running, out):
    for e in range(at, low_tick.size):
        _read(e, low_tick, of_side, low, width, zone, running, out)


class ZoneTotals:
    """Totals of increases and of decreases near a level over every row before an instant, for many in one pass.

    ``instants`` (n, ns), ``level_tick`` (n,) and ``side`` (n, 0 or 1) are int64 in any order; the zone is
    |tick - level_tick| <= ``zone_ticks``. Feed rows in time order with ``update(ts, side, tick, delta)``, then
    read ``finish()``: (n,) increases and (n,) decreases, both >= 0. A row exactly at an instant doesn't count: the
    difference of two instants is the sum over the rows of [first, second). Cost: one step a row and a zone's width
    an instant; memory: the span of the levels, not of the rows.
    """

    def __init__(
        self, instants: np.ndarray, level_tick: np.ndarray, side: np.ndarray, *, zone_ticks: int
    ) -> None:
        self._order = np.argsort(instants, kind="stable")
        self._instants = np.ascontiguousarray(instants[self._order], np.int64)
        low_ticks = np.asarray(level_tick, np.int64) - zone_ticks
        self._low_tick = low_ticks[self._order]
        self._side = np.asarray(side, np.int64)[self._order]
        self._zone = 2 * zone_ticks + 1
        self._low = int(low_ticks.min()) if low_ticks.size else 0
        self._width = int(low_ticks.max()) - self._low + self._zone if low_ticks.size else 0
        self._running = np.zeros(4 * self._width, np.int64)
        self._out = np.zeros((instants.size, 2), np.int64)
        self._at = 0
        self._previous = -(2**62)

    def update(self, ts: np.ndarray, side: np.ndarray, tick: np.ndarray, delta: np.ndarray) -> None:
        """Next rows: ``ts`` int64, ``side`` int8, ``tick`` and ``delta`` int32. ValueError when times go
        back.
        """
        self._at, disorder = _advance(
            ts,
            side,
            tick,
            delta,
            self._instants,
            self._low_tick,
            self._side,
            self._at,
            self._low,
            self._width,
            self._zone,
            self._running,
            self._out,
            self._previous,
        )
        if disorder >= 0:
            raise ValueError(
                f"ts_event_ns was {ts[disorder]} in row {disorder} after a later one, expected non-decreasing times; "
                "sort the rows by them"
            )
        if ts.size:
            self._previous = int(ts[-1])

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Increases and decreases before every instant, in the order the instants were given."""
        _read_rest(
            self._at, self._low_tick, self._side, self._low, self._width, self._zone, self._running, self._out
        )
        self._at = self._instants.size
        totals = np.empty_like(self._out)
        totals[self._order] = self._out
        return totals[:, 0], totals[:, 1]
