"""Mutated inputs, each read twice: no crash, no hang, and exactly the rows that a slow reader finds."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import RefusedFile
from tests.fixtures.fuzz import mutations, one
from tests.unit.ingest_binance import oracle
from tests.unit.ingest_binance.kit import (
    DAY,
    Read,
    agg_csv,
    agg_rest,
    bar_values,
    bars_csv,
    fill,
    lines,
    long_form,
    put,
    read,
    report,
    ws_agg,
    ws_bar,
    zipped,
)

NAME = f"BTCUSDC-aggTrades-{DAY}"
SEED = 20241201
DATE = dt.date(2024, 12, 1)
COUNTS = [pytest.param(2_000, id="sample"), pytest.param(100_000, marks=pytest.mark.long, id="full")]


def same_rows(found: list[dict], line_no: list[int], expected: dict[int, dict]) -> None:
    """Equal rows in equal lines; of a row only what the oracle knows is compared."""
    assert line_no == sorted(expected)
    for row, want in zip(found, (expected[n] for n in line_no), strict=True):
        assert {key: row[key] for key in want} == want


@pytest.mark.parametrize("count", COUNTS)
def test_an_archive_that_was_damaged_gives_the_rows_that_are_whole(tmp_path, count):
    head = agg_csv(1)  # what tells the kind stays; the rest of the file is anything
    inputs = [agg_csv(12), agg_csv(12, unit="us"), agg_csv(5).replace(b"\n", b"\r\n")]
    for number in range(count):
        data = head + one(SEED, number, inputs)
        found = read(put(tmp_path, f"{NAME}.csv", data))
        expected = oracle.archive_rows(data, "BTCUSDC", DATE)
        same_rows(found.rows("agg_trades"), found.line_no.get("agg_trades", []), expected)


@pytest.mark.parametrize("count", COUNTS)
def test_a_capture_that_was_damaged_gives_the_rows_that_are_whole(tmp_path, count):
    head = lines({"result": None, "id": 1})
    inputs = [
        lines(*[ws_agg(i) for i in range(4)], received_ns=1_733_011_200_000_000_000),
        lines(
            {"stream": "btcusdc@aggTrade", "data": ws_agg(3)}, ws_bar(0), report(0), ws_agg(1, p=1.5, q=1e-7)
        ),
    ]
    for number in range(count):
        data = head + one(SEED, number, inputs)
        found = read(put(tmp_path, "capture.json", data))
        same_rows(found.rows("agg_trades"), found.line_no.get("agg_trades", []), oracle.capture_rows(data))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("form", ["zip", "gz"])
def test_a_packed_file_that_was_damaged_is_refused_or_whole(tmp_path, form, count):
    """What the standard library unpacks without complaint is read; nothing else is."""
    plain = agg_csv(40)
    whole = zipped(f"{NAME}.csv", plain)
    packed = [whole, long_form(whole)] if form == "zip" else [gzip.compress(plain, mtime=0)]
    path = tmp_path / (f"{NAME}.zip" if form == "zip" else f"{NAME}.csv.gz")
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        data = mutations(rng, packed[number % len(packed)])
        path.write_bytes(data)
        found = read_or_refuse(path)
        if found is None:
            continue
        text = unpacked(data)
        assert text is not None
        same_rows(
            found.rows("agg_trades"),
            found.line_no.get("agg_trades", []),
            oracle.archive_rows(text, "BTCUSDC", DATE),
        )


def read_or_refuse(path: Path, dataset: str = "agg_trades") -> Read | None:
    """What is in the file, None when it was refused; anything else that is raised is a fault of ours."""
    try:
        return read(path, dataset)
    except RefusedFile:
        return None


def unpacked(data: bytes) -> bytes | None:
    """What a packed file holds; the bytes themselves where they aren't packed any more."""
    try:
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return archive.read(archive.infolist()[0])
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (zipfile.BadZipFile, EOFError, OSError, IndexError):
        return None


def _texts() -> list[tuple[str, str, bytes]]:
    """Name, dataset and bytes of one file of every other form."""
    return [
        (f"BTCUSDC-1m-{DAY}.csv", "klines", bars_csv(8, header=True)),
        (f"BTCUSDC-1m-{DAY}.csv", "klines", bars_csv(8)),
        ("BTCUSDC-1m.json", "klines", lines([bar_values(i) for i in range(4)])),
        ("BTCUSDC-aggTrades.json", "agg_trades", json.dumps(agg_rest(3), indent=1).encode()),
        ("fills.json", "trades", lines([fill(0), fill(1)], fill(2), report(3))),
        ("c.json", "klines", lines(ws_bar(0), ws_bar(1))),
        ("x.csv", "agg_trades", agg_csv(5, futures=True, header=True)),
    ]


FORM_COUNTS = [pytest.param(300, id="sample"), pytest.param(100_000, marks=pytest.mark.long, id="full")]


@pytest.mark.parametrize("count", FORM_COUNTS)
@pytest.mark.parametrize("form", range(len(_texts())))
def test_any_other_form_that_was_damaged_is_accounted_for(tmp_path, form, count):
    """`read` holds that accepted + rejected + filtered = read; rows that pass keep the rules of their kind."""
    name, dataset, data = _texts()[form]
    check = _CHECKS[dataset]
    ends = {"refused": 0, "read": 0}
    for number in range(count):
        rng = np.random.default_rng([SEED, form, number])
        found = read_or_refuse(put(tmp_path, name, mutations(rng, data)), dataset)
        ends["refused" if found is None else "read"] += 1
        for row in found.rows(dataset) if found else ():
            assert check(row), row
    assert ends["read"] > count // 50, ends


def _bar(row: dict) -> bool:
    prices = [row[name] for name in ("open", "high", "low", "close")]
    return (
        row["open_time"] < row["close_time"] and min(prices) == row["low"] > 0 and max(prices) == row["high"]
    )


def _fill(row: dict) -> bool:
    return (
        row["side"] in ("BUY", "SELL") and row["price"] > 0 and row["quantity"] > 0 and row["client_id"] == 1
    )


def _agg(row: dict) -> bool:
    return row["price"] > 0 and row["quantity"] > 0 and 0 <= row["first_trade_id"] <= row["last_trade_id"]


_CHECKS: dict[str, Callable[[dict], bool]] = {"klines": _bar, "trades": _fill, "agg_trades": _agg}
