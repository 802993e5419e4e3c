"""Prints as the text of a flat file: `csv.gz`, the vendor's columns, the file whole under its name or not at all."""

import gzip
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from ingest.polygon.layout import OPTIONS, STOCKS
from ingest.simulator.dbn import TEMP_PREFIX
from ingest.simulator.options import option_prints
from ingest.simulator.path import session_path
from ingest.simulator.plan import TapePlan
from ingest.simulator.prints import Prints
from ingest.simulator.spot import open_spot
from ingest.simulator.stocks import TRF, StockPrints, stock_prints
from lake import atomic

HEADERS = {"options": ",".join(OPTIONS.required), "stocks": ",".join(STOCKS.required)}
ROWS_AT_ONCE = 100_000
TAPE_B = 2


class FlatFile:
    """One flat file under construction; ``publish`` makes it durable and gives it its name, after which the caller
    has to sync the folder once for all files it published.

    Source: the vendor's flat files; spec/market.md 3.2.
    """

    def __init__(self, root: Path, schema: str, day: date, lines: Iterator[list[str]]) -> None:
        self.schema, self.day, self.record_count = schema, day, 0
        self.folder(root).mkdir(parents=True, exist_ok=True)
        self._temp = self.folder(root) / f"{TEMP_PREFIX}{self.name()}"
        with (
            open(self._temp, "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as file,
        ):
            file.write(f"{HEADERS[schema]}\n".encode())
            for block in lines:
                file.write("\n".join([*block, ""]).encode())
                self.record_count += len(block)
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


def flat_files(
    root: Path, seed: int, day: date, scale: float, profile: str, plan: TapePlan, wanted: list[str]
) -> Iterator[FlatFile]:
    """The finished files of session ``day`` (``options``, ``stocks``) as far as they are wanted."""
    spot = open_spot(seed, day, scale, profile, plan) if wanted else None
    if "options" in wanted:
        flow = session_path(seed, day, profile).dealers
        yield FlatFile(root, "options", day, option_lines(option_prints(seed, scale, spot, flow)))
    if "stocks" in wanted:
        yield FlatFile(root, "stocks", day, stock_lines(stock_prints(seed, scale, spot)))


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
                prints.size[part].tolist(),
                strict=True,
            )
        ]


def stock_lines(stocks: StockPrints) -> Iterator[list[str]]:
    """Blocks of lines of a stocks file, in the order of the prints."""
    prints = stocks.prints
    for part in _parts(len(prints)):
        yield [
            f"{prints.names[ticker]},{conditions},{correction},{exchange},{number},{venue_ns},"
            f"{cents // 100}.{cents % 100:02d},{number},{ts},{size},{TAPE_B},"
            + (f"201,{venue_ns + 9_000}" if exchange == TRF else "0,0")
            for number, ticker, conditions, correction, exchange, cents, ts, size, venue_ns in zip(
                range(part.start + 1, part.stop + 1),
                prints.ticker[part].tolist(),
                prints.conditions[part],
                prints.correction[part].tolist(),
                prints.exchange[part].tolist(),
                prints.cents[part].tolist(),
                prints.ts_ns[part].tolist(),
                prints.size[part].tolist(),
                stocks.participant_ns[part].tolist(),
                strict=True,
            )
        ]


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, count))
