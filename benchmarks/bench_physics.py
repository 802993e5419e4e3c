"""Kernels against a DuckDB scan of the columns they read, in one process: CPU seconds, ratios, peak memory.

`make_day` writes a synthetic but dense session once (book, trades); the other functions measure on such
files, or on any Parquet files with the same columns. Functions only: a runner decides how often and prints.
"""

import gc
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from physics import kinematics as moves
from physics import ofi as order_flow
from physics.barrier import STATE_COLUMNS, TAPE_COLUMNS, barrier
from physics.book import BOOK_COLUMNS, DEPTH, LEVELS, SIDES, bbo_changes, book_states, book_tape, passes
from physics.outcomes import first_passage
from physics.tape import tape
from physics.touches import detect
from physics.units import MINUTE_NS, SECOND_NS, TICK_MANTISSA

OPEN_NS = 1_765_803_600_000_000_000  # 2025-12-15 13:00 UTC
ROW_GROUP = 122_880
DAY_ROWS = 8_000_000
SECONDS = 8 * 3_600

BARRIER = {
    "W_b": 240,
    "BARRIER_ZONE_ES_TICKS": 8,
    "R_vac": 0.3,
    "R_wall": 1.5,
    "F_thresh": 100,
    "BARRIER_MIN_VISIBLE": 0.5,
    "GAP_S": 60,
    "WEAK_PERCENTILE": 0.20,
    "WEAK_LOOKBACK": 1800,
    "grid_ms": 100,
}
BANDS = {"MONITOR_BAND": 0.25, "TOUCH_BAND": 0.10, "HYSTERESIS": 0.05, "REARM_S": 30}
SWEEPS = {"W_t": 60, "SWEEP_MAX_GAP_MS": 100, "SWEEP_MIN_CONTRACTS": 50, "band_ticks": 20}


@njit
def _simulate(rows, seed, px, sz, action, flags, tick_of_trade):
    """A book 16 deep a side under random adds, cancels and trades; events of one to four records."""
    np.random.seed(seed)
    deep = 16
    size = np.random.randint(20, 90, (2, deep))
    best = np.array([27_199, 27_200])
    left = 0
    for i in range(rows):
        if left == 0:
            left = 1 + (np.random.random() < 0.25) * np.random.randint(1, 4)
        left -= 1
        flags[i] = 128 if left == 0 else 0
        side = np.random.randint(0, 2)
        out = 1 if side == 1 else -1
        if left > 0 and np.random.random() < 0.19:
            action[i] = 84  # T: the state before it
            tick_of_trade[i] = best[side] * 2 + side
        else:
            action[i] = 77
            tick_of_trade[i] = -1
            k = int(np.random.exponential(2.5))
            if k >= 10:
                k = np.random.randint(0, 10)
            change = np.random.randint(1, 26)  # the vendor sends a record only when something changes
            if np.random.random() < size[side, k] / (size[side, k] + 45):
                change = -min(change, size[side, k])
            size[side, k] += change
            if size[side, 0] == 0:  # the best is gone: the book moves away, the other side follows
                for q in range(deep - 1):
                    size[side, q] = size[side, q + 1]
                    size[1 - side, deep - 1 - q] = size[1 - side, deep - 2 - q]
                size[side, deep - 1] = np.random.randint(20, 90)
                size[1 - side, 0] = np.random.randint(5, 30)
                best[0] += out
                best[1] += out
                size[side, 0] = max(size[side, 0], 1)
        for s in range(2):
            at = 0
            k = 0
            while at < 10 and k < deep:
                if size[s, k] > 0:
                    px[i, s * 10 + at] = best[s] + (k if s == 1 else -k)
                    sz[i, s * 10 + at] = size[s, k]
                    at += 1
                k += 1
            while at < 10:
                sz[i, s * 10 + at] = 0
                at += 1


