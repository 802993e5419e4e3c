"""How the mid moved before observation points: velocity, acceleration and jerk of polynomials fitted to its whole
seconds (spec market 7.6).

A least-squares polynomial on equally spaced times is a fixed filter: its leading coefficient is the product of the
values with the orthogonal polynomial of that degree, over that polynomial's own square (Gram 1883; Savitzky and Golay
1964). On the integer nodes u = w - 1 - 2j these polynomials have integer values, and so have mids in half ticks: the
products are exact, in any order and on any machine, and are rounded once, by the division.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.columns import I64, Batches, batches, column, nullable_column, nulled
from physics.tape import on_grid
from physics.units import MINUTE_NS, MS_NS, SECOND_NS, TICK_POINTS

WINDOWS_MIN = (1, 3, 5, 10, 20)
LAGS = 60 * max(WINDOWS_MIN)
MAX_AGE_NS = MINUTE_NS
NONE = -(2**62)

KINEMATICS_SCHEMA = pa.schema(
    [
        pa.field("observation_id", pa.string(), nullable=False),
        *(pa.field(f"velocity_{w}min", pa.float64()) for w in WINDOWS_MIN),
        *(pa.field(f"acceleration_{w}min", pa.float64()) for w in WINDOWS_MIN),
        *(pa.field(f"jerk_{w}min", pa.float64()) for w in WINDOWS_MIN),
        *(pa.field(f"momentum_trend_{w}min", pa.float64()) for w in WINDOWS_MIN if w > 1),
        pa.field("kinematics_max_input_ts_ns", pa.int64()),
    ]
)

POINT_COLUMNS = ("observation_id", "asof_ns", "direction_sign")
STATE_COLUMNS = (
    "cell_end_ns",
    "state_ts_ns",
    *(f"{side}_{what}_00" for side in ("bid", "ask") for what in ("tick", "size")),
)


@dataclass(frozen=True)
class Filters:
    """What turns the mids of one window into its columns: ``weights`` (4, w) whole numbers and ``scale`` (4,), for
    velocity, acceleration, jerk and momentum trend.

    A column is weights · values * scale, values in half ticks with the latest first; the unit is points per s, s², s³
    and s. Every row of the weights sums to 0, so a constant of the values plays no part.
    """

    weights: np.ndarray
    scale: np.ndarray


def filters(w: int) -> Filters:
    """Filters of a window of ``w`` mids, one a second; ``w`` is even and at least 4.

    With u = w - 1 - 2j the time is t = u/2 s and a constant. The orthogonal polynomials of the degrees 1 to 3 are u,
    3u² - (w² - 1) and 5u³ - (3w² - 7)u; a coefficient of uⁿ is 2ⁿ times smaller than that of tⁿ.
    """
    u = w - 1 - 2 * np.arange(w, dtype=np.int64)
    quadratic, cubic = 3 * u**2 - (w**2 - 1), 5 * u**3 - (3 * w**2 - 7) * u
    half = w // 2
    line = half - 1 - 2 * np.arange(half, dtype=np.int64)
    squares = [sum(int(v) ** 2 for v in polynomial) for polynomial in (u, quadratic, cubic, line)]
    half_tick = TICK_POINTS / 2
    return Filters(
        np.stack([u, quadratic, cubic, np.concatenate([line, -line])]),
        np.array(
            [
                2 * half_tick / squares[0],
                2 * 3 * 2**2 * half_tick / squares[1],  # twice the coefficient of t²
                6 * 5 * 2**3 * half_tick / squares[2],  # six times that of t³
                2 * half_tick / squares[3],
            ]
        ),
    )


FILTERS = {w: filters(60 * w) for w in WINDOWS_MIN}
_BOUNDS = np.array([60 * w for w in WINDOWS_MIN], np.int64)
_WEIGHTS = np.zeros((len(WINDOWS_MIN), 4, LAGS), np.int64)
for _k, _w in enumerate(WINDOWS_MIN):
    _WEIGHTS[_k, :, : 60 * _w] = FILTERS[_w].weights


@njit(
    [
        types.void(
            *(I64, I64, I64, I64, types.int64, types.int64),
            *(I64, types.Array(types.int64, 3, "C", readonly=True)),
            *(types.int64[::1], types.int64[:, :, ::1], types.int64[::1]),
        )
    ],
    cache=True,
)
def _measure(cell_end, state_ts, mid2, asof, lag_ns, max_age_ns, bounds, weights, usable, products, latest):
    """Per point: how many lags from asof back have a mid, each window's four products of weights and mids, and the
    time of the state that holds at asof.

    ``mid2`` is best bid plus best ask in ticks, ``NONE`` where one is missing. Products are of the changes since asof:
    weights sum to zero, and changes stay small.
    """
    changes = np.empty(bounds[-1], np.int64)
    for p in range(asof.size):
        row = np.searchsorted(cell_end, asof[p], side="right") - 1
        if row >= 0:
            latest[p] = state_ts[row]
        n = 0
        first = 0
        while n < bounds[-1]:
            t = asof[p] - n * lag_ns
            while row >= 0 and cell_end[row] > t:
                row -= 1
            if row < 0 or mid2[row] == NONE or t - state_ts[row] > max_age_ns:
                break
            if n == 0:
                first = mid2[row]
            changes[n] = mid2[row] - first
            n += 1
        usable[p] = n
        for k in range(bounds.size):
            if bounds[k] > n:
                break
            for f in range(4):
                total = 0
                for j in range(bounds[k]):
                    total += weights[k, f, j] * changes[j]
                products[p, k, f] = total


def kinematics(points: pa.Table, states: Batches, *, grid_ms: int) -> pa.Table:
    """Kinematics columns of every observation point, from the mids strictly before it.

    ``points``: `POINT_COLUMNS`, `asof_ns` a multiple of the grid, `direction_sign` +1 or -1, in any order; the result
    keeps it. ``states``: `STATE_COLUMNS` of `physics.book.book_states` with the same grid, one pass.

    Returns `KINEMATICS_SCHEMA`: points/s, points/s², points/s³, and points/s for the trends; positive towards and
    through the level. The values of a window of w seconds are s · (mid - level) at asof - j s, j = 0 .. w - 1, where
    mid is that of the last valid state, at most 60 s old; the level is a constant, so it shifts the values and changes
    no column. If a mid is missing, one side of its state is empty or it is too old, every column of the windows that
    hold it is null. `kinematics_max_input_ts_ns` is the time of the last valid state before asof, null without one.

    Errors: ValueError for states out of order, an as-of off the grid, a direction that isn't +1 or -1, or a grid that
    doesn't divide a second. Exact: whole-number products, while mids move less than 500,000 points in a window. Cost:
    the cells of 20 min and 9,360 multiplications a point. Memory: 24 bytes a cell of the session.
    Source: spec market 7.6.
    """
    if SECOND_NS % (grid_ms * MS_NS):
        raise ValueError(
            f"grid_ms was {grid_ms}, expected a divisor of 1000: mids are taken at whole-second lags"
        )
    asof = on_grid(points, grid_ms)
    sign = column(points, "direction_sign", np.int8)
    if (np.abs(sign) != 1).any():
        raise ValueError(
            "direction_sign was neither +1 nor -1 in some row, expected the direction of a touch"
        )
    cell_end, state_ts, mid2 = _mids(states)

    usable = np.zeros(asof.size, np.int64)
    products = np.zeros((asof.size, len(WINDOWS_MIN), 4), np.int64)
    latest = np.full(asof.size, NONE, np.int64)
    _measure(
        cell_end, state_ts, mid2, asof, SECOND_NS, MAX_AGE_NS, _BOUNDS, _WEIGHTS, usable, products, latest
    )

    columns: dict[str, pa.Array | pa.ChunkedArray] = {"observation_id": points.column("observation_id")}
    for k, w in enumerate(WINDOWS_MIN):
        values = products[:, k] * FILTERS[w].scale * sign[:, None]
        for f, name in enumerate(("velocity", "acceleration", "jerk", "momentum_trend")):
            columns[f"{name}_{w}min"] = nulled(values[:, f] + 0.0, usable < 60 * w, pa.float64())  # no -0.0
    columns["kinematics_max_input_ts_ns"] = nulled(latest, latest == NONE, pa.int64())
    return pa.table(columns).select(KINEMATICS_SCHEMA.names).cast(KINEMATICS_SCHEMA)


def _mids(states: Batches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cell ends, times of the states, best bid + best ask in ticks or `NONE`) of all cells, in order."""
    parts = [np.zeros((3, 0), np.int64)]
    for batch in batches(states):
        has_both = (column(batch, "bid_size_00", np.int32) > 0) & (column(batch, "ask_size_00", np.int32) > 0)
        bid, ask = (nullable_column(batch, f"{side}_tick_00", np.int32, 0) for side in ("bid", "ask"))
        parts.append(
            np.stack(
                [
                    column(batch, "cell_end_ns", np.int64),
                    nullable_column(batch, "state_ts_ns", np.int64, NONE),
                    np.where(has_both, bid.astype(np.int64) + ask, NONE),
                ]
            )
        )
    cell_end, state_ts, mid2 = np.concatenate(parts, axis=1)
    if (np.diff(cell_end) <= 0).any():
        raise ValueError(
            "cell_end_ns of the states did not strictly ascend, expected one row per cell in order"
        )
    return cell_end, state_ts, mid2
