"""Rows with extreme values: what lands, value by value, is what a slow judge of NDJSON lines accepts."""

import json
import random
import uuid
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.postgres.load import ingest_postgres
from tests.unit.ingest_postgres import kit
from tests.unit.ingest_postgres.kit import Database
from tests.unit.ingest_windows import kit as rows_kit
from tests.unit.ingest_windows import oracle
from tests.unit.ingest_windows.kit import START

NUMBERS = (
    "NaN", "Infinity", "-Infinity", "0", "-0.0", "999999999999.99999999", "-999999999999.99999999", "1000000000000",
    "0.00000001", "0.000000001", "1.100000000000", "99999999999999999999999999999999.5", "88000.1", "-0.00000001",
    "123456789.123456785", "1e-30", "100.0000", "99.9999", "99.99995", "999999.9999", "1000000",
)  # fmt: skip
WHOLE = (0, 1, -1, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
TIMES = (
    "infinity", "-infinity", "1999-12-31 23:59:59.999999+00", "2000-01-01 00:00:00+00", "2099-12-31 23:59:59.999999+00",
    "2100-01-01 00:00:00+00", "10000-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC", "2024-12-01 00:00:00.000001+00",
    "2024-06-30 23:59:59.5+05:30", "1970-01-01 00:00:00+00",
)  # fmt: skip
TEXTS = ("", " ", "é\u2028", "a\tb\nc\rd", 'quote " \\ back', "\x01\x1f\x7f", "😀" * 3, "\\N", "null",
         "x" * 63, "é" * 65,
         "y-" * 51, "'; drop table stop_events; --", "{}", "ÿ")  # fmt: skip
SYMBOLS = (
    "BTCUSDC",
    "btcusdc",
    "",
    "A",
    "ABCDE",
    "A" * 20,
    "A" * 21,
    "BTC-USD",
    "BTCUSDC ",
    "ＢＴＣ",
    "BTCUSDC\n",
)
PAYLOADS = (
    {}, {"trigger_type": "STOP_LOSS"}, {"trigger_type": "OTHER"}, {"trigger_type": 3}, {"trigger_type": None},
    {"a": 1.5, "b": [1, {"c": None}], "é": "\u2028"}, {"n": 10**50}, {"z": "\x01\x1f", "A": "a", "a": "A"}, [], 3,
    "text", None, {"fills": [{"price": "1.0", "qty": "2"}], "fill_imputed": False},
    {"deep": json.loads("[" * 30 + "]" * 30)}, {"deep": json.loads("[" * 40 + "]" * 40)}, {"tiny": 1e-30, "big": 1e30},
)  # fmt: skip
LOOSE = """
    alter table stop_events alter symbol type text, alter event_type type text, alter execution_token type text,
        alter exchange_order_id type text, alter side type text, alter source type text, add trigger_type text,
        alter symbol drop not null, alter event_type drop not null, alter source drop not null,
        alter occurred_at drop not null, alter operation_id drop not null, alter client_id drop not null,
        alter retry_count drop not null, alter payload_json drop not null
"""


def one(rng: random.Random, number: int) -> dict:
    """An event of which some values, or none, are extreme; each as PostgreSQL's own text or as JSON has it."""
    at = START + timedelta(microseconds=rng.randrange(40 * 3_600_000_000))
    row = rows_kit.event(number, at) | {"event_id": str(uuid.UUID(int=rng.getrandbits(128)))}
    row |= {"ingested_at": rows_kit.instant(at), "error_message": rng.choice(TEXTS)}
    choices = {
        **dict.fromkeys(("trigger_price", "stop_price", "quantity", "fill_price", "slippage_pct"), NUMBERS),
        **dict.fromkeys(("event_seq", "stream_seq", "operation_id", "client_id"), WHOLE),
        "retry_count": WHOLE[:4],
        **dict.fromkeys(("occurred_at", "exchange_time"), TIMES),
        **dict.fromkeys(("execution_token", "exchange_order_id", "side", "source", "event_type"), TEXTS),
        "trigger_type": ("STOP_LOSS", "TAKE_PROFIT", "", "stop_loss"),
        "symbol": SYMBOLS,
        "payload_json": PAYLOADS,
    }
    for name in rng.sample(sorted(choices), rng.choice((0, 0, 1, 1, 2, 4))):
        row[name] = None if rng.random() < 0.15 else rng.choice(choices[name])
    if rng.random() < 0.01:
        row["ingested_at"] = rng.choice(TIMES)
    return row


def copy(database: Database, rows: list[dict]) -> None:
    names = sorted({name for row in rows for name in row})
    with (
        database.connection.cursor() as cursor,
        cursor.copy(f"copy stop_events ({', '.join(names)}) from stdin") as pipe,
    ):
        for row in rows:
            values = [json.dumps(row[n]) if n == "payload_json" and n in row else row.get(n) for n in names]
            pipe.write_row([None if v is None else str(v) for v in values])


def plain(value):
    """Numbers as they compare, however they were written."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, oracle.Written | float | Decimal) or type(value) is int:
        return Decimal(str(value))
    return value


def run(database: Database, root: Path, monkeypatch: pytest.MonkeyPatch, count: int, seed: int) -> None:
    database.execute(LOOSE)
    rng = random.Random(seed)  # noqa: S311 - values of a test
    rows = [one(rng, n) for n in range(count)]
    copy(database, rows)
    good, bad = {}, set()
    for row in rows:
        try:
            good[row["event_id"]] = oracle.judge(json.dumps(row).encode())
        except oracle.Bad:
            bad.add(row["event_id"])
    kit.set_clock(monkeypatch, START + timedelta(hours=50))
    report = ingest_postgres(root, "events", "DSN", max_bad=1)
    landed = {row["event_id"]: row for row in kit.landed(root)}
    # Rows of another year that happen to have a good time land in their hour: later, or before what was read.
    waiting = {row["event_id"] for row in rows if row["ingested_at"] in TIMES}
    assert set(landed) - waiting == set(good) - waiting
    assert report.rows == report.load.rows + sum(report.load.by_rule.values()) - report.timeless
    assert len(bad) > count // 5
    assert len(landed) > count // 5
    for identity, row in landed.items():
        want = good[identity]
        assert {k: v for k, v in row.items() if k in want and k not in ("ingested_at",)} == {
            k: v for k, v in want.items() if k in row and k not in ("ingested_at",)
        }, (seed, identity)
        assert plain(json.loads(row["payload_json"], parse_float=Decimal)) == plain(want["payload"]), (
            seed,
            identity,
        )


def test_extreme_values_land_as_the_judge_has_them(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    run(database, root, monkeypatch, 2_000, 20241201)


@pytest.mark.long
def test_extreme_values_land_as_the_judge_has_them_at_length(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    run(database, root, monkeypatch, 100_000, 7)
