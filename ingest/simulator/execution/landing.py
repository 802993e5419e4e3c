"""Land what `simulate_execution` wrote, as its sources would be landed: every loader once, and what came late last."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ingest.binance.load import ingest_files
from ingest.binance.report import Options
from ingest.binance.report import Report as BinanceReport
from ingest.ndjson import NdjsonReport, ingest_ndjson
from ingest.window_schema import WINDOW_SCHEMAS
from ingest.window_seal import seal_through

DATASETS = ("events", "orders", "operations", "balance_snapshots")
# A simulated file may be so small that one bad line is more than a hundredth of it.
MAX_BAD = 0.2


@dataclass
class Landed:
    """Reports by what was landed: the four datasets, ``late``, and those of Binance by their names."""

    ndjson: dict[str, NdjsonReport] = field(default_factory=dict)
    binance: list[tuple[str, BinanceReport]] = field(default_factory=list)

    def files(self) -> list[Any]:
        return [
            file for report in [*self.ndjson.values(), *(r for _, r in self.binance)] for file in report.files
        ]

    def failed(self) -> list[str]:
        """A line for each file that was not landed."""
        return [file.line() for file in self.files() if not file.ok]


def land_simulated(
    root: Path,
    out: Path,
    *,
    environment: str = "prod",
    sealed_through: datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Landed:
    """Land the files below ``out`` into the lake under ``root``; what is landed already is a no-op.

    Windows seal as they always do, so that the late file meets sealed ones; at the end all that end at or before
    ``sealed_through`` are sealed. ``progress`` is called with each folder.
    """
    landed = Landed()
    for dataset in DATASETS:
        progress(dataset)
        pattern = str(out / "events" / dataset / "*.ndjson")
        landed.ndjson[dataset] = ingest_ndjson(
            root, dataset, pattern, environment=environment, max_bad=MAX_BAD
        )
    late = out / "events" / "late"
    if late.is_dir():
        progress("late")
        landed.ndjson["late"] = ingest_ndjson(root, "events", str(late / "*.ndjson"), environment=environment)
    for folder in sorted((out / "binance" / "fills").glob("client-*")):
        progress(folder.name)
        options = Options(environment=environment, client_id=int(folder.name.removeprefix("client-")))
        landed.binance.append(("trades", ingest_files(root, "trades", [str(folder / "*.json")], options)))
    spot = out / "binance" / "spot"
    for dataset, patterns in (
        ("agg_trades", [str(path) for path in (spot / "aggTrades", spot / "capture") if path.is_dir()]),
        ("klines", [str(spot / "klines")]),
    ):
        progress(dataset)
        globs = [f"{folder}/*" for folder in patterns]
        landed.binance.append(
            (dataset, ingest_files(root, dataset, globs, Options(environment=environment, market="spot")))
        )
    if sealed_through is not None:
        for dataset in WINDOW_SCHEMAS:
            seal_through(root, dataset, sealed_through)
    return landed
