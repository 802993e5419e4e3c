"""What `dbt build` costs: a whole day, more and more days, and once more when nothing is new.

Every build runs in a process of its own over a link to the same bronze, so that its peak memory is its own.
"""

import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from benchmarks.bench_physics import connect
from lake.paths import PROJECT_DIR

NOTHING = ("2018-01-01", "2018-01-02")
"""A span before all data: what a build costs that builds nothing."""


def landed(root: Path, days: tuple[date, ...], share: float, seed: int) -> Path:
    """A root with bronze of simulated ``days``: futures, options and stocks, at ``share`` of a full day's events.

    Made in a process of its own, whose memory is none of the bench's.
    """
    make = f"""
import sys
from datetime import date
from pathlib import Path
from ingest.dbn import ingest
from ingest.polygon import landing
from ingest.simulator.market import simulate
root = Path(sys.argv[1])
days = [date.fromisoformat(d) for d in sys.argv[2:]]
simulate(root, days, scale={share}, seed={seed}, profile="default")
reports = [ingest(root, [root / "raw" / "dbn"]), landing.ingest(root, [root / "raw" / "polygon"])]
refused = [file.line() for report in reports for file in report.files if not file.ok]
if refused:
    sys.exit("; ".join(refused))
"""
    subprocess.run(
        [sys.executable, "-c", make, str(root), *(d.isoformat() for d in days)], cwd=PROJECT_DIR, check=True
    )
    return root


def whole_day(root: Path, folder: Path, *, runs: int = 1) -> dict[str, float]:
    """One landed session from bronze to ``touch_features.v2_0``, against a scan of the columns of its bronze.

    CPU seconds and peak memory are of the build's process after dbt has parsed, tests included.
    """
    built = [_built(root, folder / f"day_{run}", select="+touch_features.v2_0") for run in range(runs)]
    scans = [_scan_cpu_s(root) for _ in range(max(runs, 2))][1:]  # after one that warms
    cpu_s, scan_s = statistics.median(b["cpu_s"] for b in built), statistics.median(scans)
    return {
        "cpu_s": cpu_s,
        "wall_s": statistics.median(b["wall_s"] for b in built),
        "scan_cpu_s": scan_s,
        "ratio": cpu_s / scan_s,
        "peak_mb": max(b["peak_mb"] for b in built),
    }


def days(
    root: Path, folder: Path, counts: tuple[int, ...] = (0, 1, 2, 4, 8), runs: int = 3
) -> dict[str, float]:
    """A whole build of the first n sessions of ``root``'s bronze: how time and memory grow from 1 to the last count.

    CPU seconds are less those of a build with nothing to do, so that fixed costs do not flatter the exponent. Of the
    builds up to one day, which are small, the median of ``runs`` counts.
    """
    sessions = _sessions(root)
    measured: dict[int, list[dict[str, float]]] = {}
    for n in counts:
        # sessions that the simulated span holds whole, after the first, which has no history to read
        span = NOTHING if n == 0 else (sessions[1], [*sessions, "9999-12-31"][1 + n])
        for run in range(runs if n <= 1 else 1):
            found = _built(root, folder / f"days_{n}_{run}", span=span)
            measured.setdefault(n, []).append(found)
    cpu = {n: statistics.median(m["cpu_s"] for m in found) for n, found in measured.items()}
    peak = {n: statistics.median(m["peak_mb"] for m in found) for n, found in measured.items()}
    nothing, first, last = counts[0], counts[1], counts[-1]
    grown = (cpu[last] - cpu[nothing]) / (cpu[first] - cpu[nothing])
    return {
        **{f"cpu_s_{n}": cpu[n] for n in counts},
        **{f"peak_mb_{n}": peak[n] for n in counts},
        "exponent": math.log(grown) / math.log(last / first),
        "memory_ratio": peak[last] / peak[first],
    }


