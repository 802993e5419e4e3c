"""Features of stop_outcome at many stops, against a DuckDB scan of what they are made of.

    .venv/bin/python -m benchmarks.bench_stop_features --stops 100000

Inputs, as the lake holds them: minute bars of `SYMBOLS` over two years (market_bars_1m), stop triggers (stop_triggers),
and the events that end attempts (int_stop_events__terminals).

Work: everything from there to the features of 5.1 at each stop, once: the statistics of the bars before the minutes of
all triggers (int_stop_triggers__windows), the runs of failures (int_stop_failures__runs), and the compiled SQL of
`feat_stop_triggers`, whose result is read with one aggregate a column.

Scan: the columns that the work reads, and no others, of the three relations, with one aggregate each
(`bench_physics.scan`): `ratio`. Beside it `ratio_to_all_columns`, to a scan of all their columns, which is kinder.
One thread, one process, all from Parquet.
"""

import argparse
import json
import tempfile
from pathlib import Path

import duckdb

from benchmarks.bench_lake import compiled
from benchmarks.bench_physics import connect, ratio, scan
from physics.bar_windows import bar_windows
from physics.failure_runs import failure_runs

STOPS = 1_000_000
ROW_GROUP = 122_880
DAYS = 731
SYMBOLS = ("ADAUSDC", "BNBUSDC", "BTCUSDC", "DOGEUSDC", "ETHUSDC", "LINKUSDC", "SOLUSDC", "XRPUSDC")
CLIENTS = 50
START = "timestamptz '2023-01-01 00:00:00+00'"
PARQUET = (
    f"(format parquet, compression zstd, compression_level 3, parquet_version v2, row_group_size {ROW_GROUP})"
)

BARS = ("symbol", "open_time", "close", "volume", "quote_volume")
TRIGGERS = (
    *("date", "client_id", "execution_token", "operation_id", "symbol", "stop_price", "entry_price"),
    *("level_event_seq", "event_time", "level_known_at", "entry_placed_at", "entry_time"),
)
FEATURES = (
    *("date", "client_id", "execution_token", "symbol", "operation_id", "event_time", "stop_distance_pct"),
    *(
        "time_to_trigger_sec",
        "time_in_position_sec",
        "volatility_15m",
        "volume_24h",
        "volume_24h_base",
        "hour_of_day",
    ),
    *("day_of_week", "consecutive_failures_1h", "available_at", "source_max_event_seq"),
)
TERMINALS = ("client_id", "symbol", "is_failure", "event_seq", "occurred_at", "available_at", "unusable_from")


