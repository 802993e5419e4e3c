"""Mutated lines: nothing crashes the parser, and it accepts what a slow judge accepts, value by value."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.errors import RefusedFile
from ingest.ndjson_rows import NdjsonParser
from ingest.text_lines import read_lines
from ingest.window_schema import EVENTS
from tests.fixtures import fuzz
from tests.unit.ingest_windows import kit, oracle

BATCH = 500


def plain(value):
    """A parsed value as numbers compare: what was written out and what wasn't are the same."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, oracle.Written | float) or type(value) is int:
        return Decimal(str(value))
    return value


def judged(lines: list[bytes]) -> tuple[dict[int, dict], set[int]]:
    good, bad = {}, set()
    for number, line in enumerate(lines, 1):
        try:
            made = oracle.judge(line)
        except oracle.Bad:
            bad.add(number)
        else:
            if made is not None:
                good[number] = made
    return good, bad


def parsed(path: Path) -> tuple[dict[int, dict], dict[int, str]]:
    parser = NdjsonParser(EVENTS, "prod")
    good, bad = {}, {}
    for lines in read_lines(path):
        block = parser.parse(lines)
        for number, row in zip(block.line_no.tolist(), block.table.to_pylist(), strict=True):
            row["payload"] = json.loads(row.pop("payload_json"), parse_float=Decimal)
            row["extra"] = json.loads(row.pop("_extra", None) or "{}", parse_float=Decimal)
            good[number] = row
        bad |= {line_no: f"{rule}: {reason}" for line_no, rule, reason, _, _ in block.rejects}
    assert parser.read == len(good) + len(bad)
    return good, bad


def run(count: int, seed: int, tmp_path: Path) -> None:
    full = kit.event(1, kit.START, exchange_time="2024-12-01 00:00:01.5+00", ingested_at=kit.instant(kit.START),
                     fill_price=88000.5, slippage_pct="0.2268", stream_seq=3, exchange_order_id="12",
                     error_message="none é \u2028 \\", new_column=[1.50, {"a": -0.0}])  # fmt: skip
    inputs = [json.dumps(full, ensure_ascii=False).encode(), *(json.dumps(e).encode() for e in kit.events(5))]
    accepted = rejected = 0
    for low in range(0, count, BATCH):
        path = tmp_path / "mutated.ndjson"
        path.write_bytes(
            b"".join(fuzz.one(seed, n, inputs) + b"\n" for n in range(low, min(low + BATCH, count)))
        )
        lines = path.read_bytes().split(b"\n")
        if lines[0].startswith(b"\xef\xbb\xbf"):
            lines[0] = lines[0][3:]
        want, want_bad = judged(lines)
        try:
            good, bad = parsed(path)
        except RefusedFile:
            # only a mutated `environment` or magic bytes of a packed file may do that; neither is in the inputs
            pytest.fail(f"seed {seed}, inputs from {low}: the file was refused")
        assert set(good) == set(want), (
            seed,
            low,
            {n: bad.get(n) for n in set(want) - set(good)},
            set(good) - set(want),
        )
        assert set(bad) == want_bad, (seed, low)
        for number, row in good.items():
            expected = want[number]
            assert {k: v for k, v in row.items() if k not in ("payload", "extra")} == {
                k: v for k, v in expected.items() if k not in ("payload", "extra") and k in row
            }, (seed, low, number)
            assert plain(row["payload"]) == plain(expected["payload"]), (seed, low, number)
            assert plain(row["extra"]) == plain(expected["extra"]), (seed, low, number)
        accepted, rejected = accepted + len(good), rejected + len(bad)
    assert accepted > count // 50
    assert rejected > count // 4


def test_mutated_lines_are_accepted_as_the_judge_does(tmp_path: Path):
    run(2_000, 20241201, tmp_path)


@pytest.mark.long
def test_mutated_lines_are_accepted_as_the_judge_does_at_length(tmp_path: Path):
    run(100_000, 7, tmp_path)
