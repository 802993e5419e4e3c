"""The total order of futures events, (`ts_event_ns`, `sequence`, `ordinal`): its guard, and merging by
hours.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numba import njit

from physics.columns import I64, batches, column
from physics.units import HOUR_NS

KEY = ("ts_event_ns", "sequence", "ordinal")

Position = tuple[int, int, int]


@njit([(I64, I64, I64)], cache=True)
def _first_disorder(ts, sequence, ordinal):
    n = ts.size - 1
    t, s, o, t_next, s_next, o_next = ts[:n], sequence[:n], ordinal[:n], ts[1:], sequence[1:], ordinal[1:]
    bad = 0
    for i in range(n):  # every pair without a branch: the compiler takes many at a time
        later = (s_next[i] < s[i]) | ((s_next[i] == s[i]) & (o_next[i] < o[i]))
        bad |= np.int64((t_next[i] < t[i]) | ((t_next[i] == t[i]) & later))
    if bad == 0:
        return -1
    for i in range(1, ts.size):
        if ts[i] > ts[i - 1]:
            continue
        if ts[i] < ts[i - 1]:
            return i
        if sequence[i] > sequence[i - 1]:
            continue
        if sequence[i] < sequence[i - 1] or ordinal[i] < ordinal[i - 1]:
            return i
    return -1


def require_sorted(
    ts: np.ndarray,
    sequence: np.ndarray,
    ordinal: np.ndarray,
    *,
    after: Position | None = None,
) -> Position | None:
    """Hold rows to non-decreasing (``ts``, ``sequence``, ``ordinal``) and give the last row's key.

    Shapes:   three (n,) int64 arrays.
    Units:    ``ts`` nanoseconds UTC; ``sequence`` may repeat within an exchange event.
    Stream:   pass the returned key as ``after`` with the next batch; the seam is checked too.
    Empty:    no rows give ``after`` back.
    Errors:   ValueError with the first offending row, its key and the key before it.
    Cost:     O(n), under a nanosecond a row.
    Source:   spec market 1.3.
    """
    ts, sequence, ordinal = (np.ascontiguousarray(a, np.int64) for a in (ts, sequence, ordinal))
    if not ts.size == sequence.size == ordinal.size:
        raise ValueError(f"lengths were {ts.size}, {sequence.size}, {ordinal.size}, expected equal columns")
    if ts.size == 0:
        return after

    def key(row: int) -> Position:
        return int(ts[row]), int(sequence[row]), int(ordinal[row])

    if after is not None and key(0) < after:
        raise ValueError(
            f"{KEY} was {key(0)} in row 0 of the batch after one that ended with {after}, "
            "expected non-decreasing keys; sort the stream by them"
        )
    row = _first_disorder(ts, sequence, ordinal)
    if row >= 0:
        raise ValueError(
            f"{KEY} was {key(row)} in row {row} after {key(row - 1)}, expected non-decreasing keys; "
            "sort the rows by them"
        )
    return key(ts.size - 1)


def require_batch_sorted(
    batch: pa.RecordBatch | pa.Table, *, after: Position | None = None
) -> Position | None:
    """`require_sorted` on the key columns of ``batch``; a column that is absent does not take part.

    ``ts_event_ns`` must be there. Narrow reads leave `sequence` and `ordinal` out to save their decoding.
    """
    ts = column(batch, "ts_event_ns", np.int64)
    zeros = np.zeros(ts.size, np.int64)
    rest = [column(batch, k, np.int64) if k in batch.schema.names else zeros for k in KEY[1:]]
    return require_sorted(ts, *rest, after=after)


def interleave(stream: Iterable[pa.RecordBatch] | pa.Table, shared: pa.Table) -> Iterator[pa.RecordBatch]:
    """Merge an ordered stream and an ordered small table whose UTC hours are disjoint from the stream's.

    For reading a day in which a few hours were delivered more than once: these were merged apart
    (``shared``), the others pass through untouched. Batches come out in total order; a batch of the stream
    is only cut, never copied, where an hour of ``shared`` falls inside it.

    Both sides hold ``ts_event_ns``; columns of ``shared`` are taken by the stream's names and cast to its
    types. Errors: ValueError when an hour of ``shared`` also occurs in the stream, or when either side is
    out of order (the whole key where its columns are there).
    """
    runs = _hour_runs(shared)
    after: Position | None = None
    schema = shared.schema
    for batch in batches(stream):
        schema = batch.schema
        if batch.num_rows == 0:
            continue
        after = require_batch_sorted(batch, after=after)
        ts = column(batch, "ts_event_ns", np.int64)
        start = 0
        while runs and runs[0][0] * HOUR_NS <= ts[-1]:
            hour, first, rows = runs.pop(0)
            cut = int(np.searchsorted(ts, hour * HOUR_NS, "left"))
            if cut < ts.size and ts[cut] < (hour + 1) * HOUR_NS:
                raise ValueError(
                    f"UTC hour {hour} (of the epoch) was in the stream and in the shared table, expected it "
                    "in one of them; leave hours of several deliveries out of the stream"
                )
            if cut > start:
                yield batch.slice(start, cut - start)
                start = cut
            yield from shared.slice(first, rows).select(schema.names).cast(schema).to_batches()
        if start < batch.num_rows:
            yield batch.slice(start)
    for _, first, rows in runs:
        yield from shared.slice(first, rows).select(schema.names).cast(schema).to_batches()


def unfilled(
    gaps: Iterable[tuple[str | None, int, int]], contract: str | None, shared: pa.Table
) -> list[tuple[int, int]]:
    """The gaps (from_ns, to_ns) of a contract that no record of ``shared`` fills.

    ``gaps`` are (contract, from_ns, to_ns); one without a contract is of all.

    One delivery of an hour may lack what another one has. A gap lies between two records of its delivery that follow
    each other; so where a record of the merged hours stands inside it, open at both ends, it came from elsewhere.

    Shapes:   ``shared`` has ``ts_event_ns``, ascending: hours of several deliveries, merged (see `interleave`).
    Empty:    without such hours every gap stays.
    Cost:     O(gaps · log rows).
    Source:   spec market 7.1 and reading 21.7.
    """
    ts = column(shared, "ts_event_ns", np.int64)
    return [
        (start, end)
        for of, start, end in gaps
        if of in (None, contract) and np.searchsorted(ts, start, "right") >= np.searchsorted(ts, end, "left")
    ]


def _hour_runs(shared: pa.Table) -> list[tuple[int, int, int]]:
    """(hour of the epoch, first row, rows) of each UTC hour of an ordered table."""
    require_batch_sorted(shared)
    hours = column(shared, "ts_event_ns", np.int64) // HOUR_NS
    if not hours.size:
        return []
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(hours)) + 1])
    ends = np.append(firsts[1:], hours.size)
    return [(int(hours[f]), int(f), int(e - f)) for f, e in zip(firsts, ends, strict=True)]
