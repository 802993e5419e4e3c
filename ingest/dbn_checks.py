"""Which records of a DBN block break the schema of bronze, and why. A clean block costs next to nothing.

All words of a block are joined by *or* in one pass: bits that no plausible value has (the top of a price, the
sign of a size) show whether anything in it may be wrong. Only then are the columns in question looked at.
"""

from __future__ import annotations

import json

import numpy as np

from ingest.bronze_schema import PRICE_LIMIT, TS_EVENT_MAX_NS, TS_EVENT_MIN_NS
from ingest.dbn_format import UNDEF_PRICE, UNDEF_SIZE
from ingest.record_screen import screen

ACTIONS, SIDES = "ACFMNRT", "ABN"
_PRICE_BITS = ~np.uint64(2**59 - 1)  # below 2^59 every price is below 10^18 billionths


def _known_pairs(actions: str) -> np.ndarray:
    """Table of the two bytes action and side, as one little-endian number: whether both are known."""
    table = np.zeros(1 << 16, dtype=bool)
    for action in actions:
        for side in SIDES:
            table[ord(action) | ord(side) << 8] = True
    return table


class RecordChecks:
    """The rules of one record layout (trades, or a book with ten levels). Rows of a book may lack price and size."""

    def __init__(self, dtype: np.dtype, *, is_book: bool) -> None:
        self.is_book = is_book
        self._dtype = dtype
        self._actions = ACTIONS if is_book else "T"
        self._pairs = _known_pairs(self._actions)
        names = dtype.names
        self._prices = [n for n in names if n == "price" or "_px_" in n]
        self._sizes = [n for n in names if n == "size" or "_sz_" in n or "_ct_" in n]
        self._signed = [*self._sizes, "instrument_id", "publisher_id"]
        words = dtype.itemsize // 8
        screen = np.zeros((words, 8), dtype=np.uint8)
        for name in self._signed:  # their top bit
            kind, offset = dtype.fields[name][:2]
            screen.reshape(-1)[offset + kind.itemsize - 1] |= 0x80
        self._screen = screen.view("<u8").reshape(-1)
        self._joined = np.zeros(words, dtype=np.int64)
        pair_word, pair_byte = divmod(dtype.fields["action"][1], 8)
        self._where = dtype.fields["ts_event"][1] // 8, pair_word, 8 * pair_byte
        for name in self._prices:
            self._screen[dtype.fields[name][1] // 8] |= _PRICE_BITS

    def bad(self, records: np.ndarray) -> np.ndarray | None:
        """Mask (n,) of the records that can't land; None when there are none. ``records`` is contiguous."""
        wrong = None
        if not len(records):
            return None
        low_ns, high_ns, known = screen(
            records.view("<i8"), len(self._screen), *self._where, self._pairs, self._joined
        )
        if low_ns <= TS_EVENT_MIN_NS or high_ns >= TS_EVENT_MAX_NS:
            wrong = self._breaking("TS_RANGE", records)
        if not known:
            unknown = ~self._pairs[self._pairs_of(records)]
            wrong = unknown if wrong is None else wrong | unknown
        if not self.is_book and (size := records["size"]).min(initial=1) < 1:
            wrong = (size < 1) if wrong is None else wrong | (size < 1)
        suspects = self._joined.view(np.uint64) & self._screen
        if suspects.any():
            for name in (*self._prices, *self._signed):
                if suspects[self._dtype.fields[name][1] // 8]:
                    found = self._breaking_column(name, records)
                    if found.any():
                        wrong = found if wrong is None else wrong | found
        return wrong if wrong is not None and wrong.any() else None

    def reason(self, record: np.void) -> tuple[str, str]:
        """Rule and reason of one record that ``bad`` has marked: the first rule that it breaks."""
        one = np.array([record], self._dtype)
        for rule, column, expected in (
            ("TS_RANGE", "ts_event", "a time between the years 2000 and 2100"),
            ("ACTION", "action", "one of " + ", ".join(self._actions)),
            ("SIDE", "side", "one of " + ", ".join(SIDES)),
            ("PRICE_MISSING", "price", "a price on every trade"),
        ):
            if self._breaking(rule, one)[0]:
                value = int(record[column])
                was = repr(chr(value)) if column in ("action", "side") else _unsigned(one, column)
                return rule, f"{column} was {was}, expected {expected}"
        for name in (*self._prices, *self._signed):
            if self._breaking_column(name, one)[0]:
                rule, expected = self._told(name)
                return rule, f"{name} was {_unsigned(one, name)}, expected {expected}"
        raise AssertionError("record breaks no rule")

    def raw(self, record: np.void) -> str:
        """The fields of a record as compact JSON, numbers as the file has them."""
        one = np.array([record], self._dtype)
        fields = {n: _unsigned(one, n) for n in self._dtype.names[1:]}
        for name in ("action", "side"):
            fields[name] = chr(int(record[name]))
        return json.dumps(fields, separators=(",", ":"))

    def _told(self, name: str) -> tuple[str, str]:
        if name in self._prices:
            return "PRICE_RANGE", "less than 10^18 billionths"
        if name == "instrument_id":
            return "INSTRUMENT_ID", "at most 2147483647"
        if name == "publisher_id":
            return "PUBLISHER_ID", "at most 32767"
        return "SIZE", f"{0 if self.is_book else 1} to 2147483647"

    def _breaking(self, rule: str, records: np.ndarray) -> np.ndarray:
        if rule == "TS_RANGE":
            ts = records["ts_event"]
            return (ts <= TS_EVENT_MIN_NS) | (ts >= TS_EVENT_MAX_NS)
        if rule == "PRICE_MISSING":
            missing = records["price"] == UNDEF_PRICE
            return missing & (not self.is_book)
        column, letters = ("action", self._actions) if rule == "ACTION" else ("side", SIDES)
        return ~np.isin(records[column], [ord(c) for c in letters])

    def _breaking_column(self, name: str, records: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(records[name])
        if name in self._prices:
            wrong = (values >= PRICE_LIMIT) | (values <= -PRICE_LIMIT)
            return wrong & (values != UNDEF_PRICE) if self.is_book else wrong
        if name == "size" and not self.is_book:
            return values < 1
        wrong = values < 0
        return wrong & (values != UNDEF_SIZE) if name in self._sizes else wrong

    def _pairs_of(self, records: np.ndarray) -> np.ndarray:
        offset = self._dtype.fields["action"][1]
        return np.ndarray(len(records), "<u2", records.view(np.uint8).data, offset, (self._dtype.itemsize,))


def _unsigned(one: np.ndarray, name: str) -> int:
    """A field's value in a block of one record as the file has it: only prices and the delta are signed there."""
    value = int(one[name][0])
    if value < 0 and not ("px" in name or name in ("price", "ts_in_delta")):
        value += 1 << 8 * one.dtype.fields[name][0].itemsize
    return value
