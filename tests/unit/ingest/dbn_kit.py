"""Genuine DBN files of any shape for the ingest tests, and what a lake holds, to compare."""

import datetime
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import databento_dbn
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from lake.bronze import visible_files

DTYPES = {
    "trades": np.dtype(databento_dbn.TradeMsg._dtypes),
    "mbp-10": np.dtype(databento_dbn.MBP10Msg._dtypes),
}
RTYPES = {"trades": 0, "mbp-10": 10}
UNDEF_PRICE = 2**63 - 1
UNDEF_SIZE = 2**32 - 1
UNDEF_TIMESTAMP = 2**64 - 1
HOUR_NS = 3_600_000_000_000
DAY = datetime.date(2025, 12, 15)
DAY_NS = 1_765_756_800_000_000_000  # 2025-12-15T00:00:00Z
IDS = {"ESZ5": 17, "ESH6": 18, "ESZ5-ESH6": 19, "NQZ5": 20}


@dataclass
class _Interval:
    start_date: datetime.date
    end_date: datetime.date
    symbol: str


@dataclass
class _Mapping:
    raw_symbol: str
    intervals: list[_Interval]


def records(
    schema: str, n: int, *, seed: int = 1, start_ns: int = DAY_NS + 14 * HOUR_NS, step_ns: int = 10**9
) -> np.ndarray:
    """``n`` records of front contract ESZ5 in time order, about ``step_ns`` apart, of plausible random content."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, DTYPES[schema])
    rows["length"], rows["rtype"] = rows.dtype.itemsize // 4, RTYPES[schema]
    rows["publisher_id"], rows["instrument_id"] = 1, IDS["ESZ5"]
    rows["ts_event"] = start_ns + np.cumsum(rng.integers(0, 2 * step_ns, n))
    rows["ts_recv"] = rows["ts_event"] + 100_000
    rows["ts_in_delta"] = rng.integers(-500, 20_000, n)
    rows["sequence"] = 1000 + np.cumsum(rng.integers(0, 3, n))
    rows["price"] = (27_200 + rng.integers(-40, 40, n)) * 250_000_000
    rows["size"] = rng.integers(1, 60, n)
    rows["side"] = rng.choice([b"A", b"B", b"N"], n)
    rows["action"] = b"T" if schema == "trades" else rng.choice([b"A", b"C", b"M", b"T"], n)
    rows["flags"] = rng.choice([0, 128], n)
    if schema == "mbp-10":
        for k in range(10):
            for side, sign in (("bid", -1), ("ask", 1)):
                rows[f"{side}_px_{k:02d}"] = rows["price"] + sign * (k + 1) * 250_000_000
                rows[f"{side}_sz_{k:02d}"] = rng.integers(1, 200, n)
                rows[f"{side}_ct_{k:02d}"] = rng.integers(1, 50, n)
    return rows


def metadata(
    schema: str | None,
    *,
    mappings: dict[str, list[tuple]] | None = None,
    version: int = 3,
    stype_in: str | None = "raw_symbol",
    **more: object,
) -> bytes:
    """The head of a DBN file. ``mappings``: symbol → [(start date, end date, id)], by default all of `IDS`."""
    if mappings is None:
        mappings = {s: [(DAY, DAY + datetime.timedelta(days=2), i)] for s, i in IDS.items()}
    arguments = {
        "dataset": "GLBX.MDP3",
        "start": DAY_NS,
        "end": DAY_NS + 24 * HOUR_NS,
        "stype_in": stype_in and databento_dbn.SType(stype_in),
        "stype_out": databento_dbn.SType("instrument_id"),
        "schema": schema and databento_dbn.Schema(schema),
        "symbols": list(mappings),
        "mappings": [_Mapping(s, [_Interval(a, b, str(i)) for a, b, i in m]) for s, m in mappings.items()],
        "version": version,
    }
    return bytes(databento_dbn.Metadata(**(arguments | more)))


def write_dbn(
    path: Path, schema: str, rows: np.ndarray, *, head: bytes | None = None, frames: int = 1
) -> Path:
    """Write a DBN file, in zstd ``frames`` when its name ends with .zst; ``head`` replaces the default metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (metadata(schema) if head is None else head) + rows.tobytes()
    if path.suffix == ".zst":
        compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        # Cut anywhere, also inside the header and inside records.
        cuts = [len(data) * i // frames for i in range(frames + 1)]
        data = b"".join(compressor.compress(data[a:b]) for a, b in itertools.pairwise(cuts))
    path.write_bytes(data)
    return path


def name(schema: str, day: str = "20251215") -> str:
    return f"glbx-mdp3-{day}.{schema}.dbn.zst"


def bronze(root: Path, schema: str = "futures.trades.v1") -> pa.Table:
    """All visible rows of a bronze schema, hour by hour, with ``symbol``, ``date`` and ``hour``."""
    tables = []
    for file in visible_files(root):
        if file.schema == schema:
            table = pq.ParquetFile(file.path).read()
            for key, value in (("symbol", file.key["symbol"]), ("date", file.date), ("hour", file.hour)):
                table = table.append_column(key, pa.array([value] * len(table)))
            tables.append(table)
    return pa.concat_tables(tables)


def tree(root: Path) -> set[str]:
    """Every file under a root that an ingest should leave behind, relative; run records left out."""
    found = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() or p.is_symlink()}
    return {p for p in found if not p.startswith("_meta/runs/")}


def snapshot(root: Path) -> dict[str, object]:
    """What must be equal between two lakes of the same content: files, digests, receipts; not times and run ids."""
    receipts = {}
    for path in sorted((root / "raw" / "_metadata").glob("receipt-*.json")):
        receipt = _without(json.loads(path.read_text()), "downloaded_at")
        # The bytes of rejects hold when they were loaded; what they say is in ``rejects`` below.
        receipt["rejects"] = [_without(r, "bytes", "sha256") for r in receipt["rejects"]]
        receipts[path.name] = receipt
    commits = {}
    for path in sorted((root / "lake" / "bronze").glob("*/*/_metadata/date=*/commit-*.json")):
        commits[str(path.relative_to(root))] = _without(json.loads(path.read_text()), "run_id")
    return {"files": tree(root), "receipts": receipts, "commits": commits, "rejects": rejects(root)}


def rejects(root: Path) -> list[tuple]:
    """Every row kept aside: (dataset, date, line, rule, reason, raw), but not when."""
    rows = []
    for path in sorted((root / "lake" / "bronze" / "_rejects").glob("dataset=*/date=*/*.parquet")):
        where = path.parts[-3].removeprefix("dataset="), path.parts[-2].removeprefix("date=")
        table = pq.ParquetFile(path).read().to_pydict()
        names = ("line_no", "rule", "reason", "raw")
        rows += [(*where, *row) for row in zip(*(table[n] for n in names), strict=True)]
    return rows


def _without(entry: dict, *keys: str) -> dict:
    return {k: v for k, v in entry.items() if k not in keys}


def plain(rows: np.ndarray, names: Iterable[str]) -> list[tuple]:
    """Records as tuples of Python values, for oracles."""
    return list(zip(*(rows[n].tolist() for n in names), strict=True))
