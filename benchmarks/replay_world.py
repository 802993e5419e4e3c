"""Bronze of stop events straight out of SQL, as the loaders would leave it: one sealed window a date."""

import hashlib
import json
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

FIRST = date(2024, 12, 1)
EVENTS_PER_DAY = 1_000_000 // 3
EVENTS_PER_EXECUTION = 2.805
"""By the shares of shapes below, copies included."""

# Shapes: of 100 executions 70 are filled, 10 fail, 8 are refused, 6 hang after submission, 6 after the trigger. One of
# 300 lives over midnight, one event of 100 is delivered twice. Three executions of ten share an operation.
EXECUTIONS = """
select
    n,
    1 + n % 5 as client_id,
    n * 10 // 13 as operation_id,
    sha256('token' || n) as execution_token,
    hash(n) % 100 as shape,
    timestamptz '{day} 00:00:00+00' + to_microseconds(
        case when n % 300 = 0 then 86398000000 else hash(n, 'at') % 86000000000 end::bigint
    ) as triggered_at,
    (88000 + (hash(n, 'level') % 200000) / 100.0)::decimal(20, 8) as stop_price,
    (0.0001 * (1 + hash(n, 'quantity') % 500))::decimal(20, 8) as quantity,
    case when n % 3 = 0 then 'BUY' else 'SELL' end as side
from range({first}, {last}) as executions (n)
"""
EVENTS = """
select
    uuid_of(n || '.' || step) as event_id,
    n * 4 + step as event_seq,
    case when n * 10 % 13 < 10 then step end::bigint as stream_seq,
    triggered_at + to_milliseconds(step * step * 700) as occurred_at,
    null::timestamptz as exchange_time,
    operation_id,
    client_id,
    'BTCUSDC' as symbol,
    case
        when step = 1 then 'STOP_TRIGGERED'
        when step = 2 and shape between 80 and 87 then 'KILL_SWITCH'
        when step = 2 then 'EXECUTION_SUBMITTED'
        when shape < 70 then 'EXECUTED'
        else 'FAILED'
    end as event_type,
    'STOP_LOSS' as trigger_type,
    stop_price - 12.5 as trigger_price,
    stop_price,
    quantity,
    side,
    execution_token,
    case
        when step = 1
            then '{{"entry_order_ids":["' || n || '"],"entry_placed_at":"2024-11-30T10:00:00.250000Z","entry_price":"'
                || (stop_price + 900) || '","entry_time":"2024-11-30T10:00:01.000000Z","expected_pnl":"-1.80000000",'
                || '"strategy_id":7,"trigger_type":"STOP_LOSS"}}'
        when step = 3 and shape < 70
            then '{{"entry_price":"' || (stop_price + 900) || '","fills":[{{"commission":"0.04400000",'
                || '"commission_asset":"USDC","price":"' || (stop_price - 14) || '","qty":"' || quantity
                || '","trade_id":' || n || '}}],"pnl":"-1.90000000","trigger_type":"STOP_LOSS"}}'
        else '{{"entry_price":"' || (stop_price + 900) || '","trigger_type":"STOP_LOSS"}}'
    end as payload_json,
    case when step = 3 and shape < 70 then 'order' || n end as exchange_order_id,
    case when step = 3 and shape < 70 then stop_price - 14 end as fill_price,
    null::decimal(10, 4) as slippage_pct,
    'ws' as source,
    0::integer as retry_count,
    case when step = 3 and shape >= 70 then 'code=-2010 insufficient balance' end as error_message
from executions
cross join range(1, 4) as steps (step)
where step <= case when shape < 80 then 3 when shape < 94 then 2 else 1 end
"""
LANDED = """
select
    event_id, event_seq, stream_seq, occurred_at, exchange_time, operation_id, client_id, symbol, event_type,
    trigger_type, trigger_price::decimal(20, 8) as trigger_price, stop_price, quantity, side, execution_token,
    payload_json,
    exchange_order_id, fill_price::decimal(20, 8) as fill_price, slippage_pct, source, retry_count, error_message,
    occurred_at + to_milliseconds(40) as ingested_at,
    timestamptz '{day} 00:00:00+00' + interval '2 days' + to_seconds(copy) as loaded_at,
    'batch' as ingest_batch_id, 'events.ndjson' as source_file, sha256(event_id) as row_hash,
    1::integer as schema_version, 'testnet' as environment, null::varchar as _extra
from events
cross join range(2) as copies (copy)
where copy = 0 or event_seq % 100 = 7
"""


