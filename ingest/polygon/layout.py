"""Which column of a flat file is what: read by name, in any order.

Source: spec/market.md 3.2; the header of the vendor's flat files.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ingest.bronze_schema import OPTIONS_TRADES, STOCKS_TRADES, BronzeSchema
from ingest.errors import RefusedFile
from ingest.polygon.line_kernel import ROLES

_BOM = b"\xef\xbb\xbf"

# Best bid and offer at the print, where somebody joined them to the vendor's trades: named as in its quotes.
QUOTE = ("bid_price", "ask_price")


@dataclass(frozen=True)
class Kind:
    """One kind of flat file. ``known`` columns may be there; bronze takes those it has a column for."""

    name: str  # options or stocks: the folder under raw/polygon
    dataset: str
    schema: BronzeSchema
    key: str
    rejects: str  # the dataset of its rejects
    required: tuple[str, ...]
    known: tuple[str, ...]

    @property
    def is_option(self) -> bool:
        return self.schema is OPTIONS_TRADES


OPTIONS = Kind(
    "options",
    "us_options_opra/trades_v1",
    OPTIONS_TRADES,
    "underlying",
    "options_trades",
    required=("ticker", "conditions", "correction", "exchange", "price", "sip_timestamp", "size"),
    known=("participant_timestamp", "sequence_number", "decimal_size", *QUOTE),
)
STOCKS = Kind(
    "stocks",
    "us_stocks_sip/trades_v1",
    STOCKS_TRADES,
    "symbol",
    "stocks_trades",
    required=(
        "ticker", "conditions", "correction", "exchange", "id", "participant_timestamp", "price",
        "sequence_number", "sip_timestamp", "size", "tape", "trf_id", "trf_timestamp",
    ),
    known=("decimal_size",),
)  # fmt: skip
KINDS = {kind.name: kind for kind in (OPTIONS, STOCKS)}
# Columns that only the one kind has: they tell a header apart.
_STOCKS_ONLY = frozenset({"id", "tape", "trf_id", "trf_timestamp"})


@dataclass(frozen=True)
class Layout:
    """The columns of one file. ``place`` has the position of each of `ROLES`, −1 for what is absent;
    ``unknown`` the positions of columns that this code doesn't know.
    """

    kind: Kind
    columns: tuple[str, ...]
    place: np.ndarray
    unknown: tuple[int, ...]


def read_header(line: bytes, kind: Kind | None = None) -> Layout:
    """The layout that a header line says; ``kind`` is taken from the columns when it isn't given.

    Raises RefusedFile with the difference when a required column is missing or a name stands twice.
    """
    try:
        text = line.removeprefix(_BOM).rstrip(b"\r\n").decode()
        (columns,) = csv.reader([text], strict=True) if text else ([],)
        if any('"' in c or not c.isprintable() for c in columns):
            raise ValueError
    except (ValueError, csv.Error) as error:
        raise RefusedFile(f"header was {line[:80]!r}, expected column names between commas") from error
    kind = kind or (STOCKS if _STOCKS_ONLY & set(columns) else OPTIONS)
    missing = [c for c in kind.required if c not in columns]
    if missing:
        raise RefusedFile(
            f"columns were {listed(columns)}, expected {listed(kind.required)} of {kind.name} trades; "
            f"missing: {listed(missing)}"
        )
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise RefusedFile(f"columns were {listed(columns)}, expected each once; twice: {listed(twice)}")
    place = [columns.index(role) if role in columns else -1 for role in ROLES]
    for role in ("id",) if kind.is_option else QUOTE:
        place[ROLES.index(role)] = -1
    known = {*kind.required, *kind.known}
    unknown = tuple(i for i, c in enumerate(columns) if c not in known)
    return Layout(kind, tuple(columns), np.array(place, dtype=np.int64), unknown)


def listed(names: Iterable[str]) -> str:
    """Names for a message; one that isn't plain text is quoted."""
    text = ", ".join(n if n.isprintable() and n else repr(n) for n in names) or "none"
    return text if len(text) <= 400 else f"{text[:400]}…"
