"""Barrier physics of observation points: what the defending side of the book did near a level (spec market
7.2).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.asof import LEVEL_COLUMNS, NONE, SCALAR_COLUMNS, StatesAsof
from physics.book import SIDES
from physics.columns import I64, Batches, batches, column, nulled
from physics.order import require_batch_sorted
from physics.tape import on_grid
from physics.units import MS_NS, SECOND_NS, window_ns
from physics.zone import ZoneTotals

CHANGE_MIN = (1, 3, 5)
EPS = 1e-6
MIN_WALL_SAMPLES = 60
MIN_COVER_TENTHS = 9

STATES = ("UNKNOWN", "VACUUM", "WALL", "CONSUMED", "ABSORPTION", "WEAK", "NEUTRAL")
_UNKNOWN, _VACUUM, _WALL, _CONSUMED, _ABSORPTION, _WEAK, _NEUTRAL = range(7)

BARRIER_PHYSICS_SCHEMA = pa.schema(
    [
        pa.field("observation_id", pa.string(), nullable=False),
        pa.field("barrier_state", pa.string(), nullable=False),
        pa.field("barrier_delta_liq", pa.int64()),
        pa.field("barrier_added", pa.int64()),
        pa.field("barrier_canceled", pa.int64()),
        pa.field("barrier_filled", pa.int64()),
        pa.field("barrier_churn", pa.int64()),
        pa.field("barrier_depth_in_zone", pa.int64()),
        pa.field("barrier_delta_liq_log", pa.float64()),
        pa.field("barrier_replenishment_ratio", pa.float64()),
        pa.field("wall_ratio", pa.float64()),
        pa.field("wall_ratio_log", pa.float64()),
        pa.field("barrier_zone_visible_frac", pa.float64(), nullable=False),
        pa.field("barrier_observable", pa.bool_(), nullable=False),
        *(pa.field(f"barrier_delta_{m}min", pa.int64()) for m in CHANGE_MIN),
        *(pa.field(f"barrier_pct_change_{m}min", pa.float64()) for m in CHANGE_MIN),
        pa.field("barrier_max_input_ts_ns", pa.int64()),
    ]
)

POINT_COLUMNS = ("observation_id", "asof_ns", "level_tick", "direction_sign")
TAPE_COLUMNS = ("ts_event_ns", "side", "tick", "delta")
TRADE_COLUMNS = ("ts_event_ns", "tick", "size", "aggressor")
STATE_COLUMNS = ("cell_end_ns", *SCALAR_COLUMNS, *LEVEL_COLUMNS)


@dataclass
class _Zone:
    """What the defending side shows near a level at one instant, for every point."""

    depth: np.ndarray
    visible_frac: np.ndarray
    observable: np.ndarray


def _zone(states: StatesAsof, asof: np.ndarray, points: "_Points", p: "_Parameters") -> _Zone:
    at = states.find(asof)
    width = 2 * p.zone_ticks + 1
    ticks, sizes = states.ticks[points.side, at], states.sizes[points.side, at]
    inside = np.abs(ticks - points.level_tick[:, None]) <= p.zone_ticks
    depth = np.where(inside, sizes, 0).sum(axis=1, dtype=np.int64)

    low, high = points.level_tick - p.zone_ticks, points.level_tick + p.zone_ticks
    is_bid = points.side == 0
    deepest = ticks[:, -1]
    seen = np.where(is_bid, high - np.maximum(low, deepest) + 1, np.minimum(high, deepest) - low + 1)
    seen = np.where((sizes > 0).all(axis=1), np.clip(seen, 0, width), width)
    state_ts = states.rows["state_ts_ns"][at]
    seen = np.where(state_ts == NONE, 0, seen)
    frac = seen / width

    cover = states.coverage_ns(asof, p.window_ns, p.gap_ns)
    observable = (
        (frac >= p.min_visible)
        & (state_ts != NONE)
        & (asof - state_ts <= p.gap_ns)
        & (cover * 10 >= p.window_ns * MIN_COVER_TENTHS)
    )
    return _Zone(depth, frac, observable)


@njit(cache=True)
def _kth(tree, k):
    """Index of the k-th smallest (from 0) member of a Fenwick tree of counts."""
    step = 1
    while 2 * step < tree.size:
        step *= 2
    at = 0
    while step > 0:
        if at + step < tree.size and tree[at + step] <= k:
            at += step
            k -= tree[at]
        step //= 2
    return at


@njit([types.void(I64, I64, I64, I64, types.int64, types.float64, types.float64[:, ::1])], cache=True)
def _wall_statistics(rank, values, first, last, least, percentile, out):
    """Median and percentile (linear) of the samples in [first, last), and whether there were enough.

    ``rank`` is each sample's index in the ascending ``values``, -1 for none. Windows must ascend at both
    ends: counts are kept in a Fenwick tree while they slide, so overlapping windows cost little.
    """
    tree = np.zeros(values.size + 1, np.int64)
    low = high = n = 0
    for p in range(first.size):
        while high < last[p]:
            r = rank[high] + 1
            n += r > 0
            while 0 < r < tree.size:
                tree[r] += 1
                r += r & -r
            high += 1
        while low < first[p]:
            r = rank[low] + 1
            n -= r > 0
            while 0 < r < tree.size:
                tree[r] -= 1
                r += r & -r
            low += 1
        if n < least:
            continue
        out[p, 0] = (values[_kth(tree, (n - 1) // 2)] + values[_kth(tree, n // 2)]) / 2
        place = (n - 1) * percentile
        k = int(np.floor(place))
        below, above = values[_kth(tree, k)], values[_kth(tree, min(k + 1, n - 1))]
        out[p, 1] = below + (above - below) * (place - k)
        out[p, 2] = 1.0


def _wall_samples(states: StatesAsof, seconds: np.ndarray, zone_ticks: int) -> dict[int, np.ndarray]:
    """Depth of each side near the mid at whole seconds, -1 where the state is missing or one-sided."""
    at = states.find(seconds)
    ticks, sizes = states.ticks[:, at], states.sizes[:, at]
    both = (sizes[0, :, 0] > 0) & (sizes[1, :, 0] > 0)
    mid2 = ticks[0, :, 0] + ticks[1, :, 0]
    samples = {}
    for code in range(len(SIDES)):
        near = np.abs(2 * ticks[code] - mid2[:, None]) <= 2 * zone_ticks
        samples[code] = np.where(both, np.where(near, sizes[code], 0).sum(axis=1, dtype=np.int64), -1)
    return samples


@dataclass
class _Points:
    asof: np.ndarray
    level_tick: np.ndarray
    side: np.ndarray  # the defending one: 0 bid, 1 ask


@dataclass
class _Parameters:
    window_ns: int
    zone_ticks: int
    gap_ns: int
    min_visible: float


def barrier(
    points: pa.Table,
    tape_batches: Batches,
    states: Batches,
    trades: pa.Table,
    *,
    W_b: float,
    BARRIER_ZONE_ES_TICKS: int,
    R_vac: float,
    R_wall: float,
    F_thresh: float,
    BARRIER_MIN_VISIBLE: float,
    GAP_S: float,
    WEAK_PERCENTILE: float,
    WEAK_LOOKBACK: float,
    grid_ms: int,
) -> pa.Table:
    """Barrier columns of every observation point, from the book and the front trades strictly before it.

    ``points``: `observation_id`, `asof_ns` (a multiple of the grid), `level_tick`, `direction_sign`, in any
    order; the result keeps it. ``tape_batches``: `TAPE_COLUMNS` of `physics.book.book_tape` in order, one
    pass. ``states``: rows of `physics.book.book_states` with the same grid, one pass. ``trades``:
    `ts_event_ns`, `tick`, `size`, `aggressor` of the front contract's session in order.

    Returns `BARRIER_PHYSICS_SCHEMA`: contracts and ratios. The defending side is the ask for direction +1,
    the bid for -1. Where `barrier_observable` is false the state is UNKNOWN and all but the two visibility
    columns are null; `wall_ratio` also below 60 samples or at a zero median; changes also when the earlier
    instant isn't observable. `barrier_max_input_ts_ns` is the time of the last book record before asof, or
    of the last trade of the window if later; null when there is neither.

    Errors: ValueError for unordered input, an as-of, window or second off the grid, or a direction that
    isn't +1 or -1. Memory: the trades, the rows of the states that hold at some instant asked for, and one
    batch of tape. Source: spec market 7.2, readings 21.6 to 21.8.
    """
    p = _Parameters(
        window_ns=window_ns("W_b", W_b, grid_ms),
        zone_ticks=int(BARRIER_ZONE_ES_TICKS),
        gap_ns=round(GAP_S * SECOND_NS),
        min_visible=BARRIER_MIN_VISIBLE,
    )
    if SECOND_NS % (grid_ms * MS_NS):
        raise ValueError(
            f"grid_ms was {grid_ms}, expected a divisor of 1000: wall samples lie on whole seconds"
        )
    lookback_ns = round(WEAK_LOOKBACK * SECOND_NS)
    sign = column(points, "direction_sign", np.int8)
    if (np.abs(sign) != 1).any():
        raise ValueError(
            "direction_sign was neither +1 nor -1 in some row, expected the direction of a touch"
        )
    mine = _Points(
        on_grid(points, grid_ms), column(points, "level_tick", np.int64), (sign > 0).astype(np.int64)
    )

    added, lost = _book_flow(tape_batches, mine, p)
    filled, last_trade_ns = _fills(trades, mine, p)

    instants = [mine.asof - m * 60 * SECOND_NS for m in (0, *CHANGE_MIN)]
    first_g = (mine.asof - lookback_ns) // SECOND_NS + 1
    last_g = mine.asof // SECOND_NS
    seconds = _needed_seconds(first_g, last_g)
    needed = [t for i in instants for t in (i, i - p.window_ns)]
    known = StatesAsof(_unique(np.concatenate([*needed, seconds * SECOND_NS])))
    for batch in batches(states):
        known.update(batch)
    known.finish()

    now, *then = (_zone(known, instant, mine, p) for instant in instants)
    wall = _wall(known, seconds, first_g, last_g, mine.side, p.zone_ticks, WEAK_PERCENTILE)
    return _columns(
        points, mine, known, now, then, wall, added, lost, filled, last_trade_ns, R_vac, R_wall, F_thresh
    )


def _totals(points: _Points, p: _Parameters) -> ZoneTotals:
    """What passed the defending side of every point's zone before its window, and before its asof."""
    edges = np.concatenate([points.asof - p.window_ns, points.asof])
    return ZoneTotals(edges, np.tile(points.level_tick, 2), np.tile(points.side, 2), zone_ticks=p.zone_ticks)


