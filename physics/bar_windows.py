"""Trailing statistics of one-minute bars at every whole minute (spec/execution.md 5.1, 5.4).

At minute ``m`` only bars that have ended count: those with open_time before ``m``. A date is computed from its own bars
and those of the day before, whatever else was read: sums of volume are exact integers, sums over returns differences of
running sums in double-double, which say what `math.fsum` says of the window.
"""

import datetime
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit, types

from physics.columns import I64, column, read_only
from physics.decimals import HALVES, decimal_halves, decimals, joined, split
from physics.sums import add, subtract

DAY_MINUTES = 1440
SPAN = 2 * DAY_MINUTES
MINUTE_US = 60_000_000
WINDOW_COLUMNS = ("symbol", "open_minute", "close", "volume", "quote_volume")
ORDER_COLUMNS = ("symbol", "open_minute", "close", "volume")

_KEYS = (
    pa.field("date", pa.date32(), nullable=False),
    pa.field("symbol", pa.string(), nullable=False),
    pa.field("minute", pa.timestamp("us", "UTC"), nullable=False),
)
BAR_WINDOWS_SCHEMA = pa.schema(
    [
        *_KEYS,
        pa.field("last_bar_end", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("bar_count_24h", pa.int32(), nullable=False),
        pa.field("volume_24h", pa.decimal128(28, 8), nullable=False),
        pa.field("volume_24h_base", pa.decimal128(28, 8), nullable=False),
        pa.field("return_count_15m", pa.int32(), nullable=False),
        pa.field("volatility_15m", pa.float64()),
    ]
)
BAR_MOVES_SCHEMA = pa.schema(
    [
        *_KEYS,
        pa.field("bar_count_24h", pa.int32(), nullable=False),
        pa.field("median_volume_1m", pa.float64(), nullable=False),
        pa.field("rv_5m", pa.float64()),
        pa.field("rv_1h", pa.float64()),
        pa.field("last_minute_return", pa.float64()),
    ]
)

F64 = read_only(types.float64)
WHOLE = types.int64[:, ::1]
REALS = types.float64[:, ::1]


@njit
def _place(minutes, first, start, at):
    """Number of the bar of each minute of two days from ``start``, −1 without one; returns (first, last + 1)."""
    while first < minutes.size and minutes[first] < start:
        first += 1
    stop = first
    at[:] = -1
    while stop < minutes.size and minutes[stop] < start + SPAN:
        at[minutes[stop] - start] = stop
        stop += 1
    return first, stop


@njit
def _returns(at, close, returns, counts, squares, sums):
    """Log return of each minute, NaN without the bars for it; and before each minute how many there were, the sum of
    their squares and their sum, as double-doubles (high, low).
    """
    returns[0] = np.nan
    for k in range(SPAN):
        if k > 0:
            both = at[k] >= 0 and at[k - 1] >= 0
            returns[k] = np.log(close[at[k]] / close[at[k - 1]]) if both else np.nan
        counts[k + 1] = counts[k]
        squares[k + 1, 0], squares[k + 1, 1] = squares[k, 0], squares[k, 1]
        sums[k + 1, 0], sums[k + 1, 1] = sums[k, 0], sums[k, 1]
        if not np.isnan(returns[k]):
            r = returns[k]
            counts[k + 1] += 1
            squares[k + 1, 0], squares[k + 1, 1] = add(squares[k, 0], squares[k, 1], r * r)
            sums[k + 1, 0], sums[k + 1, 1] = add(sums[k, 0], sums[k, 1], r)


@njit(inline="always")
def _add(sums, sign, base, quote, i):
    above, below = split(base[i, 0], base[i, 1])
    sums[0] += sign * above
    sums[1] += sign * below
    above, below = split(quote[i, 0], quote[i, 1])
    sums[2] += sign * above
    sums[3] += sign * below


@njit
def _between(sums, start, stop):
    """Sum over the minutes [start, stop)."""
    return subtract(sums[stop, 0], sums[stop, 1], sums[start, 0], sums[start, 1])[0]


@njit(
    [types.int64(I64, F64, HALVES, HALVES, I64, WHOLE, WHOLE, WHOLE, types.float64[::1])],
    cache=True,
)
def _windows(minutes, close, base, quote, days, whole, base_sum, quote_sum, volatility):
    """One row for each minute of ``days`` that has a bar in the 24 hours before it; returns how many.

    ``base``, ``quote``: halves of the volumes, and of their sums; ``whole``: minute, last bar's minute, bars, returns.
    """
    rows = first = 0
    at, returns, counts = np.empty(SPAN, np.int64), np.empty(SPAN), np.zeros(SPAN + 1, np.int64)
    squares, totals = np.zeros((SPAN + 1, 2)), np.zeros((SPAN + 1, 2))
    for day in days:
        start = (day - 1) * DAY_MINUTES
        first, _ = _place(minutes, first, start, at)
        _returns(at, close, returns, counts, squares, totals)
        bars, last = 0, -1
        sums = np.zeros(4, np.int64)
        for j in range(SPAN):
            if j >= DAY_MINUTES:  # the row of minute j: of bars j − 1440 … j − 1
                if bars > 0:
                    whole[rows, 0] = start + j
                    whole[rows, 1] = start + last
                    whole[rows, 2] = bars
                    n = counts[j] - counts[j - 15]
                    whole[rows, 3] = n
                    volatility[rows] = np.nan
                    if n > 1:
                        total = _between(totals, j - 15, j)
                        spread = _between(squares, j - 15, j) - total * total / n
                        volatility[rows] = np.sqrt(max(spread, 0.0) / (n - 1))
                    base_sum[rows, 0], base_sum[rows, 1] = joined(sums[0], sums[1])
                    quote_sum[rows, 0], quote_sum[rows, 1] = joined(sums[2], sums[3])
                    rows += 1
                gone = at[j - DAY_MINUTES]
                if gone >= 0:
                    bars -= 1
                    _add(sums, -1, base, quote, gone)
            come = at[j]
            if come >= 0:
                bars += 1
                last = j
                _add(sums, 1, base, quote, come)
    return rows


@njit([types.int64(I64, F64, HALVES, I64, WHOLE, REALS)], cache=True)
def _moves(minutes, close, base, days, whole, real):
    """One row for each minute of ``days`` that has a bar in the 24 hours before it; returns how many.

    ``whole``: minute, bars; ``real``: median volume, rv_5m, rv_1h, last return.
    """
    rows = first = 0
    at, returns, counts = np.empty(SPAN, np.int64), np.empty(SPAN), np.zeros(SPAN + 1, np.int64)
    squares, totals = np.zeros((SPAN + 1, 2)), np.zeros((SPAN + 1, 2))
    for day in days:
        start = (day - 1) * DAY_MINUTES
        first, stop = _place(minutes, first, start, at)
        _returns(at, close, returns, counts, squares, totals)

        # Volumes by their rank among the two days, so that the middle one moves by few places a minute.
        count = stop - first
        scaled = np.empty(count)
        for i in range(count):
            above, below = split(base[first + i, 0], base[first + i, 1])
            scaled[i] = above * 4294967296.0 + below
        order = np.argsort(scaled)
        rank = np.empty(count, np.int64)
        for i in range(count):
            rank[order[i]] = i
        held = np.zeros(count + 1, np.bool_)
        middle = below = bars = 0
        for j in range(SPAN):
            if j >= DAY_MINUTES:
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
                    whole[rows, 1] = bars
                    real[rows, 0] = (scaled[order[middle]] + scaled[order[upper]]) / 2e8
                    for v, width in ((1, 5), (2, 60)):
                        real[rows, v] = np.nan
                        if counts[j] - counts[j - width] == width:
                            real[rows, v] = np.sqrt(max(_between(squares, j - width, j), 0.0))
                    real[rows, 3] = returns[j - 1]
                    rows += 1
                gone = at[j - DAY_MINUTES]
                if gone >= 0:
                    bars -= 1
                    held[rank[gone - first]] = False
                    below -= rank[gone - first] < middle
            come = at[j]
            if come >= 0:
                bars += 1
                held[rank[come - first]] = True
                below += rank[come - first] < middle
    return rows


def bar_windows(bars: pa.Table, date: datetime.date | None = None) -> pa.RecordBatchReader:
    """Volatility and volume of the bars before each minute of ``date``, or of every date that a symbol has a bar on.

    Shapes:   ``bars`` has `WINDOW_COLUMNS`, one row per symbol and minute, in any order; a batch of
              `BAR_WINDOWS_SCHEMA` per symbol, by minute.
    Units:    open_minute in whole minutes since 1970 UTC, close in quote per base (double), volume in base and
              quote_volume in quote asset (decimals, never negative).
    Edges:    a row's windows end at its minute: bar m − 1 counts, bar m doesn't. Minutes without any bar in the 24
              hours before them have no row. Raises ValueError when a symbol has two bars of one minute.
    Nulls:    volatility_15m below two returns.
    Cost:     O(bars + 1440 · dates) per symbol.
    Source:   spec/execution.md 5.1.
    """

    def rows(
        days: np.ndarray, minutes: np.ndarray, close: np.ndarray, *volumes: np.ndarray
    ) -> list[pa.Array]:
        size = DAY_MINUTES * days.size
        whole, volatility = np.empty((size, 4), np.int64), np.empty(size)
        base, quote = np.empty((size, 2), np.int64), np.empty((size, 2), np.int64)
        n = _windows(minutes, close, *volumes, days, whole, base, quote, volatility)
        money = BAR_WINDOWS_SCHEMA.field("volume_24h").type
        return [
            *_keys(whole[:n, 0]),
            _times(whole[:n, 1] + 1),
            pa.array(whole[:n, 2].astype(np.int32)),
            decimals(quote[:n], money),
            decimals(base[:n], money),
            pa.array(whole[:n, 3].astype(np.int32)),
            pa.array(volatility[:n], from_pandas=True),
        ]

    return _by_symbol(bars, ("volume", "quote_volume"), date, BAR_WINDOWS_SCHEMA, rows)


def bar_moves(bars: pa.Table, date: datetime.date | None = None) -> pa.RecordBatchReader:
    """Median volume and realised volatility of the bars before each minute, for whoever orders into them.

    As `bar_windows`, from `ORDER_COLUMNS`, in batches of `BAR_MOVES_SCHEMA`.

    Nulls:    rv_5m and rv_1h unless every return of the window is there (a missing one would pass for calm);
              last_minute_return without the bars m − 1 and m − 2.
    Source:   spec/execution.md 5.4.
    """

    def rows(
        days: np.ndarray, minutes: np.ndarray, close: np.ndarray, *volumes: np.ndarray
    ) -> list[pa.Array]:
        size = DAY_MINUTES * days.size
        whole, real = np.empty((size, 2), np.int64), np.empty((size, 4))
        n = _moves(minutes, close, *volumes, days, whole, real)
        return [
            *_keys(whole[:n, 0]),
            pa.array(whole[:n, 1].astype(np.int32)),
            pa.array(real[:n, 0]),
            *(pa.array(real[:n, c], from_pandas=True) for c in range(1, 4)),
        ]

    return _by_symbol(bars, ("volume",), date, BAR_MOVES_SCHEMA, rows)


Rows = Callable[..., list[pa.Array]]


def _by_symbol(
    bars: pa.Table, volumes: tuple[str, ...], date: datetime.date | None, schema: pa.Schema, rows: Rows
) -> pa.RecordBatchReader:
    """``rows`` of each symbol's bars, in order of time; the first of its columns lacks the symbol, which is put in."""
    encoded = pc.dictionary_encode(bars["symbol"]).combine_chunks()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = (
        encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        if len(encoded)
        else np.empty(0, np.int64)
    )
    minutes = column(bars, "open_minute", np.int64)
    close = column(bars, "close", np.float64)
    amounts = [decimal_halves(bars[v]) for v in volumes]
    keys = (codes << 40) + minutes
    if (np.diff(keys) <= 0).any():  # files are in order each; all of them together needn't be
        order = np.argsort(keys, kind="stable")
        keys, codes, minutes, close = keys[order], codes[order], minutes[order], close[order]
        amounts = [a[order] for a in amounts]
        if (np.diff(keys) == 0).any():
            at = int(np.flatnonzero(np.diff(keys) == 0)[0])
            name = encoded.dictionary[int(codes[at])]
            raise ValueError(f"{name} had two bars of minute {minutes[at]}, expected one row per minute")
    if date is not None:
        days = np.array([(date - datetime.date(1970, 1, 1)).days])
    else:
        days = np.flatnonzero(np.bincount(minutes // DAY_MINUTES))

    def batches() -> Iterator[pa.RecordBatch]:
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        for start, stop in zip(starts, np.append(starts, len(codes))[1:], strict=True):
            of = slice(start, stop)
            day, *rest = rows(days, minutes[of], close[of], *(a[of] for a in amounts))
            name = encoded.dictionary.take(pa.array([codes[start]]))
            names = pa.DictionaryArray.from_arrays(np.zeros(len(day), np.int32), name).dictionary_decode()
            yield pa.RecordBatch.from_arrays([day, names.cast(pa.string()), *rest], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _keys(minutes: np.ndarray) -> list[pa.Array]:
    """Date and minute."""
    return [pa.array((minutes // DAY_MINUTES).astype(np.int32)).cast(pa.date32()), _times(minutes)]


def _times(minutes: np.ndarray) -> pa.Array:
    return pa.array(minutes * MINUTE_US).cast(pa.timestamp("us", "UTC"))
