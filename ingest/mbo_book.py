"""Order-by-order records (`mbo`) to the book of ten levels they build (`mbp-10`), as the vendor builds it.

What the vendor's own pair of files shows, and what holds here for every field of every record:

- one record for each add, cancel or modify that touches the ten best prices of its side, and one for each trade; fills
  and records of action N give none;
- a record repeats the event's own fields; its levels are the book after the event, of a trade the book as it stands
  (the cancels and modifies that follow take the traded size away);
- ``depth`` is the number of better prices on the side after the event, of a modify that leaves the ten 9, of a trade 0.
  A modify is given when its old or its new price is among the ten, also when no level changes by it;
- the records of a snapshot (flag SNAPSHOT) give none.

Further rules, where the pair shows nothing: a clear (R) outside a snapshot gives one record with an empty book. A
snapshot in the middle of a file that leaves the ten levels as they were gives nothing; one that changes them gives one
record with the flags of a snapshot, at its time, but before the event that follows. An event of an order that isn't in
the book, after a gap for one, is counted: the cancel is left out, the modify taken as an add.

Source: spec/market.md 3.1; the vendor's description of MBO snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingest.errors import RefusedFile
from ingest.mbo_kernels import (
    COUNTERS,
    DEPTH,
    F_TOB,
    MBP10,
    ORDERS_FULL,
    PARTIAL,
    POOL_FULL,
    RULES,
    TAG,
    live_orders,
    move_orders,
    rebuild,
)

__all__ = ["MBP10", "RULES", "MboBook", "Rebuilt"]

_FIRST_ORDERS, _FIRST_LEVELS = 1 << 12, 1 << 12
_SIZE_CLASSES = 40


@dataclass(frozen=True)
class Rebuilt:
    """What one block of MBO records gave, views into a buffer that the next block overwrites.

    ``records`` (n,) are of the dtype `MBP10`; ``bad_rows`` (m,) are the numbers in the block of records unfit for a
    book and ``bad_rules`` (m,) the indices in `RULES` of the reason.
    """

    records: np.ndarray
    bad_rows: np.ndarray
    bad_rules: np.ndarray


class MboBook:
    """Order books of all instruments of one MBO file; `rebuild` takes its blocks in file order.

    Memory grows with the orders that live at once, never with the length of the file.
    """

    def __init__(self) -> None:
        self._orders = _empty_orders(_FIRST_ORDERS)
        self._pool = np.empty((_FIRST_LEVELS, 3), dtype=np.int64)
        self._free = np.full(_SIZE_CLASSES, -1, dtype=np.int64)
        self._sides = np.zeros((0, 3), dtype=np.int64)
        self._books = np.zeros((0, 7), dtype=np.int64)
        self._saved = np.zeros((0, 4 * DEPTH), dtype=np.int64)
        self._counters = np.zeros(COUNTERS, dtype=np.int64)
        self._book_of: dict[int, int] = {}
        self._out = np.empty((0, MBP10.itemsize // 8), dtype=np.int64)
        self.records_read = 0

    @property
    def counts(self) -> dict[str, int]:
        """What the books met that a clean file has none of, and how many snapshots and clears there were."""
        names = (
            "unknown_cancels", "unknown_modifies", "duplicate_adds", "overfilled_cancels", "snapshots", "clears",
        )  # fmt: skip
        return {name: int(count) for name, count in zip(names, self._counters, strict=False)}

    @property
    def memory_bytes(self) -> int:
        """Bytes of the tables of orders, levels and books."""
        return sum(
            a.nbytes for a in (self._orders, self._pool, self._sides, self._books, self._saved, self._out)
        )

    def rebuild(self, records: np.ndarray) -> Rebuilt:
        """The mbp-10 records that a block of MBO records (n,), 56 bytes or 64 with the gateway's time, gives.

        Raises RefusedFile when an instrument starts without its snapshot, clear or first add, and for a file of the
        top of the book only.
        """
        count = len(records)
        words = records.view(np.int64).reshape(count, -1)
        if (records["flags"] & F_TOB).any():
            row = self.records_read + int(np.argmax(records["flags"] & F_TOB > 0))
            raise RefusedFile(
                f"record {row} was of the top of the book only (flag TOB), expected every order of the book; "
                "ask for mbp-1 of this venue instead"
            )
        books = self._books_of(records["instrument_id"])
        if len(self._out) < 2 * count:
            self._out = np.empty((2 * count, MBP10.itemsize // 8), dtype=np.int64)
        bad = np.zeros(count, dtype=np.uint8)
        at = given = 0
        while at < count:
            at, given, why = rebuild(
                words, books, at, self.records_read,
                self._orders, self._sides, self._pool, self._free, self._books, self._saved, self._counters,
                self._out, bad, given,
            )  # fmt: skip
            if why == ORDERS_FULL:
                self._grow_orders()
            elif why == POOL_FULL:
                self._pool = np.concatenate([self._pool, np.empty_like(self._pool)])
            elif why == PARTIAL:
                record = records[at]
                raise RefusedFile(
                    f"record {self.records_read + at} was of order {int(record['order_id']) % 2**64} of instrument "
                    f"{int(record['instrument_id'])}, which nothing had added, expected the file to start with the "
                    "day's opening snapshot; fetch the day from 00:00 UTC"
                )
        unfit = np.flatnonzero(bad)
        self.records_read += count
        made = self._out[:given].reshape(-1).view(MBP10)
        return Rebuilt(made, unfit, bad[unfit])

    def _books_of(self, instrument_ids: np.ndarray) -> np.ndarray:
        """Book numbers (n,) of the records; new instruments get an empty one."""
        if (instrument_ids == instrument_ids[0]).all():
            return np.full(len(instrument_ids), self._book(int(instrument_ids[0])), dtype=np.int64)
        ids, at = np.unique(instrument_ids, return_inverse=True)
        return np.array([self._book(i) for i in ids.tolist()], dtype=np.int64)[at]

    def _book(self, instrument_id: int) -> int:
        book = self._book_of.setdefault(instrument_id, len(self._book_of))
        if book == len(self._books):
            more = max(8, book)
            self._sides = np.concatenate([self._sides, np.zeros((2 * more, 3), dtype=np.int64)])
            self._books = np.concatenate([self._books, np.zeros((more, 7), dtype=np.int64)])
            self._saved = np.concatenate([self._saved, np.zeros((more, 4 * DEPTH), dtype=np.int64)])
        return book

    def _grow_orders(self) -> None:
        """A table with room for twice the live orders; those of cleared books go."""
        room = _FIRST_ORDERS
        while room < 4 * (live_orders(self._orders, self._books) + 1):
            room *= 2
        larger = _empty_orders(room)
        move_orders(self._orders, larger, self._books, self._counters)
        self._orders = larger


def _empty_orders(room: int) -> np.ndarray:
    orders = np.empty((room, 4), dtype=np.int64)
    orders[:, TAG] = -1
    return orders
