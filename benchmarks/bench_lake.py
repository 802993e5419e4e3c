"""What a build costs: bars against a scan, and how cost grows with the days."""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench_physics import connect, ratio, scan
from lake.paths import PROJECT_DIR

BAR_COLUMNS = ("contract", "ts_event_ns", "sequence", "ordinal", "tick", "size", "aggressor")


def bench_bars(trades: Path, *, runs: int = 3) -> dict[str, float]:
    """The compiled SQL of ``ohlcv`` over one session's trades against a scan of the same columns (bar 3.0).

    ``trades``: Parquet of ``stg_futures__trades``. Both sides run on one thread and read every value.
    """
    con = connect(1)
    con.execute("create schema silver")
    con.execute(
        "create view silver.stg_futures__trades as select *, date '2025-01-02' as session_date, "
        f"date '2025-01-02' as date from read_parquet('{trades}')"
    )
    sql = compiled("ohlcv").replace('"memory".', "")  # the database of the target `lint`
    return ratio(
        lambda: con.execute(f"create or replace temp table bars as {sql}"),
        lambda: scan(con, trades, BAR_COLUMNS),
        runs,
    )


def trades_of_a_day(trades: Path, out: Path) -> Path:
    """The kernels' trades as ``stg_futures__trades`` holds them: one contract more."""
    connect().execute(
        "copy (select 'ESZ5' as contract, ts_event_ns, sequence, ordinal, tick, size, aggressor "
        f"from read_parquet('{trades}')) "
        f"to '{out}' (format parquet, compression zstd, parquet_version v2)"
    )
    return out


def compiled(model: str) -> str:
    """SQL of a model as dbt compiles it."""
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 (takes seconds, and only this bench needs it)

    target = PROJECT_DIR / "target" / "bench"
    os.environ.setdefault("LAKE_ROOT", str(target))
    done = dbtRunner().invoke(
        ["-q", "compile", "-s", model, "--target", "lint", "--target-path", str(target)]
    )
    if not done.success:
        raise RuntimeError(f"dbt compile of {model} failed: {done.exception}")
    return next((target / "compiled").rglob(f"{model}.sql")).read_text()


def bench_days(
    root: Path, folder: Path, days: tuple[int, ...] = (0, 1, 2, 4), runs: int = 3
) -> dict[str, float]:
    """A whole build of the first n sessions of ``root``'s bronze: time exponent from 1 to 4, memory.

    Each build runs in a process of its own over a link to the same bronze. CPU seconds are of the build alone, after
    dbt has parsed, less those of a build with nothing to do, so that fixed costs do not flatter the exponent; memory
    is the process's peak.
    """
    measured: dict[int, list[dict[str, float]]] = {n: [] for n in days}
    for run in range(runs):
        for n in days:
            lake = folder / f"days_{n}_{run}"
            (lake / "lake").mkdir(parents=True)
            (lake / "raw").symlink_to(root / "raw")
            (lake / "lake" / "bronze").symlink_to(root / "lake" / "bronze")
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.bench_lake", str(n)],
                env={**os.environ, "LAKE_ROOT": str(lake)},
                cwd=PROJECT_DIR,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"build of {n} days failed: {done.stderr[-2000:]}")
            measured[n].append(json.loads(done.stdout.splitlines()[-1]))
    cpu = {n: statistics.median(m["cpu_s"] for m in found) for n, found in measured.items()}
    peak = {n: statistics.median(m["peak_mb"] for m in found) for n, found in measured.items()}
    first, last = days[1], days[-1]
    grown = (cpu[last] - cpu[0]) / (cpu[first] - cpu[0])
    return {
        **{f"cpu_s_{n}": cpu[n] for n in days},
        **{f"peak_mb_{n}": peak[n] for n in days},
        "exponent": math.log(grown) / math.log(last / first),
        "memory_ratio": peak[last] / peak[first],
    }


def _build_days(count: int) -> None:
    from dbt.cli.main import dbtRunner  # noqa: PLC0415

    from lake import bronze, calendar  # noqa: PLC0415
    from lake.paths import lake_root  # noqa: PLC0415

    root = lake_root()
    files = [f for f in bronze.visible_files(root) if f.source_name == "futures_trades"]
    sessions = sorted({s.date for f in files for s in calendar.load().overlapping(f.ts_min_ns, f.ts_max_ns)})
    # sessions that the simulated span holds whole, after the first, which has no history to read
    start, end = sessions[1], [*sessions, "9999-12-31"][1 + count]
    if count == 0:
        start, end = "2018-01-01", "2018-01-02"  # before all data: what a build costs that builds nothing
    common = ["-q", "--target-path", str(root / "target")]
    manifest = dbtRunner().invoke([*common, "parse"]).result
    began = time.process_time()
    done = dbtRunner(manifest=manifest).invoke(
        [
            "-q",
            "build",
            "--target-path",
            str(root / "target"),
            "--vars",
            json.dumps({"start_date": start, "end_date": end}),
        ]
    )
    cpu_s = time.process_time() - began
    if not done.success:
        faults = [
            f"{r.node.name}: {r.message}" for r in done.result or [] if str(r.status) in ("error", "fail")
        ]
        raise RuntimeError(f"dbt build failed: {done.exception or faults}")
    print(json.dumps({"cpu_s": cpu_s, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    _build_days(int(sys.argv[1]))
