"""DBN → bronze against the vendor's own conversion of the same file: CPU, bytes, peak memory; and its parts.

Functions only: a runner decides how often and prints. CPU is of this process, all threads; runs are interleaved
and the median of each is compared, so that a busy machine disturbs all alike.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import databento
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ingest.bronze_schema import FUTURES_MBP10, FUTURES_TRADES, ROW_GROUP_ROWS
from ingest.dbn import ingest
from lake.bronze import visible_files

BARS = {"cpu_ratio": 0.35, "memory_ratio": 1.0, "bytes_ratio": 0.75}

# In a process of its own: what it took at its peak, imports included.
_PEAK = """
import sys
from pathlib import Path
source, out = Path(sys.argv[2]), Path(sys.argv[3])
if sys.argv[1] == "ours":
    from ingest.dbn import ingest
    assert ingest(out, [source]).ok
else:
    import databento
    databento.DBNStore.from_file(source).to_parquet(out, compression="zstd")
# Not ru_maxrss: that remembers the parent's size from before the exec.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds that ``work`` takes in this process, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def fresh_lake(source: Path, root: Path) -> Path:
    """An empty lake but for the source, which stands in raw as the simulator puts it; returns its path there."""
    shutil.rmtree(root, ignore_errors=True)
    folder = root / "raw" / "dbn" / ("trades" if ".trades." in source.name else "mbp10")
    folder.mkdir(parents=True)
    shutil.copyfile(source, folder / source.name)
    return folder / source.name


def to_bronze(placed: Path, root: Path) -> None:
    """What is measured: the whole of an ingest, hashing, receipts and manifests included."""
    if not ingest(root, [placed]).ok:
        raise RuntimeError(f"{placed} did not land, expected it to")


def to_vendor_parquet(source: Path, out: Path) -> None:
    # It warns once a block of rows under this pandas; its text is not what we measure.
    with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
        databento.DBNStore.from_file(source).to_parquet(out, compression="zstd")


def decompress(source: Path) -> None:
    buffer = bytearray(3 << 20)
    with open(source, "rb") as f, zstandard.ZstdDecompressor().stream_reader(f, read_across_frames=True) as r:
        while r.readinto(buffer):
            pass


def bronze_tables(root: Path) -> list[pa.Table]:
    """The rows of a lake's bronze as the row groups that the writer was given."""
    schemas = {s.name: s.arrow for s in (FUTURES_MBP10, FUTURES_TRADES)}
    tables = []
    for file in visible_files(root):
        parquet = pq.ParquetFile(file.path)
        groups = (parquet.read_row_group(i, use_threads=False) for i in range(parquet.num_row_groups))
        tables += [group.cast(schemas[file.schema]).combine_chunks() for group in groups]
    return tables


def write_again(tables: list[pa.Table], out: Path) -> None:
    """Write the same Arrow tables with the same settings, each as a file: the floor under any loader."""
    schemas = (FUTURES_MBP10, FUTURES_TRADES)
    for table in tables:
        schema = next(s for s in schemas if s.arrow.equals(table.schema))
        with pq.ParquetWriter(out, schema.arrow, **schema.parquet_options()) as writer:
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def measure(source: Path, scratch: Path, *, repeats: int = 3) -> dict[str, float]:
    """Compare on one DBN file; returns medians (CPU in µs per row, bytes per row) and ratios against `BARS`."""
    scratch.mkdir(parents=True, exist_ok=True)
    root, out, again = scratch / "lake", scratch / "vendor.parquet", scratch / "again.parquet"
    to_bronze(fresh_lake(source, root), root)
    to_vendor_parquet(source, out)  # both once before it counts: imports, first pages
    tables = bronze_tables(root)
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: to_bronze(placed, root),
        "vendor": lambda: to_vendor_parquet(source, out),
        "decompress": lambda: decompress(source),
        "write": lambda: write_again(tables, again),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        placed = fresh_lake(source, root)
        for name, work in works.items():
            seconds[name].append(cpu_s(work))
    files = visible_files(root)
    rows = sum(f.rows for f in files)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ours_bytes, vendor_bytes = sum(f.path.stat().st_size for f in files), out.stat().st_size
    return {
        "rows": rows,
        **{f"{name}_us_per_row": value / rows * 1e6 for name, value in median.items()},
        "cpu_ratio": median["ours"] / median["vendor"],
        "cpu_over_decompress_and_write": median["ours"] / (median["decompress"] + median["write"]),
        "ours_bytes_per_row": ours_bytes / rows,
        "vendor_bytes_per_row": vendor_bytes / rows,
        "bytes_ratio": ours_bytes / vendor_bytes,
    }


def peak_memory(source: Path, scratch: Path) -> dict[str, float]:
    """Peak resident bytes of each way in a fresh process, and their ratio."""
    scratch.mkdir(parents=True, exist_ok=True)
    peaks = {}
    for who, out in (("ours", scratch / "peak_lake"), ("vendor", scratch / "peak.parquet")):
        shutil.rmtree(out, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PEAK, who, str(source), str(out)],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        peaks[who] = int(done.stdout)
    return {
        "ours_peak_bytes": peaks["ours"],
        "vendor_peak_bytes": peaks["vendor"],
        "memory_ratio": peaks["ours"] / peaks["vendor"],
    }
