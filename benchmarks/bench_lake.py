"""What a model in SQL costs: bars against a scan."""

import os
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
