"""Mutated DBN files: landed with what wasn't touched unchanged, rejected row by row, or refused; nothing else.

The parser and the router are the real ones; only what follows them (receipts, renames) is left out.
"""

import datetime
import shutil
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ingest.bronze_schema import FUTURES_MBP10, FUTURES_TRADES, LEVEL_PRICES
from ingest.dbn import ingest
from ingest.dbn_format import open_dbn
from ingest.errors import RefusedFile
from ingest.partitioning import PartitionRouter
from ingest.record_quality import RecordQuality
from ingest.rejects import RejectWriter
from ingest.symbology import SymbolMap
from tests.fixtures import fuzz
from tests.unit.ingest import dbn_kit as kit

SEED = 20251215
SAMPLE, FULL, CHUNKS = 2000, 100_000, 20
SLOWEST_S = 60  # of one input, on a busy machine; a usual one takes a few milliseconds
MOST_MEMORY_BYTES = 300 << 20
SCHEMAS = {"trades": FUTURES_TRADES, "mbp-10": FUTURES_MBP10}


def _records(schema: str, n: int, seed: int) -> np.ndarray:
    rows = kit.records(schema, n, seed=seed, step_ns=40 * 10**9)
    rows["instrument_id"] = np.random.default_rng(seed).choice([17, 17, 17, 18, 19, 20], n)
    return rows


def _inputs() -> list[bytes]:
    """Small genuine files: both schemas, all versions, plain and in frames with and without checksum, none empty."""
    made = []
    for number, (schema, n) in enumerate((("trades", 60), ("mbp-10", 20), ("trades", 300), ("mbp-10", 40))):
        data = kit.metadata(schema, version=1 + number % 3) + _records(schema, n, number).tobytes()
        made.append(data)
        for checksum in (True, False):
            compressor = zstandard.ZstdCompressor(level=1, write_checksum=checksum)
            half = len(data) // 2
            made.append(compressor.compress(data[:half]) + compressor.compress(data[half:]))
    return made


INPUTS = _inputs()


@dataclass
class Outcome:
    """``rows`` and ``rejected`` are record numbers; ``refused`` is the reason of a refusal."""

    refused: str = ""
    rejected: tuple[int, ...] = ()
    table: pa.Table | None = None
    schema: str = ""


