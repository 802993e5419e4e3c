"""A vendor with four days of genuine DBN, and calls of `ingest databento` against it that never sleep."""

import datetime
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from ingest.databento import Query, Report, Vendor, fetch_and_land
from ingest.http_retry import RetryPolicy
from tests.fixtures.databento_server import KEY, DatabentoServer
from tests.unit.ingest import dbn_kit

SYMBOL, INSTRUMENT_ID = "ES.FUT", 17
FIRST = datetime.date(2025, 10, 6)
ROWS = {"trades": 400, "mbp-10": 900}
EMPTY_DAY = "2025-10-08"
DAY_NS = 86_400_000_000_000


def day_file(schema: str, day: datetime.date, rows: int, *, days: int = 1) -> bytes:
    """A day as the vendor writes it: head with the request, records of one instrument, one zstd frame.

    With ``days`` the request, not the records, is of so many.
    """
    start_ns = (day - datetime.date(1970, 1, 1)).days * DAY_NS
    head = dbn_kit.metadata(
        schema,
        mappings={"ESZ5": [(day, day + datetime.timedelta(days=days), INSTRUMENT_ID)]},
        stype_in="parent",
        start=start_ns,
        end=start_ns + days * DAY_NS,
        symbols=[SYMBOL],
    )
    records = dbn_kit.records(
        schema, rows, seed=day.toordinal(), start_ns=start_ns + 14 * 3600 * 10**9, step_ns=5 * 10**9
    )
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(head + records.tobytes())


def days() -> dict[tuple[str, str], tuple[bytes, int]]:
    """Four days of two schemas; the third day has no record."""
    found = {}
    for schema, rows in ROWS.items():
        for offset in range(4):
            day = FIRST + datetime.timedelta(days=offset)
            n = 0 if day.isoformat() == EMPTY_DAY else rows
            found[schema, day.isoformat()] = day_file(schema, day, n), n
    return found


@contextmanager
def server() -> Iterator[DatabentoServer]:
    with DatabentoServer(days(), symbols=(SYMBOL, "NQ.FUT")).running() as running:
        yield running


class Waits:
    """Stands for sleeping and for the clock: time passes by waiting only."""

    def __init__(self) -> None:
        self.all_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.all_s.append(seconds)

    def clock(self) -> float:
        return sum(self.all_s)


def query(first: int = 0, days: int = 2, *, schemas: tuple[str, ...] = ("trades",), **more: object) -> Query:
    start = FIRST + datetime.timedelta(days=first)
    arguments = {
        "dataset": "GLBX.MDP3",
        "schemas": schemas,
        "symbols": (SYMBOL,),
        "stype_in": "parent",
        "start": start,
        "end": start + datetime.timedelta(days=days),
    }
    return Query(**(arguments | more))


def call(
    root: Path,
    url: str,
    asked: Query | None = None,
    *,
    key: str = KEY,
    waits: Waits | None = None,
    attempts: int = 4,
    read_timeout_s: float = 20,
    max_usd: float = 100,
    **more: object,
) -> Report:
    waits = waits or Waits()
    policy = RetryPolicy(attempts=attempts, sleep=waits.sleep, rng=random.Random(1))  # noqa: S311
    vendor = Vendor(key, url, policy=policy, read_timeout_s=read_timeout_s)
    return fetch_and_land(root, asked or query(), vendor, max_usd=max_usd, clock=waits.clock, **more)


def wait_until(true: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
