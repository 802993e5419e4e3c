"""Tape physics of observation points: volumes, slopes, rates and sweeps of the trades just before (spec
market 7.3).
"""

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import ArrayLike

from physics.columns import I8, I32, I64, column, nulled
from physics.order import require_batch_sorted
from physics.units import ES_MULTIPLIER_USD, MS_NS, SECOND_NS, TICK_POINTS, ticks, window_ns

SLOPE_S = (3, 15, 60)
EPS = 1e-6

TAPE_PHYSICS_SCHEMA = pa.schema(
    [
        pa.field("observation_id", pa.string(), nullable=False),
        pa.field("tape_imbalance", pa.float64()),
        pa.field("tape_velocity", pa.float64()),
        *(pa.field(f"tape_price_slope_{w}s", pa.float64()) for w in SLOPE_S),
        *(pa.field(f"tape_trade_rate_{w}s", pa.float64(), nullable=False) for w in SLOPE_S),
        pa.field("tape_buy_vol", pa.int64(), nullable=False),
        pa.field("tape_sell_vol", pa.int64(), nullable=False),
        pa.field("sweep_detected", pa.bool_(), nullable=False),
        pa.field("sweep_direction", pa.int8(), nullable=False),
        pa.field("sweep_contracts", pa.int32(), nullable=False),
        pa.field("sweep_notional", pa.float64(), nullable=False),
        pa.field("tape_max_input_ts_ns", pa.int64()),
    ]
)

POINT_COLUMNS = ("observation_id", "asof_ns", "level_tick")
TRADE_COLUMNS = ("ts_event_ns", "tick", "size", "aggressor")


_LOW_BITS = 18
_LOW = 2**_LOW_BITS - 1
"""Times of a window, below 2**36 ns (68.7 s) from its start, are two words of 18 bits: products of words then add up
exactly for 2**27 prints.
"""


@njit([types.float64(types.int64, types.int64)], cache=True)
def _joined(high, low):
    """high * 2**18 + low, rounded once where the high word leaves room, else where ``low`` is nothing against it."""
    if abs(high) < 2**44:
        return np.float64((high << _LOW_BITS) + low)
    return np.float64(high) * 2.0**_LOW_BITS + np.float64(low)


@njit([types.void(I64, I32, *(types.int64,) * 4, types.int64[::1])], cache=True)
def _add_prints(ts, tick, first, last, origin_ns, origin_tick, sums):
    """Add prints [first, last) to the sums of `_slope`: of the words u and v of their times and the ticks p, and of uu,
    uv, vv, up and vp. Integers throughout, so that the compiler takes many prints at a time.
    """
    u_sum = v_sum = p_sum = uu = uv = vv = up = vp = 0
    times, prices = ts[first:last], tick[first:last]
    for i in range(times.size):  # from 0: no look for an index from the end
        t = times[i] - origin_ns
        u, v, p = (t >> _LOW_BITS) & _LOW, t & _LOW, prices[i] - origin_tick
        u_sum += u
        v_sum += v
        p_sum += p
        uu += u * u
        uv += u * v
        vv += v * v
        up += u * p
        vp += v * p
    sums[0] += u_sum
    sums[1] += v_sum
    sums[2] += p_sum
    sums[3] += uu
    sums[4] += uv
    sums[5] += vv
    sums[6] += up
    sums[7] += vp


@njit([types.float64(types.int64, types.int64[::1])], cache=True)
def _slope(n, sums):
    """Least-squares slope, ticks per ns, of ``n`` prints of at least two times from their sums.

    Centred at the whole part of the mean, word by word, which is exact; what the fraction still adds is small.
    """
    u_sum, v_sum, p_sum, uu, uv, vv, up, vp = sums
    mean = ((u_sum << _LOW_BITS) + v_sum) // n
    u, v, p = mean >> _LOW_BITS, mean & _LOW, p_sum // n
    t_left, p_left = ((u_sum - n * u) << _LOW_BITS) + v_sum - n * v, p_sum - n * p
    uu += u * (n * u - 2 * u_sum)
    uv += n * u * v - u * v_sum - v * u_sum
    vv += v * (n * v - 2 * v_sum)
    up += n * u * p - u * p_sum - p * u_sum
    vp += n * v * p - v * p_sum - p * v_sum
    upper = np.float64(uu) * 2.0**36
    if (
        uu < 2**26
    ):  # all close by: where the upper word just changes, the parts nearly cancel, so they stay whole
        upper, uv = 0.0, (uu << (_LOW_BITS - 1)) + uv
    sxx = upper + _joined(2 * uv, vv)
    return (_joined(up, vp) - t_left * (p_left / n)) / (sxx - t_left * (t_left / n))


