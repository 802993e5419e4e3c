"""Trailing statistics of one-minute bars at every whole minute (spec/execution.md 5.1, 5.4).

At minute ``m`` only bars that have ended count: those with open_time before ``m``. Sums of volume are exact integers;
sums over the returns of a window run in the order of its minutes, compensated, so that a value hangs on the bars of its
window alone and not on what else was read.
"""

import datetime
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.columns import I64, column, read_only
from physics.decimals import LOW_BITS, decimal_words, decimals
from physics.slices import symbol_slices
from physics.sums import two_sum

DAY_MINUTES = 1440
MINUTE_US = 60_000_000
BAR_COLUMNS = ("symbol", "open_minute", "close", "volume", "quote_volume")

BAR_WINDOWS_SCHEMA = pa.schema(
    [
        pa.field("date", pa.date32(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("minute", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("last_bar_end", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("bar_count_24h", pa.int32(), nullable=False),
        pa.field("volume_24h", pa.decimal128(28, 8), nullable=False),
        pa.field("volume_24h_base", pa.decimal128(28, 8), nullable=False),
        pa.field("median_volume_1m", pa.float64(), nullable=False),
        pa.field("return_count_15m", pa.int32(), nullable=False),
        pa.field("volatility_15m", pa.float64()),
        pa.field("rv_5m", pa.float64()),
        pa.field("rv_1h", pa.float64()),
        pa.field("last_minute_return", pa.float64()),
    ]
)


@njit(cache=True)
def _stddev(returns, start, stop):
    """Sample standard deviation of the returns that aren't NaN, two passes; NaN below two."""
    count, total, rest = 0, 0.0, 0.0
    for k in range(start, stop):
        if not np.isnan(returns[k]):
            count += 1
            total, e = two_sum(total, returns[k])
            rest += e
    if count < 2:
        return count, np.nan
    mean = (total + rest) / count
    total, rest = 0.0, 0.0
    for k in range(start, stop):
        if not np.isnan(returns[k]):
            total, e = two_sum(total, (returns[k] - mean) ** 2)
            rest += e
    return count, np.sqrt((total + rest) / (count - 1))


@njit(cache=True)
def _realised(squares, start, stop):
    """Square root of the sum of squared returns; NaN when one of them is missing."""
    total, rest = 0.0, 0.0
    for k in range(start, stop):
        total, e = two_sum(total, squares[k])
        rest += e
    return np.sqrt(total + rest)


@njit(
    [
        types.int64(
            *(I64, read_only(types.float64), types.int64[:, ::1], I64),
            *(types.int64[:, ::1], types.int64[:, ::1], types.int64[:, ::1], types.float64[:, ::1]),
        )
    ],
    cache=True,
)
def _windows(minutes, close, words, days, whole, high, low, real):
    """One row for each minute of ``days`` that has a bar in the 24 hours before it; returns how many.

    ``words``: (n, 4), the scaled base and quote volume of a bar, each as value >> 32 and value & (2**32 − 1).
    ``whole``: minute, last bar's minute, bars, returns; ``high``/``low``: 128-bit sums of base and quote volume;
    ``real``: median, volatility_15m, rv_5m, rv_1h, last return.
    """
    span = 2 * DAY_MINUTES
    rows = first = 0
    at = np.empty(span, np.int64)
    returns, squares = np.empty(span), np.empty(span)
    for day in days:
        start = (day - 1) * DAY_MINUTES
        while first < minutes.size and minutes[first] < start:
            first += 1
        stop = first
        while stop < minutes.size and minutes[stop] < start + span:
            stop += 1
        at[:] = -1
        for i in range(first, stop):
            at[minutes[i] - start] = i
        returns[0] = np.nan
        for k in range(1, span):
            both = at[k] >= 0 and at[k - 1] >= 0
            returns[k] = np.log(close[at[k]] / close[at[k - 1]]) if both else np.nan
            squares[k] = returns[k] * returns[k]

        # Volumes by their rank among the two days, so that the middle one moves by few places a minute.
        count = stop - first
        scaled = np.empty(count)
        for i in range(count):
            scaled[i] = words[first + i, 0] * 4294967296.0 + words[first + i, 1]
        order = np.argsort(scaled)
        rank = np.empty(count, np.int64)
        for i in range(count):
            rank[order[i]] = i
        held = np.zeros(count + 1, np.bool_)
        middle = below = bars = 0
        last = -1
        sums = np.zeros(4, np.int64)
        for j in range(span):
            if j >= DAY_MINUTES:  # the row of minute j: of bars j − 1440 … j − 1
                if bars > 0:
                    lower = (bars - 1) // 2
                    while below != lower or not held[middle]:
                        if below > lower:
                            middle -= 1
                            below -= held[middle]
                        else:
                            below += held[middle]
                            middle += 1
                    upper = middle
                    if bars % 2 == 0:
                        upper += 1
                        while not held[upper]:
                            upper += 1
                    whole[rows, 0] = start + j
                    whole[rows, 1] = start + last
                    whole[rows, 2] = bars
                    real[rows, 0] = (scaled[order[middle]] + scaled[order[upper]]) / 2e8
                    whole[rows, 3], real[rows, 1] = _stddev(returns, j - 15, j)
                    real[rows, 2] = _realised(squares, j - 5, j)
                    real[rows, 3] = _realised(squares, j - 60, j)
                    real[rows, 4] = returns[j - 1]
                    for v in range(2):
                        above = sums[2 * v] + (sums[2 * v + 1] >> 32)
                        high[rows, v] = above >> 32
                        low[rows, v] = (above << 32) | (sums[2 * v + 1] & LOW_BITS)
                    rows += 1
                gone = at[j - DAY_MINUTES]
                if gone >= 0:
                    bars -= 1
                    held[rank[gone - first]] = False
                    below -= rank[gone - first] < middle
                    for v in range(4):
                        sums[v] -= words[gone, v]
            come = at[j]
            if come >= 0:
                bars += 1
                last = j
                held[rank[come - first]] = True
                below += rank[come - first] < middle
                for v in range(4):
                    sums[v] += words[come, v]
    return rows


def _times(minutes: np.ndarray) -> pa.Array:
    return pa.array(minutes * MINUTE_US).cast(pa.timestamp("us", "UTC"))


def bar_windows(bars: pa.Table, date: datetime.date | None = None) -> pa.RecordBatchReader:
    """Statistics of the bars before each minute of ``date``, or of every date that any symbol has a bar on.

    Shapes:   ``bars`` has `BAR_COLUMNS`, one row per symbol and minute; a batch of `BAR_WINDOWS_SCHEMA` per symbol.
    Units:    open_minute in whole minutes since 1970 UTC, close in quote per base (double), volume in base and
              quote_volume in quote asset (decimals, never negative).
    Ordering: by (symbol, open_minute); raises ValueError otherwise. The result is by (symbol, minute).
    Edges:    a row's windows end at its minute: bar m − 1 counts, bar m doesn't. Minutes without any bar in the 24
              hours before them have no row.
    Nulls:    volatility_15m below two returns; rv_5m and rv_1h unless every return of the window is there (a missing
              one would pass for calm); last_minute_return without the bars m − 1 and m − 2.
    Cost:     O(bars + 1440 · dates) per symbol.
    Source:   spec/execution.md 5.1 (volatility_15m, volume_24h), 5.4 (median, rv, last return).
    """
    minutes = column(bars, "open_minute", np.int64)
    slices = symbol_slices(bars, minutes, unique=True)
    days = np.unique(minutes // DAY_MINUTES)
    if date is not None:
        days = np.array([(date - datetime.date(1970, 1, 1)).days])
    return pa.RecordBatchReader.from_batches(BAR_WINDOWS_SCHEMA, _batches(bars, slices, minutes, days))


def _batches(
    bars: pa.Table, slices: dict[str, slice], minutes: np.ndarray, days: np.ndarray
) -> Iterator[pa.RecordBatch]:
    close = column(bars, "close", np.float64)
    words = np.ascontiguousarray(
        np.column_stack([decimal_words(bars["volume"]), decimal_words(bars["quote_volume"])])
    )
    for name, of in slices.items():
        rows = DAY_MINUTES * days.size
        whole, real = np.empty((rows, 4), np.int64), np.empty((rows, 5))
        high, low = np.empty((rows, 2), np.int64), np.empty((rows, 2), np.int64)
        n = _windows(minutes[of], close[of], words[of], days, whole, high, low, real)
        money = BAR_WINDOWS_SCHEMA.field("volume_24h").type
        yield pa.RecordBatch.from_arrays(
            [
                pa.array((whole[:n, 0] // DAY_MINUTES).astype(np.int32)).cast(pa.date32()),
                pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), pa.array([name])).dictionary_decode(),
                _times(whole[:n, 0]),
                _times(whole[:n, 1] + 1),
                pa.array(whole[:n, 2].astype(np.int32)),
                decimals(high[:n, 1], low[:n, 1], money),
                decimals(high[:n, 0], low[:n, 0], money),
                pa.array(real[:n, 0]),
                pa.array(whole[:n, 3].astype(np.int32)),
                *(pa.array(real[:n, c], from_pandas=True) for c in range(1, 5)),
            ],
            schema=BAR_WINDOWS_SCHEMA,
        )
