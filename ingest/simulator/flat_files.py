"""Prints as the text of a flat file: `csv.gz`, the vendor's columns, the file whole under its name or not at all."""

import gzip
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from ingest.polygon.layout import OPTIONS, STOCKS
from ingest.simulator.clock import trading_sessions
from ingest.simulator.damage import RESENT_ONE_IN
from ingest.simulator.dbn import TEMP_PREFIX, truncate
from ingest.simulator.ledger import Part
from ingest.simulator.options import option_prints
from ingest.simulator.path import session_path
from ingest.simulator.plan import TapePlan
from ingest.simulator.prints import Prints
from ingest.simulator.spot import open_spot
from ingest.simulator.stocks import TRF, stock_prints
from lake import atomic

HEADERS = {"options": ",".join(OPTIONS.required), "stocks": ",".join(STOCKS.required)}
ROWS_AT_ONCE = 100_000
TAPE_B = 2


class FlatFile:
    """One flat file under construction; ``publish`` makes it durable and gives it its name, after which the caller
    has to sync the folder once for all files it published.

    Source: the vendor's flat files; spec/market.md 3.2.
    """

    def __init__(
        self, root: Path, schema: str, day: date, lines: Iterator[list[str]], fault: str | None = None
    ) -> None:
        self.schema, self.day, self.fault, self.record_count = schema, day, fault, 0
        self.folder(root).mkdir(parents=True, exist_ok=True)
        self._temp = self.folder(root) / f"{TEMP_PREFIX}{fault or ''}{self.name()}"
        with (
            open(self._temp, "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as file,
        ):
            file.write(f"{HEADERS[schema]}\n".encode())
            for block in lines:
                file.write("\n".join([*block, ""]).encode())
                self.record_count += len(block)
        if fault == "truncated-file":
            truncate(self._temp)
        self.bytes = self._temp.stat().st_size
        self.sha256 = atomic.sha256_file(self._temp)

    def folder(self, root: Path) -> Path:
        return root / "raw" / "polygon" / self.schema

    def name(self) -> str:
        return f"{self.day:%Y-%m-%d}.csv.gz"

    def publish(self, path: Path) -> None:
        atomic.fsync_file(self._temp)
        os.replace(self._temp, path)

    def discard(self) -> None:
        self._temp.unlink(missing_ok=True)


def flat_parts(session: date, faults: frozenset[str]) -> Iterator[Part]:
    """What the flat files hold of a session: each of its prints, and deliveries that are faults."""
    schemas = [s for s in HEADERS if not (s == "options" and "no-options-day" in faults)]
    for schema in schemas if trading_sessions(session, session) else ():
        yield schema, session, session, None
        if "redelivery" in faults:
            yield schema, session, session, "redelivery"
        if "truncated-file" in faults and schema == "options":
            yield schema, session, session, "truncated-file"


def flat_files(
    root: Path,
    seed: int,
    scale: float,
    profile: str,
    plan: TapePlan,
    parts: list[Part],
    faults: frozenset[str],
) -> Iterator[FlatFile]:
    """The finished files of one session, ``plan``'s, as far as they are among ``parts``."""
    wanted = [part for part in parts if part[0] in HEADERS]
    spot = open_spot(seed, wanted[0][2], scale, profile, plan) if wanted else None
    if own := [part for part in wanted if part[0] == "options"]:
        flow = session_path(seed, spot.clock.day, profile).dealers
        prints = option_prints(seed, scale, spot, flow, faults)
        for _, day, _, fault in own:
            yield FlatFile(root, "options", day, option_lines(_delivered(prints, fault)), fault)
    if own := [part for part in wanted if part[0] == "stocks"]:
        stocks = stock_prints(seed, scale, spot, faults)
        for _, day, _, fault in own:
            yield FlatFile(root, "stocks", day, stock_lines(_delivered(stocks, fault)), fault)


def _delivered(prints: Prints, fault: str | None) -> Prints:
    return prints.every(RESENT_ONE_IN) if fault == "redelivery" else prints


def option_lines(prints: Prints) -> Iterator[list[str]]:
    """Blocks of lines of an options file, in the order of the prints."""
    for part in _parts(len(prints)):
        yield [
            f"{prints.names[ticker]},{conditions},{correction},{exchange},{cents // 100}.{cents % 100:02d},{ts},{size}"
            for ticker, conditions, correction, exchange, cents, ts, size in zip(
                prints.ticker[part].tolist(),
                prints.conditions[part],
                prints.correction[part].tolist(),
                prints.exchange[part].tolist(),
                prints.cents[part].tolist(),
                prints.ts_ns[part].tolist(),
                prints.sizes(part),
                strict=True,
            )
        ]


def stock_lines(prints: Prints) -> Iterator[list[str]]:
    """Blocks of lines of a stocks file, in the order of the prints."""
    for part in _parts(len(prints)):
        yield [
            f"{prints.names[ticker]},{conditions},{correction},{exchange},{number},{venue_ns},"
            f"{cents // 100}.{cents % 100:02d},{number},{ts},{size},{TAPE_B},"
            + (f"201,{venue_ns + 9_000}" if exchange == TRF else "0,0")
            for number, ticker, conditions, correction, exchange, cents, ts, size, venue_ns in zip(
                prints.number[part].tolist(),
                prints.ticker[part].tolist(),
                prints.conditions[part],
                prints.correction[part].tolist(),
                prints.exchange[part].tolist(),
                prints.cents[part].tolist(),
                prints.ts_ns[part].tolist(),
                prints.size[part].tolist(),
                prints.venue_ns[part].tolist(),
                strict=True,
            )
        ]


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, count))
