"""What each schema of a DBN file becomes: its bronze dataset, its place in raw, and the rows its records give.

A reading turns the blocks of one file into blocks for the router. Trades and ten-level books pass as they are; a book
is built from orders, definitions of three layouts get one, bars get what bronze orders by.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ingest import dbn_definitions, dbn_ohlcv
from ingest.bronze_schema import (
    DEFINITIONS,
    FUTURES_MBP10,
    FUTURES_OHLCV,
    FUTURES_TRADES,
    TS_EVENT_MAX_NS,
    TS_EVENT_MIN_NS,
    BronzeSchema,
)
from ingest.dbn_format import DbnHeader
from ingest.dbn_rows import RowBuffer
from ingest.record_quality import RecordQuality
from ingest.record_rules import RecordRules
from ingest.rejects import RejectWriter
from ingest.symbology import DAY_NS, SymbolMap, day_of, product_root
from lake import atomic
from lake.bronze import VISIBLE_STATUS
from lake.paths import bronze_dir, receipts_dir

Blocks = Iterable[np.ndarray]


class Reading:
    """One file of trades or of ten-level books: every record is a row.

    ``symbols`` names the contracts; ``rules`` and ``buffer`` are the router's, see there.
    """

    rules: RecordRules | None = None
    buffer: type[RowBuffer] = RowBuffer

    def __init__(self, header: DbnHeader, root: Path) -> None:
        self.header = header
        self.symbols = self._symbols(root)

    def _symbols(self, root: Path) -> SymbolMap | dbn_definitions.DefinedSymbols:
        return SymbolMap(self.header.metadata, landed_definitions(root, self.header.dataset))

    def rows(self, blocks: Blocks, rejects: RejectWriter | None = None) -> Iterator[np.ndarray]:
        """The router's blocks. ``rejects`` gets what no row can be made of; None on a second reading."""
        yield from blocks

    def records_read(self, rows_read: int) -> int:
        """Records of the file, of which ``rows_read`` reached the router."""
        return rows_read

    def record_quality(self) -> RecordQuality | None:
        """What the router feeds, where the rows are trades or books."""
        return RecordQuality(self.symbols.contracts, is_book=self.header.schema != "trades")

    def checks(self, quality: RecordQuality | None, scale: float) -> dict[str, list[dict]]:
        """Verdicts for the commit records, by date."""
        return {} if quality is None else quality.checks(scale)


class _BarReading(Reading):
    rules, buffer = dbn_ohlcv.RULES, dbn_ohlcv.BarBuffer

    def rows(self, blocks: Blocks, rejects: RejectWriter | None = None) -> Iterator[np.ndarray]:
        return dbn_ohlcv.bars(blocks, self.header.schema)

    def record_quality(self) -> None:
        return None


class _DefinitionReading(Reading):
    rules, buffer = dbn_definitions.RULES, dbn_definitions.DefinitionBuffer

    def _symbols(self, root: Path) -> dbn_definitions.DefinedSymbols:
        return dbn_definitions.DefinedSymbols()

    def rows(self, blocks: Blocks, rejects: RejectWriter | None = None) -> Iterator[np.ndarray]:
        return dbn_definitions.definitions(blocks, self.symbols)

    def record_quality(self) -> None:
        return None


