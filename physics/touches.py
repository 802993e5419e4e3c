"""Tick-accurate touches of levels: arm far from a level, touch it, re-arm only after a dwell (spec market
5.5).
"""

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import ArrayLike

from physics.columns import I32, I64, column
from physics.order import Position, require_batch_sorted
from physics.units import SECOND_NS, ticks

TOUCHES_SCHEMA = pa.schema(
    [
        pa.field("level_id", pa.string(), nullable=False),
        pa.field("level_kind", pa.int8(), nullable=False),
        pa.field("level_tick", pa.int32(), nullable=False),
        pa.field("ts_ns", pa.int64(), nullable=False),
        pa.field("touch_tick", pa.int32(), nullable=False),
        pa.field("direction_sign", pa.int8(), nullable=False),
    ]
)

LEVEL_COLUMNS = ("level_id", "level_kind", "level_tick", "valid_from_ns", "valid_to_ns")
TRADE_COLUMNS = ("ts_event_ns", "tick")

# Slots of a level's state
_ARMED, _DWELL, _FAR_SINCE, _SIDE, _TICK, _VALID_TO = range(6)
_SLOTS = 6
_NEVER = -(2**62)


@njit(
    [
        types.UniTuple(types.int64, 2)(
            *(I64, I64, I64, I64),  # level rows: level, tick, from, to
            *(I64, I32, I64, I64),  # trades: ts, tick; rows [first, last) of each level row
            *(
                types.int64[::1],
                types.int64[:, ::1],
                I64,
                I64,
                I64,
                I64,
                types.int64,
            ),  # entered, state, bands, dwell
            types.int64,
            types.int64[:, ::1],
        )
    ],
    cache=True,
)
def _run(
    level,
    level_tick,
    valid_from,
    valid_to,
    ts,
    tick,
    first,
    last,
    entered,
    state,
    ratio_from,
    monitor,
    touch,
    hysteresis,
    rearm_ns,
    row,
    out,
):
    """Level rows from ``row`` on, each over its trades, until ``out`` is full. Returns (next row,
    touches).
    """
    n = 0
    while row < level.size:
        if n + (last[row] - first[row]) > out.shape[0] and n > 0:
            return row, n
        s = state[level[row]]
        b = np.searchsorted(ratio_from, valid_from[row], side="right") - 1
        b = max(b, 0)
        if entered[row] == 0:
            entered[row] = 1
            born = s[_VALID_TO] != valid_from[row]
            if born or abs(level_tick[row] - s[_TICK]) > monitor[b]:
                s[_ARMED] = 0
                s[_DWELL] = 0
                s[_FAR_SINCE] = _NEVER
                s[_SIDE] = 0
            s[_TICK] = level_tick[row]
            s[_VALID_TO] = valid_to[row]
        for i in range(first[row], last[row]):
            while b + 1 < ratio_from.size and ratio_from[b + 1] <= ts[i]:
                b += 1
            d = tick[i] - level_tick[row]
            distance = abs(d)
            if distance > monitor[b]:
                s[_SIDE] = 1 if d > 0 else -1
            if s[_ARMED] == 1:
                if distance <= touch[b]:
                    out[n, 0] = row
                    out[n, 1] = ts[i]
                    out[n, 2] = tick[i]
                    out[n, 3] = -s[_SIDE]
                    n += 1
                    s[_ARMED] = 0
                    s[_DWELL] = 1
                    s[_FAR_SINCE] = _NEVER
            elif distance > monitor[b] + hysteresis[b]:
                if s[_FAR_SINCE] == _NEVER:
                    s[_FAR_SINCE] = ts[i]
                if s[_DWELL] == 0 or ts[i] - s[_FAR_SINCE] >= rearm_ns:
                    s[_ARMED] = 1
            else:
                s[_FAR_SINCE] = _NEVER
        row += 1
    return row, n


