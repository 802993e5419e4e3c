"""The rows of `physics.book.book_states` that hold at given instants, and what valid segments cover of a window."""

import numpy as np
import pyarrow as pa

from physics.book import DEPTH, LEVELS, SIDES
from physics.columns import column, nullable_column
from physics.units import SECOND_NS

SCALAR_COLUMNS = (
    "last_record_ns",
    "state_ts_ns",
    "segment_id",
    "segment_start_ns",
    "is_broken",
    "invalid_since_ns",
    "closed_cover_ns",
    "entry_segment_end_ns",
)
LEVEL_COLUMNS = tuple(f"{side}_{what}_{k}" for side in SIDES for what in ("tick", "size") for k in LEVELS)
NONE = -(2**62)
"""Stands for a null in `StatesAsof.rows`."""


class StatesAsof:
    """The states rows that hold at given instants, picked out of a stream of states.

    ``times`` are multiples of the grid, ascending and unique. After ``update(batch)`` over all states and
    ``finish()``, ``known`` tells where there was a row; ``rows[name]`` is (len(times),) for every scalar
    column, with `NONE` for null; ``ticks`` and ``sizes`` are (2, len(times), 10), best level first, a size
    of 0 where there is no level. Without ``levels`` these two stay zero and the level columns aren't read.
    ``totals`` names integer columns of a cell; ``rows`` has their sums over all cells up to the row.
    """

    def __init__(self, times: np.ndarray, *, levels: bool = True, totals: tuple[str, ...] = ()) -> None:
        self.times = times
        self._levels = levels
        self._totals = dict.fromkeys(totals, 0)
        self.known = np.zeros(times.size, bool)
        self.rows = {name: np.full(times.size, NONE, np.int64) for name in SCALAR_COLUMNS}
        self.rows |= {name: np.zeros(times.size, np.int64) for name in totals}
        self.ticks = np.zeros((2, times.size, DEPTH), np.int32)
        self.sizes = np.zeros((2, times.size, DEPTH), np.int32)
        self.segment_ends: list[np.ndarray] = []
        self._last: pa.RecordBatch | None = None
        self._done = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Next states. ValueError when cells don't strictly ascend."""
        if batch.num_rows == 0:
            return
        cells = column(batch, "cell_end_ns", np.int64)
        before = column(self._last, "cell_end_ns", np.int64)[0] if self._last is not None else NONE
        if cells[0] <= before or (np.diff(cells) <= 0).any():
            raise ValueError(
                "cell_end_ns of the states did not strictly ascend, expected one row per cell in order"
            )
        for name, before in self._totals.items():
            running = before + np.cumsum(column(batch, name, np.int64))
            batch = batch.set_column(batch.schema.get_field_index(name), name, pa.array(running))
            self._totals[name] = int(running[-1])
        self._fill_from_last(int(np.searchsorted(self.times, cells[0], "left")))
        upto = int(np.searchsorted(self.times, cells[-1], "left"))
        if upto > self._done:
            at = np.searchsorted(cells, self.times[self._done : upto], "right") - 1
            self._take(batch, at, slice(self._done, upto))
            self._done = upto
        ends = nullable_column(batch, "entry_segment_end_ns", np.int64, NONE)
        ended = ends != NONE
        if ended.any():
            self.segment_ends.append(np.stack([cells[ended], ends[ended]], axis=1))
        self._last = batch.slice(batch.num_rows - 1)

    def finish(self) -> None:
        """No more states: the last row holds at every later instant."""
        self._fill_from_last(self.times.size)

    def _fill_from_last(self, upto: int) -> None:
        if self._last is not None and upto > self._done:
            self._take(self._last, np.zeros(upto - self._done, np.int64), slice(self._done, upto))
        self._done = max(self._done, upto)

    def _take(self, batch: pa.RecordBatch, at: np.ndarray, into: slice) -> None:
        self.known[into] = True
        for name, values in self.rows.items():
            values[into] = nullable_column(batch, name, np.int64, NONE)[at]
        for code, side in enumerate(SIDES if self._levels else ()):
            for k, level in enumerate(LEVELS):
                self.ticks[code, into, k] = nullable_column(batch, f"{side}_tick_{level}", np.int32, 0)[at]
                self.sizes[code, into, k] = column(batch, f"{side}_size_{level}", np.int32)[at]

    def find(self, times: np.ndarray) -> np.ndarray:
        """Index of each instant in ``times``; all must be among those given."""
        return np.searchsorted(self.times, times)

    def is_open(self, at: np.ndarray, gap_ns: int) -> np.ndarray:
        """Whether the last segment still runs at the instants ``times[at]``, as known there."""
        row = {name: self.rows[name][at] for name in self.rows}
        asof = self.times[at]
        silent = asof > row["last_record_ns"] + gap_ns
        invalid = (row["invalid_since_ns"] != NONE) & (asof - row["invalid_since_ns"] > SECOND_NS)
        return (row["state_ts_ns"] != NONE) & (row["is_broken"] == 0) & ~silent & ~invalid

    def coverage_ns(self, asof: np.ndarray, window_ns: int, gap_ns: int) -> np.ndarray:
        """(n,) nanoseconds of [asof - window, asof) that valid segments cover, exactly as known at asof.

        A segment covers from its first state to its last, or to asof while it is open. Both asof and
        asof - window must be among ``times``. Source: spec market 7.2, readings 21.6 and 21.7.
        """
        a, x = self.find(asof), self.find(asof - window_ns)
        closed, start = self.rows["closed_cover_ns"], self.rows["segment_start_ns"]
        segment, broken, state_ts = (self.rows[n] for n in ("segment_id", "is_broken", "state_ts_ns"))

        runs = (state_ts != NONE) & (broken == 0)  # the last segment has not been counted into `closed` yet
        end = np.where(self.is_open(a, gap_ns), asof, state_ts[a])
        total = np.where(self.known[a], closed[a], 0) + np.where(runs[a], end - start[a], 0)

        ends = np.concatenate([*self.segment_ends, np.array([[2**62, NONE]], np.int64)])
        ended = ends[np.searchsorted(ends[:-1, 0], self.times[x], "right"), 1]
        end_at_x = np.where(segment[a] == segment[x], end, ended)
        before = np.where(runs[x], np.minimum(self.times[x], end_at_x) - start[x], 0)
        return total - (np.where(self.known[x], closed[x], 0) + before)
