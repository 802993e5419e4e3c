"""Mutated flat files: no crash, no hang, and every accepted row says what its line says."""

import gzip
import os

import numpy as np
import pytest

from ingest.errors import RefusedFile
from tests.fixtures.fuzz import many, one
from tests.unit.ingest_polygon import oracle
from tests.unit.ingest_polygon.kit import OPTIONS, STOCKS, packed, parse

SEED = 20_251_224
SAMPLE, FULL = 2_000, 100_000
DRIFT = OPTIONS.replace("size\n", 'size,decimal_size,participant_timestamp,new "x"\n').replace(
    "1\n", '1,,,"a,b"\n'
)
QUOTED = OPTIONS.replace("size\n", "size,bid_price,ask_price\n").replace("1\n", "1,0.84,0.87\n")
INPUTS = [OPTIONS.encode(), STOCKS.encode(), DRIFT.replace('new "x"', "new").encode(), QUOTED.encode()]


def assert_agrees(text: bytes, block_bytes: int) -> str:
    """Parse with both readers and compare; returns how it ended."""
    try:
        ours = parse(text, block_bytes=block_bytes)
    except RefusedFile as error:
        if "another type" in str(error):
            return "retyped"
        is_option = not {b"id", b"tape", b"trf_id", b"trf_timestamp"} & set(text.split(b"\n")[0].split(b","))
        with pytest.raises(oracle.Refused):
            oracle.read(text, {"SPY"}, is_option=is_option)
        return "refused"
    theirs = oracle.read(text, {"SPY"}, is_option=ours.file.layout.kind.is_option)
    assert [r[:2] for r in ours.rejected] == [r[:2] for r in theirs.rejected]
    for (_, rule, raw), (_, _, line) in zip(ours.rejected, theirs.rejected, strict=True):
        assert rule == "LINE_LENGTH" or raw == line.decode(errors="backslashreplace")
    assert (ours.file.lines, ours.file.filtered) == (theirs.lines, theirs.filtered)
    assert ours.accepted.keys() == theirs.accepted.keys()
    for ordinal, row in theirs.accepted.items():
        assert {k: ours.accepted[ordinal][k] for k in row} == row
    return "read"


def run(count: int, seed: int) -> dict[str, int]:
    ends: dict[str, int] = {}
    rng = np.random.default_rng(seed)
    for number in range(count):
        text = INPUTS[number % len(INPUTS)]
        # Three of four keep their header, without which no line is looked at.
        at = text.index(b"\n") + 1 if number // len(INPUTS) % 4 else 0
        text = text[:at] + one(seed, number, [text[at:]])
        try:
            end = assert_agrees(text, int(rng.choice([64, 1000, 1 << 20])))
        except Exception as error:
            error.add_note(f"mutated input {number} of seed {seed}: {text[:500]!r}")
            raise
        ends[end] = ends.get(end, 0) + 1
    return ends


def test_mutated_lines_are_read_as_a_plain_reader_reads_them() -> None:
    ends = run(SAMPLE, SEED)
    assert ends["read"] > SAMPLE * 3 // 4
    assert ends["refused"] > SAMPLE // 50


@pytest.mark.long
def test_a_hundred_thousand_mutated_files_of_each_header() -> None:
    seed = int(os.environ.get("FUZZ_SEED", SEED + 1))
    count = FULL * len(INPUTS)
    assert run(count, seed)["read"] > count * 3 // 4


def test_mutated_gzip_bytes_are_refused_or_unpack_to_the_same() -> None:
    text = OPTIONS.encode() * 3
    data = packed(text)
    refused = 0
    for number, changed in many(SEED, 1_000, [data]):
        try:
            ours = parse(b"", data=changed)
        except RefusedFile:
            refused += 1
            continue
        # Only what gzip itself takes: fields of its head that say nothing about the content.
        plain = gzip.decompress(changed)
        assert ours.file.lines == len(plain.splitlines()) - 1, number
    assert refused > 800