class TouchMachine:
    """The touch machine of every level of one session, fed with level rows and trades as they come.

    ``update(levels, trades)`` takes the level rows that are new and the next front trades in total order; a
    row must be given before the first trade at or after its ``valid_from_ns``. It returns the touches of
    these trades.

    ``levels`` has `LEVEL_COLUMNS`: a static level is one row, a dynamic one a row per minute [m, m + 60 s).
    Rows of a ``level_id`` that meet (one's ``valid_to_ns`` is the next one's ``valid_from_ns``) continue
    its life; after a pause it is born again. A row that moves its level by more than the monitor band
    resets it.

    Bands are in SPY dollars and become ticks with ``es_spy_ratio``: one number, or the values of a step
    function whose steps start at ``ratio_from_ns``. A trade takes the value at its time, a reset the value
    at its minute; before the first step the first value holds.
    """

    def __init__(
        self,
        *,
        MONITOR_BAND: float,
        TOUCH_BAND: float,
        HYSTERESIS: float,
        REARM_S: float,
        es_spy_ratio: ArrayLike = 10.0,
        ratio_from_ns: ArrayLike | None = None,
    ) -> None:
        ratio = np.atleast_1d(np.asarray(es_spy_ratio, np.float64))
        steps = np.array([_NEVER]) if ratio_from_ns is None else np.array(ratio_from_ns, np.int64, ndmin=1)
        if ratio.size != steps.size or ratio.size == 0:
            raise ValueError(
                f"es_spy_ratio had {ratio.size} values for {steps.size} instants, expected as many; "
                "give ratio_from_ns with an array of ratios"
            )
        if (np.diff(steps) <= 0).any():
            raise ValueError("ratio_from_ns was not strictly increasing, expected ascending instants")
        self._ratio_from = steps
        self._bands = [
            np.atleast_1d(ticks(band, ratio)).astype(np.int64)
            for band in (MONITOR_BAND, TOUCH_BAND, HYSTERESIS)
        ]
        if (self._bands[1] > self._bands[0]).any():
            raise ValueError(f"TOUCH_BAND was {TOUCH_BAND}, expected at most MONITOR_BAND = {MONITOR_BAND}")
        self._rearm_ns = round(REARM_S * SECOND_NS)
        self._codes: dict[str, int] = {}
        self._kinds: list[int] = []
        self._state = np.zeros((0, _SLOTS), np.int64)
        self._rows = np.zeros((0, 5), np.int64)  # level, tick, from, to, entered; ordered by (level, from)
        self._after: Position | None = None

    def update(self, levels: pa.Table | pa.RecordBatch | None, trades: pa.Table | pa.RecordBatch) -> pa.Table:
        """Touches of ``trades``, in `TOUCHES_SCHEMA`, ordered by (ts_ns, level_kind, level_tick, level_id).

        Errors: ValueError when trades are out of order, when rows of one level overlap, or when a new level
        row starts before trades that were already seen.
        """
        if levels is not None and levels.num_rows:
            self._add(levels)
        seen = self._after
        self._after = require_batch_sorted(trades, after=seen)
        ts, tick = column(trades, "ts_event_ns", np.int64), column(trades, "tick", np.int32)
        rows = self._rows
        late = (rows[:, 4] == 0) & (rows[:, 2] <= (seen[0] if seen else _NEVER))
        if late.any():
            name = list(self._codes)[rows[late][0, 0]]
            raise ValueError(
                f"level {name} started at {rows[late][0, 2]} ns, expected a start after the last trade seen, "
                f"{seen[0]} ns; give a level's row before its trades"
            )
        if ts.size == 0:
            return TOUCHES_SCHEMA.empty_table()
        begun = rows[:, 2] <= ts[-1]
        now, later = rows[begun], rows[~begun]
        level, level_tick, valid_from, valid_to, entered = (np.ascontiguousarray(c) for c in now.T)
        first = np.searchsorted(ts, valid_from, "left")
        last = np.searchsorted(ts, valid_to, "left")
        found = []
        out = np.empty((max(int((last - first).max(initial=0)), 1), 4), np.int64)
        row = 0
        while row < level.size:
            row, n = _run(
                level,
                level_tick,
                valid_from,
                valid_to,
                ts,
                tick,
                first,
                last,
                entered,
                self._state,
                self._ratio_from,
                *self._bands,
                self._rearm_ns,
                row,
                out,
            )
            if n:
                found.append(out[:n].copy())
        now[:, 4] = entered
        kept = np.concatenate([now[valid_to > ts[-1]], later])
        self._rows = kept[np.lexsort((kept[:, 2], kept[:, 0]))]
        return self._table(level, level_tick, np.concatenate(found) if found else np.empty((0, 4), np.int64))

    def _add(self, levels: pa.Table | pa.RecordBatch) -> None:
        names = levels.column("level_id").to_pylist()
        kinds = column(levels, "level_kind", np.int64)
        for name, kind in zip(names, kinds.tolist(), strict=True):
            if name not in self._codes:
                self._codes[name] = len(self._codes)
                self._kinds.append(kind)
        new_levels = len(self._codes) - len(self._state)
        if new_levels:
            fresh = np.zeros((new_levels, _SLOTS), np.int64)
            fresh[:, _VALID_TO] = fresh[:, _FAR_SINCE] = _NEVER
            self._state = np.concatenate([self._state, fresh])
        rows = np.zeros((len(names), 5), np.int64)
        rows[:, 0] = [self._codes[name] for name in names]
        for k, name in enumerate(LEVEL_COLUMNS[2:], start=1):
            rows[:, k] = column(levels, name, np.int64)
        rows = rows[rows[:, 3] > rows[:, 2]]
        rows = np.concatenate([self._rows, rows])
        rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
        overlap = (rows[1:, 0] == rows[:-1, 0]) & (rows[1:, 2] < rows[:-1, 3])
        if overlap.any():
            at = int(np.flatnonzero(overlap)[0])
            raise ValueError(
                f"level {list(self._codes)[rows[at, 0]]} was valid to {rows[at, 3]} ns and again from "
                f"{rows[at + 1, 2]} ns, expected rows of a level not to overlap"
            )
        self._rows = rows

    def _table(self, level: np.ndarray, level_tick: np.ndarray, found: np.ndarray) -> pa.Table:
        names = np.array(list(self._codes), object)
        kinds = np.array(self._kinds, np.int64)
        at = found[:, 0]
        code, tick = level[at], level_tick[at]
        name_rank = np.argsort(np.argsort(names.astype(str), kind="stable"), kind="stable")
        by_key = np.lexsort((name_rank[code], tick, kinds[code], found[:, 1])) if len(at) else at
        code, tick, found = code[by_key], tick[by_key], found[by_key]
        columns = [names[code], kinds[code], tick, found[:, 1], found[:, 2], found[:, 3]]
        return pa.table(
            [pa.array(c, f.type, safe=True) for c, f in zip(columns, TOUCHES_SCHEMA, strict=True)],
            schema=TOUCHES_SCHEMA,
        )


