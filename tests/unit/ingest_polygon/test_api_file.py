"""Saved answers that are none: refused whole, wherever they come from."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
import zstandard

from ingest.errors import RefusedFile
from ingest.polygon import api_file
from ingest.polygon.flat_file import FlatFile
from ingest.polygon.landing import ingest
from lake.bronze import visible_files
from tests.fixtures.fuzz import bomb_zstd, one
from tests.unit.ingest_polygon.kit import OPEN_NS, bronze, rejects

REQUEST = {"provider": "polygon", "kind": "options", "ticker": "O:SPY251224C00690000", "date": "2025-12-24"}
RESULT = {"exchange": 300, "price": 1.5, "sip_timestamp": OPEN_NS, "size": 1}
HEAD = json.dumps(REQUEST)[:-1] + ',"results":['


def packed(text: str | bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(text.encode() if isinstance(text, str) else text)


def land(root: Path, folder: Path, data: bytes):
    path = folder / "x.json.zst"
    path.write_bytes(data)
    (report,) = ingest(root, [path]).files
    return report


def test_what_is_written_is_read_again(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.json.zst"
    assert api_file.write(path, REQUEST, [api_file.loads(json.dumps(RESULT))] * 3) == 3
    assert (
        json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()))["results"]
        == [RESULT] * 3
    )
    assert land(root, tmp_path, path.read_bytes()).rows == 3


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "first line was"),
        (b"nothing", "could not be unpacked"),
        (packed("nothing\n]}\n"), "first line was"),
        (packed(HEAD.replace("2025-12-24", "../../x") + "\n]}\n"), "first line was"),
        (packed(HEAD.replace("O:SPY", "O:/../") + "\n]}\n"), "first line was"),
        (packed(HEAD.replace('"options"', '"bonds"') + "\n]}\n"), "first line was"),
        (packed("[" * 50_000 + "\n"), "first line was"),
        (packed(HEAD + "\n" + json.dumps(RESULT) + "\n"), "expected ]}"),
        (packed(HEAD + "\n" + json.dumps(RESULT) + "\n]}\n")[:-6], ""),
        (packed(HEAD + "\n[1]\n]}\n"), "result was"),
        (packed(HEAD + '\n{"price":NaN}\n]}\n'), "result was"),
        (packed(HEAD + '\n{"pr\\"ice":1}\n]}\n'), "quotes or control characters"),
        (packed(HEAD.encode() + b"\n\xff\n]}\n"), "could not be unpacked"),
        (bomb_zstd(64 << 20), "had no end within"),
        (packed(HEAD + "\n" + "9" * (2 << 20) + "\n]}\n"), "had no end within"),
    ],
)
def test_what_is_no_answer_is_refused(root: Path, tmp_path: Path, data: bytes, told: str) -> None:
    report = land(root, tmp_path, data)
    assert report.status == "quarantined"
    assert told in report.reason
    assert not visible_files(root)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"price": "x,y"}, "CAST"),
        ({"price": None}, "CAST"),
        ({"price": True}, "CAST"),
        ({"price": [1, 2]}, "CAST"),
        ({"price": {"a": 1}}, "CAST"),
        ({"size": "1\n"}, "ENCODING"),
        ({"note": "\ud800"}, "ENCODING"),
        ({"sip_timestamp": float(OPEN_NS)}, "CAST"),  # written 1.7665866e+18
        ({"price": 1e-7, "size": 1e2}, None),
        ({"conditions": [209, "a"]}, "CAST"),
        ({"ticker": "O:SPY251224C0069000"}, "TICKER"),
    ],
)
def test_a_result_that_breaks_a_rule_is_kept_aside(
    root: Path, tmp_path: Path, values: dict, rule: str | None
) -> None:
    bad = json.dumps(RESULT | values)
    lines = [json.dumps(RESULT)] * 200
    report = land(root, tmp_path, packed("\n".join([HEAD, ",\n".join([*lines, bad]), "]}", ""])))
    assert report.status == "landed", report.reason
    assert [(r["rule"], r["line_no"], r["raw"]) for r in rejects(root)] == (
        [(rule, 202, bad)] if rule else []
    )
    assert len(bronze(root, "options.trades.v1")) == (200 if rule else 201)


TEXT = "\n".join(
    [
        HEAD,
        ",\n".join([json.dumps(RESULT | {"conditions": [209, 233], "sequence_number": n}) for n in range(4)]),
        "]}",
        "",
    ]
).encode()


def parse_mutated(folder: Path, number: int, seed: int) -> str:
    """Parse one mutated answer as far as rows, and compare each with its line; returns how it ended."""
    text = one(seed, number, [TEXT if number % 4 == 0 else TEXT[len(HEAD) + 1 :]])
    text = text if number % 4 == 0 else HEAD.encode() + b"\n" + text
    path = folder / "x.json.zst"
    path.write_bytes(packed(text))
    try:
        api = api_file.ApiFile(path)
        file = FlatFile(
            [api.ticker_key], source="massive_rest", delivery_id="0" * 16, stage=folder, source_file="x",
            kind=api.kind, date=api.date, raw_line=api.raw_line, run_rows=4096,
        )  # fmt: skip
        try:
            file.parse(api.blocks())
            rows = []
            for batch in file.rows.sorted_batches(4096) if file.rows.rows else ():
                rows += file.rows.bronze_table(batch).to_pylist()
        finally:
            file.abort()
    except RefusedFile:
        return "refused"
    lines = text.decode().split("\n")
    assert lines[file.lines + 1] == "]}"
    assert len(rows) + file.rejected + file.filtered == file.lines
    for row in rows:
        said = json.loads(lines[row["ordinal"] + 1].removesuffix(","), parse_float=Decimal)
        assert row["ts_event_ns"] == int(said["sip_timestamp"])
        assert (row["price"], row["size"]) == (Decimal(said["price"]), Decimal(said["size"]))
        assert row["sequence"] == (
            None if said.get("sequence_number") in (None, "") else int(said["sequence_number"])
        )
        conditions = said.get("conditions") or None
        if isinstance(conditions, list):
            assert row["conditions"] == [int(c) for c in conditions]
    return "read"


def run(folder: Path, count: int, seed: int) -> dict[str, int]:
    ends: dict[str, int] = {}
    for number in range(count):
        try:
            end = parse_mutated(folder, number, seed)
        except Exception as error:
            error.add_note(f"mutated answer {number} of seed {seed}")
            raise
        ends[end] = ends.get(end, 0) + 1
    return ends


def test_mutated_answers_are_read_as_they_say_or_refused(tmp_path: Path) -> None:
    ends = run(tmp_path, 1500, 7)
    assert min(ends["read"], ends["refused"]) > 50  # one broken byte of JSON refuses the whole answer


@pytest.mark.long
def test_a_hundred_thousand_mutated_answers(tmp_path: Path) -> None:
    assert run(tmp_path, 100_000, 8)["read"] > 4_000
