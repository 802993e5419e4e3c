"""Dealers' gamma that flowed near a level in the windows before an observation (spec market 7.4)."""

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.columns import I32, I64, column, nulled, read_only
from physics.order import require_batch_sorted
from physics.strikes import numbered
from physics.sums import add, join, subtract
from physics.tape import on_grid
from physics.units import MINUTE_NS, TICK_POINTS, window_ns

# F(asof − first, asof − last) in minutes; the session's and that of W_g have edges of their own.
WINDOWS_MIN = {
    "flow_1m": (1, 0),
    "flow_1m_before": (2, 1),
    "flow_3m": (3, 0),
    "flow_3m_before": (6, 3),
    "flow_5m": (5, 0),
    "flow_20m": (20, 0),
}
FLOWS = ("flow_session", "flow_wg", *WINDOWS_MIN)

FLOWS_SCHEMA = pa.schema(
    [
        pa.field("observation_id", pa.string(), nullable=False),
        pa.field("option_prints", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in FLOWS),
        pa.field("flows_max_input_ts_ns", pa.int64()),
    ]
)

POINT_COLUMNS = ("observation_id", "asof_ns", "level_tick", "es_spy_ratio")
PRINT_COLUMNS = ("ts_event_ns", "strike_milli", "dealer_gamma")

F64 = read_only(types.float64)


@njit(
    [
        types.void(
            *(I64, I32, F64),
            *(types.int64[::1], types.int64[::1], types.float64[::1], types.float64[::1]),
        )
    ],
    cache=True,
)
def _group(ts, of, gamma, first, times, high, low):
    """Prints by strike, each strike's in order: rows [first[k], first[k + 1]) of ``times``, and behind each time the
    sum of the strike's gamma up to and with it.
    """
    for i in range(ts.size):
        first[of[i] + 1] += 1
    for k in range(first.size - 1):
        first[k + 1] += first[k]
    fill = first[:-1].copy()
    total, rest = np.zeros(fill.size), np.zeros(fill.size)
    for i in range(ts.size):
        k = of[i]
        row = fill[k]
        h, r = add(total[k], rest[k], gamma[i])
        total[k], rest[k] = h, r
        times[row], high[row], low[row] = ts[i], h, r
        fill[k] = row + 1


@njit(
    [
        types.void(
            *(I64, F64, F64, I64),  # strikes' prints
            *(I64, I64, I64, I64),  # points: first and last near strike; edges from and to
            *(types.int64, types.float64[:, ::1]),
        )
    ],
    cache=True,
)
def _sum(times, high, low, first, near_from, near_to, start, end, flow, out):
    """``out[p, flow]``: gamma of the strikes near each point in [start, end); an empty window is 0."""
    for p in range(near_from.size):
        total = rest = 0.0
        if start[p] < end[p]:
            for k in range(near_from[p], near_to[p]):
                own = times[first[k] : first[k + 1]]
                a = first[k] + np.searchsorted(own, start[p]) - 1
                b = first[k] + np.searchsorted(own, end[p]) - 1
                if b >= first[k]:
                    total, rest = join(total, rest, high[b], low[b])
                if a >= first[k]:
                    total, rest = subtract(total, rest, high[a], low[a])
        out[p, flow] = total


def gamma_flows(
    points: pa.Table,
    prints: pa.Table,
    *,
    session_start_ns: int,
    W_g: float,
    FUEL_STRIKE_RANGE: float,
    grid_ms: int = 100,
) -> pa.Table:
    """The sums F(a, b) of dealer gamma near each point's level, from the option prints strictly before it.

    Shapes:   ``points``: `POINT_COLUMNS` in any order; the result keeps it. ``prints``: option prints of one session
              that expire in it, `PRINT_COLUMNS` in order of time; ``dealer_gamma`` null where it is unknown, which
              counts as a print and adds nothing. Returns `FLOWS_SCHEMA`.
    Units:    nanoseconds UTC, ticks, thousandths of a dollar; flows in shares per $1.
    Near:     |strike_milli − level_spy_milli| ≤ 1000 · FUEL_STRIKE_RANGE, level_spy_milli = floor(level_price / ratio ·
              1000 + 0.5) with the ratio of the point.
    Edges:    `flow_session` is F(session start, asof), `flow_wg` F(asof − W_g, asof), `flow_Nm` F(asof − N min, asof);
              `flow_1m_before` is F(asof − 2 min, asof − 1 min), `flow_3m_before` F(asof − 6 min, asof − 3 min). Each is
              half-open, [a, b), and reaches before the session start where it is that long.
    Empty:    without any print in [session start, asof) all flows are null and `option_prints`, their number, is 0;
              with some, but none near, the flows are 0.0.
    Exact:    each flow is the rounded true sum (`physics.sums`).
    Errors:   ValueError for unordered prints, or a W_g or an as-of off the grid.
    Cost:     O(prints + points · near strikes · log prints); 28 bytes a print.
    Source:   spec market 7.4.
    """
    wg_ns = window_ns("W_g", W_g, grid_ms)
    asof = on_grid(points, grid_ms)
    require_batch_sorted(prints)
    ts = column(prints, "ts_event_ns", np.int64)
    gamma = prints.column("dealer_gamma")
    gamma = column(pa.table({"dealer_gamma": gamma.fill_null(0.0)}), "dealer_gamma", np.float64)

    strikes, of = numbered(column(prints, "strike_milli", np.int32))
    first = np.zeros(strikes.size + 1, np.int64)
    times, high, low = np.empty(ts.size, np.int64), np.empty(ts.size), np.empty(ts.size)
    _group(ts, of, gamma, first, times, high, low)

    level_points = column(points, "level_tick", np.int64) * TICK_POINTS
    level_milli = np.floor(level_points / column(points, "es_spy_ratio", np.float64) * 1000 + 0.5)
    reach = np.floor(
        1000 * FUEL_STRIKE_RANGE + 1e-6
    )  # whole thousandths: 1000 × 1.001 is less than 1001 in doubles
    near_from = np.searchsorted(strikes, level_milli - reach, "left").astype(np.int64)
    near_to = np.searchsorted(strikes, level_milli + reach, "right").astype(np.int64)

    edges = {"flow_session": (np.full_like(asof, session_start_ns), asof), "flow_wg": (asof - wg_ns, asof)}
    for name, (a, b) in WINDOWS_MIN.items():
        edges[name] = (asof - a * MINUTE_NS, asof - b * MINUTE_NS)
    flows = np.empty((asof.size, len(FLOWS)))
    for k, name in enumerate(FLOWS):
        _sum(times, high, low, first, near_from, near_to, *edges[name], k, flows)

    seen = np.searchsorted(ts, asof, "left")
    count = np.maximum(seen - np.searchsorted(ts, session_start_ns, "left"), 0)
    last = ts[np.maximum(seen - 1, 0)] if ts.size else np.zeros(asof.size, np.int64)
    columns = {
        "observation_id": points.column("observation_id"),
        "option_prints": pa.array(count),
        **{name: nulled(flows[:, k], count == 0, pa.float64()) for k, name in enumerate(FLOWS)},
        "flows_max_input_ts_ns": nulled(last, count == 0, pa.int64()),
    }
    return pa.table(columns).cast(FLOWS_SCHEMA)
