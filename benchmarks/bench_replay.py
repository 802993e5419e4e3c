"""Full replay of stop events, one more hour on top of it, and the same fold by pandas and Polars.

The floor is DuckDB: the columns that the replay reads, sorted by the fold's key and written, as one statement. Replays
run in processes of their own, after dbt has parsed, so that CPU seconds (all threads) and peak memory are theirs. Both
sides have one thread: while another one works alone, as on a date of one row group, DuckDB's Python client asks for
tasks without a pause, and that is nobody's work.
"""

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import duckdb

from benchmarks import replay_world
from benchmarks.bench_build import _peak_mb
from benchmarks.rivals import replay_columns
from lake.paths import PROJECT_DIR

FINAL = ("stop_executions", "stop_executions_quarantine", "replay_anomalies")
HOUR_EVENTS = 10_000
HOURS = (21, 22, 23)
THREADS = 1
_FLOOR = """
copy (
    select
        cast(event_id as uuid) as event_id, event_seq, stream_seq, occurred_at, exchange_time, operation_id, client_id,
        symbol, event_type, trigger_type, trigger_price, stop_price, quantity, side, execution_token, payload_json,
        exchange_order_id, fill_price, slippage_pct, source, retry_count, error_message, ingested_at, loaded_at,
        source_file, row_hash
    from read_parquet('{events}', hive_partitioning = true)
    order by client_id, execution_token, event_seq, event_id
) to '{out}' (format parquet, compression zstd, compression_level 3, parquet_version v2, row_group_size 122880)
"""


def full(folder: Path, events: int) -> dict[str, float]:
    """A replay of ``events`` from bronze to the published datasets, and of a tenth, against sort and write."""
    whole, part = folder / "whole", folder / "part"
    for root, count in ((whole, events), (part, events // 10)):
        shutil.rmtree(root, ignore_errors=True)
        replay_world.make(root, count)
    floor = floor_cpu_s(whole, folder)
    nothing = replayed(folder / "nothing")
    small, large = replayed(part), replayed(whole)
    floor = min(floor, floor_cpu_s(whole, folder))  # what others do on the machine only adds to it
    grown = (large["cpu_s"] - nothing["cpu_s"]) / (small["cpu_s"] - nothing["cpu_s"])
    return {
        "cpu_s": large["cpu_s"],
        "part_cpu_s": small["cpu_s"],
        "floor_cpu_s": floor,
        "ratio": large["cpu_s"] / floor,
        "peak_mb": large["peak_mb"],
        "part_peak_mb": small["peak_mb"],
        "exponent": math.log(grown) / math.log(rows(whole) / rows(part)),
    }


def hour(folder: Path) -> dict[str, float]:
    """One more hour of 10,000 events on top of both lakes that `full` left, three times: medians, each hour of one lake
    followed by that of the other."""
    lakes = ("part", "whole")
    cpu_s: dict[str, list[float]] = {name: [] for name in lakes}
    peak_mb: dict[str, list[float]] = {name: [] for name in lakes}
    executions = round(HOUR_EVENTS / replay_world.EVENTS_PER_EXECUTION)
    for number, at in enumerate(HOURS):
        for name in lakes:
            root = folder / name
            last = max(path.name[5:] for path in (root / "lake" / "bronze" / "events").glob("date=*"))
            first = 10**9 + number * executions
            replay_world.add_hour(root, date.fromisoformat(last), executions, first, hour=at)
            done = replayed(root)
            cpu_s[name].append(done["cpu_s"])
            peak_mb[name].append(done["peak_mb"])
    spent, peak = ({name: statistics.median(v) for name, v in found.items()} for found in (cpu_s, peak_mb))
    return {
        "hour_cpu_s": spent["whole"],
        "hour_part_cpu_s": spent["part"],
        "hour_cpu_ratio": spent["whole"] / spent["part"],
        "hour_memory_ratio": peak["whole"] / peak["part"],
        "hour_peak_mb": peak["whole"],
    }


def rivals(folder: Path) -> dict[str, float]:
    """CPU seconds and peak MB of the fold alone, over staged events of the larger lake that `full` left: ours, then
    each rival, which has to give the same executions (`rivals.replay_columns`)."""
    root = folder / "whole"
    found: dict[str, float] = {}
    for name in ("tickhouse", "polars", "pandas"):
        out = folder / f"{name}.parquet"
        done = _json_of("-m", f"benchmarks.rivals.replay_with_{name}", str(root), str(out))
        if unequal := replay_columns.differences(folder / "tickhouse.parquet", out):
            raise ValueError(f"executions by {name} differed from ours in {unequal}, expected in nothing")
        found |= {f"{name}_cpu_s": done["cpu_s"], f"{name}_peak_mb": done["peak_mb"]}
    return found


def replayed(root: Path) -> dict[str, float]:
    """What `dbt run` of the replay takes on this lake, after parsing."""
    root.mkdir(parents=True, exist_ok=True)
    return _json_of("-m", "benchmarks.bench_replay", root=root)


def floor_cpu_s(root: Path, folder: Path) -> float:
    out = folder / "floor.parquet"
    events = root / "lake" / "bronze" / "events" / "*" / "*.parquet"
    spill = folder / "spill"
    con = duckdb.connect(config={"threads": THREADS, "memory_limit": "2GB", "temp_directory": str(spill)})
    con.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
    before = time.process_time()
    con.execute(_FLOOR.format(events=events, out=out))
    spent = time.process_time() - before
    out.unlink()
    return spent


def rows(root: Path) -> int:
    markers = (root / "lake" / "bronze" / "events").glob("date=*/_metadata/commit-*.json")
    return sum(json.loads(path.read_text())["rows"] for path in markers)


def _json_of(*command: str, root: Path | None = None) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, *command],
        env={
            **os.environ,
            **dict.fromkeys(("TICKHOUSE_THREADS", "POLARS_MAX_THREADS", "OMP_NUM_THREADS"), str(THREADS)),
            **({"LAKE_ROOT": str(root)} if root else {}),
        },
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _replay_here() -> None:
    from dbt.cli.main import dbtRunner  # noqa: PLC0415

    place = ["--target-path", str(Path(os.environ["LAKE_ROOT"]) / "target")]
    manifest = dbtRunner().invoke(["-q", "parse", *place]).result
    cpu, wall = time.process_time(), time.perf_counter()
    done = dbtRunner(manifest=manifest).invoke(
        ["-q", "run", "--select", *(f"+{name}" for name in FINAL), *place]
    )
    if not done.success:
        raise RuntimeError(f"dbt run failed: {done.exception or [r.message for r in done.result or []]}")
    spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, "peak_mb": _peak_mb()}
    print(json.dumps(spent))


if __name__ == "__main__":
    _replay_here()
