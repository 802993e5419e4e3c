"""Mutated inputs of the parsers that have no fuzz test beside their unit tests: no crash, no hang, nothing accepted
that an independent reader doesn't find in the bytes.

Trades and books, lines of flat files, archives and captures, and events have theirs in `tests/unit/ingest*/`.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

from ingest.dbn_format import open_dbn
from ingest.dbn_kinds import KINDS
from ingest.errors import FailedFile, RefusedFile
from ingest.http_retry import RetryableError, RetryPolicy
from ingest.ndjson_rows import NdjsonParser
from ingest.partitioning import PartitionRouter
from ingest.polygon import api_file, rest
from ingest.polygon.flat_file import FlatFile
from ingest.polygon.gzip_lines import text_blocks
from ingest.rejects import RejectWriter
from ingest.text_lines import read_lines
from ingest.window_schema import WINDOW_SCHEMAS
from tests.fixtures import fuzz
from tests.fixtures.loaders import DBN_ROWS, NDJSON_MAKERS
from tests.unit.ingest import dbn_kit
from tests.unit.ingest_polygon.kit import DAY, OPEN_NS, OPTIONS, packed
from tests.unit.ingest_polygon.test_rest import OPTION, TRADES
from tests.unit.ingest_windows import kit as window_kit

SEED = 20251217
SAMPLE, FULL = 300, 100_000
COUNTS = [
    pytest.param(SAMPLE, id="sample"),
    pytest.param(FULL, id="full", marks=pytest.mark.long),
]


def each(
    folder: Path, count: int, inputs: list[bytes], check: Callable[[Path, bytes], str]
) -> dict[str, int]:
    """``check(folder, input)`` says how each ended; whatever it raises names the input, which stays in ``folder``."""
    ends: dict[str, int] = {}
    for number, data in fuzz.many(SEED, count, inputs):
        try:
            end = check(folder, data)
        except Exception as error:
            (folder / f"failing-{number}").write_bytes(data)
            error.add_note(f"mutated input {number} of seed {SEED}")
            raise
        ends[end] = ends.get(end, 0) + 1
    return ends


def refusal(error: RefusedFile) -> str:
    """A refusal says why, in one line."""
    assert str(error)
    assert "\n" not in str(error)
    return "refused"


# -- DBN: orders, definitions, bars --------------------------------------------------------------------------------


def dbn_inputs(schema: str) -> list[bytes]:
    rows = DBN_ROWS[schema](1)[:60]
    plain = [dbn_kit.metadata(schema, version=3) + rows.tobytes()]
    return [
        *plain,
        *(zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data) for data in plain),
    ]


def parse_dbn(schema: str, folder: Path, data: bytes) -> str:
    """The reading and the router of the real ingest; what follows them (receipts, renames) is left out."""
    stage = folder / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    path = folder / "input.dbn"
    path.write_bytes(data)
    router = rejects = None
    try:
        with open_dbn(path) as stream:
            if stream.header.schema != schema:
                return "another schema"
            kind = KINDS[schema]
            reading = kind.reading(stream.header, folder / "lake")
            rejects = RejectWriter(stage, kind.rejects, "0" * 16)
            quality = reading.record_quality()
            router = PartitionRouter(
                kind.schema, reading.symbols, source="sim", delivery_id="0" * 16, stage=stage,
                reread=partial(_again, path, reading), rejects=rejects, rules=reading.rules, buffer=reading.buffer,
                quality=quality,
            )  # fmt: skip
            for block in reading.rows(stream.blocks(), rejects):
                router.add(block)
            files = router.finish()
            reading.checks(quality, 1.0)
            parts = rejects.close()
    except RefusedFile as error:
        for part in (router, rejects):
            if part is not None:
                part.abort()
        return refusal(error)
    read = reading.records_read(router.read)
    rejected = [n for part in parts for n in pq.ParquetFile(part.staged).read()["line_no"].to_pylist()]
    tables = [pq.ParquetFile(file.staged).read() for file in files]
    ordinals = [n for table in tables for n in table["ordinal"].to_pylist()]
    body = _body(data)
    assert body is not None, "a damaged file landed"
    # every record once, as a row or kept aside; records of orders that change no level are no rows
    assert len(set(ordinals + rejected)) == len(ordinals) + len(rejected)
    assert all(0 <= n < read for n in ordinals + rejected)
    if schema != "mbo":
        assert len(ordinals) + len(rejected) == read
    size = 4 * body[0] if body else 0
    assert read == (len(body) // size if size else 0)
    for table in tables:
        for ordinal, instrument in zip(
            table["ordinal"].to_pylist(), table["instrument_id"].to_pylist(), strict=True
        ):
            at = ordinal * size + 4
            assert int.from_bytes(body[at : at + 4], "little") == instrument
    return "rejected" if rejected else "landed"


def _again(path: Path, reading: object) -> object:
    with open_dbn(path, frames_checked=True) as stream:
        yield from reading.rows(stream.blocks())


def _body(data: bytes) -> bytes | None:
    """The records by an independent decoder, without metadata."""
    if data[:3] != b"DBN":
        try:
            data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(64 << 20)
        except zstandard.ZstdError:
            return None
    return data[8 + int.from_bytes(data[4:8], "little") :]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("schema", ["mbo", "definition", "ohlcv-1m"])
def test_a_damaged_dbn_file_lands_by_record_or_is_refused(schema: str, count: int, tmp_path: Path) -> None:
    ends = each(tmp_path, count, dbn_inputs(schema), partial(parse_dbn, schema))
    assert ends["refused"] > count // 10
    assert ends.get("landed", 0) + ends.get("rejected", 0) > count // 50


# -- option and stock trades: saved answers, pages, packed text ----------------------------------------------------


def parse_api_file(folder: Path, data: bytes) -> str:
    path = folder / "input.json.zst"
    path.write_bytes(data)
    file = None
    try:
        api = api_file.ApiFile(path)
        file = FlatFile(
            [api.ticker_key], source="massive_rest", delivery_id="0" * 16, stage=folder, source_file="raw/x",
            kind=api.kind, date=api.date, raw_line=api.raw_line,
        )  # fmt: skip
        file.parse(api.blocks())
        assert file.accepted + file.rejected + file.filtered == file.lines
        lines = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read().split(b"\n")
        assert file.lines == len([line for line in lines[1:] if line not in (b"", b"]}")])
        return "rejected" if file.rejected else "read"
    except RefusedFile as error:
        return refusal(error)
    finally:
        if file is not None:
            file.abort()


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_answer_that_was_saved_is_read_or_refused(count: int, tmp_path: Path) -> None:
    path = tmp_path / "answer.json.zst"
    request = {"ticker": OPTION, "date": DAY, "kind": "options"}
    api_file.write(path, request, map(api_file.loads, TRADES))
    text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress

    def check(folder: Path, data: bytes) -> str:
        # half of them are damaged before they are packed: no checksum tells those
        return parse_api_file(folder, data if data[:4] == b"\x28\xb5\x2f\xfd" else compress(data))

    ends = each(tmp_path, count, [text, compress(text)], check)
    assert ends["refused"] > count // 10
    assert ends["read"] > count // 50


class _Client:
    """Answers one page."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def list_trades(self, *_: object, **__: object) -> object:
        return self