def make_day(folder: Path, *, rows: int = DAY_ROWS, seed: int = 7) -> dict[str, Path]:
    """Write ``mbp10.parquet`` and ``trades.parquet`` of one synthetic session, as bronze encodes them;
    reuse them.

    Decimal prices stored as integers with dictionaries, delta-encoded times, zstd, row groups of 122,880.
    """
    paths = {name: folder / f"{name}-{rows}.parquet" for name in ("mbp10", "trades")}
    if all(p.exists() for p in paths.values()):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ts = OPEN_NS + np.sort(rng.integers(0, SECONDS * SECOND_NS, rows))
    action, flags = np.empty(rows, np.uint8), np.empty(rows, np.uint8)
    trade_tick = np.empty(rows, np.int64)
    px, sz = np.zeros((rows, 20), np.int32), np.zeros((rows, 20), np.int32)
    _simulate(rows, seed, px, sz, action, flags, trade_tick)
    starts = np.concatenate([[True], flags[:-1] == 128])
    first = np.maximum.accumulate(np.where(starts, np.arange(rows), 0))
    ts, sequence = ts[first], first.astype(np.int64)  # the records of an event share its time and number

    letters = pa.array(["M", "T"])
    delta = ["ts_event_ns", "sequence", "ordinal"]
    prices = [f"{s}_px_{k}" for s in SIDES for k in LEVELS]
    schema = None
    for start in range(0, rows, ROW_GROUP):
        part = slice(start, min(start + ROW_GROUP, rows))
        columns = {
            "ts_event_ns": pa.array(ts[part]),
            "sequence": pa.array(sequence[part]),
            "ordinal": pa.array(np.arange(start, part.stop)),
            "action": letters.take(pa.array((action[part] == 84).astype(np.int8))),
            "flags": pa.array(flags[part]),
        }
        for s, side in enumerate(SIDES):
            for what in ("px", "sz"):
                for k in range(DEPTH):
                    at = s * DEPTH + k
                    if what == "sz":
                        columns[f"{side}_sz_{k:02d}"] = pa.array(sz[part, at].copy())
                        continue
                    words = px[part, at].astype(np.int64) * TICK_MANTISSA
                    columns[f"{side}_px_{k:02d}"] = pa.Array.from_buffers(
                        pa.decimal64(18, 9), len(words), [None, pa.py_buffer(words)]
                    )
        table = pa.table({name: columns[name] for name in BOOK_COLUMNS})
        if schema is None:
            schema = table.schema
            writer = pq.ParquetWriter(
                paths["mbp10"],
                schema,
                compression="zstd",
                compression_level=3,
                use_dictionary=["action", "flags", *prices],
                column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
                write_statistics=delta,
                store_decimal_as_integer=True,
            )
        writer.write_table(table, row_group_size=ROW_GROUP)
    writer.close()

    traded = np.flatnonzero(trade_tick >= 0)
    pq.write_table(
        pa.table(
            {
                "ts_event_ns": pa.array(ts[traded]),
                "sequence": pa.array(sequence[traded]),
                "ordinal": pa.array(traded),
                "tick": pa.array((trade_tick[traded] // 2).astype(np.int32)),
                "size": pa.array(rng.geometric(0.2, traded.size).astype(np.int32)),
                "aggressor": pa.array(np.where(trade_tick[traded] % 2 == 1, 1, -1).astype(np.int8)),
            }
        ),
        paths["trades"],
        compression="zstd",
    )
    return paths


def connect(threads: int = 1) -> duckdb.DuckDBPyConnection:
    """An in-memory database whose decimals reach Arrow as 64 bits."""
    con = duckdb.connect()
    con.execute(f"set threads = {threads}; set arrow_output_version = '1.5'")
    return con


def scan(con: duckdb.DuckDBPyConnection, path: Path, columns: Iterable[str]) -> None:
    """Read every value of ``columns`` and keep next to nothing: the yardstick.

    A cheap aggregate that statistics can't answer: a count, or an extreme of integers, would read no value
    at all.
    """
    types = dict(con.execute(f"select column_name, column_type from (describe from '{path}')").fetchall())
    folds = [f'bit_xor("{c}")' if "INT" in types[c] else f'max("{c}")' for c in columns]
    con.execute(f"select {', '.join(folds)} from '{path}'").fetchall()


def stream(
    con: duckdb.DuckDBPyConnection, path: Path, columns: Iterable[str], rows: int = 32_768
) -> pa.RecordBatchReader:
    """``columns`` of a file in its order, as Arrow batches."""
    return con.execute(f"select {', '.join(columns)} from '{path}'").to_arrow_reader(rows)


def cpu(work: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of this process, all threads, of one of ``times`` calls."""
    gc.collect()
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def ratio(work: Callable[[], object], yardstick: Callable[[], object], runs: int = 3) -> dict[str, float]:
    """Median CPU seconds of both over interleaved warm runs, their ratio, and the process's peak memory so
    far. A run of the cheaper side is as many calls as take 0.3 s: on a few milliseconds the clock is all noise.
    """
    yardstick()
    work()
    times = max(1, math.ceil(0.3 / max(cpu(yardstick), 1e-4)))
    pairs = [(cpu(yardstick, times), cpu(work, times)) for _ in range(runs)]
    base, cost = (statistics.median(column) for column in zip(*pairs, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"scan_cpu_s": base, "cpu_s": cost, "ratio": cost / base, "peak_mb": peak}


def bench_book_pass(book: Path, *, runs: int = 3, threads: int = 1) -> dict[str, float]:
    """Tape, states and best quotes in one pass against a scan of the same columns (bar 4.0, aim 3.5; 700 MB)."""
    con = connect(threads)

    def work() -> None:
        for _ in passes(stream(con, book, BOOK_COLUMNS), gap_s=60, grid_ms=100):
            pass

    return ratio(work, lambda: scan(con, book, BOOK_COLUMNS), runs)


def bench_book_tape(book: Path, *, runs: int = 3, threads: int = 1) -> dict[str, float]:
    """The tape alone against a scan of the same columns (bar 4.0)."""
    con = connect(threads)

    def work() -> None:
        for _ in book_tape(stream(con, book, BOOK_COLUMNS), gap_s=60):
            pass

    return ratio(work, lambda: scan(con, book, BOOK_COLUMNS), runs)


def bench_book_states(book: Path, *, runs: int = 3, threads: int = 1) -> dict[str, float]:
    """The states alone against a scan of the same columns."""
    con = connect(threads)

    def work() -> None:
        for _ in book_states(stream(con, book, BOOK_COLUMNS), gap_s=60, grid_ms=100):
            pass

    return ratio(work, lambda: scan(con, book, BOOK_COLUMNS), runs)


def bench_ofi_cells(book: Path, *, days: int = 1, runs: int = 3, threads: int = 1) -> dict[str, float]:
    """Order flow imbalance of ten levels, per second, of ``days`` days that are one after the other the same file,
    against as many scans of its columns (bar 2.5; 600 MB at any number of days).

    The work is the pass that the states come from; its 100 ms cells are added up to seconds.
    """
    con = connect(threads)

    def work() -> None:
        for _ in range(days):
            for cells in book_states(stream(con, book, BOOK_COLUMNS), gap_s=60, grid_ms=100):
                second = cells["cell_end_ns"].to_numpy() // SECOND_NS
                np.add.reduceat(cells["ofi"].to_numpy(), np.flatnonzero(np.diff(second, prepend=-1)))

    def scans() -> None:
        for _ in range(days):
            scan(con, book, BOOK_COLUMNS)

    return ratio(work, scans, runs)


def bench_bbo_changes(book: Path, *, runs: int = 3, threads: int = 1) -> dict[str, float]:
    """The best quotes alone against a scan of the same columns."""
    con = connect(threads)

    def work() -> None:
        for _ in bbo_changes(stream(con, book, BOOK_COLUMNS), gap_s=60):
            pass

    return ratio(work, lambda: scan(con, book, BOOK_COLUMNS), runs)


def write_silver(book: Path, folder: Path) -> dict[str, Path]:
    """``tape.parquet`` and ``states.parquet`` of ``book`` through DuckDB's writer, for the benches below."""
    con = connect()
    out = {"tape": folder / f"{book.stem}.tape.parquet", "states": folder / f"{book.stem}.states.parquet"}
    for name, build in (
        ("tape", lambda: book_tape(stream(con.cursor(), book, BOOK_COLUMNS), gap_s=60)),
        ("states", lambda: book_states(stream(con.cursor(), book, BOOK_COLUMNS), gap_s=60, grid_ms=100)),
    ):
        if out[name].exists():
            continue
        batches = build()
        head = next(batches)
        con.register("built", pa.RecordBatchReader.from_batches(head.schema, _chain(head, batches)))
        con.execute(f"copy built to '{out[name]}' (format parquet, compression zstd, parquet_version v2)")
    return out


def _chain(head: pa.RecordBatch, rest: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    yield head
    yield from rest


def observation_points(trades: Path, count: int = 2_000, seed: int = 3) -> pa.Table:
    """Points at trades of the session, a few ticks from their price, both directions, every stage's
    spread.
    """
    rng = np.random.default_rng(seed)
    table = pq.read_table(trades, columns=["ts_event_ns", "tick"])
    at = np.sort(rng.integers(table.num_rows // 20, table.num_rows, count))
    ts, tick = table["ts_event_ns"].to_numpy()[at], table["tick"].to_numpy()[at]
    return pa.table(
        {
            "observation_id": pa.array([f"{k:032x}" for k in range(count)]),
            "asof_ns": pa.array(ts // 100_000_000 * 100_000_000),
            "level_tick": pa.array((tick + rng.integers(-4, 5, count)).astype(np.int32)),
            "direction_sign": pa.array(rng.choice(np.array([-1, 1], np.int8), count)),
        }
    )


def bench_barrier(
    silver: dict[str, Path], trades: Path, *, points: int = 2_000, runs: int = 3, threads: int = 1
) -> dict[str, float]:
    """All barrier columns of ``points`` points against a scan of the whole tape (bar 2.5; 1 GB).

    The work reads the tape, the states and the trades; the yardstick only the tape's six columns.
    """
    con = connect(threads)
    where = observation_points(trades, points)
    tape_columns = ("ts_event_ns", "sequence", "ordinal", "side", "tick", "delta")

    def work() -> None:
        barrier(
            where,
            stream(con.cursor(), silver["tape"], TAPE_COLUMNS),
            stream(con.cursor(), silver["states"], STATE_COLUMNS),
            stream(con.cursor(), trades, ("ts_event_ns", "tick", "size", "aggressor")).read_all(),
            **BARRIER,
        )

    return ratio(work, lambda: scan(con, silver["tape"], tape_columns), runs)


def bench_ofi(
    silver: dict[str, Path], trades: Path, *, points: int = 2_000, runs: int = 3, threads: int = 1
) -> dict[str, float]:
    """All order flow columns of ``points`` points against a scan of the whole tape (bar 2.5).

    The work reads the tape and the cells of the states; the yardstick the tape's six columns, as the barrier's.
    """
    con = connect(threads)
    where = observation_points(trades, points)
    tape_columns = ("ts_event_ns", "sequence", "ordinal", "side", "tick", "delta")

    def work() -> None:
        order_flow.ofi(
            where,
            stream(con.cursor(), silver["tape"], TAPE_COLUMNS),
            stream(con.cursor(), silver["states"], order_flow.STATE_COLUMNS),
            BARRIER_ZONE_ES_TICKS=8,
            GAP_S=60,
            grid_ms=100,
        )

    return ratio(work, lambda: scan(con, silver["tape"], tape_columns), runs)


def bench_kinematics(
    silver: dict[str, Path], trades: Path, *, points: int = 2_000, runs: int = 3, threads: int = 1
) -> dict[str, float]:
    """All kinematics columns of ``points`` points against a scan of the whole tape, which they don't read."""
    con = connect(threads)
    where = observation_points(trades, points)
    tape_columns = ("ts_event_ns", "sequence", "ordinal", "side", "tick", "delta")

    def work() -> None:
        moves.kinematics(where, stream(con, silver["states"], moves.STATE_COLUMNS), grid_ms=100)

    return ratio(work, lambda: scan(con, silver["tape"], tape_columns), runs)


def bench_tape(trades: Path, *, points: int = 2_000, runs: int = 3, threads: int = 1) -> dict[str, float]:
    """All tape columns of ``points`` points against a scan of the trades (bar 2, with the sweeps)."""
    con = connect(threads)
    where = observation_points(trades, points)
    columns = ("ts_event_ns", "sequence", "ordinal", "tick", "size", "aggressor")

    def work() -> None:
        tape(where, stream(con, trades, columns).read_all(), **SWEEPS)

    return ratio(work, lambda: scan(con, trades, columns), runs)


def bench_touches(trades: Path, *, runs: int = 3, threads: int = 1) -> dict[str, float]:
    """Touches of 20 levels, each with a row a minute, against a scan of the trades."""
    con = connect(threads)
    middle = int(np.median(pq.read_table(trades, columns=["tick"])["tick"].to_numpy()))
    minutes = OPEN_NS + np.arange(SECONDS // 60) * MINUTE_NS
    rows = [(f"ROUND_{middle + 20 * k}", middle + 20 * k) for k in range(-10, 10)]
    levels = pa.table(
        {
            "level_id": pa.array([name for name, _ in rows for _ in minutes]),
            "level_kind": pa.array(np.full(len(rows) * minutes.size, 8, np.int8)),
            "level_tick": pa.array(np.repeat(np.array([t for _, t in rows], np.int32), minutes.size)),
            "valid_from_ns": pa.array(np.tile(minutes, len(rows))),
            "valid_to_ns": pa.array(np.tile(minutes + MINUTE_NS, len(rows))),
        }
    )

    def work() -> None:
        prints = stream(con, trades, ("ts_event_ns", "tick")).read_all()
        detect(levels, prints, emit_from_ns=0, emit_until_ns=2**62, **BANDS)

    return ratio(work, lambda: scan(con, trades, ("ts_event_ns", "tick")), runs)


def bench_outcomes(trades: Path, *, points: int = 2_000, runs: int = 3, threads: int = 1) -> dict[str, float]:
    """Labels of ``points`` points, eight minutes ahead, against a scan of the trades."""
    con = connect(threads)
    where = observation_points(trades, points)
    where = pa.table(
        {
            "observation_id": where["observation_id"],
            "label_start_ns": where["asof_ns"],
            "ts_ns": where["asof_ns"],
            "level_tick": where["level_tick"],
            "direction_sign": where["direction_sign"],
            "theta1_ticks": pa.array(np.full(points, 40)),
            "theta2_ticks": pa.array(np.full(points, 80)),
            "window_limit_ns": pa.array(np.full(points, 2**62)),
        }
    )

    def work() -> None:
        prints = stream(con, trades, ("ts_event_ns", "tick")).read_all()
        first_passage(where, prints, LOOKFORWARD_MINUTES=8, GAP_S=60)

    return ratio(work, lambda: scan(con, trades, ("ts_event_ns", "tick")), runs)
