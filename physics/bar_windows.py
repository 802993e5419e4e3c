"""Trailing statistics of one-minute bars at whole minutes (spec/execution.md 5.1, 5.4).

At minute ``m`` only bars that have ended count: those with open_time before ``m``. A row is computed from the bars of
its date and the date before, whatever else was read: sums of volume are exact integers, and sums of doubles are made
anew for each window, or differences of running sums in double-double, which say what `math.fsum` says of it.
"""

import datetime
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit, types

from physics.columns import I32, I64, column, read_only
from physics.decimals import HALVES, decimal_halves, decimals, joined, split
from physics.sums import add, subtract

DAY_MINUTES = 1440
SPAN = 2 * DAY_MINUTES
VOLATILITY_MINUTES = 15
MINUTE_US = 60_000_000
WINDOW_COLUMNS = ("symbol", "open_minute", "close", "volume", "quote_volume")
ORDER_COLUMNS = ("symbol", "open_minute", "close", "volume")
ASKED_COLUMNS = ("symbol", "minute")

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


@njit([types.int64(I64, F64, HALVES, HALVES, I64, WHOLE, WHOLE, WHOLE, types.float64[::1])], cache=True)
def _windows(minutes, close, base, quote, asked, whole, base_sum, quote_sum, volatility):
    """One row for each minute of ``asked`` that has a bar in the 24 hours before it; returns how many.

    ``base``, ``quote``: halves of the volumes, and of their sums; ``whole``: minute, last bar's minute, bars, returns.
    """
    rows = head = tail = late = logged = 0
    sums = np.zeros(4, np.int64)
    returns = np.empty(minutes.size)  # NaN without the bar before; written where a window reads it
    for m in asked:
        while head < minutes.size and minutes[head] < m:
            _add(sums, 1, base, quote, head)
            head += 1
        while tail < head and minutes[tail] < m - DAY_MINUTES:
            _add(sums, -1, base, quote, tail)
            tail += 1
        if tail == head:
            continue
        while late < head and minutes[late] < m - VOLATILITY_MINUTES:
            late += 1
        n, total = 0, 0.0
        for i in range(late, head):
            if i >= logged:
                follows = i > 0 and minutes[i - 1] == minutes[i] - 1
                returns[i] = np.log(close[i] / close[i - 1]) if follows else np.nan
            if not np.isnan(returns[i]):
                n += 1
                total += returns[i]
        logged = head
        volatility[rows] = np.nan
        if n > 1:
            mean, spread = total / n, 0.0
            for i in range(late, head):
                if not np.isnan(returns[i]):
                    spread += (returns[i] - mean) ** 2
            volatility[rows] = np.sqrt(spread / (n - 1))
        whole[0, rows], whole[1, rows], whole[2, rows], whole[3, rows] = m, minutes[head - 1], head - tail, n
        base_sum[rows, 0], base_sum[rows, 1] = joined(sums[0], sums[1])
        quote_sum[rows, 0], quote_sum[rows, 1] = joined(sums[2], sums[3])
        rows += 1
    return rows


