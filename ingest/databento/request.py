"""What is wanted of the vendor: a query, and its windows of one schema and one UTC day each."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from databento_dbn import SType

from ingest.dbn_kinds import KINDS

SCHEMAS = tuple(KINDS)  # what `ingest dbn` lands
MAX_SYMBOLS = 2000  # the vendor's limit for one request
ALL_SYMBOLS = "ALL_SYMBOLS"

# Everything is asked for in whole UTC days: record counts are exact only for those, and a file is one day.
# Source: the vendor's documentation of metadata.get_record_count.
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Query:
    """Schemas × symbols × days [``start``, ``end``) of one dataset. Raises ValueError on what can't be asked
    for.
    """

    dataset: str
    schemas: tuple[str, ...]
    symbols: tuple[str, ...]
    start: datetime.date
    end: datetime.date
    stype_in: str = "raw_symbol"

    def __post_init__(self) -> None:
        object.__setattr__(self, "schemas", tuple(dict.fromkeys(self.schemas)))
        object.__setattr__(self, "symbols", tuple(sorted(dict.fromkeys(self.symbols))))
        if not self.schemas:
            raise ValueError(f"no schema was named, expected some of {', '.join(SCHEMAS)}")
        for schema in self.schemas:
            check_name("schema", schema, SCHEMAS)
        check_name("stype_in", self.stype_in, [str(s) for s in SType.variants()])
        if not self.dataset.isprintable() or not self.dataset.strip():
            raise ValueError(f"dataset was {self.dataset!r}, expected a code such as GLBX.MDP3")
        if not 0 < len(self.symbols) <= MAX_SYMBOLS:
            raise ValueError(
                f"{len(self.symbols):,} symbols were named, expected 1 to {MAX_SYMBOLS:,}, or {ALL_SYMBOLS}"
            )
        for symbol in self.symbols:
            if not symbol.isprintable() or not symbol or set(symbol) & {" ", ","}:
                raise ValueError(f"symbol was {symbol!r}, expected a name such as ESZ5 or ES.FUT")
        if ALL_SYMBOLS in self.symbols and len(self.symbols) > 1:
            raise ValueError(f"{ALL_SYMBOLS} was named beside others, expected it alone")
        if self.start >= self.end:
            raise ValueError(f"start was {self.start} and end {self.end}, expected end after it (exclusive)")

    def days(self) -> Iterator[datetime.date]:
        day = self.start
        while day < self.end:
            yield day
            day += _DAY

    def covered_by(self, dataset: str, symbols: Sequence[str], stype_in: str) -> bool:
        """Whether an order of these symbols holds all of ours."""
        if dataset != self.dataset:
            return False
        return list(symbols) == [ALL_SYMBOLS] or (
            stype_in == self.stype_in and set(self.symbols) <= set(symbols)
        )


@dataclass
class Window:
    """One schema on one UTC day: what the vendor declared, and the file that came.

    ``state`` is ``wanted``, ``downloaded`` (in the stage, verified), ``landed`` or ``quarantined``.
    """

    date: str
    record_count: int
    billable_bytes: int
    cost_usd: float
    state: str = "wanted"
    name: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    reason: str | None = None

    @property
    def day(self) -> datetime.date:
        return datetime.date.fromisoformat(self.date)


def next_day(day: datetime.date) -> datetime.date:
    return day + _DAY


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """Raise ValueError with the nearest names when ``name`` is not among ``known``."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3) or sorted(known)
    shown = ", ".join(near[:12]) + (", …" if len(near) > 12 else "")
    raise ValueError(f"{what} was {name!r}, expected one that is known here: {shown}")
