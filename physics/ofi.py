"""Order flow imbalance before observation points (spec market 7.5), after Cont, Kukanov and Stoikov 2014."""

import numpy as np
import pyarrow as pa

from physics.asof import NONE, SCALAR_COLUMNS, StatesAsof
from physics.book import SIDES
from physics.columns import Batches, batches, column, nulled
from physics.order import require_batch_sorted
from physics.tape import on_grid
from physics.units import SECOND_NS, window_ns
from physics.zone import ZoneTotals

WINDOWS_S = (30, 60, 120, 300)
MIN_COVER_TENTHS = 9

OFI_SCHEMA = pa.schema(
    [
        pa.field("observation_id", pa.string(), nullable=False),
        *(pa.field(f"ofi_{w}s", pa.int64()) for w in WINDOWS_S),
        *(pa.field(f"ofi_l1_{w}s", pa.int64()) for w in WINDOWS_S),
        *(pa.field(f"ofi_near_level_{w}s", pa.int64()) for w in WINDOWS_S),
        pa.field("ofi_acceleration", pa.float64()),
        pa.field("ofi_max_input_ts_ns", pa.int64()),
    ]
)

POINT_COLUMNS = ("observation_id", "asof_ns", "level_tick")
STATE_COLUMNS = ("cell_end_ns", *SCALAR_COLUMNS, "ofi", "ofi_l1")


def ofi(
    points: pa.Table,
    tape_batches: Batches,
    states: Batches,
    *,
    BARRIER_ZONE_ES_TICKS: int,
    GAP_S: float,
    grid_ms: int,
) -> pa.Table:
    """Order flow imbalance columns of every observation point, from the book strictly before it.

    ``points``: `POINT_COLUMNS`, `asof_ns` a multiple of the grid, in any order; the result keeps it.
    ``tape_batches``: `ts_event_ns`, `side`, `tick`, `delta` of `physics.book.book_tape` in order, one pass.
    ``states``: `STATE_COLUMNS` of `physics.book.book_states` with the same grid, one pass; their levels aren't
    needed.

    Returns `OFI_SCHEMA`: contracts, and contracts/s for `ofi_acceleration` = ofi_30s/30 - ofi_120s/120. A window
    [asof - w, asof) of which valid segments cover less than 0.9 has null in all of its columns, and in what is made
    of it. `ofi_max_input_ts_ns` is the time of the last book record before asof, null when there is none.

    Errors: ValueError for unordered input, or an as-of or window off the grid. Cost: one step a tape row and a cell,
    ten zones a point. Memory: one batch, and the rows of the states that hold at some edge. Exact: integers, but for
    the one division of the acceleration. Source: spec market 7.5, readings 21.6 and 21.7.
    """
    asof = on_grid(points, grid_ms)
    windows = np.array([0, *(window_ns(f"ofi_{w}s", w, grid_ms) for w in WINDOWS_S)])
    edges = asof - windows[:, None]  # (1 + windows, points): asof, and where each window begins

    near = _near_level(
        tape_batches, edges, column(points, "level_tick", np.int64), int(BARRIER_ZONE_ES_TICKS)
    )
    known = StatesAsof(np.unique(edges), levels=False, totals=("ofi", "ofi_l1"))
    for batch in batches(states):
        known.update(batch)
    known.finish()

    at = known.find(edges)
    gap_ns = round(GAP_S * SECOND_NS)
    hidden = [known.coverage_ns(asof, w, gap_ns) * 10 < w * MIN_COVER_TENTHS for w in windows[1:]]
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"observation_id": points.column("observation_id")}
    sums: dict[str, np.ndarray] = {}
    for name, totals in (
        ("ofi", known.rows["ofi"][at]),
        ("ofi_l1", known.rows["ofi_l1"][at]),
        ("ofi_near_level", near),
    ):
        for k, w in enumerate(WINDOWS_S):
            sums[f"{name}_{w}s"] = totals[0] - totals[k + 1]
            columns[f"{name}_{w}s"] = nulled(sums[f"{name}_{w}s"], hidden[k], pa.int64())
    columns["ofi_acceleration"] = nulled(
        (4 * sums["ofi_30s"] - sums["ofi_120s"]) / 120,  # ofi_30s/30 - ofi_120s/120, rounded once
        hidden[WINDOWS_S.index(30)] | hidden[WINDOWS_S.index(120)],
        pa.float64(),
    )
    last_record_ns = known.rows["last_record_ns"][at[0]]
    columns["ofi_max_input_ts_ns"] = nulled(last_record_ns, last_record_ns == NONE, pa.int64())
    return pa.table(columns).cast(OFI_SCHEMA)


def _near_level(
    tape_batches: Batches, edges: np.ndarray, level_tick: np.ndarray, zone_ticks: int
) -> np.ndarray:
    """(1 + windows, points): what bids gained and asks lost in each point's zone, before each of its edges."""
    sides = len(SIDES)
    totals = ZoneTotals(
        np.tile(edges.ravel(), sides),
        np.tile(level_tick, sides * len(edges)),
        np.repeat(np.arange(sides), edges.size),
        zone_ticks=zone_ticks,
    )
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
    up, down = totals.finish()
    bid, ask = (up - down).reshape(sides, *edges.shape)
    return bid - ask
