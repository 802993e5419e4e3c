"""Dealers' gamma by option strike at whole minutes: what walls and the gamma flip are read from (spec market 7.4)."""

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.columns import I8, I32, I64, column, read_only
from physics.order import require_batch_sorted
from physics.strikes import numbered
from physics.sums import add, join, subtract
from physics.units import MINUTE_NS, window_ns

EXPOSURE_SCHEMA = pa.schema(
    [
        pa.field("minute_ns", pa.int64(), nullable=False),
        pa.field("strike_milli", pa.int32(), nullable=False),
        pa.field("right", pa.string(), nullable=False),
        pa.field("dealer_gamma_window", pa.float64(), nullable=False),
        pa.field("dealer_gamma_session", pa.float64(), nullable=False),
        pa.field("dealer_gamma_strike", pa.float64(), nullable=False),
        pa.field("contracts_session", pa.int64(), nullable=False),
        pa.field("max_input_ts_ns", pa.int64(), nullable=False),
    ]
)

PRINT_COLUMNS = ("ts_event_ns", "strike_milli", "is_call", "size", "dealer_gamma")

F64 = read_only(types.float64)

# Running sums of an option, double-doubles: up to the minute, up to where its window starts, up to the session start
_NOW, _WINDOW, _START = 0, 2, 4


@njit(
    [
        types.int64(
            *(I64, I32, I8, I32, F64),
            *(I32, I64, types.int64, types.int64),
            *(types.int64[::1], types.int64[:, ::1], types.float64[:, ::1]),
        )
    ],
    cache=True,
)
def _accumulate(
    ts, of, is_call, size, gamma, strikes, minutes, session_start_ns, wall_ns, out_minute, whole, real
):
    """Fill a row for each minute and each option seen before it; returns how many. Options are numbered call, put of
    each of ``strikes``, ascending. ``whole``: strike, 0 call or 1 put, contracts, last time. ``real``: window, session,
    and session of both rights.
    """
    count = strikes.size
    sums = np.zeros((2 * count, 6))
    contracts = np.zeros(2 * count, np.int64)
    last = np.full(2 * count, -1, np.int64)
    option = np.empty(ts.size, np.int32)
    head = tail = start = rows = 0
    for m in range(minutes.size):
        minute = minutes[m]
        while head < ts.size and ts[head] < minute:
            k = 2 * of[head] + 1 - is_call[head]
            option[head] = k
            s = sums[k]
            s[_NOW], s[_NOW + 1] = add(s[_NOW], s[_NOW + 1], gamma[head])
            if ts[head] >= session_start_ns:
                contracts[k] += size[head]
            last[k] = ts[head]
            head += 1
        while tail < head and ts[tail] < minute - wall_ns:
            s = sums[option[tail]]
            s[_WINDOW], s[_WINDOW + 1] = add(s[_WINDOW], s[_WINDOW + 1], gamma[tail])
            tail += 1
        while start < head and ts[start] < session_start_ns:
            s = sums[option[start]]
            s[_START], s[_START + 1] = add(s[_START], s[_START + 1], gamma[start])
            start += 1
        for k in range(2 * count):
            if last[k] < 0:
                continue
            s, other = sums[k], sums[k ^ 1]
            high, low = subtract(s[_NOW], s[_NOW + 1], s[_START], s[_START + 1])
            high_2, low_2 = subtract(other[_NOW], other[_NOW + 1], other[_START], other[_START + 1])
            real[rows, 0] = subtract(s[_NOW], s[_NOW + 1], s[_WINDOW], s[_WINDOW + 1])[0]
            real[rows, 1] = high
            real[rows, 2] = join(high, low, high_2, low_2)[0]
            whole[rows, 0], whole[rows, 1] = strikes[k >> 1], k & 1
            whole[rows, 2], whole[rows, 3] = contracts[k], last[k]
            out_minute[rows] = minute
            rows += 1
    return rows


def exposure(
    prints: pa.Table, *, session_start_ns: int, session_end_ns: int, W_wall: float, grid_ms: int = 100
) -> pa.Table:
    """Sums of dealer gamma per option at every whole minute of [session_start_ns, session_end_ns).

    Shapes:   ``prints`` are option prints of one session, `PRINT_COLUMNS` in order of time: ``is_call`` is 1 or 0,
              ``dealer_gamma`` null where it is unknown; such prints are left out. Returns `EXPOSURE_SCHEMA`, ordered
              by (minute_ns, strike_milli, right).
    Units:    nanoseconds UTC, thousandths of a dollar, contracts; gamma in shares per $1.
    Rows:     one per minute and option with a known print before the minute, in the session or ahead of its start.
    Edges:    a print exactly at the minute is not in it, one exactly W_wall before it is. `dealer_gamma_window` is over
              [minute − W_wall, minute), also where that starts before the session start; `dealer_gamma_session` and
              `contracts_session` are since the session start, `dealer_gamma_strike` likewise over both rights.
    Exact:    each sum is the rounded true sum (`physics.sums`), whatever the order of ties.
    Empty:    no prints, no rows.
    Errors:   ValueError for unordered prints, a session start off the minute, or a W_wall off the grid.
    Cost:     O(prints + minutes · options), one pass with two pointers.
    Source:   spec market 7.4, walls and HVL.
    """
    wall_ns = window_ns("W_wall", W_wall, grid_ms)
    if session_start_ns % MINUTE_NS:
        raise ValueError(f"session_start_ns was {session_start_ns}, expected a whole minute")
    gamma = prints.column("dealer_gamma")
    known = prints.filter(gamma.is_valid()) if gamma.null_count else prints
    require_batch_sorted(known)
    strikes, of = numbered(column(known, "strike_milli", np.int32))
    minutes = np.arange(session_start_ns, session_end_ns, MINUTE_NS, dtype=np.int64)
    capacity = minutes.size * 2 * strikes.size
    out_minute = np.empty(capacity, np.int64)
    whole = np.empty((capacity, 4), np.int64)
    real = np.empty((capacity, 3))
    rows = _accumulate(
        column(known, "ts_event_ns", np.int64),
        of,
        column(known, "is_call", np.int8),
        column(known, "size", np.int32),
        column(known, "dealer_gamma", np.float64),
        strikes,
        minutes,
        session_start_ns,
        wall_ns,
        out_minute,
        whole,
        real,
    )
    right = pa.DictionaryArray.from_arrays(pa.array(whole[:rows, 1].astype(np.int8)), pa.array(["C", "P"]))
    columns = {
        "minute_ns": pa.array(out_minute[:rows]),
        "strike_milli": pa.array(whole[:rows, 0].astype(np.int32)),
        "right": right.cast(pa.string()),
        "dealer_gamma_window": pa.array(real[:rows, 0].copy()),
        "dealer_gamma_session": pa.array(real[:rows, 1].copy()),
        "dealer_gamma_strike": pa.array(real[:rows, 2].copy()),
        "contracts_session": pa.array(whole[:rows, 2].copy()),
        "max_input_ts_ns": pa.array(whole[:rows, 3].copy()),
    }
    return pa.table(columns).cast(EXPOSURE_SCHEMA)
