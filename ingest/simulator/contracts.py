"""The ES contracts of a date: quarterly outrights, their calendar spread, and the instrument ids the files use."""

from dataclasses import dataclass
from datetime import date, timedelta

MONTH_CODES = {3: "H", 6: "M", 9: "U", 12: "Z"}
ROLL_DAYS = 8  # a contract is front while it expires more than this many days after the session


@dataclass(frozen=True)
class Contract:
    symbol: str
    instrument_id: int


@dataclass(frozen=True)
class ContractSet:
    """What trades on one date: the front outright, the next one, and the spread between them."""

    front: Contract
    next: Contract
    spread: Contract

    def all(self) -> tuple[Contract, Contract, Contract]:
        return self.front, self.next, self.spread


def third_friday(year: int, month: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


def _quarters(year: int):
    while True:
        for month in MONTH_CODES:
            yield year, month
        year += 1


def _outright(year: int, month: int) -> Contract:
    return Contract(f"ES{MONTH_CODES[month]}{year % 10}", 20_000 + (year - 2000) * 40 + month)


def contracts_of(day: date) -> ContractSet:
    """Contracts of session ``day``; front is the nearest quarterly expiry (third Friday) more than 8 days away."""
    quarters = _quarters(day.year)
    for year, month in quarters:
        if (third_friday(year, month) - day).days > ROLL_DAYS:
            front, later = _outright(year, month), _outright(*next(quarters))
            return ContractSet(
                front, later, Contract(f"{front.symbol}-{later.symbol}", front.instrument_id + 20)
            )
    raise AssertionError("unreachable: quarters never end")