def detect(
    levels: pa.Table,
    trades: pa.Table,
    *,
    MONITOR_BAND: float,
    TOUCH_BAND: float,
    HYSTERESIS: float,
    REARM_S: float,
    emit_from_ns: int,
    emit_until_ns: int,
    es_spy_ratio: ArrayLike = 10.0,
    ratio_from_ns: ArrayLike | None = None,
) -> pa.Table:
    """Touches of a whole session whose time is in [``emit_from_ns``, ``emit_until_ns``).

    ``levels``: `LEVEL_COLUMNS` of the session in any order. ``trades``: `ts_event_ns`, `tick` (and
    `sequence`, `ordinal`, then part of the order guard) of the front contract in total order. The machine
    runs over all trades; the interval only filters what is returned.

    Per level, d = trade tick - level tick, with bands M, T, H in ticks: arm at |d| > M + H (after a touch:
    once every trade of a span of REARM_S or more was that far, first to last of them); touch at the first
    |d| <= T while armed. Direction is UP (+1) if d < 0 at the last trade with |d| > M, else DOWN (-1).

    Returns `TOUCHES_SCHEMA`, ordered by (ts_ns, level_kind, level_tick, level_id); ``ts_ns`` is the
    touching trade's time, ``touch_tick`` its tick. No levels or no trades give no rows.
    Bands, ratios and errors: `TouchMachine`. Source: spec market 5.5, readings 21.3 and 21.4.
    """
    # only stocks traded, in the evening of another date
    if trades.num_rows == 0 and np.size(es_spy_ratio) == 0:
        return TOUCHES_SCHEMA.empty_table()
    machine = TouchMachine(
        MONITOR_BAND=MONITOR_BAND,
        TOUCH_BAND=TOUCH_BAND,
        HYSTERESIS=HYSTERESIS,
        REARM_S=REARM_S,
        es_spy_ratio=es_spy_ratio,
        ratio_from_ns=ratio_from_ns,
    )
    found = machine.update(levels, trades)
    ts = column(found, "ts_ns", np.int64)
    return found.filter(pa.array((ts >= emit_from_ns) & (ts < emit_until_ns)))