def read_pages(folder: Path, data: bytes) -> str:
    policy = RetryPolicy(attempts=1, sleep=lambda _: None)
    pages = rest._Pages(_Client(data), OPTION, OPEN_NS, OPEN_NS + 10**15, policy)
    try:
        results = list(pages.results())
    except (FailedFile, RetryableError):
        return "refused"
    found = json.loads(data)
    assert found["status"] in ("OK", "DELAYED")
    assert len(results) == len(found["results"])
    return "read"


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_page_is_no_page(count: int, tmp_path: Path) -> None:
    page = f'{{"status":"OK","request_id":"r","results":[{",".join(TRADES)}]}}'.encode()
    ends = each(tmp_path, count, [page], read_pages)
    assert ends["refused"] > count // 10
    assert ends["read"] > count // 50


def unpack_gzip(folder: Path, data: bytes) -> str:
    path = folder / "x.csv.gz"
    path.write_bytes(data)
    try:
        text = b"".join(text_blocks(path))
    except RefusedFile:
        return "refused"
    plain = gzip.decompress(data)
    assert text.rstrip(b"\n") == plain.rstrip(b"\n")
    return "read"


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_gzip_file_is_refused_or_unpacks_to_the_same(count: int, tmp_path: Path) -> None:
    ends = each(tmp_path, count, [packed(OPTIONS), packed(OPTIONS) + packed(OPTIONS)], unpack_gzip)
    assert ends["refused"] > count // 2


# -- orders, operations, balances ----------------------------------------------------------------------------------


def parse_lines(dataset: str, folder: Path, data: bytes) -> str:
    """Each line of its own; what is accepted is a JSON object that says the same of the key."""
    path = folder / "rows.ndjson"
    path.write_bytes(data + b"\n")
    schema = WINDOW_SCHEMAS[dataset]
    parser = NdjsonParser(schema, "prod")
    accepted = rejected = 0
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    try:
        for block in map(parser.parse, read_lines(path)):
            accepted, rejected = accepted + block.table.num_rows, rejected + len(block.rejects)
            for number, row in zip(block.line_no.tolist(), block.table.to_pylist(), strict=True):
                said = json.loads(lines[number - 1])
                for name in schema.primary_key:
                    assert row[name] is not None
                    if isinstance(said[name], int):
                        assert row[name] == said[name]
    except RefusedFile as error:
        return refusal(error)
    assert parser.read == accepted + rejected
    return "accepted" if accepted else "rejected"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dataset", ["orders", "operations", "balance_snapshots"])
def test_damaged_lines_are_kept_aside(dataset: str, count: int, tmp_path: Path) -> None:
    made = [NDJSON_MAKERS[dataset](n, window_kit.START) for n in range(3)]
    ends = each(tmp_path, count, [json.dumps(row).encode() for row in made], partial(parse_lines, dataset))
    assert ends["rejected"] > count // 10
    assert ends["accepted"] > count // 50


def unpack_lines(folder: Path, data: bytes) -> str:
    """By what the bytes are, whatever the name says."""
    path = folder / "rows.ndjson.gz"
    path.write_bytes(data)
    if data[:2] != b"\x1f\x8b" and data[:4] != b"\x28\xb5\x2f\xfd":
        return "no packed file any more"
    try:
        lines = [line for block in read_lines(path) for line in block.lines]
    except RefusedFile:
        return "refused"
    if data[:2] == b"\x1f\x8b":
        plain = gzip.decompress(data)
    else:
        plain = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(64 << 20)
    assert lines == plain.removesuffix(b"\n").split(b"\n") if plain else lines == []
    return "read"


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_packed_lines_are_refused(count: int, tmp_path: Path) -> None:
    text = b"".join(json.dumps(window_kit.event(n, window_kit.START)).encode() + b"\n" for n in range(9))
    compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
    inputs = [gzip.compress(text, mtime=0), compress(text[:700]) + compress(text[700:])]
    ends = each(tmp_path, count, inputs, unpack_lines)
    assert ends["refused"] > count // 2
