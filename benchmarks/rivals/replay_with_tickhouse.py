"""The project's own fold of staged events, its compiled models on one DuckDB, narrowed to the columns of the
comparison. `python -m benchmarks.rivals.replay_with_tickhouse ROOT OUT`, of a lake whose replay left its compiled SQL
in `target`."""

import json
import sys
import time
from pathlib import Path

import duckdb

from benchmarks.bench_build import _peak_mb
from benchmarks.rivals.replay_columns import GIVES, staged

STEPS = (
    "int_stop_events__tokens",
    "int_stop_events__spread",
    "int_stop_events__contested",
    "int_stop_executions__contested",
)


def main(root: str, out: str) -> None:
    # One thread, as the others (`bench_replay.THREADS`), and no limit of memory, as they have none.
    con = duckdb.connect(config={"threads": 1})
    con.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
    con.execute("attach ':memory:' as lake; use lake; create schema silver")
    con.execute(
        f"create view silver.stg_execution__stop_events as from read_parquet({staged(root)}, hive_partitioning = true)"
    )
    compiled = Path(root, "target", "compiled", "tickhouse", "models", "silver", "execution", "entities")
    for name in STEPS:
        con.execute(f"create table silver.{name} as {(compiled / f'{name}.sql').read_text()}")
    fold = (compiled / "int_stop_executions__folded.sql").read_text()
    folded = f"select {', '.join(GIVES)} from ({fold}\n)"
    con.execute(
        f"copy ({folded} order by client_id, execution_token) "
        f"to '{out}' (format parquet, compression zstd, compression_level 3)"
    )


if __name__ == "__main__":
    before = time.process_time()  # imports are no part of the fold, on no side
    main(*sys.argv[1:])
    print(json.dumps({"cpu_s": time.process_time() - before, "peak_mb": _peak_mb()}))
