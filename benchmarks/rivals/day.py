"""The inputs of one day, as Parquet in the columns that staging gives, and 2,000 observation points."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import bench_options, bench_physics
from physics.units import MINUTE_NS, SECOND_NS, TICK_POINTS

ES_SPY = 10.03
RISK_FREE = 0.045
POINTS = 2_000
RECORDS, OPTIONS, SPY = 8_000_000, 1_000_000, 400_000
OPEN_NS = bench_physics.OPEN_NS
CLOSE_NS = OPEN_NS + bench_physics.SECONDS * SECOND_NS
EXPIRY_NS = CLOSE_NS + 2 * MINUTE_NS
ZONE_TICKS, BAND_TICKS = 8, 20
BARRIER_S, TAPE_S, WALL_S = 240, 60, 1_800
STRIKE_RANGE = 2.0
GAMMA_S = (60, 300, 1_200)  # beside the session's
FIT_MIN = (1, 3, 5, 10, 20)
GRID_NS = 100_000_000


@dataclass
class Day:
    """Paths of the four inputs, and the points as columns."""

    book: Path
    trades: Path
    spy: Path
    options: Path
    points: pa.Table

    def point(self, name: str) -> np.ndarray:
        return self.points[name].to_numpy()


def make(folder: Path, share: float = 1.0, seed: int = 7) -> Day:
    """Write the day at ``share`` of its full counts, or take what an earlier call wrote."""
    made = bench_physics.make_day(folder, rows=int(RECORDS * share), seed=seed)
    rng = np.random.default_rng(seed)
    trades = pq.read_table(made["trades"])
    ts, tick = trades["ts_event_ns"].to_numpy(), trades["tick"].to_numpy()
    spy = _prints(rng, int(SPY * share))
    spot = tick[np.searchsorted(ts, spy) - 1] * TICK_POINTS / ES_SPY
    spy_path = _write(
        folder / f"spy-{share:g}.parquet",
        {
            "ts_event_ns": spy,
            "ordinal": np.arange(spy.size),
            "price": np.round(spot + rng.normal(0, 0.01, spy.size), 2),
        },
    )
    return Day(
        made["mbp10"],
        made["trades"],
        spy_path,
        _options(folder, share, rng, ts, tick),
        _points(rng, ts, tick),
    )


def _prints(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.sort(rng.integers(OPEN_NS + MINUTE_NS, CLOSE_NS, rows))


def _options(
    folder: Path, share: float, rng: np.random.Generator, trade_ns: np.ndarray, tick: np.ndarray
) -> Path:
    ts = _prints(rng, int(OPTIONS * share))
    spot = tick[np.searchsorted(trade_ns, ts) - 1] * TICK_POINTS / ES_SPY
    strike = np.round(spot + rng.normal(0, 4, ts.size))
    is_call = rng.random(ts.size) < 0.5
    years = (EXPIRY_NS - ts) / bench_options.YEAR_NS
    sigma = 0.12 + 0.02 * np.abs(strike - spot) / 4
    value = bench_options._value(spot, strike, years, is_call, sigma)
    symbols = [f"O:SPY251215{'PC'[int(c)]}{int(k) * 1000:08d}" for c, k in zip(is_call, strike, strict=True)]
    return _write(
        folder / f"options-{share:g}.parquet",
        {
            "ts_event_ns": ts,
            "ordinal": np.arange(ts.size),
            "option_symbol": pa.array(symbols),
            "strike_milli": (strike * 1000).astype(np.int32),
            "right": pa.array(np.where(is_call, "C", "P")),
            "price": np.maximum(0.01, np.round(value, 2)),
            "size": rng.integers(1, 50, ts.size).astype(np.int32),
            "aggressor": rng.choice(np.array([-1, 1], np.int8), ts.size),
        },
    )


def _points(rng: np.random.Generator, trade_ns: np.ndarray, tick: np.ndarray) -> pa.Table:
    """Near the price, from half an hour after the open on, so that every window is full."""
    asof = np.sort(rng.integers(OPEN_NS + 31 * MINUTE_NS, CLOSE_NS, POINTS)) // GRID_NS * GRID_NS
    level = tick[np.searchsorted(trade_ns, asof) - 1] + rng.integers(-4, 5, POINTS)
    return pa.table(
        {
            "observation_id": [f"{i:032x}" for i in range(POINTS)],
            "asof_ns": asof,
            "level_tick": level.astype(np.int32),
            "direction_sign": rng.choice(np.array([-1, 1], np.int8), POINTS),
            "es_spy_ratio": np.full(POINTS, ES_SPY),
        }
    )


def _write(path: Path, columns: dict) -> Path:
    if not path.exists():
        pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=bench_physics.ROW_GROUP)
    return path
