"""Orders to the ten-level book against reading their file: CPU a record. ``python -m benchmarks.bench_mbo``."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import databento_dbn
import numpy as np
import zstandard

from ingest.dbn_format import open_dbn
from ingest.mbo_book import MboBook

LIVE_ORDERS = 20_000
TICK = 250_000_000
START_NS = 1_765_756_800_000_000_000


def write_orders(path: Path, count: int) -> None:
    """A file of one contract whose orders come and go around a price that drifts, ``LIVE_ORDERS`` of them at a time."""
    rng = np.random.default_rng(7)
    number = np.arange(count)
    rows = np.zeros(count, np.dtype(databento_dbn.MBOMsg._dtypes))
    rows["length"], rows["rtype"], rows["publisher_id"], rows["instrument_id"] = 14, 0xA0, 1, 17
    cancels = (number % 2 == 1) & (number > 2 * LIVE_ORDERS)
    order = np.where(cancels, number - 2 * LIVE_ORDERS - 1, number)
    middle = 27_000 + np.cumsum(rng.integers(-1, 2, count)) // 64
    away = 1 + rng.geometric(0.08, count)
    rows["order_id"], rows["size"] = order, 1 + number[order] % 9
    rows["side"] = np.where(order % 4 < 2, b"B", b"A")
    rows["price"] = (middle + np.where(rows["side"] == b"B", -away, away))[order] * TICK
    rows["action"], rows["flags"] = np.where(cancels, b"C", b"A"), 128
    rows["ts_event"] = START_NS + number * 10_000
    rows["ts_recv"] = rows["ts_event"] + np.uint64(100_000)
    rows["sequence"] = number
    metadata = databento_dbn.Metadata(
        dataset="GLBX.MDP3", start=START_NS, end=None, stype_in=databento_dbn.SType("raw_symbol"),
        stype_out=databento_dbn.SType("instrument_id"), schema=databento_dbn.Schema("mbo"), symbols=["ESZ5"], version=3,
    )  # fmt: skip
    with open(path, "wb") as file, zstandard.ZstdCompressor(level=1).stream_writer(file) as out:
        out.write(bytes(metadata))
        out.write(rows.tobytes())


def read(path: Path, *, rebuild: bool) -> tuple[float, int]:
    """CPU seconds of one pass, and the records that it gave."""
    book, given, start = MboBook(), 0, time.process_time()
    with open_dbn(path) as stream:
        for records in stream.blocks():
            given += len(book.rebuild(records).records) if rebuild else len(records)
    return time.process_time() - start, given


def measure(count: int, runs: int = 5) -> dict[str, float]:
    """Medians of interleaved runs: microseconds of CPU a record, and the ratio of both."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.dbn.zst"
        write_orders(path, count)
        read(path, rebuild=True)  # kernels are compiled
        pairs = [(read(path, rebuild=False)[0], read(path, rebuild=True)) for _ in range(runs)]
        decoded = statistics.median(d for d, _ in pairs) / count * 1e6
        rebuilt = statistics.median(r for _, (r, _) in pairs) / count * 1e6
        return {
            "decode_us_per_record": decoded,
            "rebuild_us_per_record": rebuilt - decoded,
            "ratio": rebuilt / decoded,
            "rows_per_record": pairs[0][1][1] / count,
        }


if __name__ == "__main__":
    for name, value in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000).items():
        print(f"{name:24} {value:8.3f}")