def again(root: Path, folder: Path, *, runs: int = 3) -> dict[str, float]:
    """`dbt run` and `dbt build` with nothing new against `dbt parse`: CPU seconds of whole processes.

    What dbt has parsed is kept between them, as it is between the builds of a day; ``parse_cold_s`` is without that.
    """
    lake = _linked(root, folder / "built_again")
    cold = _dbt_cpu_s(lake, "parse")
    _dbt_cpu_s(lake, "build")
    found: dict[str, list[float]] = {}
    for _ in range(max(runs, 3)):
        for command in ("parse", "run", "build"):
            found.setdefault(command, []).append(_dbt_cpu_s(lake, command))
    parse, run, build = (statistics.median(found[command]) for command in ("parse", "run", "build"))
    return {
        "parse_cold_s": cold,
        "parse_s": parse,
        "run_s": run,
        "build_s": build,
        "run_over_parse": run / parse,
        "build_over_parse": build / parse,
        "run_over_cold_parse": run / cold,
        "build_over_cold_parse": build / cold,
    }


def _linked(root: Path, lake: Path) -> Path:
    """A lake of nothing but a link to another's bronze."""
    shutil.rmtree(lake, ignore_errors=True)
    (lake / "lake").mkdir(parents=True)
    (lake / "raw").symlink_to(root.resolve() / "raw")
    (lake / "lake" / "bronze").symlink_to(root.resolve() / "lake" / "bronze")
    return lake


def _built(
    root: Path, lake: Path, *, select: str | None = None, span: tuple[str, str] | None = None
) -> dict[str, float]:
    """What a build over ``root``'s bronze took; the lake goes."""
    _linked(root, lake)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_build", json.dumps({"select": select, "span": span})],
        env={**os.environ, "LAKE_ROOT": str(lake)},
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(lake)
    if done.returncode:
        raise RuntimeError(f"the build failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _build_here(select: str | None, span: tuple[str, str] | None) -> None:
    from dbt.cli.main import dbtRunner  # noqa: PLC0415

    place = ["--target-path", str(Path(os.environ["LAKE_ROOT"]) / "target")]
    manifest = dbtRunner().invoke(["-q", "parse", *place]).result
    narrowed = (
        ["--vars", json.dumps(dict(zip(("start_date", "end_date"), span, strict=True)))] if span else []
    )
    cpu, wall = time.process_time(), time.perf_counter()
    done = dbtRunner(manifest=manifest).invoke(
        ["-q", "build", *(["--select", select] if select else []), *narrowed, *place]
    )
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    if not done.success:
        faults = [
            f"{r.node.name}: {r.message}" for r in done.result or [] if str(r.status) in ("error", "fail")
        ]
        raise RuntimeError(f"dbt build failed: {done.exception or faults}")
    print(json.dumps({"cpu_s": cpu_s, "wall_s": wall_s, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    """Most memory that this process held. Not ``ru_maxrss``, which remembers the parent's as well."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def _dbt_cpu_s(lake: Path, *command: str) -> float:
    """CPU seconds of one dbt process from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from dbt.cli.main import cli; cli()"),
            *("-q", *command, "--target-path", str(lake / "target")),
        ],
        env={**os.environ, "LAKE_ROOT": str(lake)},
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"dbt {command[0]} failed: {done.stdout[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _scan_cpu_s(root: Path) -> float:
    """CPU seconds of reading every value of every bronze file once."""
    from lake import bronze  # noqa: PLC0415

    by_source: dict[str, list[Path]] = {}
    for file in bronze.visible_files(root):
        by_source.setdefault(file.source_name, []).append(file.path)
    con = connect(2)
    began = time.process_time()
    for paths in by_source.values():
        listed = f"read_parquet({[str(p) for p in paths]}, hive_partitioning = false)"
        types = con.execute(f"select column_name, column_type from (describe from {listed})").fetchall()
        folds = [f'bit_xor("{c}")' if "INT" in t and "[" not in t else f'max("{c}")' for c, t in types]
        con.execute(f"select {', '.join(folds)} from {listed}").fetchall()
    return time.process_time() - began


def _sessions(root: Path) -> list[str]:
    from lake import bronze, calendar  # noqa: PLC0415

    files = [f for f in bronze.visible_files(root) if f.source_name == "futures_trades"]
    return sorted({s.date for f in files for s in calendar.load().overlapping(f.ts_min_ns, f.ts_max_ns)})


if __name__ == "__main__":
    _build_here(**json.loads(sys.argv[1]))
