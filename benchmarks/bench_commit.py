"""One commit into a large bronze against one into a small bronze: time and bytes written.

The lakes are made of synthetic receipts and commit records, as many as real deliveries would have left, and of the
folders of their dates; no data files, as no commit may look at them. Each run lands one small genuine file into both.
"""

import datetime
import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import databento_dbn
import numpy as np

from ingest.bronze_schema import FUTURES_TRADES
from ingest.dbn import ingest
from lake.paths import bronze_dir, receipts_dir

PARTITIONS = (100, 100_000)
HOURS = range(24)
FIRST_DAY = datetime.date(2001, 1, 1)
DAY = datetime.date(2025, 12, 15)
DAY_NS = 1_765_756_800_000_000_000
ROWS = 500


def fake_lake(root: Path, partitions: int) -> Path:
    """A lake of that many (date, hour) partitions of futures trades, one delivery a date, with receipts; no rows."""
    receipts_dir(root).mkdir(parents=True)
    dataset = bronze_dir(root) / FUTURES_TRADES.folder
    left, day = partitions, FIRST_DAY
    while left:
        hours = [*HOURS][:left]
        _fake_delivery(root, dataset, day.isoformat(), hours)
        left, day = left - len(hours), day + datetime.timedelta(days=1)
    return root


def _fake_delivery(root: Path, dataset: Path, date: str, hours: list[int]) -> None:
    sha256 = hashlib.sha256(date.encode()).hexdigest()
    name = f"part-{sha256[:8]}-000.parquet"
    start_ns = int(datetime.datetime.fromisoformat(f"{date}T00:00:00+00:00").timestamp()) * 10**9
    files = []
    folder = dataset / "symbol=ES" / f"date={date}"
    folder.mkdir(parents=True)
    for hour in hours:
        first_ns = start_ns + hour * 3_600_000_000_000
        files.append(
            {
                "path": str((folder / f"hour={hour:02d}" / name).relative_to(bronze_dir(root))),
                "key": {"symbol": "ES"}, "hour": hour, "bytes": 1000, "sha256": sha256, "rows": 100,
                "ts_min_ns": first_ns, "ts_max_ns": first_ns + 10**9, "content_digest": sha256,
            }
        )  # fmt: skip
    record = {
        "record_version": 1, "schema": FUTURES_TRADES.name, "schema_version": 1,
        "schema_hash": FUTURES_TRADES.schema_hash, "date": date, "delivery_id": sha256[:16], "source": "databento_dbn",
        "run_id": "20260101T000000Z_ingest_000000", "status": "complete", "gaps": [], "quality": [], "files": files,
    }  # fmt: skip
    metadata = dataset / "_metadata" / f"date={date}"
    metadata.mkdir(parents=True)
    (metadata / f"commit-{sha256[:8]}.json").write_text(json.dumps(record, indent=1))
    receipt = {
        "path": f"raw/dbn/trades/{date}.trades.dbn.zst", "provider": "databento", "dataset": "GLBX.MDP3",
        "schema": "trades", "date": date, "bytes": 1000, "sha256": sha256, "record_count": 100 * len(files),
        "ts_first_ns": files[0]["ts_min_ns"], "ts_last_ns": files[-1]["ts_max_ns"], "format_version": 3,
        "downloaded_at": "2026-01-01T00:00:00Z", "request_id": None, "status": "landed", "reason": None,
        "archived_uri": None, "symbols": {date: {"17": "ESZ5"}}, "accepted_count": 100 * len(files),
        "rejected_count": 0, "filtered_count": 0, "rejects": [], "delivery_id": sha256[:16],
    }  # fmt: skip
    (receipts_dir(root) / f"receipt-{sha256[:16]}.json").write_text(json.dumps(receipt, indent=1))


def small_files(folder: Path) -> Iterator[Path]:
    """Genuine DBN files of trades, 500 rows over two hours, each of other content."""
    interval = type(
        "Interval", (), {"start_date": DAY, "end_date": DAY + datetime.timedelta(days=1), "symbol": "17"}
    )
    mapping = type("Mapping", (), {"raw_symbol": "ESZ5", "intervals": [interval]})
    head = databento_dbn.Metadata(
        dataset="GLBX.MDP3", start=DAY_NS, end=DAY_NS + 86_400 * 10**9, schema=databento_dbn.Schema("trades"),
        stype_in=databento_dbn.SType("raw_symbol"), stype_out=databento_dbn.SType("instrument_id"),
        symbols=["ESZ5"], mappings=[mapping], version=3,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1_000_000):
        rng = np.random.default_rng(number)
        rows = np.zeros(ROWS, np.dtype(databento_dbn.TradeMsg._dtypes))
        rows["length"], rows["publisher_id"], rows["instrument_id"] = 12, 1, 17
        rows["ts_event"] = DAY_NS + 15 * 3_600 * 10**9 + np.arange(ROWS) * 14 * 10**9
        rows["ts_recv"] = rows["ts_event"] + 1000
        rows["sequence"], rows["size"] = np.arange(1, ROWS + 1), rng.integers(1, 90, ROWS)
        rows["price"] = (27_200 + rng.integers(-40, 40, ROWS)) * 250_000_000
        rows["side"], rows["action"], rows["flags"] = rng.choice([b"A", b"B"], ROWS), b"T", 128
        path = folder / f"{number:06d}.trades.dbn"
        path.write_bytes(bytes(head) + rows.tobytes())
        yield path


def measure(scratch: Path, *, runs: int = 3, partitions: tuple[int, int] = PARTITIONS) -> dict[str, float]:
    """Medians of ``runs`` × 7 interleaved commits into each lake: wall and CPU seconds, bytes written; and ratios."""
    lakes = {}
    for count in partitions:
        shutil.rmtree(scratch / f"lake_{count}", ignore_errors=True)
        lakes[count] = fake_lake(scratch / f"lake_{count}", count)
    files = small_files(scratch / "in")
    found: dict[int, list[tuple[float, float, int]]] = {count: [] for count in partitions}
    for run in range(7 * runs + 2):
        path = next(files)
        for count in partitions if run % 2 else reversed(partitions):
            one = _commit(lakes[count], path)
            if run >= 2:  # imports and first pages before it counts
                found[count].append(one)
    small, large = ([statistics.median(column) for column in zip(*found[c], strict=True)] for c in partitions)
    names = ("wall", "cpu", "bytes")
    return {
        **{f"{name}_{count}": v for count, side in zip(partitions, (small, large), strict=True)
           for name, v in zip(names, side, strict=True)},
        **{f"{name}_ratio": b / a for name, a, b in zip(names, small, large, strict=True)},
    }  # fmt: skip


def _commit(root: Path, path: Path) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and bytes handed to the system of one landing."""
    written, cpu, wall = _written(), time.process_time(), time.perf_counter()
    report = ingest(root, [path])
    result = time.perf_counter() - wall, time.process_time() - cpu, _written() - written
    if [f.status for f in report.files] != ["landed"]:
        raise RuntimeError(f"{path} did not land, expected it to: {report.files[0].reason}")
    return result


def _written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])