def land(folder: Path, data: bytes) -> Outcome:
    """Parse and route one input into a folder of its own; a refusal is an outcome, any other exception isn't."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "input.dbn"
    path.write_bytes(data)
    rejects = router = None
    try:
        with open_dbn(path) as stream:
            name = stream.header.schema
            if name not in SCHEMAS:
                return Outcome(refused=f"schema {name}, of another test")
            symbols = SymbolMap(stream.header.metadata)
            rejects = RejectWriter(folder, "futures_trades", "0" * 16)
            quality = RecordQuality(symbols.contracts, is_book=name == "mbp-10")
            router = PartitionRouter(
                SCHEMAS[name], symbols, source="sim", delivery_id="0" * 16, stage=folder,
                reread=partial(_again, path), rejects=rejects, quality=quality, row_group_rows=128, window_rows=32,
            )  # fmt: skip
            for block in stream.blocks():
                router.add(block)
            files = router.finish()
            quality.gaps()
            quality.checks()
            rejected = rejects.close()
    except RefusedFile as error:
        for part in (router, rejects):
            if part is not None:
                part.abort()
        return Outcome(refused=str(error) or "nothing was said")
    assert router.rows + rejects.rows == router.read
    assert sum(f.rows for f in files) == router.rows
    tables = [pq.ParquetFile(f.staged).read() for f in files]
    numbers = [n for f in rejected for n in pq.ParquetFile(f.staged).read()["line_no"].to_pylist()]
    return Outcome("", tuple(numbers), pa.concat_tables(tables) if tables else None, name)


def _again(path: Path) -> Iterator[np.ndarray]:
    with open_dbn(path, frames_checked=True) as stream:
        yield from stream.blocks()


def payload(data: bytes) -> bytes | None:
    """What the bytes hold, by an independent decoder; None where it finds them damaged."""
    if data[:3] == b"DBN":
        return data
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
        return reader.read(64 << 20)
    except zstandard.ZstdError:
        return None


def check(data: bytes, outcome: Outcome) -> None:
    """What landed is, value by value, what the bytes say; what was kept aside is the rest."""
    if outcome.refused:
        assert outcome.refused != "nothing was said"
        assert "\n" not in outcome.refused
        return
    whole = payload(data)
    assert whole is not None, "a damaged file landed"
    start = 8 + int.from_bytes(whole[4:8], "little")
    dtype = kit.DTYPES[outcome.schema]
    body = whole[start:]
    # A flipped bit may say that each record ends with the time of its sending.
    for size in (dtype.itemsize, dtype.itemsize + 8):
        if len(body) % size == 0 and body[:1] == bytes([size // 4 % 256]):
            break
    else:
        assert not body, "a fragment landed"
        return
    records = np.frombuffer(body, np.dtype([("r", dtype), ("ts_out", "u1", size - dtype.itemsize)]))["r"]
    landed = [] if outcome.table is None else outcome.table["ordinal"].to_pylist()
    assert sorted([*landed, *outcome.rejected]) == list(range(len(records)))
    if not landed:
        return
    mine = records[landed]
    table = outcome.table
    for column, field in (
        ("ts_event_ns", "ts_event"),
        ("sequence", "sequence"),
        ("instrument_id", "instrument_id"),
    ):
        assert table[column].to_pylist() == mine[field].tolist()
    prices = ["price", *(LEVEL_PRICES if outcome.schema == "mbp-10" else [])]
    for column in prices:
        expected = [None if p == kit.UNDEF_PRICE else p for p in mine[column].tolist()]
        assert [None if p is None else int(p.scaleb(9)) for p in table[column].to_pylist()] == expected
    sides = [chr(b) for b in mine["side"].view("u1").tolist()]
    assert table["side"].to_pylist() == sides


def fuzz_range(folder: Path, numbers: range) -> dict[str, int]:
    """Run the inputs of these numbers; returns how many landed, lost rows, were refused."""
    found = {"landed": 0, "rejected": 0, "refused": 0}
    for number in numbers:
        data = fuzz.one(SEED, number, INPUTS)
        began = time.monotonic()
        try:
            outcome = land(folder / "work", data)
            check(data, outcome)
        except Exception as error:
            (folder / f"failing-{number}.dbn").write_bytes(data)
            raise AssertionError(f"input {number} of seed {SEED}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - began < SLOWEST_S, f"input {number} of seed {SEED} hung"
        found["refused" if outcome.refused else "rejected" if outcome.rejected else "landed"] += 1
    return found


def test_the_inputs_land_as_they_are(tmp_path: Path) -> None:
    for data in INPUTS:
        outcome = land(tmp_path / "work", data)
        assert not outcome.refused
        check(data, outcome)


@pytest.mark.parametrize("number", [31_689])  # a mapping from the year 0
def test_inputs_that_once_broke_it(tmp_path: Path, number: int) -> None:
    fuzz_range(tmp_path, range(number, number + 1))


def test_mutated_files_land_whole_or_are_refused(tmp_path: Path) -> None:
    found = fuzz_range(tmp_path, range(SAMPLE))
    assert min(found.values()) > SAMPLE // 100, found  # each way is met


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_mutated_file_lands_whole_or_is_refused(tmp_path: Path, chunk: int) -> None:
    fuzz_range(tmp_path, range(SAMPLE + chunk * FULL // CHUNKS, SAMPLE + (chunk + 1) * FULL // CHUNKS))


def _declares(length: int) -> bytes:
    """A header that says its metadata are that long."""
    return b"DBN\x03" + length.to_bytes(4, "little")


def _one_record_again_and_again() -> bytes:
    record = kit.records("trades", 1).tobytes()
    compressor = zstandard.ZstdCompressor(level=1)
    return compressor.compress(kit.metadata("trades")) + compressor.compress(
        record * ((256 << 20) // len(record))
    )


BOMBS = {
    "zeros": lambda: fuzz.bomb_zstd(1 << 30),
    "a header and zeros": lambda: zstandard.compress(kit.metadata("trades")) + fuzz.bomb_zstd(1 << 30),
    "metadata without end": lambda: zstandard.compress(_declares(2**32 - 1)) + fuzz.bomb_zstd(1 << 30),
    "metadata of a quarter gigabyte": lambda: zstandard.compress(_declares(255 << 20)) + fuzz.bomb_zstd(1 << 28),
    "one record over and over": _one_record_again_and_again,
    "a window of two gigabytes": lambda: (
        b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\x01\x00\x00"  # one empty last block
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused_in_bounded_memory(tmp_path: Path, case: str) -> None:
    path = tmp_path / "bomb.dbn.zst"
    path.write_bytes(BOMBS[case]())
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        (file,) = ingest(tmp_path / "lake", [path]).files
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.status == "quarantined"
    assert "\n" not in file.reason
    assert peak < MOST_MEMORY_BYTES


def test_days_far_from_the_calendar_are_no_error(tmp_path: Path) -> None:
    rows = kit.records("mbp-10", 40, step_ns=10**9)
    rows["ts_event"][:20] = np.arange(20) * 10**15 + 946_684_800 * 10**9 + 1
    mappings = {"ESZ5": [(kit.DAY, kit.DAY + datetime.timedelta(days=1), 17)]}
    outcome = land(tmp_path / "work", kit.metadata("mbp-10", mappings=mappings) + rows.tobytes())
    assert not outcome.refused
    assert len(outcome.table) == 40