@njit(
    [
        types.void(
            *(I64, I32, I32, I8),
            *(I64, I64, I64, types.int64, types.int64, types.int64),
            *(types.int64[:, ::1], types.float64[:, ::1]),
        )
    ],
    cache=True,
)
def _measure(
    ts, tick, size, aggressor, asof, level_tick, band, window_ns, sweep_gap_ns, sweep_min, whole, real
):
    """One row per point. ``whole``: buy, sell, sweep sign, contracts, tick-contracts, last time, three
    counts. ``real``: three slopes and whether each is defined.
    """
    for p in range(asof.size):
        end = np.searchsorted(ts, asof[p], side="left")
        first = np.searchsorted(ts[:end], asof[p] - window_ns, side="left")
        level, reach = level_tick[p], band[p]
        # A sweep is looked for at every print, since contracts only grow along its run. Masks, not branches:
        # which side prints next is a guess.
        times, prices, sizes, signs = ts[first:end], tick[first:end], size[first:end], aggressor[first:end]
        total = buy = 0
        best, best_at = sweep_min, -1
        contracts = differs = sign = previous = previous_tick = np.int64(0)
        for i in range(times.size):
            a, t, price = np.int64(signs[i]), times[i], np.int64(prices[i])
            if a == 0 or abs(price - level) > reach:
                continue
            n = np.int64(sizes[i])
            goes_on = -np.int64((sign == a) & (t - previous <= sweep_gap_ns))
            contracts = (contracts & goes_on) + n
            differs = (differs | (price ^ previous_tick)) & goes_on
            sign, previous, previous_tick = a, t, price
            total += n
            buy += n & -np.int64(a > 0)
            if contracts >= best and differs != 0:  # the later wins a tie
                best, best_at = contracts, i
        whole[p, 0], whole[p, 1] = buy, total - buy
        if best_at >= 0:
            whole[p, 2], whole[p, 3] = signs[best_at], best
            left = best
            for i in range(best_at, -1, -1):  # back to the start of its run
                if signs[i] != 0 and abs(prices[i] - level) <= reach:
                    left -= sizes[i]
                    whole[p, 4] += np.int64(prices[i]) * sizes[i]
                if left <= 0:
                    break
        earliest = first
        sums = np.zeros(8, np.int64)
        origin_ns = asof[p] - SLOPE_S[2] * SECOND_NS
        since = end
        for k in range(3):
            start = np.searchsorted(ts[:end], asof[p] - SLOPE_S[k] * SECOND_NS, side="left")
            if start < since:
                _add_prints(ts, tick, start, since, origin_ns, tick[end - 1], sums)
                since = start
            if end > start and ts[start] < ts[end - 1]:
                real[p, k], real[p, 3 + k] = _slope(end - start, sums), 1.0
            whole[p, 6 + k] = end - start
            earliest = min(earliest, start)
        whole[p, 5] = ts[end - 1] if end > earliest else -1


