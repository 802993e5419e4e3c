"""Option flat file → bronze against DuckDB's own `read_csv`, sort and COPY of the same columns: CPU, memory.

Functions only: a runner decides how often and prints. CPU is of this process, all threads; runs are interleaved
and the median of each is compared, so that a busy machine disturbs all alike.
"""

import gzip
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np

from ingest.polygon.gzip_lines import text_blocks
from ingest.polygon.landing import ingest
from lake.bronze import visible_files

ROWS = 1_000_000
DAY = "2025-12-24"
_OPEN_NS = 1_766_586_600_000_000_000  # 09:30 in New York
_SESSION_NS = 24_300_000_000_000  # until 16:15
_HEADER = "ticker,conditions,correction,exchange,price,sip_timestamp,size\n"

# What bronze holds of the file: typed, sorted by time, ZSTD level 3. The ticker stays one column, and no digest,
# no line of the file's own is checked or made: less than what we do.
_DUCKDB = """
copy (
    select
        ticker,
        string_split(conditions, ',')::smallint[] as conditions,
        correction,
        exchange,
        price,
        sip_timestamp,
        size
    from read_csv('{source}', header = true, columns = {{
        'ticker': 'VARCHAR', 'conditions': 'VARCHAR', 'correction': 'TINYINT', 'exchange': 'SMALLINT',
        'price': 'DECIMAL(18,9)', 'sip_timestamp': 'BIGINT', 'size': 'INTEGER'
    }})
    order by sip_timestamp
) to '{out}' (format parquet, compression zstd, compression_level 3)
"""

_PEAK = """
import sys
from pathlib import Path
from ingest.polygon.landing import ingest
assert ingest(Path(sys.argv[2]), [Path(sys.argv[1])]).ok
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""


def write_day(path: Path, rows: int, *, seed: int = 7) -> Path:
    """A day's prints of one root as the vendor ships them: by ticker, times rising in each, gzip level 6."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tickers = [f"O:SPY{expiry}{right}00{strike}000" for expiry in ("251224", "251226", "260116")
               for right in "CP" for strike in range(650, 730)]  # fmt: skip
    # A few contracts have most of the prints.
    share = rng.dirichlet(np.full(len(tickers), 0.3))
    counts = rng.multinomial(rows, share)
    codes = ("209", "209", "209", "227", "232", '"209,233"', "")
    with gzip.open(path, "wt", compresslevel=6, newline="") as file:
        file.write(_HEADER)
        for ticker, n in zip(tickers, counts, strict=True):
            times = np.sort(rng.integers(0, _SESSION_NS, n)) + _OPEN_NS
            prices, sizes = rng.integers(1, 2000, n), np.ceil(rng.exponential(4, n)).astype(int) + 1
            venues, conditions = rng.integers(300, 318, n), rng.integers(0, len(codes), n)
            file.writelines(
                f"{ticker},{codes[c]},0,{v},{p / 100:g},{t},{s}\n"
                for c, v, p, t, s in zip(conditions, venues, prices, times, sizes, strict=True)
            )
    return path


def fresh_lake(source: Path, root: Path) -> Path:
    """An empty lake but for the source, which stands in raw; returns its path there."""
    shutil.rmtree(root, ignore_errors=True)
    folder = root / "raw" / "polygon" / "options"
    folder.mkdir(parents=True)
    return Path(shutil.copyfile(source, folder / source.name))


def to_bronze(placed: Path, root: Path) -> None:
    """What is measured: the whole of an ingest, hashing, digests, receipt and run record included."""
    if not ingest(root, [placed]).ok:
        raise RuntimeError(f"{placed} did not land, expected it to")


def measure(scratch: Path, *, rows: int = ROWS, repeats: int = 3) -> dict[str, float]:
    """Medians in CPU seconds, and the ratio of ours to DuckDB's."""
    scratch.mkdir(parents=True, exist_ok=True)
    source = write_day(scratch / f"{DAY}.csv.gz", rows)
    root, out = scratch / "lake", scratch / "duckdb.parquet"
    connection = duckdb.connect()
    connection.execute("set enable_progress_bar = false")
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: to_bronze(placed, root),
        "duckdb": lambda: connection.execute(_DUCKDB.format(source=source, out=out)),
        "unpack": lambda: sum(len(block) for block in text_blocks(source)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for run in range(repeats + 1):
        placed = fresh_lake(source, root)
        for name, work in works.items():
            began = time.process_time()
            work()
            if run:  # the first one is for imports, compiled kernels and first pages
                seconds[name].append(time.process_time() - began)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    files = visible_files(root)
    if sum(f.rows for f in files) != rows:
        raise RuntimeError(f"rows landed were {sum(f.rows for f in files)}, expected {rows}")
    return {
        "rows": rows,
        **{f"{name}_cpu_s": value for name, value in median.items()},
        "cpu_ratio": median["ours"] / median["duckdb"],
        "ours_bytes_per_row": sum(f.path.stat().st_size for f in files) / rows,
        "duckdb_bytes_per_row": out.stat().st_size / rows,
    }


def peak_memory(scratch: Path, *, rows: int = ROWS) -> float:
    """Peak resident bytes of an ingest of ``rows`` in a fresh process."""
    source = write_day(scratch / f"{rows}" / f"{DAY}.csv.gz", rows)
    root = scratch / "peak_lake"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(source), str(root)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return int(done.stdout)