class _OrderReading(Reading):
    """A file of orders: the rows are the book that they build, each under the number of the order's own record."""

    def __init__(self, header: DbnHeader, root: Path) -> None:
        super().__init__(header, root)
        self._records = 0
        self._counts: dict[str, int] = {}

    def rows(self, blocks: Blocks, rejects: RejectWriter | None = None) -> Iterator[np.ndarray]:
        from ingest import mbo_book  # noqa: PLC0415 (its kernels take a while to load)

        book = mbo_book.MboBook()
        for records in blocks:
            first = book.records_read
            rebuilt = book.rebuild(records)
            if rejects is not None:
                for row, rule in zip(rebuilt.bad_rows.tolist(), rebuilt.bad_rules.tolist(), strict=True):
                    _reject_order(rejects, first + row, mbo_book.RULES[rule], records[row])
            if len(rebuilt.records):
                yield rebuilt.records
        self._records, self._counts = book.records_read, book.counts

    def records_read(self, rows_read: int) -> int:
        return self._records

    def checks(self, quality: RecordQuality | None, scale: float) -> dict[str, list[dict]]:
        """With the events that an unbroken stream of orders has none of, under the file's first day."""
        found = super().checks(quality, scale)
        day = self.symbols.first_day()
        if day is None:
            return found
        roots = sorted({product_root(c) for c in self.symbols.seen_symbols()[day].values()})
        names = ("unknown_cancels", "unknown_modifies", "duplicate_adds", "overfilled_cancels")
        of_orders = [
            {
                "key": {"symbol": root},
                "check": f"orders_{name}",
                "value": self._counts[name],
                "verdict": "warn" if self._counts[name] else "ok",
            }
            for root in roots
            for name in names
        ]
        return found | {day: [*found.get(day, []), *of_orders]}


def _reject_order(rejects: RejectWriter, number: int, rule: str, record: np.void) -> None:
    column, expected = {
        "ACTION": ("action", "one of A, C, F, M, N, R, T"),
        "SIDE": ("side", "A or B on an order"),
        "PRICE_RANGE": ("price", "a price below 10^18 billionths on an order"),
        "SIZE": ("size", "1 to 2147483647 on an order"),
    }[rule]
    fields = {n: record[n].item() for n in record.dtype.names[1:]}
    fields |= {n: chr(fields[n]) for n in ("action", "side")}
    ts_event = int(record["ts_event"])
    in_range = TS_EVENT_MIN_NS < ts_event < TS_EVENT_MAX_NS
    rejects.add(
        number,
        rule,
        f"{column} was {fields[column]!r}, expected {expected}",
        json.dumps(fields, separators=(",", ":")),
        date=day_of((ts_event if in_range else TS_EVENT_MIN_NS) // DAY_NS),
    )


@dataclass(frozen=True)
class Kind:
    """What becomes of a vendor schema: its bronze schema, its folder in raw/dbn, its dataset of rejects."""

    schema: BronzeSchema
    folder: str
    rejects: str
    reading: type[Reading] = Reading


KINDS = {
    "trades": Kind(FUTURES_TRADES, "trades", "futures_trades"),
    "mbp-10": Kind(FUTURES_MBP10, "mbp10", "futures_mbp10"),
    "mbo": Kind(FUTURES_MBP10, "mbo", "futures_mbp10", _OrderReading),
    "definition": Kind(DEFINITIONS, "definition", "reference_definitions", _DefinitionReading),
    **{
        schema: Kind(FUTURES_OHLCV, "ohlcv", "futures_ohlcv", _BarReading) for schema in dbn_ohlcv.INTERVALS_S
    },
}


def landed_definitions(root: Path, dataset: str) -> Callable[[str], Mapping[int, str]]:
    """Look-up of ``{id: raw symbol}`` by ISO date in the definitions of a vendor dataset that have landed.

    They are read at the first question only. An id that definitions of one day give to several contracts is left out.
    """

    @functools.cache
    def by_day() -> dict[str, dict[int, str]]:
        found: dict[str, dict[int, str | None]] = {}
        metadata = bronze_dir(root) / DEFINITIONS.folder / "_metadata"
        deliveries = {
            atomic.read_json(path)["delivery_id"] for path in sorted(metadata.glob("date=*/commit-*.json"))
        }
        for delivery in sorted(deliveries):
            path = receipts_dir(root) / f"receipt-{delivery}.json"
            receipt = atomic.read_json(path) if path.is_file() else None
            if receipt is None or receipt["status"] not in VISIBLE_STATUS or receipt["dataset"] != dataset:
                continue
            for day, ids in receipt["symbols"].items():
                of_day = found.setdefault(day, {})
                for instrument_id, contract in ids.items():
                    known = of_day.setdefault(int(instrument_id), contract)
                    if known != contract:
                        of_day[int(instrument_id)] = None
        return {day: {i: c for i, c in ids.items() if c is not None} for day, ids in found.items()}

    return lambda day: by_day().get(day, {})
