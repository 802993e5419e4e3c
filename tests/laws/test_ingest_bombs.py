"""Bombs: small files that would unpack, nest or stretch without end are refused by a limit, in bounded memory.

Memory is the high-water mark of the process that reads, as the kernel counts it, above what it had before.
"""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ingest import dbn
from ingest.binance.load import ingest_files
from ingest.binance.report import Options
from ingest.ndjson import ingest_ndjson
from ingest.polygon import landing as polygon
from tests.fixtures import fuzz
from tests.fixtures.processes import fork
from tests.unit.ingest import dbn_kit
from tests.unit.ingest_binance.kit import DAY, agg_csv
from tests.unit.ingest_polygon.kit import OPTIONS, OPTIONS_HEADER

MOST_BYTES = 256 << 20
SMALL_BYTES = 4 << 20
UNPACKED_BYTES = 1 << 30
DEFLATED_BYTES = 384 << 20  # enough to tell, and deflate is slow


def rle_zstd(size: int, head: bytes = b"", byte: bytes = b"\0") -> bytes:
    """``head`` and one byte over and over, in blocks of 128 KiB that take 4 bytes each: the densest that zstd has."""
    block = (((128 << 10) << 3) | (1 << 1)).to_bytes(3, "little") + byte
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + b"\x38"  # no size, no checksum, a window of 128 KiB
    last = b"\x01\x00\x00"
    packed = frame + block * (size // (128 << 10)) + last
    return (zstandard.compress(head) if head else b"") + packed


def zip_of(name: str, chunks: Callable[[object], None]) -> bytes:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        chunks(file)
    return out.getvalue()


def zip_bomb() -> bytes:
    def fill(file: object) -> None:
        line = agg_csv(1)
        block = line * ((1 << 20) // len(line))
        for _ in range(DEFLATED_BYTES >> 20):
            file.write(block)

    return zip_of(f"BTCUSDC-aggTrades-{DAY}.csv", fill)


def nested(depth: int = 900_000) -> bytes:
    return b'{"x": ' + b"[" * depth + b"]" * depth + b"}\n"


def gzip_of(head: bytes, size: int) -> bytes:
    return gzip.compress(head, mtime=0) + fuzz.bomb_gzip(size)


DBN_HEAD = dbn_kit.metadata("trades")
CASES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "dbn zstd of zeros": ("x.dbn.zst", lambda: fuzz.bomb_zstd(UNPACKED_BYTES)),
    "dbn zstd of single bytes": ("x.dbn.zst", lambda: rle_zstd(UNPACKED_BYTES, DBN_HEAD)),
    "dbn zstd of metadata": (
        "x.dbn.zst",
        lambda: rle_zstd(UNPACKED_BYTES, b"DBN\x03" + (2**31 - 1).to_bytes(4, "little")),
    ),
    "dbn metadata length": ("x.dbn", lambda: b"DBN\x03" + (2**32 - 1).to_bytes(4, "little") + bytes(1000)),
    "dbn zstd window": ("x.dbn.zst", lambda: b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\x01\x00\x00"),
    "polygon gzip of zeros": ("2025-12-24.csv.gz", lambda: fuzz.bomb_gzip(DEFLATED_BYTES)),
    "polygon gzip after a header": (
        "2025-12-24.csv.gz",
        lambda: gzip_of(f"{OPTIONS_HEADER}\n".encode(), DEFLATED_BYTES),
    ),
    "polygon lines over and over": ("2025-12-24.csv.gz", lambda: gzip_of(OPTIONS.encode(), DEFLATED_BYTES)),
    "polygon saved answer": ("x_2025-12-24.json.zst", lambda: rle_zstd(UNPACKED_BYTES, byte=b"[")),
    "binance zip": (f"BTCUSDC-aggTrades-{DAY}.zip", zip_bomb),
    "binance gzip": (f"BTCUSDC-aggTrades-{DAY}.csv.gz", lambda: gzip_of(agg_csv(3), DEFLATED_BYTES)),
    "binance JSON depth": ("capture.json", nested),
    "binance one line": ("capture.json", lambda: b'{"e": "' + b"x" * (SMALL_BYTES - 20) + b'"}\n'),
    "binance one line, packed": ("capture.json.gz", lambda: gzip_of(b'{"e": "', DEFLATED_BYTES)),
    "ndjson gzip of zeros": ("x.ndjson.gz", lambda: fuzz.bomb_gzip(DEFLATED_BYTES)),
    "ndjson zstd of single bytes": ("x.ndjson.zst", lambda: rle_zstd(UNPACKED_BYTES, byte=b"{")),
    "ndjson zstd of empty lines": ("x.ndjson.zst", lambda: rle_zstd(UNPACKED_BYTES, byte=b"\n")),
    "ndjson zstd window": ("x.ndjson.zst", lambda: b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\x01\x00\x00"),
    "ndjson JSON depth": ("x.ndjson", lambda: nested(400_000)),
    "ndjson one line": ("x.ndjson", lambda: b'{"event_id": "' + b"x" * (SMALL_BYTES - 20) + b'"}\n'),
}  # fmt: skip


def land(case: str, root: Path, path: Path) -> list:
    kind = case.partition(" ")[0]
    if kind == "dbn":
        return dbn.ingest(root, [path]).files
    if kind == "polygon":
        return polygon.ingest(root, [path]).files
    if kind == "binance":
        return ingest_files(root, "agg_trades", [str(path)], Options()).files
    return ingest_ndjson(root, "events", str(path)).files


def high_water_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def reset_high_water() -> None:
    Path("/proc/self/clear_refs").write_text("5")


SLOW = {"ndjson zstd of empty lines"}  # 64 MiB of them are read before it is told


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.long if case in SLOW else ()) for case in CASES]
)
def test_a_bomb_is_refused_in_bounded_memory(case: str, tmp_path: Path) -> None:
    name, make = CASES[case]
    path = tmp_path / name
    path.write_bytes(make())
    assert path.stat().st_size <= SMALL_BYTES
    told = tmp_path / "told"

    def work() -> bool:
        reset_high_water()
        before = high_water_bytes()
        (file,) = land(case, tmp_path / "lake", path)
        told.write_text(f"{high_water_bytes() - before} {file.status} {file.rows} {file.reason}")
        return True

    assert fork(work).wait() == 0
    used, status, rows, reason = told.read_text().split(" ", 3)
    assert (status, rows) == ("quarantined", "0"), reason
    assert "\n" not in reason
    assert int(used) < MOST_BYTES, f"{int(used) >> 20} MiB"
