"""The pieces by the project's own kernels, fed by DuckDB as the models feed them."""

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.bench_physics import connect, stream
from benchmarks.rivals import day as d
from physics import barrier, book, fuel, kinematics, option_greeks, ratio, tape

BARS = """
with numbered as (select *, row_number() over () as position from '{trades}'),
bars_1 as (
    select ts_event_ns // 1000000000 as start_s, min_by(tick, position) as o, max(tick) as h, min(tick) as l,
        max_by(tick, position) as c, sum(size)::bigint as v, sum(tick::bigint * size)::bigint as n,
        sum(size * aggressor)::bigint as s, count(*) as k
    from numbered group by all
),
bars_60 as (
    select start_s // 60 * 60 as start_s, min_by(o, bars_1.start_s) as o, max(h) as h, min(l) as l,
        max_by(c, bars_1.start_s) as c, sum(v)::bigint as v, sum(n)::bigint as n, sum(s)::bigint as s,
        sum(k)::bigint as k
    from bars_1 group by bars_1.start_s // 60 * 60
),
bars_120 as (
    select start_s // 120 * 120 as start_s, min_by(o, bars_60.start_s) as o, max(h) as h, min(l) as l,
        max_by(c, bars_60.start_s) as c, sum(v)::bigint as v, sum(n)::bigint as n, sum(s)::bigint as s,
        sum(k)::bigint as k
    from bars_60 group by bars_60.start_s // 120 * 120
)
select * from (
    select 1 as w, * from bars_1 union all select 60, * from bars_60 union all select 120, * from bars_120
) order by w, start_s
"""


class Ours:
    def __init__(self, day: d.Day) -> None:
        self.day = day
        self.con: duckdb.DuckDBPyConnection = connect(threads=1)
        self.changes: list[pa.RecordBatch] = []
        self.states: list[pa.RecordBatch] = []
        self.prints = pa.table({})

    def _table(self, path: object, *columns: str) -> pa.Table:
        listed = ", ".join(f'"{name}"' for name in columns)  # `right` is a word of SQL's own
        return self.con.execute(f"select {listed} from '{path}'").to_arrow_table()

    def _trades(self) -> pa.Table:
        return self._table(self.day.trades, "ts_event_ns", "sequence", "ordinal", "tick", "size", "aggressor")

    def bars(self) -> dict[str, np.ndarray]:
        table = self.con.execute(BARS.format(trades=self.day.trades)).to_arrow_table()
        return {name: table[name].to_numpy() for name in table.column_names}

    def book(self) -> dict[str, np.ndarray]:
        records = stream(self.con, self.day.book, book.BOOK_COLUMNS)
        for rows in book.passes(records, gap_s=60, grid_ms=100, want_bbo=False):
            self.changes.append(_kept(rows.tape))
            self.states.append(_kept(rows.states))
        states, changes = pa.Table.from_batches(self.states), pa.Table.from_batches(self.changes)
        ofi, ofi_1 = states["ofi"].to_numpy(), states["ofi_l1"].to_numpy()
        delta, tick = changes["delta"].to_numpy().astype(np.int64), changes["tick"].to_numpy()
        moved = (ofi != 0) | (ofi_1 != 0)
        return {
            "cell": states["cell_end_ns"].to_numpy()[moved],
            "ofi": ofi[moved],
            "ofi_1": ofi_1[moved],
            "changes": np.array([delta.size, delta.sum(), np.abs(delta).sum(), (delta * tick).sum()]),
        }

    def barrier(self) -> dict[str, np.ndarray]:
        found = barrier.barrier(
            self.day.points, self.changes, self.states, self._trades(), W_b=d.BARRIER_S,
            BARRIER_ZONE_ES_TICKS=d.ZONE_TICKS, R_vac=0.3, R_wall=1.5, F_thresh=100, BARRIER_MIN_VISIBLE=0.0001,
            GAP_S=60, WEAK_PERCENTILE=0.2, WEAK_LOOKBACK=d.WALL_S, grid_ms=100,
        )  # fmt: skip
        added, delta = (found[f"barrier_{name}"].to_numpy() for name in ("added", "delta_liq"))
        return {
            "added": added,
            "lost": added - delta,
            "depth": found["barrier_depth_in_zone"].to_numpy(),
            "wall_ratio": found["wall_ratio"].to_numpy(),
        }

    def tape(self) -> dict[str, np.ndarray]:
        found = tape.tape(
            self.day.points, self._trades(), W_t=d.TAPE_S, SWEEP_MAX_GAP_MS=100, SWEEP_MIN_CONTRACTS=50,
            band_ticks=d.BAND_TICKS,
        )  # fmt: skip
        names = ("tape_buy_vol", "tape_sell_vol", "tape_price_slope_60s", "tape_price_slope_15s")
        return {name: found[name].to_numpy() for name in names}

    def ratio(self) -> dict[str, np.ndarray]:
        spy = self._table(self.day.spy, "ts_event_ns", "ordinal", "price")
        found = ratio.live_ratio(
            spy,
            self._trades(),
            globex_open_ns=d.OPEN_NS,
            premarket_open_ns=d.OPEN_NS,
            globex_close_ns=d.CLOSE_NS,
        )
        return {name: found[name].to_numpy() for name in ("asof_ns", "es_spy_ratio")}

    def greeks(self) -> dict[str, np.ndarray]:
        prints = self._table(self.day.options, *option_greeks.PRINT_COLUMNS)
        ratios = pa.table({"asof_ns": [d.OPEN_NS], "es_spy_ratio": [d.ES_SPY]})
        self.prints = option_greeks.option_greeks(
            prints, self._trades(), ratios, expiry_ns=d.EXPIRY_NS, RISK_FREE=d.RISK_FREE, SIGMA_DEFAULT=0.2
        )
        solved = np.asarray(self.prints["iv_source"].to_pandas() == "solved")
        return {name: np.where(solved, self.prints[name].to_numpy(), np.nan) for name in ("iv", "gamma")}

    def gamma(self) -> dict[str, np.ndarray]:
        found = fuel.gamma_flows(
            self.day.points, self.prints, session_start_ns=d.OPEN_NS, W_g=60, FUEL_STRIKE_RANGE=d.STRIKE_RANGE
        )
        names = {"session": "flow_session", "60": "flow_wg", "300": "flow_5m", "1200": "flow_20m"}
        return {name: found[column].to_numpy() for name, column in names.items()}

    def kinematics(self) -> dict[str, np.ndarray]:
        found = kinematics.kinematics(self.day.points, self.states, grid_ms=100)
        names = [f"{what}_{w}min" for w in d.FIT_MIN for what in ("velocity", "acceleration", "jerk")]
        return {name: found[name].to_numpy() for name in names}


def _kept(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A copy of its rows alone: a batch of a pass stands on buffers of its largest size, which a stream gives back."""
    return pa.concat_batches([batch, batch.slice(0, 0)])
