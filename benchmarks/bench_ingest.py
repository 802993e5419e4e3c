"""DBN → bronze: CPU against its own parts and the vendor's conversion; bytes, peak memory, two processes at once.

Functions only: a runner decides how often and prints. CPU is of a process, all threads; runs are interleaved
and the median of each is compared, so that a busy machine disturbs all alike.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import databento
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ingest.bronze_schema import FUTURES_MBP10, FUTURES_TRADES, ROW_GROUP_ROWS
from ingest.dbn import ingest
from ingest.dbn_format import open_dbn
from lake.bronze import visible_files
from lake.paths import PROJECT_DIR

_WRITTEN_GROUPS = (
    16  # row groups that are written again: enough to measure, and 1 GB of memory less than a day
)

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
# Says that it is ready, starts at a line, and tells its CPU seconds.
_WORKER = """
import sys, time
from pathlib import Path
from ingest import parquet_encoder
from ingest.dbn import ingest
print("ready", flush=True)
sys.stdin.readline()
start = time.process_time()
assert ingest(Path(sys.argv[1]), [Path(sys.argv[2])]).ok
print(time.process_time() - start, flush=True)
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


def bronze_tables(root: Path, at_most: int = _WRITTEN_GROUPS) -> list[pa.Table]:
    """Row groups of a lake's bronze as the writer was given them, evenly spread over the day."""
    schemas = {s.name: s.arrow for s in (FUTURES_MBP10, FUTURES_TRADES)}
    files = [(f, pq.ParquetFile(f.path)) for f in visible_files(root)]
    groups = [(f.schema, parquet, i) for f, parquet in files for i in range(parquet.num_row_groups)]
    step = -(-len(groups) // at_most)
    return [
        parquet.read_row_group(i, use_threads=False).cast(schemas[name]).combine_chunks()
        for name, parquet, i in groups[step // 2 :: step]
    ]


def write_again(tables: list[pa.Table], out: Path) -> None:
    """Write the same Arrow tables with the same settings, each as a file: the floor under any loader."""
    schemas = (FUTURES_MBP10, FUTURES_TRADES)
    for table in tables:
        schema = next(s for s in schemas if s.arrow.equals(table.schema))
        with pq.ParquetWriter(out, schema.arrow, **schema.parquet_options()) as writer:
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def repeated(source: Path, times: int, out: Path) -> Path:
    """The same DBN file with each record ``times`` in a row, as small as one can be that is so long."""
    with open(source, "rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
        head = stream.read(8)
        head += stream.read(int.from_bytes(head[4:8], "little"))
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    with open(out, "wb") as file, compressor.stream_writer(file) as stream, open_dbn(source) as records:
        stream.write(head)
        for block in records.blocks():
            rows = np.frombuffer(block, dtype=f"V{block.dtype.itemsize}")
            stream.write(np.repeat(rows, times).view(np.uint8).data)
    return out


def measure(source: Path, scratch: Path, *, repeats: int = 3) -> dict[str, float]:
    """Compare on one DBN file; returns medians (CPU in µs per row, bytes per row) and ratios."""
    scratch.mkdir(parents=True, exist_ok=True)
    root, out, again = scratch / "lake", scratch / "vendor.parquet", scratch / "again.parquet"
    to_bronze(fresh_lake(source, root), root)
    to_vendor_parquet(source, out)  # both once before it counts: imports, first pages
    files = visible_files(root)
    rows = sum(f.rows for f in files)
    ours_bytes, vendor_bytes = sum(f.path.stat().st_size for f in files), out.stat().st_size
    tables = bronze_tables(root)
    works: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (lambda: to_bronze(placed, root), rows),
        "vendor": (lambda: to_vendor_parquet(source, out), rows),
        "decompress": (lambda: decompress(source), rows),
        "write": (lambda: write_again(tables, again), sum(t.num_rows for t in tables)),
    }
    us: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        placed = fresh_lake(source, root)
        for name, (work, rows_done) in works.items():
            us[name].append(cpu_s(work) / rows_done * 1e6)
    median = {name: statistics.median(values) for name, values in us.items()}
    return {
        "rows": rows,
        **{f"{name}_us_per_row": value for name, value in median.items()},
        "cpu_ratio": median["ours"] / median["vendor"],
        "cpu_over_decompress_and_write": median["ours"] / (median["decompress"] + median["write"]),
        "ours_bytes_per_row": ours_bytes / rows,
        "vendor_bytes_per_row": vendor_bytes / rows,
        "bytes_ratio": ours_bytes / vendor_bytes,
    }


def peak_memory(source: Path, scratch: Path, who: str = "ours") -> int:
    """Peak resident bytes of a fresh process that lands ``source``, or has the vendor convert it."""
    out = scratch / f"peak_{who}"
    shutil.rmtree(out, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PEAK, who, str(source), str(out)],
        capture_output=True, text=True, check=True, cwd=PROJECT_DIR,
    )  # fmt: skip
    return int(done.stdout)


def at_once(sources: Sequence[Path], root: Path) -> dict[str, float]:
    """Land ``sources`` in an empty lake, each in a process of its own, all at once.

    Returns wall seconds from their common start to the last one's end, and CPU seconds of all.
    """
    shutil.rmtree(root, ignore_errors=True)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(root), str(source)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT_DIR,
        )
        for source in sources
    ]  # fmt: skip
    for worker in workers:
        worker.stdout.readline()
    start = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    cpu = [float(worker.stdout.readline()) for worker in workers]
    wall = time.perf_counter() - start
    for worker in workers:
        worker.communicate()
    return {"wall_s": wall, "cpu_s": sum(cpu)}


def two_processes(days: Sequence[Path], scratch: Path, *, repeats: int = 3) -> dict[str, float]:
    """Two days in two processes against the same two days in one after the other; medians of interleaved runs.

    Returns CPU per event of two against one, and how many times the events per second.
    """
    one, two = [], []
    for _ in range(repeats):
        singles = [at_once([day], scratch / "one") for day in days]
        one.append({k: sum(s[k] for s in singles) for k in singles[0]})
        two.append(at_once(days, scratch / "two"))
    median = {
        f"{name}_{k}": statistics.median(run[k] for run in runs)
        for name, runs in (("one", one), ("two", two))
        for k in ("wall_s", "cpu_s")
    }
    return median | {
        "cpu_ratio": median["two_cpu_s"] / median["one_cpu_s"],
        "throughput": median["one_wall_s"] / median["two_wall_s"],
    }