def tape(
    points: pa.Table,
    trades: pa.Table,
    *,
    W_t: float,
    SWEEP_MAX_GAP_MS: float,
    SWEEP_MIN_CONTRACTS: int,
    grid_ms: int = 100,
    TAPE_BAND: float | None = None,
    es_spy_ratio: ArrayLike | None = None,
    band_ticks: ArrayLike | None = None,
) -> pa.Table:
    """Tape columns of every observation point, from the front trades strictly before it.

    ``points``: `observation_id`, `asof_ns` (a multiple of the grid), `level_tick`, in any order; the result
    keeps it. ``trades``: `ts_event_ns`, `tick`, `size`, `aggressor` (+1, -1, 0) of the front contract's
    session in total order. Band around the level: either ``band_ticks`` (a number or one per point), or
    TAPE_BAND in SPY dollars with ``es_spy_ratio`` (a number or one per point; left out, the points' column
    of that name).

    Returns `TAPE_PHYSICS_SCHEMA`: contracts, points/s, 1/s, USD. Volumes and sweeps count trades in the
    band and in [asof - W_t, asof); slopes (least squares of price on time, one observation per print) and
    rates count every trade of their own window. `tape_imbalance` is null without signed volume, a slope
    with fewer than two distinct times, `tape_max_input_ts_ns` without any trade in the windows. A sweep is
    a run of in-band prints of one known sign, each at most SWEEP_MAX_GAP_MS after the one before, with at
    least two prints, two ticks and SWEEP_MIN_CONTRACTS; the largest wins, of equals the later.

    Errors: ValueError for unordered trades, an as-of or a window off the grid, or a missing band.
    Source: spec market 7.3, reading 21.9.
    """
    window = window_ns("W_t", W_t, grid_ms)
    require_batch_sorted(trades)
    ts, tick = column(trades, "ts_event_ns", np.int64), column(trades, "tick", np.int32)
    size, aggressor = column(trades, "size", np.int32), column(trades, "aggressor", np.int8)
    asof = on_grid(points, grid_ms)
    level_tick = column(points, "level_tick", np.int64)
    band = _band(points, TAPE_BAND, es_spy_ratio, band_ticks)

    whole = np.zeros((asof.size, 9), np.int64)
    real = np.zeros((asof.size, 6), np.float64)
    _measure(
        ts,
        tick,
        size,
        aggressor,
        asof,
        level_tick,
        band,
        window,
        round(SWEEP_MAX_GAP_MS * MS_NS),
        SWEEP_MIN_CONTRACTS,
        whole,
        real,
    )
    buy, sell = whole[:, 0], whole[:, 1]
    slopes = real[:, :3] * (TICK_POINTS * SECOND_NS)
    no_slope = real[:, 3:] == 0.0
    slope = {w: nulled(slopes[:, k], no_slope[:, k], pa.float64()) for k, w in enumerate(SLOPE_S)}
    columns = {
        "observation_id": points.column("observation_id"),
        "tape_imbalance": nulled((buy - sell) / (buy + sell + EPS), buy + sell == 0, pa.float64()),
        "tape_velocity": slope[60],
        **{f"tape_price_slope_{w}s": slope[w] for w in SLOPE_S},
        **{f"tape_trade_rate_{w}s": pa.array(whole[:, 6 + k] / w) for k, w in enumerate(SLOPE_S)},
        "tape_buy_vol": pa.array(buy.copy()),
        "tape_sell_vol": pa.array(sell.copy()),
        "sweep_detected": pa.array(whole[:, 2] != 0),
        "sweep_direction": pa.array(whole[:, 2].astype(np.int8)),
        "sweep_contracts": pa.array(whole[:, 3].copy()).cast(pa.int32()),
        "sweep_notional": pa.array(whole[:, 4] * (TICK_POINTS * ES_MULTIPLIER_USD)),
        "tape_max_input_ts_ns": nulled(whole[:, 5].copy(), whole[:, 5] < 0, pa.int64()),
    }
    return pa.table(columns).cast(TAPE_PHYSICS_SCHEMA)


def on_grid(points: pa.Table, grid_ms: int) -> np.ndarray:
    """The points' `asof_ns`, held to multiples of the grid: (n,) int64. ValueError names the first that
    isn't.
    """
    asof = column(points, "asof_ns", np.int64)
    off = np.flatnonzero(asof % (grid_ms * MS_NS))
    if off.size:
        raise ValueError(
            f"asof_ns was {asof[off[0]]} in row {off[0]}, expected a multiple of grid_ms = {grid_ms} ms; "
            "floor as-of instants to the grid"
        )
    return asof


def _band(
    points: pa.Table, TAPE_BAND: float | None, es_spy_ratio: ArrayLike | None, band_ticks: ArrayLike | None
) -> np.ndarray:
    if (TAPE_BAND is None) == (band_ticks is None):
        raise ValueError("band was given twice or not at all, expected either band_ticks or TAPE_BAND")
    if band_ticks is None:
        ratio = column(points, "es_spy_ratio", np.float64) if es_spy_ratio is None else es_spy_ratio
        band_ticks = ticks(TAPE_BAND, ratio)
    return np.ascontiguousarray(np.broadcast_to(np.asarray(band_ticks, np.int64), points.num_rows))
