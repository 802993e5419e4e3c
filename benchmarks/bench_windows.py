"""NDJSON events and Binance's csv → hour windows of bronze, CPU and memory against plain floors.

The floor of NDJSON parses each line with the standard library and writes the same columns with pyarrow, unsorted and
unchecked; that of csv is DuckDB's `read_csv`, sort and COPY. CPU is of this process, all threads; medians of
interleaved runs.
"""

import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.binance.load import ingest_files
from ingest.binance.report import Options
from ingest.ndjson import ingest_ndjson

_START = datetime(2024, 12, 1, tzinfo=UTC)
_TYPES = ("STOP_TRIGGERED", "EXECUTION_SUBMITTED", "EXECUTED", "FAILED", "KILL_SWITCH")
_PEAK = """
import sys
from pathlib import Path
from ingest.ndjson import ingest_ndjson
assert ingest_ndjson(Path(sys.argv[2]), "events", sys.argv[1]).exit_code == 0
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""
_DUCKDB = """
copy (
    select * from read_csv('{source}', header = false, columns = {{
        'agg_id': 'BIGINT', 'price': 'DECIMAL(20,8)', 'quantity': 'DECIMAL(20,8)', 'first_trade_id': 'BIGINT',
        'last_trade_id': 'BIGINT', 'exchange_time': 'BIGINT', 'is_buyer_maker': 'BOOLEAN', 'is_best_match': 'BOOLEAN'
    }})
    order by exchange_time, agg_id
) to '{out}' (format parquet, compression zstd, compression_level 3)
"""


def write_events(path: Path, rows: int, *, seed: int = 5) -> Path:
    """Events of one hour in no order of time, as the recorder writes them, one object a line."""
    rng = random.Random(seed)  # noqa: S311 - values of a bench
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for n in range(rows):
            at = _START + timedelta(microseconds=rng.randrange(3_600_000_000))
            digits = f"{rng.getrandbits(128):032x}"
            event = {
                "event_id": f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}",
                "event_seq": n + 1,
                "occurred_at": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}",
                "operation_id": n // 4 + 1,
                "client_id": 1 + n % 2,
                "symbol": "BTCUSDC",
                "event_type": _TYPES[n % len(_TYPES)],
                "trigger_price": f"{88_000 + rng.randrange(100_000) / 100:.8f}",
                "stop_price": "88200.00000000",
                "quantity": "0.00100000",
                "side": "SELL",
                "execution_token": f"{n // 4:064x}",
                "payload_json": {
                    "trigger_type": "STOP_LOSS",
                    "entry_price": "90000.00000000",
                    "strategy_id": 7,
                },
                "source": "ws",
                "retry_count": 0,
            }
            file.write(json.dumps(event) + "\n")
    return path


def write_agg_trades(path: Path, rows: int, *, seed: int = 5) -> Path:
    """A day of one symbol as the archive ships it: no header, ids and times ascending."""
    rng = random.Random(seed)  # noqa: S311 - values of a bench
    path.parent.mkdir(parents=True, exist_ok=True)
    start_ms = int(_START.timestamp() * 1000)
    with path.open("w") as file:
        for n in range(rows):
            price, quantity = 96_000 + rng.randrange(100_000) / 100, rng.randrange(1, 10**8) / 1e8
            at_ms = start_ms + n * 86_400_000 // rows
            file.write(
                f"{3 * 10**9 + n},{price:.8f},{quantity:.8f},{2 * n},{2 * n + 1},{at_ms},"
                f"{'True' if n % 2 else 'False'},True\n"
            )
    return path


def measure(scratch: Path, *, rows: int, repeats: int) -> dict[str, float]:
    """CPU µs a row of both loaders and their floors."""
    events = write_events(scratch / "events.ndjson", rows)
    trades = write_agg_trades(scratch / "BTCUSDC-aggTrades-2024-12-01.csv", rows)
    sides: dict[str, Callable[[], object]] = {
        "ndjson": lambda: ingest_ndjson(scratch / "lake", "events", str(events)),
        "ndjson_floor": lambda: _plain_ndjson(events, scratch / "floor.parquet"),
        "csv": lambda: ingest_files(scratch / "lake", "agg_trades", [str(trades)], Options()),
        "csv_floor": lambda: _duckdb_csv(trades, scratch / "floor.parquet"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):  # the first one warms
        for name, side in sides.items():
            shutil.rmtree(scratch / "lake", ignore_errors=True)
            began = time.process_time()
            side()
            seconds[name].append(time.process_time() - began)
    found = {f"{name}_us": statistics.median(s[1:]) / rows * 1e6 for name, s in seconds.items()}
    found["ndjson_ratio"] = found["ndjson_us"] / found["ndjson_floor_us"]
    found["csv_ratio"] = found["csv_us"] / found["csv_floor_us"]
    return found


def peak_memory(scratch: Path, *, rows: int) -> int:
    """Bytes of resident memory that a load of ``rows`` events of one hour takes at most, in a process of its own."""
    events = write_events(scratch / f"events-{rows}.ndjson", rows)
    lake = scratch / f"lake-{rows}"
    command = [sys.executable, "-c", _PEAK, str(events), str(lake)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(lake)
    events.unlink()
    return int(done.stdout.split()[-1])


def _plain_ndjson(source: Path, out: Path) -> None:
    writer: pq.ParquetWriter | None = None
    rows: list[dict] = []

    def flush() -> None:
        nonlocal writer, rows
        table = pa.Table.from_pylist([{**r, "payload_json": json.dumps(r["payload_json"])} for r in rows])
        writer = writer or pq.ParquetWriter(out, table.schema, compression="zstd", compression_level=3)
        writer.write_table(table)
        rows = []

    with source.open() as file:
        for line in file:
            rows.append(json.loads(line))
            if len(rows) == 32_768:
                flush()
    if rows:
        flush()
    writer.close()


def _duckdb_csv(source: Path, out: Path) -> None:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(_DUCKDB.format(source=source, out=out))
