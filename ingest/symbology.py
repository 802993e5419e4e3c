"""From the numeric ids of a file to contracts: by id *and* UTC date of ``ts_recv``, from the file's own
mappings, or where those say nothing from definitions that have landed.

Ids are reused: in one month of options 10,012 of 10,181 meant more than one contract. Intervals are [start,
end).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta

import databento_dbn
import numpy as np

from ingest.errors import RefusedFile

DAY_NS = 86_400_000_000_000
EPOCH = date(1970, 1, 1)
MAX_SYMBOL = 71  # letters; what the format has room for

_OUTRIGHT = re.compile(r"^(\w+?)[FGHJKMNQUVXZ]\d{1,2}$")
_STRATEGY = re.compile(r"^(\w+):\w+ [FGHJKMNQUVXZ]\d")
_CONTINUOUS = re.compile(r"\.[a-z]\.\d+$")


def product_root(contract: str) -> str:
    """Product of a raw contract symbol: up to its month code and year (``ESZ5`` → ``ES``).

    A spread takes the root of its first leg (``ESZ5-ESH6``, ``ES:BF Z5-H6-M6``); anything else stays as it
    is.
    """
    first_leg = contract.split("-", maxsplit=1)[0]
    match = _OUTRIGHT.match(first_leg) or _STRATEGY.match(contract)
    return match[1] if match else contract


class SymbolMap:
    """The mappings of one DBN file. ``contracts[code]`` is the raw symbol of a code that ``codes`` gives."""

    def __init__(
        self,
        metadata: databento_dbn.Metadata,
        definitions: Callable[[str], Mapping[int, str]] | None = None,
    ) -> None:
        """``definitions`` gives ``{id: raw symbol}`` of an ISO date; asked for ids that the file doesn't name, and for
        every id of a file by continuous symbols, which aren't contracts.
        """
        self._definitions = definitions or (lambda day: {})
        self._continuous: str | None = None
        ids, starts, ends, codes = [], [], [], []
        self.contracts: list[str] = []
        self._code_of: dict[str, int] = {}
        # The usual file asks for symbols and gets ids; one asked for by id is mapped the other way round.
        by_id = str(metadata.stype_in) == "instrument_id"
        for name, intervals in sorted(metadata.mappings.items()):
            for interval in intervals:
                instrument_id, contract = (name, interval["symbol"]) if by_id else (interval["symbol"], name)
                if not instrument_id or not contract:
                    continue  # the vendor's mark for "no contract in this interval"
                if not (contract.isascii() and contract.isprintable() and len(contract) <= MAX_SYMBOL):
                    raise RefusedFile(
                        f"mapping had the symbol {contract[:MAX_SYMBOL]!r}, expected at most {MAX_SYMBOL} letters of "
                        "printable ASCII; fetch the file again"
                    )
                if not instrument_id.isdecimal():
                    raise RefusedFile(
                        f"mapping of {contract} was to {instrument_id!r}, expected an instrument id; "
                        "ask for stype_out=instrument_id"
                    )
                if _CONTINUOUS.search(contract):  # not a contract, and another one by and by
                    self._continuous = contract
                    continue
                ids.append(int(instrument_id))
                starts.append((interval["start_date"] - EPOCH).days)
                ends.append((interval["end_date"] - EPOCH).days)
                codes.append(self._code(contract))
        self._ids = np.array(ids, dtype=np.int64)
        self._starts = np.array(starts, dtype=np.int64)
        self._ends = np.array(ends, dtype=np.int64)
        self._codes = np.array(codes, dtype=np.int32)
        self._days: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._defined_days: set[int] = set()
        self._seen: dict[int, np.ndarray] = {}

    def root(self, code: int) -> str:
        """Product of the contract of a code."""
        return product_root(self.contracts[code])

    def _code(self, contract: str) -> int:
        code = self._code_of.setdefault(contract, len(self.contracts))
        if code == len(self.contracts):
            self.contracts.append(contract)
        return code

    def codes(self, instrument_ids: np.ndarray, days: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
        """Codes (n,) int32 of ``instrument_ids`` (n,) on ``days`` (n,), in days since 1970 UTC.

        ``numbers`` are those of the records in the file, (n,) or the first of consecutive ones, for messages. Raises
        RefusedFile for an id that has no contract on its day, or several.
        """
        low, high = int(days.min()), int(days.max())
        if low == high:
            return self._codes_of_day(instrument_ids, low, np.arange(len(days)), numbers)
        result = np.empty(len(days), dtype=np.int32)
        for day in np.unique(days):
            rows = np.flatnonzero(days == day)
            result[rows] = self._codes_of_day(instrument_ids[rows], int(day), rows, numbers)
        return result

    def _codes_of_day(
        self, ids: np.ndarray, day: int, rows: np.ndarray, numbers: np.ndarray | int
    ) -> np.ndarray:
        if len(ids) > 1 and ids[0] == ids[-1] and (ids == ids[0]).all():  # one contract: one question
            return np.full(len(ids), self._codes_of_day(ids[:1], day, rows[:1], numbers)[0])
        known, codes = self._table(day)
        at = np.searchsorted(known, ids)
        np.minimum(at, max(len(known) - 1, 0), out=at)
        missing = known[at] != ids if len(known) else np.ones(len(ids), dtype=bool)
        if missing.any() and day not in self._defined_days:
            self._learn_definitions(day)
            return self._codes_of_day(ids, day, rows, numbers)
        if missing.any():
            row = int(np.argmax(missing))
            if self._continuous is not None:
                raise RefusedFile(
                    f"symbols were continuous ({self._continuous}), expected raw contracts, or landed definitions "
                    f"that name instrument id {int(ids[row])} on {day_of(day)}; land these first, or ask for "
                    "stype_in=raw_symbol"
                )
            raise RefusedFile(
                f"instrument id {int(ids[row])} had no symbol on {day_of(day)} "
                f"(record {_number(numbers, int(rows[row]))}), expected one in the file's own mappings "
                "or in definitions of that day; fetch the file with its symbology, or land the definitions first"
            )
        result = codes[at]
        if result.min() < 0:
            row = int(np.argmin(result))
            raise RefusedFile(
                f"instrument id {int(ids[row])} had several symbols on {day_of(day)} "
                f"(record {_number(numbers, int(rows[row]))}), expected one; the file's mappings overlap"
            )
        seen = self._seen.setdefault(day, np.zeros(len(known), dtype=bool))
        seen[at] = True
        return result

    def _table(self, day: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids known on a day, ascending, and their codes; −1 where an id means several contracts."""
        if day not in self._days:
            on = (self._starts <= day) & (day < self._ends)
            pairs = np.unique(np.stack([self._ids[on], self._codes[on].astype(np.int64)]), axis=1)
            ids, first, counts = np.unique(pairs[0], return_index=True, return_counts=True)
            codes = np.where(counts > 1, -1, pairs[1][first] if len(first) else 0).astype(np.int32)
            self._days[day] = ids, codes
        return self._days[day]

    def _learn_definitions(self, day: int) -> None:
        """Add what definitions say of ids that the file doesn't name on a day."""
        self._defined_days.add(day)
        ids, codes = self._table(day)
        named = set(ids.tolist())
        defined = {i: c for i, c in self._definitions(day_of(day)).items() if i not in named}
        more = np.array([self._code(contract) for contract in defined.values()], dtype=np.int32)
        all_ids = np.concatenate([ids, np.array(list(defined), dtype=np.int64)])
        order = np.argsort(all_ids)
        seen = np.concatenate(
            [self._seen.get(day, np.zeros(len(ids), dtype=bool)), np.zeros(len(more), dtype=bool)]
        )
        self._days[day] = all_ids[order], np.concatenate([codes, more])[order]
        if day in self._seen:
            self._seen[day] = seen[order]

    def seen_symbols(self) -> dict[str, dict[str, str]]:
        """``{date: {id: symbol}}`` of what the rows really used, for the receipt."""
        result = {}
        for day in sorted(self._seen):
            ids, codes = self._days[day]
            used = np.flatnonzero(self._seen[day])
            result[day_of(day)] = {str(int(ids[i])): self.contracts[codes[i]] for i in used}
        return result

    def first_day(self) -> str | None:
        """The earliest UTC date of ``ts_recv`` among the rows so far, None before any."""
        return day_of(min(self._seen)) if self._seen else None


def _number(numbers: np.ndarray | int, row: int) -> int:
    return numbers + row if isinstance(numbers, int) else int(numbers[row])


def day_of(day: int) -> str:
    """ISO date of a number of days since 1970."""
    return (EPOCH + timedelta(days=day)).isoformat()
