"""`make bench`: every figure the project promises, as a table on stdout and as JSON in benchmarks/results/.

Each bench runs in a process of its own (its peak memory is its own) and compares both sides in that one process:
medians of interleaved warm runs, CPU seconds of all threads. Exit code 1 when a bar is missed.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from lake.paths import PROJECT_DIR

RESULTS = PROJECT_DIR / "benchmarks" / "results"
DAY = date(2025, 10, 7)
FULL_DAY_ROWS = 8_000_000
SEED = 7


@dataclass(frozen=True)
class Figure:
    """One measured figure against its bar; ``limit`` says on which side of the bar it has to be."""

    bench: str
    what: str
    value: float
    bar: float
    limit: str = "at most"

    @property
    def ok(self) -> bool:
        return self.value <= self.bar if self.limit == "at most" else self.value >= self.bar


Measured = tuple[list[Figure], dict[str, object]]


def simulated(scratch: Path, share: float, days: tuple[date, ...] = (DAY,)) -> Path:
    """A root with simulated DBN files of ``days`` at ``share`` of a full day's events."""
    from ingest.simulator.market import simulate  # noqa: PLC0415

    root = scratch / f"simulated_{share:g}_{len(days)}"
    simulate(root, days, scale=share, seed=SEED, profile="default")
    return root


def ingest(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_ingest  # noqa: PLC0415

    work = scratch / "ingest"
    days = simulated(scratch, share, (DAY, DAY + timedelta(days=1))) / "raw" / "dbn" / "mbp10"
    first, second = sorted(sorted(days.glob("*.dbn.zst"), key=lambda p: p.stat().st_size)[-2:])
    found = bench_ingest.measure(first, work, repeats=runs)
    both = bench_ingest.two_processes((first, second), work, repeats=runs)
    peak = bench_ingest.peak_memory(first, work) / 1e6
    longer = bench_ingest.repeated(first, 8, work / first.name)
    longer_peak = bench_ingest.peak_memory(longer, work) / 1e6
    millions = found["rows"] / 1e6
    over = found["cpu_over_decompress_and_write"]
    return [
        Figure("ingest", "mbp-10 DBN → bronze, CPU against decompress + pyarrow's write", over, 1.15),
        Figure("ingest", "the same, CPU against DBNStore.to_parquet", found["cpu_ratio"], 0.30),
        Figure("ingest", "the same, bytes an event", found["ours_bytes_per_row"], 17),
        Figure("ingest", f"the same, peak memory of {millions:.1f} M events, MB", peak, 300),
        Figure("ingest", f"the same, peak memory of {8 * millions:.1f} M events, MB", longer_peak, 300),
        Figure("ingest", "2 processes on 2 days against 1, CPU an event", both["cpu_ratio"], 1.1),
        Figure("ingest", "the same, events a second", both["throughput"], 1.5, "at least"),
    ], {**found, "peak_mb": peak, "longer_peak_mb": longer_peak, "two_processes": both}


def polygon(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_polygon  # noqa: PLC0415

    rows = max(int(bench_polygon.ROWS * share), 100_000)
    found = bench_polygon.measure(scratch / "polygon", rows=rows, repeats=runs)
    peaks = {n: bench_polygon.peak_memory(scratch / "polygon", rows=n * rows) / 1e6 for n in (1, 3)}
    return [
        Figure(
            "polygon",
            "option csv.gz → bronze, CPU against DuckDB's read_csv, sort, COPY",
            found["cpu_ratio"],
            1.3,
        ),
        Figure(
            "polygon", "the same, peak memory of three times the rows against one", peaks[3] / peaks[1], 1.3
        ),
    ], {**found, "peak_mb": peaks}


def simulator(scratch: Path, share: float, runs: int) -> Measured:
    import shutil  # noqa: PLC0415
    import statistics  # noqa: PLC0415

    from ingest.simulator.market import simulate  # noqa: PLC0415

    simulate(scratch / "warm", [DAY], scale=0.002, seed=SEED, profile="default")
    rates = []
    for run in range(runs):
        root = scratch / f"simulator_{run}"
        began = time.process_time()
        files = simulate(root, [DAY], scale=share / 4, seed=SEED, profile="default")
        seconds = time.process_time() - began
        rates.append(sum(f.record_count for f in files if f.schema == "mbp-10") / seconds / 1e6)
        shutil.rmtree(root)
    rate = statistics.median(rates)
    return [Figure("simulator", "million mbp-10 records per CPU second, as DBN", rate, 0.5, "at least")], {
        "rates": rates
    }


def _physics_day(scratch: Path, share: float) -> dict[str, Path]:
    """A synthetic day's records and trades, made in a process of its own: its memory is none of the bench's."""
    from benchmarks import bench_physics  # noqa: PLC0415

    folder, rows = scratch / "day", int(FULL_DAY_ROWS * share)
    make = "import sys; from pathlib import Path; from benchmarks.bench_physics import make_day; "
    make += "make_day(Path(sys.argv[1]), rows=int(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", make, str(folder), str(rows)], cwd=PROJECT_DIR, check=True)
    return bench_physics.make_day(folder, rows=rows)


