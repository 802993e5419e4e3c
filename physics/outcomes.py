"""Outcomes of touches by first passage on trades (spec market 12). Everything here looks forward: labels
only.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.columns import I8, I32, I64, column, nullable_column, nulled
from physics.order import require_batch_sorted
from physics.units import MINUTE_NS, SECOND_NS, TICK_POINTS

STATUSES = ("ok", "already_resolved", "crosses_session", "data_gap")
OUTCOMES = ("CHOP", "BREAK", "BOUNCE")

OUTCOMES_SCHEMA = pa.schema(
    [
        pa.field("observation_id", pa.string(), nullable=False),
        pa.field("outcome", pa.string()),
        *(
            pa.field(f"time_to_{what}_{k}", pa.float64())
            for what in ("break", "bounce", "threshold")
            for k in (1, 2)
        ),
        pa.field("tradeable_1", pa.int8()),
        pa.field("tradeable_2", pa.int8()),
        pa.field("excursion_max", pa.float64()),
        pa.field("excursion_min", pa.float64()),
        pa.field("strength_signed", pa.float64()),
        pa.field("strength_abs", pa.float64()),
        pa.field("anchor_spot", pa.float64()),
        pa.field("future_price", pa.float64()),
        pa.field("label_status", pa.string(), nullable=False),
        pa.field("label_start_ns", pa.int64(), nullable=False),
        pa.field("label_end_ns", pa.int64(), nullable=False),
        pa.field("theta_1", pa.float64()),
        pa.field("theta_2", pa.float64()),
    ]
)

POINT_COLUMNS = (
    "observation_id",
    "label_start_ns",
    "ts_ns",
    "level_tick",
    "direction_sign",
    "theta1_ticks",
    "theta2_ticks",
    "window_limit_ns",
)
TRADE_COLUMNS = ("ts_event_ns", "tick")

_NONE = -(2**62)
_NEVER = 2**62
_OK, _RESOLVED, _CROSSES, _GAP = range(4)
# Slots of a result row
_STATUS, _BREAK_1, _BREAK_2, _BOUNCE_1, _BOUNCE_2, _MAX, _MIN, _ANCHOR, _FUTURE = range(9)


@njit(
    [
        types.void(
            *(I64, I32),
            *(I64, I64, I64, I8, I64, I64, I64),
            *(I64, I64, types.int64, types.int64),
            types.int64[:, ::1],
        )
    ],
    cache=True,
)
def _first_passage(
    ts, tick, start, touched, level, sign, theta_1, theta_2, limit, gap_from, gap_to, length_ns, gap_ns, out
):
    """One row of ``out`` per point: status, four times, two excursions in ticks, anchor and last tick."""
    for p in range(start.size):
        u = start[p]
        end_ns = u + length_ns
        first = np.searchsorted(ts, u, side="left")
        end = np.searchsorted(ts, end_ns, side="left")
        o = out[p]
        o[:] = _NONE
        anchor = first - 1
        if anchor >= 0:
            o[_ANCHOR] = tick[anchor]

        status = _OK
        if theta_2[p] != _NONE:
            since = np.searchsorted(ts, touched[p], side="left")
            resolved = anchor >= 0 and abs(tick[anchor] - level[p]) >= theta_2[p]
            for i in range(since, first):
                if abs(tick[i] - level[p]) >= theta_2[p]:
                    resolved = True
                    break
            if resolved:
                status = _RESOLVED
        if status == _OK and end_ns > limit[p]:
            status = _CROSSES
        if status == _OK:
            silent = theta_2[p] == _NONE or theta_1[p] == _NONE or first == end
            previous = u
            for i in range(first, end):
                if ts[i] - previous > gap_ns:
                    silent = True
                    break
                previous = ts[i]
            if end_ns - previous > gap_ns:
                silent = True
            for g in range(gap_from.size):
                if gap_from[g] < end_ns and gap_to[g] > u:
                    silent = True
            if silent:
                status = _GAP
        o[_STATUS] = status
        if status != _OK:
            continue

        s = np.int64(sign[p])
        furthest = nearest = 0
        for i in range(first, end):
            beyond = s * (tick[i] - level[p])
            furthest = max(furthest, beyond)
            nearest = min(nearest, beyond)
            if o[_BREAK_1] == _NONE and beyond >= theta_1[p]:
                o[_BREAK_1] = ts[i] - u
            if o[_BREAK_2] == _NONE and beyond >= theta_2[p]:
                o[_BREAK_2] = ts[i] - u
            if o[_BOUNCE_1] == _NONE and -beyond >= theta_1[p]:
                o[_BOUNCE_1] = ts[i] - u
            if o[_BOUNCE_2] == _NONE and -beyond >= theta_2[p]:
                o[_BOUNCE_2] = ts[i] - u
        o[_MAX] = furthest
        o[_MIN] = -nearest
        o[_FUTURE] = tick[end - 1]


def first_passage(
    points: pa.Table,
    trades: pa.Table,
    *,
    LOOKFORWARD_MINUTES: float,
    GAP_S: float,
    gaps: Iterable[tuple[int, int]] = (),
) -> pa.Table:
    """Label columns of every (event, stage) by first passage in [u, u + LOOKFORWARD_MINUTES).

    ``points``, in any order, which the result keeps: `observation_id`; `label_start_ns` u (exact, not
    floored); `ts_ns` t0; `level_tick`; `direction_sign` (+1 up, -1 down); `theta1_ticks`, `theta2_ticks`
    (null where there is no ATR); `window_limit_ns`, the session's close that the window may not pass.
    ``trades``: `ts_event_ns`, `tick` of the front contract's session in total order. ``gaps``: the manifest's
    (from_ns, to_ns).

    Returns `OUTCOMES_SCHEMA`: seconds from u, points. `label_status` in this precedence: `already_resolved`
    (a trade of [t0, u), or the last one before u, at theta 2 or beyond), `crosses_session`, `data_gap`
    (silence over GAP_S, its ends included; no trade at all; a manifest gap; no theta), `ok`. Only `ok` rows
    hold labels; `label_start_ns`, `label_end_ns` and the thetas are on every row.

    Errors: ValueError for unordered trades, a direction that isn't +1 or -1, a theta that isn't positive,
    or u < t0. Source: spec market 12, reading 21.10; first passage as in Lopez de Prado 2018, ch. 3
    (without the horizontal barrier's sign).
    """
    require_batch_sorted(trades)
    ts, tick = column(trades, "ts_event_ns", np.int64), column(trades, "tick", np.int32)
    start, touched = column(points, "label_start_ns", np.int64), column(points, "ts_ns", np.int64)
    level, sign = column(points, "level_tick", np.int64), column(points, "direction_sign", np.int8)
    limit = column(points, "window_limit_ns", np.int64)
    theta = [nullable_column(points, f"theta{k}_ticks", np.int64, _NONE) for k in (1, 2)]
    for trouble, expected in (
        (start < touched, "label_start_ns at or after ts_ns"),
        (np.abs(sign) != 1, "direction_sign +1 or -1"),
        ((theta[0] <= 0) & (theta[0] != _NONE), "theta1_ticks > 0 or null"),
        ((theta[1] <= 0) & (theta[1] != _NONE), "theta2_ticks > 0 or null"),
    ):
        if trouble.any():
            row = int(np.flatnonzero(trouble)[0])
            raise ValueError(
                f"point was {points.slice(row, 1).to_pylist()[0]} in row {row}, expected {expected}"
            )
    length_ns = round(LOOKFORWARD_MINUTES * MINUTE_NS)
    missing = np.array([(int(a), int(b)) for a, b in gaps], np.int64).reshape(-1, 2)

    out = np.empty((start.size, 9), np.int64)
    _first_passage(
        ts,
        tick,
        start,
        touched,
        level,
        sign,
        *theta,
        limit,
        missing[:, 0].copy(),
        missing[:, 1].copy(),
        length_ns,
        round(GAP_S * SECOND_NS),
        out,
    )
    bad = out[:, _STATUS] != _OK
    passed = {
        name: np.where(out[:, at] == _NONE, _NEVER, out[:, at])
        for name, at in (
            ("break_1", _BREAK_1),
            ("break_2", _BREAK_2),
            ("bounce_1", _BOUNCE_1),
            ("bounce_2", _BOUNCE_2),
        )
    }
    for k in (1, 2):
        passed[f"threshold_{k}"] = np.minimum(passed[f"break_{k}"], passed[f"bounce_{k}"])
    broke, bounced = passed["break_2"], passed["bounce_2"]
    outcome = np.where(broke < bounced, 1, np.where(bounced < broke, 2, 0))
    furthest, nearest = out[:, _MAX] * TICK_POINTS, out[:, _MIN] * TICK_POINTS

    def labels(values: np.ndarray, null: np.ndarray = bad, arrow_type: pa.DataType | None = None) -> pa.Array:
        return nulled(np.where(bad, 0, values), bad | null, arrow_type or pa.float64())

    columns = {
        "observation_id": points.column("observation_id"),
        "outcome": pa.array(np.array(OUTCOMES, object)[outcome], pa.string(), mask=bad),
        **{
            f"time_to_{name}": labels(passed[name] / SECOND_NS, passed[name] == _NEVER)
            for name in (f"{what}_{k}" for what in ("break", "bounce", "threshold") for k in (1, 2))
        },
        **{
            f"tradeable_{k}": labels((passed[f"threshold_{k}"] != _NEVER).astype(np.int8), bad, pa.int8())
            for k in (1, 2)
        },
        "excursion_max": labels(furthest),
        "excursion_min": labels(nearest),
        "strength_signed": labels(furthest - nearest),
        "strength_abs": labels(np.maximum(furthest, nearest)),
        "anchor_spot": labels(out[:, _ANCHOR] * TICK_POINTS, out[:, _ANCHOR] == _NONE),
        "future_price": labels(out[:, _FUTURE] * TICK_POINTS),
        "label_status": pa.array(np.array(STATUSES, object)[out[:, _STATUS]], pa.string()),
        "label_start_ns": pa.array(start),
        "label_end_ns": pa.array(start + length_ns),
        **{
            f"theta_{k}": nulled(theta[k - 1] * TICK_POINTS, theta[k - 1] == _NONE, pa.float64())
            for k in (1, 2)
        },
    }
    return pa.table(columns).cast(OUTCOMES_SCHEMA)
