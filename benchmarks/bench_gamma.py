"""Dealer gamma by strike, and near 2,000 observation points, against a DuckDB scan of the columns that they read."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.bench_options import ES_SPY, EXPIRY_NS, OPEN_NS, RISK_FREE, ROWS, make_day
from benchmarks.bench_physics import connect, ratio, scan
from physics.exposure import exposure
from physics.fuel import gamma_flows
from physics.option_greeks import option_greeks
from physics.units import MS_NS

POINTS = 2_000
IS_CALL = "cast(\"right\" = 'C' as tinyint) as is_call"
EXPOSURE_READS = f"ts_event_ns, strike_milli, {IS_CALL}, size, dealer_gamma"
FLOWS_READ = "ts_event_ns, strike_milli, dealer_gamma"


def write_greeks(path: Path, rows: int = ROWS) -> np.ndarray:
    """`option_greeks` of a drawn session as the lake writes it; returns the ES ticks."""
    day = make_day(rows)
    greeks = option_greeks(**day, expiry_ns=EXPIRY_NS, RISK_FREE=RISK_FREE, SIGMA_DEFAULT=0.2)
    con = duckdb.connect()
    con.register("greeks", greeks)
    con.execute(
        f"copy greeks to '{path}' (format parquet, compression zstd, compression_level 3, parquet_version v2, "
        "row_group_size 122880)"
    )
    return day["trades"]["tick"].to_numpy()


def bench(scratch: Path, *, rows: int = ROWS, runs: int = 3, threads: int = 1) -> dict[str, dict[str, float]]:
    """Reading and kernel, as the models do it, each against the scan of its own columns."""
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "option_greeks.parquet"
    ticks = write_greeks(path, rows)
    con = connect(threads)

    def read(columns: str, where: str = "true") -> pa.Table:
        return con.sql(f"select {columns} from '{path}' where {where}").to_arrow_table()

    def scanned(*columns: str) -> Callable[[], None]:
        return lambda: scan(con, path, columns)

    rng = np.random.default_rng(3)
    asof = OPEN_NS + rng.integers(0, EXPIRY_NS - OPEN_NS, POINTS) // (100 * MS_NS) * (100 * MS_NS)
    points = pa.table(
        {
            "observation_id": [f"point {i}" for i in range(POINTS)],
            "asof_ns": asof,
            "level_tick": rng.choice(ticks, POINTS),
            "es_spy_ratio": np.full(POINTS, ES_SPY),
        }
    )
    minutes = {"session_start_ns": OPEN_NS, "session_end_ns": EXPIRY_NS}
    near = {"session_start_ns": OPEN_NS, "W_g": 60, "FUEL_STRIKE_RANGE": 2.0}
    return {
        "exposure": ratio(
            lambda: exposure(read(EXPOSURE_READS, "dealer_gamma is not null"), **minutes, W_wall=300),
            scanned("ts_event_ns", "strike_milli", "right", "size", "dealer_gamma"),
            runs,
        ),
        "flows": ratio(
            lambda: gamma_flows(points, read(FLOWS_READ), **near),
            scanned("ts_event_ns", "strike_milli", "dealer_gamma"),
            runs,
        ),
    }