def book_tape(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_physics  # noqa: PLC0415

    day = _physics_day(scratch, share)
    tape = bench_physics.bench_book_tape(day["mbp10"], runs=runs)
    both = bench_physics.bench_book_pass(day["mbp10"], runs=runs)
    return [
        Figure("book_tape", "book tape, CPU against a scan of the same columns", tape["ratio"], 4.0),
        Figure("book_tape", "tape and states in one pass, the same", both["ratio"], 4.0),
        Figure("book_tape", "peak memory, MB", both["peak_mb"], 700),
    ], {"tape": tape, "tape_and_states": both}


def barrier(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_physics  # noqa: PLC0415

    day = _physics_day(scratch, share)
    found = bench_physics.bench_barrier(
        bench_physics.write_silver(day["mbp10"], scratch / "day"), day["trades"], runs=runs
    )
    return [
        Figure("barrier", "barrier of 2,000 points, CPU against a scan of the tape", found["ratio"], 2.5),
        Figure("barrier", "peak memory, MB", found["peak_mb"], 1000),
    ], found


def order_flow(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_physics  # noqa: PLC0415

    day = _physics_day(scratch, share)
    one = bench_physics.bench_ofi_cells(day["mbp10"], runs=runs)
    three = bench_physics.bench_ofi_cells(day["mbp10"], days=3, runs=1)
    silver = bench_physics.write_silver(day["mbp10"], scratch / "day")
    ofi = bench_physics.bench_ofi(silver, day["trades"], runs=runs)
    moves = bench_physics.bench_kinematics(silver, day["trades"], runs=runs)
    return [
        Figure(
            "order_flow", "OFI of 10 levels a second, CPU against a scan of its columns", one["ratio"], 2.5
        ),
        Figure("order_flow", "the same, peak memory, MB", one["peak_mb"], 600),
        Figure("order_flow", "the same of three days, peak memory, MB", three["peak_mb"], 600),
        Figure("order_flow", "OFI of 2,000 points, CPU against a scan of the tape", ofi["ratio"], 2.5),
        Figure(
            "order_flow", "kinematics of 2,000 points, CPU against a scan of the tape", moves["ratio"], 1.0
        ),
    ], {"cells": one, "cells_of_three_days": three, "points": ofi, "kinematics": moves}


def tape(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_physics  # noqa: PLC0415

    found = bench_physics.bench_tape(_physics_day(scratch, share)["trades"], runs=runs)
    return [
        Figure("tape", "tape of 2,000 points, CPU against a scan of the trades", found["ratio"], 2.0)
    ], found


def options(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_options  # noqa: PLC0415

    found = bench_options.bench(bench_options.make_day(int(bench_options.ROWS * share)), runs=runs)
    return [
        Figure(
            "options", "implied volatility + greeks, CPU µs an option and thread", found["us_per_option"], 0.5
        ),
        Figure(
            "options",
            "the same in vectorised NumPy, CPU against the kernel",
            found["rival_over_ours"],
            2.0,
            "at least",
        ),
    ], found


def gamma(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_gamma  # noqa: PLC0415

    found = bench_gamma.bench(scratch / "gamma", rows=int(bench_gamma.ROWS * share), runs=runs)
    exposure, flows = found["exposure"]["ratio"], found["flows"]["ratio"]
    return [
        Figure(
            "gamma", "dealer gamma by strike and minute, CPU against a scan of its columns", exposure, 2.0
        ),
        Figure("gamma", "gamma flows near 2,000 points, CPU against a scan of their columns", flows, 3.5),
    ], found


def bars(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_lake  # noqa: PLC0415

    trades = bench_lake.trades_of_a_day(_physics_day(scratch, share)["trades"], scratch / "bars.parquet")
    found = bench_lake.bench_bars(trades, runs=runs)
    return [
        Figure("bars", "bars of 1, 60 and 120 s, CPU against a scan of the trades", found["ratio"], 3.0)
    ], found


def whole_day(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_build  # noqa: PLC0415

    root = bench_build.landed(scratch / "whole_day", (DAY,), share, SEED)
    found = bench_build.whole_day(root, scratch)
    print(f"the whole day against a scan of its inputs: {found['ratio']:.1f}", file=sys.stderr)
    return [Figure("whole_day", "a day from bronze to v2.0, peak memory, MB", found["peak_mb"], 1500)], found


def days(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_build  # noqa: PLC0415

    weekdays = tuple(d for n in range(14) if (d := date(2025, 10, 6) + timedelta(n)).weekday() < 5)
    root = bench_build.landed(scratch / "days", weekdays, share / 8, SEED)
    found = bench_build.days(root, scratch, runs=runs)
    return [
        Figure("days", "build of 1 → 8 days, time exponent (fixed cost taken off)", found["exponent"], 1.05),
        Figure("days", "the same, peak memory of 8 against 1", found["memory_ratio"], 1.2),
    ], found


def again(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_build  # noqa: PLC0415

    weekdays = tuple(DAY + timedelta(n) for n in range(4))
    found = bench_build.again(
        bench_build.landed(scratch / "again", weekdays, share / 40, SEED), scratch, runs=runs
    )
    return [
        Figure("again", "dbt run with nothing new, CPU against dbt parse", found["run_over_parse"], 2.0),
        Figure("again", "dbt build with nothing new, CPU against dbt parse", found["build_over_parse"], 4.0),
    ], found


def rivals(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_rivals  # noqa: PLC0415

    found = bench_rivals.measure(scratch / "rivals", share=share, runs=runs)
    print(_table(found["cpu_s"]), file=sys.stderr)
    print(f"ours against a scan of all inputs: {found['ours_over_scan']:.2f}", file=sys.stderr)
    return [
        Figure("rivals", f"a day's pieces in {name}, CPU against ours", over, 1.0, "at least")
        for name, over in found["over_ours"].items()
    ], found


def _table(cpu: dict[str, dict[str, float]]) -> str:
    """CPU seconds by piece and engine, and their sums."""
    lines = [f"{'CPU s':<12}" + "".join(f"{name:>12}" for name in cpu)]
    for piece in next(iter(cpu.values())):
        lines.append(f"{piece:<12}" + "".join(f"{of[piece]:>12.3f}" for of in cpu.values()))
    lines.append(f"{'all':<12}" + "".join(f"{sum(of.values()):>12.3f}" for of in cpu.values()))
    return "\n".join(lines)


def commit(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_commit  # noqa: PLC0415

    found = bench_commit.measure(scratch / "commit", runs=runs)
    what = "one commit into 100,000 partitions against one into 100"
    return [
        Figure("commit", f"{what}, time", found["wall_ratio"], 1.2),
        Figure("commit", "the same, CPU", found["cpu_ratio"], 1.2),
        Figure("commit", "the same, bytes written", found["bytes_ratio"], 1.2),
    ], found


def windows(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_windows  # noqa: PLC0415

    rows = max(int(300_000 * share), 50_000)
    found = bench_windows.measure(scratch / "windows", rows=rows, repeats=runs)
    peaks = {n: bench_windows.peak_memory(scratch / "windows", rows=n * rows) / 1e6 for n in (1, 4)}
    return [
        Figure(
            "windows",
            "NDJSON → bronze, CPU against json.loads + pyarrow's write",
            found["ndjson_ratio"],
            2.5,
        ),
        Figure("windows", f"the same, peak memory of {rows:,} events of one hour, MB", peaks[1], 300),
        Figure("windows", f"the same, peak memory of {4 * rows:,} events of one hour, MB", peaks[4], 300),
        Figure(
            "windows",
            "aggTrades csv → bronze, CPU against DuckDB's read, sort, COPY",
            found["csv_ratio"],
            1.3,
        ),
    ], {**found, "peak_mb": peaks}


def retrieval(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_retrieval  # noqa: PLC0415

    found = bench_retrieval.bench(rows=int(share * bench_retrieval.ROWS), runs=runs)
    return [
        Figure("retrieval", "one query of 100,000 x 50, time against faiss flat", found["ratio"], 1.5),
        Figure("retrieval", "queries whose neighbours differ from faiss", found["queries_that_differ"], 0),
    ], found


def prediction(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_prediction  # noqa: PLC0415

    found = bench_prediction.bench()
    return [
        Figure("prediction", "one row of 200 trees x 50, time against LightGBM", found["ratio"], 0.5),
        Figure("prediction", "rows that aren't equal to the bit", found["bits_differ"], 0),
    ], found


def train(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_training  # noqa: PLC0415

    found = bench_training.bench(scratch, rows=int(share * bench_training.ROWS), runs=runs)
    return [
        Figure("train", "1 M x 50 from Parquet to a model, CPU against LightGBM", found["cpu_ratio"], 1.05),
        Figure("train", "the same, peak memory", found["memory_ratio"], 1.2),
    ], found


def compare(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_compare  # noqa: PLC0415

    found = bench_compare.bench(scratch)
    return [Figure("compare", "100 experiments side by side, CPU against --help", found["ratio"], 1.5)], found


def stop_features(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_stop_features  # noqa: PLC0415

    stops = max(int(bench_stop_features.STOPS * share), 10_000)
    days = max(int(bench_stop_features.DAYS * share), 30)
    found = bench_stop_features.bench(scratch / "stop_features", stops=stops, days=days, runs=runs)
    return [
        Figure(
            "stop_features",
            f"features of {stops:,} stops, CPU against a scan of the columns they read",
            found["ratio"],
            4.0,
        )
    ], found


def replay(scratch: Path, share: float, runs: int) -> Measured:
    from benchmarks import bench_replay, replay_world  # noqa: PLC0415

    events = max(int(10_000_000 * share), 10 * replay_world.EVENTS_PER_DAY)
    found = bench_replay.full(scratch / "replay", events)
    found |= bench_replay.rivals(scratch / "replay") | bench_replay.hour(scratch / "replay")
    polars, pandas = (found[f"{name}_cpu_s"] / found["tickhouse_cpu_s"] for name in ("polars", "pandas"))
    return [
        Figure("replay", f"{events:,} events, CPU against sorting and writing them", found["ratio"], 4.0),
        Figure("replay", "the same, peak MB", found["peak_mb"], 2000),
        Figure("replay", "exponent from a tenth of the events", found["exponent"], 1.05),
        Figure("replay", "the same fold by Polars, CPU against ours", polars, 1.0, "at least"),
        Figure("replay", "the same fold by pandas, CPU against ours", pandas, 1.0, "at least"),
        Figure("replay", "an hour on top of all and of a tenth, CPU", found["hour_cpu_ratio"], 1.2),
        Figure("replay", "the same, memory", found["hour_memory_ratio"], 1.2),
    ], found


BENCHES: dict[str, Callable[[Path, float, int], Measured]] = {
    f.__name__: f
    for f in (
        simulator,
        ingest,
        polygon,
        windows,
        book_tape,
        barrier,
        order_flow,
        tape,
        options,
        gamma,
        bars,
        train,
        retrieval,
        prediction,
        compare,
        rivals,
        whole_day,
        days,
        again,
        commit,
        stop_features,
        replay,
    )
}


def run_here(name: str, scratch: Path, share: float, runs: int) -> None:
    figures, details = BENCHES[name](scratch, share, runs)
    print(json.dumps({"figures": [asdict(f) for f in figures], "details": details}, default=str))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="benches to run (default: all)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of a full day's 8 million book records (default 1)"
    )
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each side (default 3)")
    parser.add_argument("--here", metavar="SCRATCH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.names[0], Path(options.here), options.share, options.runs)
        return 0

    import tempfile  # noqa: PLC0415

    figures: list[Figure] = []
    details: dict[str, object] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tickhouse-bench-") as scratch:
        for name in options.names or BENCHES:
            print(f"bench: {name}", file=sys.stderr)
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "benchmarks", name, "--here", scratch),
                    *("--share", str(options.share), "--runs", str(options.runs)),
                ],
                cwd=PROJECT_DIR,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                print(f"bench {name} failed; its error stands above", file=sys.stderr)
                failed.append(name)
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            figures += [Figure(**f) for f in result["figures"]]
            details[name] = result["details"]

    for f in figures:
        print(f"{f.what:<62} {f.value:>10.3f}   {f.limit} {f.bar:g}   {'ok' if f.ok else 'MISSED'}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    record = {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {
            "cpus": os.cpu_count(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
        "versions": {
            p: importlib.metadata.version(p) for p in ("duckdb", "pyarrow", "numba", "databento", "dbt-core")
        },
        "share": options.share,
        "runs": options.runs,
        "figures": [{**asdict(f), "ok": f.ok} for f in figures],
        "details": details,
    }
    out = RESULTS / f"bench-{record['at'].replace(':', '')}.json"
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"kept as {out.relative_to(PROJECT_DIR)}", file=sys.stderr)
    return 0 if all(f.ok for f in figures) and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