def write_inputs(folder: Path, stops: int = STOPS, days: int = DAYS) -> dict[str, Path]:
    """Bars, triggers and terminals of random stops, sorted and encoded as the lake writes them. A stop ends seconds
    after its trigger; three of ten fail."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}-{stops}-{days}.parquet" for name in ("bars", "triggers", "terminals")}
    if all(p.exists() for p in paths.values()):
        return paths
    con = duckdb.connect(config={"threads": 1})
    con.execute("set TimeZone = 'UTC'; select setseed(0.7)")
    listed = ", ".join(f"'{s}'" for s in SYMBOLS)
    con.execute(
        f"""
        copy (
            select symbol, open_time, open_time + interval '1 minute' as bar_end, close as open, close as high,
                close as low, close, volume, cast(close * volume as decimal(20, 8)) as quote_volume,
                cast(100 * random() as bigint) as trade_count, 'kline' as bar_source
            from (
                select symbol, {START} + minute * interval '1 minute' as open_time,
                    cast(round(100 + 10 * sin(minute / 5000.0) + random(), 2) as decimal(20, 8)) as close,
                    cast(round(20 * random() * random(), 5) as decimal(20, 8)) as volume
                from (select unnest([{listed}]) as symbol), range({days * 1440}) as minutes (minute)
            )
            order by symbol, open_time
        ) to '{paths["bars"]}' {PARQUET}
        """
    )
    con.execute(
        f"""
        create table stops as
        select row_number() over () as number, 1 + cast(floor({CLIENTS} * random()) as bigint) as client_id,
            [{listed}][1 + cast(floor({len(SYMBOLS)} * random()) as bigint)] as symbol,
            {START} + to_microseconds(cast({days * 86_400} * 1e6 * random() as bigint)) as event_time,
            cast(round(90 + 10 * random(), 2) as decimal(20, 8)) as stop_price,
            random() < 0.3 as is_failure, sha256(number::varchar) as execution_token
        from range({stops})
        """
    )
    con.execute(
        f"""
        copy (
            select cast(event_time as date) as date, client_id, execution_token, uuid() as execution_id,
                number // 2 as operation_id, symbol, 'SELL' as side,
                case when number % 3 = 0 then 'TAKE_PROFIT' else 'STOP_LOSS' end as trigger_type, 'ws' as source,
                cast(stop_price * 0.999 as decimal(20, 8)) as trigger_price,
                cast(round(random(), 5) as decimal(20, 8)) as quantity, stop_price,
                cast(stop_price * 1.02 as decimal(20, 8)) as entry_price,
                cast(900 * random() as bigint) as price_age_ms,
                cast(round(9 * random(), 4) as decimal(10, 4)) as spread_bps_at_trigger,
                cast(round(90000 * random(), 2) as decimal(20, 8)) as top_depth_quote, 3 * number as level_event_seq,
                event_time, event_time + interval '20 milliseconds' as level_known_at,
                event_time - to_seconds(cast(90000 * random() as bigint)) as entry_placed_at,
                event_time - to_seconds(cast(80000 * random() as bigint)) as entry_time
            from stops order by client_id, execution_token
        ) to '{paths["triggers"]}' {PARQUET}
        """
    )
    con.execute(
        f"""
        copy (
            select client_id, symbol, uuid() as event_id, is_failure, 3 * number + 2 as event_seq,
                event_time + interval '2 seconds' as occurred_at, event_time + interval '3 seconds' as available_at,
                cast(null as timestamptz) as unusable_from
            from stops order by client_id, symbol, event_time
        ) to '{paths["terminals"]}' {PARQUET}
        """
    )
    con.close()
    return paths


def bench(scratch: Path, *, stops: int = STOPS, days: int = DAYS, runs: int = 3) -> dict[str, float]:
    """CPU of all features at ``stops`` stops over the scan of their inputs, and what the parts take."""
    paths = write_inputs(scratch, stops, days)
    con = connect(1)
    con.execute("set TimeZone = 'UTC'; create schema silver")
    con.execute(f"create view silver.stop_triggers as from '{paths['triggers']}'")
    sql = compiled("feat_stop_triggers").replace('"memory".', "")  # the database of the target `lint`

    def windows() -> None:
        # What is read, and how, is the model's: int_stop_triggers__windows.py.
        asked = con.sql("select symbol, epoch_us(event_time) // 60000000 as minute from silver.stop_triggers")
        bars = con.sql(
            "select symbol, epoch_us(open_time) // 60000000 as open_minute, cast(close as double) as close, volume, "
            f"quote_volume from '{paths['bars']}'"
        )
        made = bar_windows(bars.to_arrow_table(ROW_GROUP), asked=asked.to_arrow_table())
        con.register("made_windows", made.read_all())
        con.execute("create or replace view silver.int_stop_triggers__windows as from made_windows")

    def runs_of_failures() -> None:
        terminals = con.sql(
            "select client_id, symbol, epoch_us(occurred_at) as occurred_us, epoch_us(available_at) as available_us, "
            "epoch_us(unusable_from) as unusable_from_us, is_failure, event_seq "
            f"from '{paths['terminals']}' order by client_id, symbol, occurred_at, is_failure"
        ).to_arrow_table()
        con.register("made_runs", failure_runs(terminals))
        con.execute("create or replace view silver.int_stop_failures__runs as from made_runs")

    def features() -> None:
        con.execute(f"select {', '.join(f'max({c})' for c in FEATURES)} from ({sql})").fetchall()

    def work() -> None:
        windows()
        runs_of_failures()
        features()

    def scans(used: bool = True) -> None:
        for name, columns in (("bars", BARS), ("triggers", TRIGGERS), ("terminals", TERMINALS)):
            every = con.execute(f"select column_name from (describe from '{paths[name]}')").fetchall()
            scan(con, paths[name], columns if used else [column for (column,) in every])

    found = ratio(work, scans, runs)
    of_all = ratio(lambda: scans(False), scans, runs)
    parts = {f.__name__: ratio(f, scans, 1)["cpu_s"] for f in (windows, runs_of_failures, features)}
    return {
        **found,
        "scan_of_all_columns_cpu_s": found["scan_cpu_s"] * of_all["ratio"],
        "ratio_to_all_columns": found["ratio"] / of_all["ratio"],
        **{f"{name}_cpu_s": seconds for name, seconds in parts.items()},
        "stops": stops,
        "bars": len(SYMBOLS) * days * 1440,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_stop_features", description=__doc__)
    parser.add_argument("--stops", type=int, default=STOPS, help="how many stops (default 1,000,000)")
    parser.add_argument("--days", type=int, default=DAYS, help="days of bars (default 731)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each side (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tickhouse-bench-") as scratch:
        print(
            json.dumps(
                bench(Path(scratch), stops=options.stops, days=options.days, runs=options.runs), indent=1
            )
        )


if __name__ == "__main__":
    main()
