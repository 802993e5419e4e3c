"""One day's list of pieces by our kernels and by Polars, pandas and ClickHouse: CPU seconds of each in one process."""

import gc
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.bench_physics import connect, scan
from benchmarks.rivals import PIECES, day
from physics.book import BOOK_COLUMNS

# ClickHouse takes a fixed number of Newton's steps.
TOLERANCE = {"ClickHouse": 1e-7}
COLUMNS = {
    "book": BOOK_COLUMNS,
    "trades": ("ts_event_ns", "sequence", "ordinal", "tick", "size", "aggressor"),
    "spy": ("ts_event_ns", "ordinal", "price"),
    "options": (
        *("ts_event_ns", "ordinal", "option_symbol", "strike_milli", "right", "price", "size", "aggressor"),
    ),
}


def engines() -> dict[str, type]:
    from benchmarks.rivals import ours, with_chdb, with_pandas, with_polars  # noqa: PLC0415

    return {
        "ours": ours.Ours,
        "Polars": with_polars.Polars,
        "pandas": with_pandas.Pandas,
        "ClickHouse": with_chdb.ClickHouse,
    }


def measure(folder: Path, *, share: float = 1.0, runs: int = 3) -> dict[str, object]:
    """Median CPU seconds of each piece by each engine, interleaved, after one warm round in which their numbers are
    compared; and of a scan of all the columns that the pieces read. Raises ValueError where two engines differ.
    """
    inputs = day.make(folder, share)
    classes = engines()
    expected: dict[str, dict[str, np.ndarray]] = {}
    for name, engine in classes.items():
        of = engine(inputs)
        for piece in PIECES:
            found = getattr(of, piece)()
            _compare(name, piece, found, expected.setdefault(piece, found))
    seconds: dict[str, dict[str, list[float]]] = {n: {p: [] for p in PIECES} for n in classes}
    scans = []
    for _ in range(runs):
        for name, engine in classes.items():
            of = engine(inputs)
            for piece in PIECES:
                seconds[name][piece].append(_cpu(getattr(of, piece)))
            del of
        con = connect(2)
        scans.append(_cpu(lambda con=con: [scan(con, getattr(inputs, n), c) for n, c in COLUMNS.items()]))
    cpu = {n: {p: statistics.median(s) for p, s in of.items()} for n, of in seconds.items()}
    total = {n: sum(of.values()) for n, of in cpu.items()}
    scanned = statistics.median(scans)
    return {
        "cpu_s": cpu,
        "total_cpu_s": total,
        "over_ours": {n: t / total["ours"] for n, t in total.items() if n != "ours"},
        "scan_cpu_s": scanned,
        "ours_over_scan": total["ours"] / scanned,
    }


def _cpu(work: object) -> float:
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def _compare(engine: str, piece: str, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    tolerance = TOLERANCE.get(engine, 1e-8) if piece == "greeks" else 1e-8
    for name, values_of_ours in expected.items():
        values, wanted = np.asarray(found[name], np.float64), np.asarray(values_of_ours, np.float64)
        if values.shape != wanted.shape or (np.isnan(values) != np.isnan(wanted)).any():
            raise ValueError(f"{piece} by {engine}: {name} had other rows than ours")
        worst = np.nanmax(np.abs(values - wanted)) / max(np.nanmax(np.abs(wanted)), 1e-300)
        if worst > tolerance:
            raise ValueError(
                f"{piece} by {engine}: {name} differed from ours by {worst:.2g} of its largest value"
            )
