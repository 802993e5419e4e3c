"""Option tickers in the vendor's form, `O:SPY251224C00690000`, and OCC's own, `SPY   251224C00690000`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

# From the right: strike in thousandths, C or P, date; what is left is the root, which may end with digits.
_TICKER = re.compile(
    r"(?:O:)?([A-Za-z0-9.]{1,6}|[A-Za-z0-9.]{1,5} +)(\d{2})(\d{2})(\d{2})([CP])(\d{8})", re.ASCII
)
_PADDED_CHARS = 6
EPOCH = date(1970, 1, 1).toordinal()


class BadTicker(ValueError):
    """A text is no option ticker."""


@dataclass(frozen=True)
class OptionTicker:
    """One listed option; ``strike`` in USD, exact to a thousandth."""

    root: str
    expiry: date
    right: str
    strike: Decimal

    def __str__(self) -> str:
        """The vendor's form."""
        return symbol(self.root, self.expiry, self.right, int(self.strike * 1000))


def symbol(root: str, expiry: date, right: str, strike_thousandths: int) -> str:
    """``O:`` + root + YYMMDD + C or P + strike in thousandths as 8 digits. Source: spec/market.md 3.2."""
    return f"O:{root}{expiry:%y%m%d}{right}{strike_thousandths:08d}"


def parse(text: str) -> OptionTicker:
    """Read either form. Raises BadTicker with what was wrong."""
    found = _TICKER.fullmatch(text)
    if found is None or (" " in found[1] and len(found[1]) != _PADDED_CHARS):
        raise BadTicker(
            f"ticker was {text!r}, expected O:, a root of 1 to 6 characters, YYMMDD, C or P and 8 digits of strike"
        )
    root, year, month, day, right, strike = found.groups()
    try:
        expiry = date(2000 + int(year), int(month), int(day))
    except ValueError as error:
        raise BadTicker(f"ticker was {text!r}, expected an expiry that is a day of the calendar") from error
    return OptionTicker(root.rstrip(" "), expiry, right, Decimal(strike).scaleb(-3))