def _window_sums(totals: ZoneTotals) -> tuple[np.ndarray, np.ndarray]:
    """Increases and decreases of every point's window."""
    up, down = (total.reshape(2, -1) for total in totals.finish())
    return up[1] - up[0], down[1] - down[0]


def _book_flow(tape_batches: Batches, points: _Points, p: _Parameters) -> tuple[np.ndarray, np.ndarray]:
    totals = _totals(points, p)
    after = None
    for batch in batches(tape_batches):
        if "sequence" in batch.schema.names:  # a narrow read has its times checked in the pass itself
            after = require_batch_sorted(batch, after=after)
        totals.update(
            column(batch, "ts_event_ns", np.int64),
            column(batch, "side", np.int8),
            column(batch, "tick", np.int32),
            column(batch, "delta", np.int32),
        )
    return _window_sums(totals)


def _fills(trades: pa.Table, points: _Points, p: _Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Contracts that hit the defending side, and the time of the window's last trade or `NONE`."""
    require_batch_sorted(trades)
    ts, aggressor = column(trades, "ts_event_ns", np.int64), column(trades, "aggressor", np.int8)
    tick, size = column(trades, "tick", np.int32), column(trades, "size", np.int32)
    totals = _totals(points, p)
    totals.update(
        ts, (aggressor > 0).astype(np.int8), tick, size * np.abs(aggressor)
    )  # unknown counts nothing
    filled, _ = _window_sums(totals)
    end = np.searchsorted(ts, points.asof, "left")
    has_trade = end > np.searchsorted(ts, points.asof - p.window_ns, "left")
    last = np.full(points.asof.size, NONE, np.int64)
    last[has_trade] = ts[end[has_trade] - 1]
    return filled, last


def _unique(values: np.ndarray) -> np.ndarray:
    """Ascending distinct values; sorting is quicker here than the hash table of `numpy.unique`."""
    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if values.size else values


def _needed_seconds(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Ascending whole seconds of the union of the inclusive ranges [first, last]."""
    if not first.size:
        return np.empty(0, np.int64)
    low = int(first.min())
    steps = np.zeros(int(last.max()) - low + 2, np.int64)
    np.add.at(steps, first - low, 1)
    np.add.at(steps, last - low + 1, -1)
    return np.flatnonzero(np.cumsum(steps)[:-1] > 0) + low


def _wall(
    known: StatesAsof,
    seconds: np.ndarray,
    first_g: np.ndarray,
    last_g: np.ndarray,
    side: np.ndarray,
    zone_ticks: int,
    percentile: float,
) -> np.ndarray:
    """(points, 3): median and percentile of the wall samples, and 1 where there were at least 60."""
    samples = _wall_samples(known, seconds * SECOND_NS, zone_ticks)
    wall = np.zeros((side.size, 3), np.float64)
    for code, of_side in samples.items():
        mine = np.flatnonzero(side == code)
        mine = mine[np.argsort(last_g[mine], kind="stable")]
        values, rank = np.unique(of_side[of_side >= 0], return_inverse=True)
        ranks = np.full(of_side.size, -1, np.int64)
        ranks[of_side >= 0] = rank
        statistics = np.zeros((mine.size, 3), np.float64)
        _wall_statistics(
            ranks,
            values,
            np.searchsorted(seconds, first_g[mine], "left"),
            np.searchsorted(seconds, last_g[mine], "right"),
            MIN_WALL_SAMPLES,
            percentile,
            statistics,
        )
        wall[mine] = statistics
    return wall


def _columns(
    points: pa.Table,
    mine: _Points,
    known: StatesAsof,
    now: _Zone,
    then: list[_Zone],
    wall: np.ndarray,
    added: np.ndarray,
    lost: np.ndarray,
    filled: np.ndarray,
    last_trade_ns: np.ndarray,
    R_vac: float,
    R_wall: float,
    F_thresh: float,
) -> pa.Table:
    canceled = np.maximum(0, lost - filled)
    delta, churn = added - lost, added + lost
    ratio = added / (np.maximum(lost, filled) + EPS)
    median, low_depth, enough = wall[:, 0], wall[:, 1], wall[:, 2] == 1.0
    conditions = [
        (~now.observable, _UNKNOWN),
        ((ratio < R_vac) & (delta < -F_thresh) & (canceled > filled), _VACUUM),
        ((ratio > R_wall) & (delta > F_thresh), _WALL),
        ((delta < -F_thresh) & (filled >= canceled), _CONSUMED),
        ((delta > 0) & (ratio > 1), _ABSORPTION),
        (enough & (now.depth < low_depth), _WEAK),
        ((np.abs(delta) < F_thresh / 2) & (churn > F_thresh), _ABSORPTION),
    ]
    state = np.select([c for c, _ in conditions], [s for _, s in conditions], _NEUTRAL)

    hidden = ~now.observable
    no_wall = hidden | ~enough | (median == 0)
    wall_ratio = now.depth / np.where(no_wall, 1.0, median)
    last_record_ns = known.rows["last_record_ns"][known.find(mine.asof)]
    last_input = np.maximum(last_record_ns, last_trade_ns)

    def whole(values: np.ndarray, null: np.ndarray = hidden) -> pa.Array:
        return nulled(values, null, pa.int64())

    def real(values: np.ndarray, null: np.ndarray = hidden) -> pa.Array:
        return nulled(values, null, pa.float64())

    changes, shares = {}, {}
    for minutes, earlier in zip(CHANGE_MIN, then, strict=True):
        null = hidden | ~earlier.observable
        base = np.where(earlier.depth == 0, 1, earlier.depth)
        changes[f"barrier_delta_{minutes}min"] = whole(now.depth - earlier.depth, null)
        shares[f"barrier_pct_change_{minutes}min"] = real(
            (now.depth - earlier.depth) / base, null | (earlier.depth == 0)
        )
    columns = {
        "observation_id": points.column("observation_id"),
        "barrier_state": pa.array(np.array(STATES, object)[state], pa.string()),
        "barrier_delta_liq": whole(delta),
        "barrier_added": whole(added),
        "barrier_canceled": whole(canceled),
        "barrier_filled": whole(filled),
        "barrier_churn": whole(churn),
        "barrier_depth_in_zone": whole(now.depth),
        "barrier_delta_liq_log": real(np.sign(delta) * np.log1p(np.abs(delta))),
        "barrier_replenishment_ratio": real(ratio),
        "wall_ratio": real(wall_ratio, no_wall),
        "wall_ratio_log": real(np.log1p(wall_ratio), no_wall),
        "barrier_zone_visible_frac": pa.array(now.visible_frac),
        "barrier_observable": pa.array(now.observable),
        **changes,
        **shares,
        "barrier_max_input_ts_ns": whole(last_input, last_input == NONE),
    }
    return pa.table(columns).cast(BARRIER_PHYSICS_SCHEMA)
