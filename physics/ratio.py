"""The ES/SPY ratio of each second: the median of the last minute's pairs (spec market 5.2)."""

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.columns import I64, column
from physics.order import require_batch_sorted
from physics.units import HOUR_NS, SECOND_NS, TICK_POINTS

WINDOW_NS = 60 * SECOND_NS
MIN_PAIRS = 5
PAIR_AGE_NS = SECOND_NS

LIVE_RATIO_SCHEMA = pa.schema(
    [
        pa.field("asof_ns", pa.int64(), nullable=False),
        pa.field("es_spy_ratio", pa.float64(), nullable=False),
        pa.field("pair_count", pa.int32(), nullable=False),
        pa.field("max_input_ts_ns", pa.int64(), nullable=False),
    ]
)


@njit([types.void(types.int32[::1], types.int64, types.int32)], cache=True)
def _count(tree, rank, step):
    """Add ``step`` at ``rank`` of a Fenwick tree of counts."""
    at = rank + 1
    while at < tree.size:
        tree[at] += step
        at += at & -at


@njit([types.int64(types.int32[::1], types.int64, types.int64)], cache=True)
def _ranked(tree, half, k):
    """Rank of the ``k``-th smallest counted value, k from 0; ``half`` is the largest power of two in the tree."""
    at = 0
    while half:
        if at + half < tree.size and tree[at + half] <= k:
            at += half
            k -= tree[at]
        half >>= 1
    return at


@njit(
    [
        types.int64(
            I64, I64, types.float64[::1], *(types.int64,) * 2, *(types.int64[::1],) * 2, types.float64[::1]
        )
    ],
    cache=True,
)
def _medians(ts, rank, ordered, first_ns, seconds, asof, count, median):
    """Whole seconds ``first_ns`` + k s whose window holds enough pairs, with count and median. Returns how many.

    A pair enters and leaves once; each second asks for the middle by rank: O((n + seconds) log n), exact.
    """
    tree = np.zeros(ordered.size + 1, np.int32)
    half = 1
    while half * 2 < tree.size:
        half *= 2
    head = tail = n = 0
    for k in range(seconds):
        g = first_ns + k * SECOND_NS
        while head < ts.size and ts[head] < g:
            _count(tree, rank[head], 1)
            head += 1
        while tail < head and ts[tail] < g - WINDOW_NS:
            _count(tree, rank[tail], -1)
            tail += 1
        pairs = head - tail
        if pairs < MIN_PAIRS:
            continue
        asof[n] = g
        count[n] = pairs
        upper = ordered[_ranked(tree, half, pairs // 2)]
        median[n] = upper if pairs % 2 else (ordered[_ranked(tree, half, pairs // 2 - 1)] + upper) / 2
        n += 1
    return n


@njit([types.void(I64, I64, types.int64[::1])], cache=True)
def last_before(ts, trade_ts, found):
    """Row of the last trade strictly before each ``ts``, -1 where there is none. Both ascending."""
    at = 0
    for i in range(ts.size):
        while at < trade_ts.size and trade_ts[at] < ts[i]:
            at += 1
        found[i] = at - 1


def live_ratio(
    spy: pa.Table, trades: pa.Table, *, globex_open_ns: int, premarket_open_ns: int, globex_close_ns: int
) -> pa.Table:
    """Seconds of a session at which the ratio is live, in `LIVE_RATIO_SCHEMA`, ascending.

    ``spy``: `ts_event_ns`, `ordinal`, `price` (DOUBLE, USD) of the prints that may form pairs (no odd lots, nothing
    corrected) in order. ``trades``: `ts_event_ns`, `sequence`, `ordinal`, `tick` of the front contract's session in
    total order.

    A SPY print of 04:00 to 20:00 New York pairs with the last ES trade strictly before it, if that is at most 1 s
    old: r = ES points / SPY dollars. The value at a whole second g of [globex_open, globex_close) is the median of
    r over pairs in [g - 60 s, g), of an even number the mean of the two middle ones; with fewer than five pairs
    there is no row. ``max_input_ts_ns`` is the time of the newest pair. A session opens at 18:00, so the two hours
    after its open count, and the time from its pre-market on.

    A host that keeps the prints of the last 60 s, and the trades of 61 s, gets the same values.

    Errors: ValueError when prints or trades are out of order.
    Source: spec market 5.2, reading 21.1.
    """
    require_batch_sorted(trades)
    ts = column(spy, "ts_event_ns", np.int64)
    if (np.diff(ts) < 0).any():
        row = int(np.flatnonzero(np.diff(ts) < 0)[0]) + 1
        raise ValueError(
            f"SPY ts_event_ns was {ts[row]} in row {row} after {ts[row - 1]}, expected ascending times"
        )
    trade_ts, tick = column(trades, "ts_event_ns", np.int64), column(trades, "tick", np.int32)
    before = np.empty(ts.size, np.int64)
    last_before(ts, trade_ts, before)
    quoted = (ts >= globex_open_ns) & (ts < globex_close_ns)
    quoted &= (ts < globex_open_ns + 2 * HOUR_NS) | (ts >= premarket_open_ns)
    quoted &= before >= 0
    quoted[quoted] &= ts[quoted] - trade_ts[before[quoted]] <= PAIR_AGE_NS
    ts = ts[quoted]
    ratio = tick[before[quoted]] * TICK_POINTS / column(spy, "price", np.float64)[quoted]

    by_value = np.argsort(ratio, kind="stable")
    rank = np.empty(ratio.size, np.int64)
    rank[by_value] = np.arange(ratio.size)
    first = -(-globex_open_ns // SECOND_NS) * SECOND_NS
    seconds = max(0, -(-(globex_close_ns - first) // SECOND_NS))
    asof, count, median = np.empty(seconds, np.int64), np.empty(seconds, np.int64), np.empty(seconds)
    n = _medians(ts, rank, ratio[by_value], first, seconds, asof, count, median)
    asof = asof[:n]
    newest = ts[np.searchsorted(ts, asof, "left") - 1] if n else asof
    return pa.table(
        [pa.array(asof), pa.array(median[:n]), pa.array(count[:n]).cast(pa.int32()), pa.array(newest)],
        schema=LIVE_RATIO_SCHEMA,
    )