@njit([types.int64(I64, F64, HALVES, I64, WHOLE, REALS)], cache=True)
def _moves(minutes, close, base, asked, whole, real):
    """One row for each minute of ``asked`` that has a bar in the 24 hours before it; returns how many.

    ``whole``: minute, bars; ``real``: median volume, rv_5m, rv_1h, last return.
    """
    rows = first = k = 0
    at, returns, counts = np.empty(SPAN, np.int64), np.empty(SPAN), np.zeros(SPAN + 1, np.int64)
    squares, totals = np.zeros((SPAN + 1, 2)), np.zeros((SPAN + 1, 2))
    while k < asked.size:
        start = (asked[k] // DAY_MINUTES - 1) * DAY_MINUTES
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
            if k < asked.size and asked[k] == start + j:  # of bars j − 1440 … j − 1
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
                    whole[0, rows], whole[1, rows] = asked[k], bars
                    real[0, rows] = (scaled[order[middle]] + scaled[order[upper]]) / 2e8
                    for v, width in ((1, 5), (2, 60)):
                        real[v, rows] = np.nan
                        if counts[j] - counts[j - width] == width:
                            real[v, rows] = np.sqrt(max(_between(squares, j - width, j), 0.0))
                    real[3, rows] = returns[j - 1]
                    rows += 1
                k += 1
            gone = at[j - DAY_MINUTES] if j >= DAY_MINUTES else -1
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


def bar_windows(
    bars: pa.Table, date: datetime.date | None = None, asked: pa.Table | None = None
) -> pa.RecordBatchReader:
    """Volatility and volume of the bars before each minute of ``date``, or of every date that a symbol has a bar on.

    With ``asked`` (`ASKED_COLUMNS`, in any order and any number of times) only before these minutes, but for those of
    dates without any bar; ``date`` then has no say.

    Shapes:   ``bars`` has `WINDOW_COLUMNS`, one row per symbol and minute, in any order; a batch of
              `BAR_WINDOWS_SCHEMA` per symbol, by minute.
    Units:    open_minute and minute in whole minutes since 1970 UTC, close in quote per base (double), volume in base
              and quote_volume in quote asset (decimals, never negative).
    Edges:    a row's windows end at its minute: bar m − 1 counts, bar m doesn't. Minutes without any bar in the 24
              hours before them have no row. Raises ValueError when a symbol has two bars of one minute.
    Nulls:    volatility_15m below two returns.
    Cost:     O(bars + minutes) per symbol.
    Source:   spec/execution.md 5.1.
    """

    def rows(of: np.ndarray, minutes: np.ndarray, close: np.ndarray, *volumes: np.ndarray) -> list[pa.Array]:
        whole, volatility = np.empty((4, of.size), np.int64), np.empty(of.size)
        base, quote = np.empty((of.size, 2), np.int64), np.empty((of.size, 2), np.int64)
        n = _windows(minutes, close, *volumes, of, whole, base, quote, volatility)
        money = BAR_WINDOWS_SCHEMA.field("volume_24h").type
        return [
            *_keys(whole[0, :n]),
            _times(whole[1, :n] + 1),
            pa.array(whole[2, :n].astype(np.int32)),
            decimals(quote[:n], money),
            decimals(base[:n], money),
            pa.array(whole[3, :n].astype(np.int32)),
            pa.array(volatility[:n], from_pandas=True),
        ]

    return _by_symbol(bars, ("volume", "quote_volume"), date, asked, BAR_WINDOWS_SCHEMA, rows)


def bar_moves(
    bars: pa.Table, date: datetime.date | None = None, asked: pa.Table | None = None
) -> pa.RecordBatchReader:
    """Median volume and realised volatility of the bars before each minute, for whoever orders into them.

    As `bar_windows`, from `ORDER_COLUMNS`, in batches of `BAR_MOVES_SCHEMA`.

    Nulls:    rv_5m and rv_1h unless every return of the window is there (a missing one would pass for calm);
              last_minute_return without the bars m − 1 and m − 2.
    Source:   spec/execution.md 5.4.
    """

    def rows(of: np.ndarray, minutes: np.ndarray, close: np.ndarray, *volumes: np.ndarray) -> list[pa.Array]:
        whole, real = np.empty((2, of.size), np.int64), np.empty((4, of.size))
        n = _moves(minutes, close, *volumes, of, whole, real)
        return [
            *_keys(whole[0, :n]),
            pa.array(whole[1, :n].astype(np.int32)),
            pa.array(real[0, :n]),
            *(pa.array(real[c, :n], from_pandas=True) for c in range(1, 4)),
        ]

    return _by_symbol(bars, ("volume",), date, asked, BAR_MOVES_SCHEMA, rows)


@njit([types.int64(I32, I64, types.int64, types.boolean[::1])], cache=True)
def _survey(codes, minutes, first_day, has_bars):
    """Mark the days with a bar; first row that doesn't come after the one before it, or −1."""
    for i in range(minutes.size):
        has_bars[minutes[i] // DAY_MINUTES - first_day] = True
        if i > 0 and (codes[i] < codes[i - 1] or (codes[i] == codes[i - 1] and minutes[i] <= minutes[i - 1])):
            return i
    return -1


Rows = Callable[..., list[pa.Array]]


def _by_symbol(
    bars: pa.Table,
    volumes: tuple[str, ...],
    date: datetime.date | None,
    asked: pa.Table | None,
    schema: pa.Schema,
    rows: Rows,
) -> pa.RecordBatchReader:
    """``rows`` of the minutes wanted of each symbol and of its bars, in order of time; the first of its columns lacks
    the symbol, which is put in."""
    if not len(bars):
        return pa.RecordBatchReader.from_batches(schema, [])
    names, codes = _codes(bars["symbol"])
    minutes = column(bars, "open_minute", np.int64)
    close = column(bars, "close", np.float64)
    amounts = [decimal_halves(bars[v]) for v in volumes]
    first_day = int(minutes.min()) // DAY_MINUTES
    has_bars = np.zeros(int(minutes.max()) // DAY_MINUTES - first_day + 1, bool)
    if _survey(codes, minutes, first_day, has_bars) >= 0:
        # Files are in order each; all of them together needn't be.
        order = np.lexsort((minutes, codes))
        codes, minutes, close = codes[order], minutes[order], close[order]
        amounts = [a[order] for a in amounts]
        if (at := _survey(codes, minutes, first_day, has_bars)) >= 0:
            name = names[int(codes[at])]
            raise ValueError(f"{name} had two bars of minute {minutes[at]}, expected one row per minute")
    wanted = _minutes_by_symbol(asked, date, has_bars, first_day)

    def batches() -> Iterator[pa.RecordBatch]:
        starts = np.flatnonzero(np.diff(codes, prepend=np.int32(-1)))
        for start, stop in zip(starts, np.append(starts, len(codes))[1:], strict=True):
            of, name = slice(start, stop), names[int(codes[start])]
            day, *rest = rows(wanted(name), minutes[of], close[of], *(a[of] for a in amounts))
            yield pa.RecordBatch.from_arrays([day, pa.repeat(name, len(day)), *rest], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _minutes_by_symbol(
    asked: pa.Table | None, date: datetime.date | None, has_bars: np.ndarray, first_day: int
) -> Callable[[str], np.ndarray]:
    """Ascending minutes that a symbol's rows are for."""
    first = first_day * DAY_MINUTES
    days_with_bars = np.repeat(has_bars, DAY_MINUTES)
    if date is not None:
        of_date = (date - datetime.date(1970, 1, 1)).days * DAY_MINUTES + np.arange(DAY_MINUTES)
    if asked is None:
        every = np.flatnonzero(days_with_bars) + first if date is None else of_date
        return lambda _: every
    names, codes = _codes(asked["symbol"])
    places = column(asked, "minute", np.int64) - first
    near = (places >= 0) & (places < days_with_bars.size)

    def wanted(name: str) -> np.ndarray:
        is_asked = np.zeros(days_with_bars.size, bool)
        is_asked[places[near & (codes == names.index(name).as_py())]] = True
        return np.flatnonzero(is_asked & days_with_bars) + first

    return wanted


def _codes(symbols: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The symbols that occur, and the place of each row's among them, int32."""
    encoded = pc.dictionary_encode(symbols).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # as older releases give it
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], pa.string()).dictionary_encode()
    return encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False)


def _keys(minutes: np.ndarray) -> list[pa.Array]:
    """Date and minute."""
    return [pa.array((minutes // DAY_MINUTES).astype(np.int32)).cast(pa.date32()), _times(minutes)]


def _times(minutes: np.ndarray) -> pa.Array:
    return pa.array(minutes * MINUTE_US).cast(pa.timestamp("us", "UTC"))