def make(root: Path, events: int) -> list[str]:
    """Bronze of about ``events`` stop events, ``EVENTS_PER_DAY`` a date; the dates."""
    days = max(1, round(events / EVENTS_PER_DAY))
    per_day = round(events / days / EVENTS_PER_EXECUTION)
    con = connect()
    dates = []
    for number in range(days + 1):  # a last date of what began before midnight
        day = FIRST + timedelta(days=number)
        before = max(0, (number - 1) * per_day)
        last = min(number + 1, days) * per_day
        write_day(
            con,
            root,
            day,
            [(FIRST + timedelta(days=number - 1), before, number * per_day)][:number]
            + ([(day, number * per_day, last)] if number < days else []),
            hour=0,
        )
        dates.append(day.isoformat())
    return dates


def add_hour(root: Path, day: date, executions: int, first: int, *, hour: int = 23) -> None:
    """One more window of ``day``: executions numbered from ``first``, of which nothing was landed before."""
    write_day(connect(), root, day, [(day, first, first + executions)], hour=hour)


def connect() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(config={"threads": 2, "memory_limit": "1GB"})
    con.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
    con.execute("""
        create macro uuid_of(name) as (
            select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-a' || substr(h, 18, 3)
                || '-' || substr(h, 21, 12)
            from (select md5(name) as h)
        )
    """)
    return con


def write_day(
    con: duckdb.DuckDBPyConnection, root: Path, day: date, parts: list[tuple[date, int, int]], *, hour: int
) -> None:
    """The events ingested on ``day`` of executions (triggered on a date, from number, to number), as one window."""
    folder = root / "lake" / "bronze" / "events" / f"date={day}"
    (folder / "_metadata").mkdir(parents=True, exist_ok=True)
    name = f"part-{len([*folder.glob('part-*.parquet')]) + 1:04d}.parquet"
    executions = " union all ".join(
        f"({EXECUTIONS.format(day=on, first=first, last=last)})" for on, first, last in parts
    )
    con.execute(f"""
        copy (
            with executions as ({executions}), events as ({EVENTS.format()}), landed as ({LANDED.format(day=day)})
            select * from landed where ingested_at::date = date '{day}' order by ingested_at
        ) to '{folder / name}' (format parquet, compression zstd, compression_level 3, row_group_size 122880)
    """)
    rows = pq.ParquetFile(folder / name).metadata.num_rows
    content = hashlib.sha256(f"{day}.{hour}.{parts}".encode()).hexdigest()
    start = datetime(day.year, day.month, day.day, hour)
    part = {
        "name": f"date={day}/{name}", "rows": rows, "bytes": (folder / name).stat().st_size, "sha256": content,
        "content_hash": content,
    }  # fmt: skip
    marker = {
        "dataset": "events", "environment": "testnet", "window_start": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "window_end": f"{start + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}", "state": "sealed", "rows": rows,
        "min_occurred_at": f"{day}T00:00:00.000000Z", "max_occurred_at": f"{day}T23:59:59.000000Z", "schema_version": 1,
        "incomplete": False, "reject_rows": 0, "content_hash": content, "parts": [part],
    }  # fmt: skip
    (folder / "_metadata" / f"commit-{hour:02d}.json").write_text(json.dumps(marker, indent=1) + "\n")
