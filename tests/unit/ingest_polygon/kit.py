"""Flat files to write, the parser over them, and its result as plain rows."""

import gzip
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import zstandard

from ingest.polygon.flat_file import FlatFile
from ingest.polygon.gzip_lines import text_blocks
from lake.bronze import visible_files

DAY = "2025-12-24"
OPEN_NS = 1_766_586_600_000_000_000  # 2025-12-24 09:30 in New York
HOUR_NS = 3_600_000_000_000

OPTIONS_HEADER = "ticker,conditions,correction,exchange,price,sip_timestamp,size"
OPTIONS = f"""{OPTIONS_HEADER}
O:AAPL251224C00270000,209,0,300,1.5,{OPEN_NS + 5},3
O:SPY251224C00690000,209,0,312,0.85,{OPEN_NS + HOUR_NS},10
O:SPY251224C00690000,,,300,0.86,{OPEN_NS + 7},1
O:SPY251224P00685500,"209,233",0,301,1.230000001,{OPEN_NS + 7},2
O:SPY251224P00685500,"209,233",0,301,1.230000001,{OPEN_NS + 7},2
SPY   260116C00700000,232,7,,0,{OPEN_NS + 3},2147483647
O:SPY1251224C00690000,209,0,300,1,{OPEN_NS},1
O:nan251224C00001000,209,0,300,1,{OPEN_NS},1
"""
STOCKS_HEADER = (
    "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,sip_timestamp,"
    "size,tape,trf_id,trf_timestamp"
)
STOCKS = f"""{STOCKS_HEADER}
NA,12,0,4,71,{OPEN_NS},1.5,100,{OPEN_NS + 9},100,1,0,0
NULL,12,0,4,72,{OPEN_NS},1.5,101,{OPEN_NS + 9},100,1,0,0
SPY,"12,37",0,4,52983,{OPEN_NS - 400},690.12,2001,{OPEN_NS + 20},0.5,2,202,{OPEN_NS}
SPY,,,11,,0,690.1234,,{OPEN_NS + 10},100,2,,
SPY,14,8,11,"a""b, c",{OPEN_NS},690.13,2003,{OPEN_NS + HOUR_NS},7.000001,2,,0
nan,12,0,4,73,{OPEN_NS},1.5,102,{OPEN_NS + 9},100,1,0,0
"""


@dataclass
class Parsed:
    """The parser's result: accepted rows by ordinal, rejects as (line, rule, raw), counts; ``file`` is the parser."""

    file: FlatFile
    accepted: dict[int, dict]
    rejected: list[tuple[int, str, str]]

    @property
    def rules(self) -> list[str]:
        return [rule for _, rule, _ in self.rejected]


def packed(text: str | bytes) -> bytes:
    return gzip.compress(text.encode() if isinstance(text, str) else text, compresslevel=1, mtime=0)


def put(path: Path, text: str | bytes) -> Path:
    """A flat file of this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(text))
    return path


def parse(
    text: str | bytes,
    *,
    wanted: tuple[str, ...] = ("SPY",),
    block_bytes: int = 4 << 20,
    data: bytes | None = None,
    run_rows: int = 4096,
) -> Parsed:
    """Parse a file of this text, or of these bytes, as far as sorted rows; bronze files are another test's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{DAY}.csv.gz"
        path.write_bytes(packed(text) if data is None else data)
        file = FlatFile(
            list(wanted), source="polygon_flatfile", delivery_id="0123456789abcdef", stage=Path(folder),
            source_file="raw/x.csv.gz", date=DAY, run_rows=run_rows,
        )  # fmt: skip
        try:
            file.parse(text_blocks(path, block_bytes=block_bytes))
            accepted = _rows(file)
            rejected = []
            for part in file.rejects.close():
                for row in pq.read_table(part.staged).to_pylist():
                    rejected.append((row["line_no"], row["rule"], row["raw"]))
        finally:
            file.abort()
    return Parsed(file, accepted, sorted(rejected))


def _rows(file: FlatFile) -> dict[int, dict]:
    if not file.rows.rows:
        return {}
    (batch,) = file.rows.sorted_batches(file.rows.rows)
    assert len(set(batch.column("root").to_pylist())) == 1, "expected one wanted root"
    rows = file.rows.bronze_table(batch).to_pylist()
    assert rows == sorted(rows, key=lambda r: (r["ts_event_ns"], r["ordinal"]))
    for row in rows:
        row["_extra"] = row["_extra"] and json.loads(row["_extra"])
    return {row.pop("ordinal"): row for row in rows}


def bronze(root: Path, schema: str) -> list[dict]:
    """All visible rows of a schema in the order of its files."""
    rows = []
    for file in visible_files(root):
        if file.schema == schema:
            for row in pq.read_table(file.path, partitioning=None).to_pylist():
                rows.append(row | file.key | {"date": file.date, "hour": file.hour})
    return rows


def digests(root: Path) -> list[tuple]:
    """What bronze holds, so that two lakes can be compared."""
    return sorted((f.schema, f.hour_key, f.rows, f.content_digest) for f in visible_files(root))


def receipts(root: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((root / "raw" / "_metadata").glob("receipt-*.json"))]


def commits(root: Path, folder: str) -> dict[str, dict]:
    """Commit records of a dataset by date; one delivery a date."""
    found = {}
    for path in (root / "lake" / "bronze" / folder).glob("_metadata/date=*/commit-*.json"):
        record = json.loads(path.read_text())
        assert record["date"] not in found
        found[record["date"]] = record
    return found


def rejects(root: Path) -> list[dict]:
    """Rows kept aside, by line."""
    rows = []
    for receipt in receipts(root):
        for part in receipt["rejects"]:
            rows += pq.read_table(root / "lake" / "bronze" / part["path"], partitioning=None).to_pylist()
    return sorted(rows, key=lambda r: (r["source_file"], r["line_no"]))


def everything_written(root: Path) -> bytes:
    """All bytes below the root, compressed files unpacked, for a search."""
    found = b""
    for path in root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += data
            if path.name.endswith(".zst"):
                found += zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return found
