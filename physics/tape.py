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


@njit([types.UniTuple(types.float64, 2)(I64, I32, types.int64, types.int64)], cache=True)
def _slope(ts, tick, first, last):
    """(slope in ticks per ns, 1) of rows [first, last), or (0, 0) with fewer than two distinct times.

    Times and ticks are measured from the first row as integers, so prints a nanosecond apart keep their
    distance.
    """
    if last - first < 2 or ts[first] == ts[last - 1]:
        return 0.0, 0.0
    n = last - first
    sum_t = sum_p = 0
    for i in range(first, last):
        sum_t += ts[i] - ts[first]
        sum_p += tick[i] - tick[first]
    mean_t, mean_p = sum_t / n, sum_p / n
    sxx = sxy = 0.0
    for i in range(first, last):
        dt = (ts[i] - ts[first]) - mean_t
        sxx += dt * dt
        sxy += dt * ((tick[i] - tick[first]) - mean_p)
    return sxy / sxx, 1.0


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
        first = np.searchsorted(ts, asof[p] - window_ns, side="left")
        buy = sell = 0
        best = best_sign = best_notional = 0
        sign = prints = contracts = notional = 0
        low = high = 0
        previous = 0
        for i in range(first, end + 1):
            if i < end:
                a = np.int64(aggressor[i])
                if a == 0 or abs(tick[i] - level_tick[p]) > band[p]:
                    continue
                if a > 0:
                    buy += size[i]
                else:
                    sell += size[i]
                if sign == a and ts[i] - previous <= sweep_gap_ns:
                    prints += 1
                    contracts += size[i]
                    notional += np.int64(tick[i]) * size[i]
                    low = min(low, tick[i])
                    high = max(high, tick[i])
                    previous = ts[i]
                    continue
            if (
                prints >= 2 and contracts >= sweep_min and low != high and contracts >= best
            ):  # the later wins a tie
                best, best_sign, best_notional = contracts, sign, notional
            if i < end:
                sign, prints, contracts = a, 1, np.int64(size[i])
                notional = np.int64(tick[i]) * size[i]
                low = high = np.int64(tick[i])
                previous = ts[i]
        whole[p, 0], whole[p, 1] = buy, sell
        whole[p, 2], whole[p, 3], whole[p, 4] = best_sign, best, best_notional
        earliest = first
        for k in range(3):
            start = np.searchsorted(ts, asof[p] - SLOPE_S[k] * SECOND_NS, side="left")
            real[p, k], real[p, 3 + k] = _slope(ts, tick, start, end)
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
