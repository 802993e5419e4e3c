"""The recent part of an ordered stream: what lets the windowed kernels run on a live stream in bounded
memory.

A kernel of observation points looks back a fixed span. A live host keeps that span of each of its inputs,
and calls the same kernel on it: the tape kernel needs the trades of max(W_t, 60 s); the barrier the trades
and the tape of W_b and the states of max(WEAK_LOOKBACK, 300 s + W_b).
"""

from collections import deque

import numpy as np
import pyarrow as pa

from physics.columns import column


class Recent:
    """Batches of a stream back to ``keep_ns`` before its newest row, and one row more: the one that held
    then.

    ``schema`` is the stream's, ``time`` its time column (int64 ns, non-decreasing). Batches are kept or
    dropped whole and never copied, so memory is the span and at most one batch more; feed batches that are
    short against the span.
    """

    def __init__(self, schema: pa.Schema, keep_ns: int, *, time: str = "ts_event_ns") -> None:
        if keep_ns <= 0:
            raise ValueError(f"keep_ns was {keep_ns}, expected a positive span in nanoseconds")
        self._schema = schema
        self._keep_ns = keep_ns
        self._time = time
        self._batches: deque[tuple[int, int, pa.RecordBatch]] = deque()

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the next rows and drop what is out of reach. ValueError when they start before the newest
        row.
        """
        if batch.num_rows == 0:
            return
        ts = column(batch, self._time, np.int64)
        first, last = int(ts[0]), int(ts[-1])
        if self._batches and first < self._batches[-1][1]:
            raise ValueError(
                f"{self._time} was {first} in row 0 after {self._batches[-1][1]}, expected non-decreasing times; "
                "feed batches in order"
            )
        self._batches.append((first, last, batch))
        # A row at the edge of the span may be the state that holds there: the batch before goes once it is
        # replaced.
        while len(self._batches) > 1 and self._batches[1][0] <= last - self._keep_ns:
            self._batches.popleft()

    def table(self) -> pa.Table:
        """What is kept, in order, without a copy."""
        return pa.Table.from_batches([batch for _, _, batch in self._batches], self._schema)
