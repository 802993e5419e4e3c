"""Faults in a stream of mbp-10 records: what is inserted, blanked, delayed or lost on the way into the files.

A record is a row of 46 int64 words as in the file (see `book`): ts_event in word 1, price in 2, size, action, side,
flags and depth in 3, ts_recv in 4, ts_in_delta and sequence in 5, then ten levels of four words: bid price, ask price,
sizes (bid low, ask high) and counts.
"""

from collections.abc import Iterator

import numpy as np

from ingest.simulator.book import F_LAST, LEVELS, UNDEF_PRICE
from ingest.simulator.clock import MINUTE_NS, SECOND_NS, SessionClock
from ingest.simulator.path import generator

FIRST_LEVEL, LEVEL_WORDS = 6, 4
SNAPSHOT_RECORDS = 1 + 2 * LEVELS
LOW_WORD = 0xFFFFFFFF
FLAGS_AT = 48
CROSSED_RECORDS, CROSSED_BY, CROSSED_FROM_NS = 60, 3, 10 * MINUTE_NS
VENUE_DELAY_NS = 60_000
LATE_SHARE, LATE_NS = 0.02, (1_000_000, 500_000_000)
GAP_NS = 5 * MINUTE_NS
FEWER_LEVELS, FEWER_NS = 7, 10 * MINUTE_NS
RESENT_ONE_IN = 200
TICK_NANO = 250_000_000


class Damage:
    """The faults of one session, at instants of its own that follow from (seed, date)."""

    def __init__(self, seed: int, clock: SessionClock, front_id: int, faults: frozenset[str]) -> None:
        self._rng = generator(seed, clock.day, 11)
        self._clock, self._front, self._faults = clock, front_id, faults
        minutes = (clock.rth_close_ns - clock.rth_open_ns) // MINUTE_NS
        at = clock.rth_open_ns + self._rng.integers(20, minutes - 30, 3) * MINUTE_NS
        self._gap_ns, self._clear_ns, self._fewer_ns = (int(t) for t in at)

    def stream(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks with everything in them that both schemas show; in order of ts_recv."""
        if "crossed-book" in self._faults:
            blocks = self._with_crossed_book(blocks)
        if "undef-levels" in self._faults:
            blocks = self._with_fewer_levels(blocks)
        if "book-clear" in self._faults:
            blocks = self._with_clear(blocks)
        return self._with_delays(blocks) if "disorder" in self._faults else blocks

    def book(self, records: np.ndarray) -> np.ndarray:
        """The records that reach the book's file."""
        if "book-gap" not in self._faults:
            return records
        return records[(records[:, 1] < self._gap_ns) | (records[:, 1] >= self._gap_ns + GAP_NS)]

    def _with_crossed_book(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for number, block in enumerate(blocks):
            if number == 0:
                yield self._crossed(block[SNAPSHOT_RECORDS - 1])
            yield block

    def _crossed(self, last_of_snapshot: np.ndarray) -> np.ndarray:
        rows = np.repeat(last_of_snapshot[None], CROSSED_RECORDS, axis=0)
        opens = self._clock.globex_open_ns
        rows[:, 1] = np.sort(self._rng.integers(opens - CROSSED_FROM_NS, opens - SECOND_NS, CROSSED_RECORDS))
        rows[:, 4] = rows[:, 1] + VENUE_DELAY_NS
        rows[:, 5] = rows[:, 5] & LOW_WORD | np.arange(1, CROSSED_RECORDS + 1) << 32
        rows[:, FIRST_LEVEL::LEVEL_WORDS] += CROSSED_BY * TICK_NANO
        rows[:, FIRST_LEVEL + 1 :: LEVEL_WORDS] -= CROSSED_BY * TICK_NANO
        # An order added at the best bid: side B, depth 0, and the end of its event.
        rows[:, 2] = rows[:, FIRST_LEVEL]
        rows[:, 3] = rows[:, FIRST_LEVEL + 2] & LOW_WORD | (ord("A") | ord("B") << 8 | F_LAST << 16) << 32
        return rows

    def _with_fewer_levels(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        first = FIRST_LEVEL + FEWER_LEVELS * LEVEL_WORDS
        for block in blocks:
            thin = (block[:, 1] >= self._fewer_ns) & (block[:, 1] < self._fewer_ns + FEWER_NS)
            for at in range(first, block.shape[1], LEVEL_WORDS):
                block[thin, at : at + 2] = UNDEF_PRICE
                block[thin, at + 2 : at + LEVEL_WORDS] = 0
            yield block

    def _with_clear(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        opening = None
        for block in blocks:
            if opening is None:
                opening = block[:SNAPSHOT_RECORDS].copy()
                if opening[0, 1] < self._clock.globex_open_ns:  # the crossed book came first
                    opening = None
            ends = (block[:, 1] >= self._clear_ns) & (block[:, 0] >> 32 == self._front)
            ends &= (block[:, 3] >> FLAGS_AT & F_LAST) > 0
            if opening is None or self._clear_ns < 0 or not ends.any():
                yield block
                continue
            at = int(np.argmax(ends)) + 1
            self._clear_ns = -1
            yield np.concatenate([block[:at], _cleared(opening, block[at - 1]), block[at:]])

    def _with_delays(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        held = None
        for block in blocks:
            rows = block.copy()
            is_last = (rows[:, 3] >> FLAGS_AT & F_LAST) > 0
            event = np.cumsum(is_last) - is_last
            late = self._rng.random(int(event[-1]) + 1) < LATE_SHARE
            delay = np.where(late, self._rng.integers(*LATE_NS, len(late)), 0)
            last_recv = np.zeros(len(late), np.int64)
            last_recv[event] = rows[:, 4]
            rows[:, 4] = np.where(late[event], last_recv[event] + delay[event], rows[:, 4])
            until = int(block[-1, 4])
            rows = rows if held is None else np.concatenate([held, rows])
            rows = rows[np.argsort(rows[:, 4], kind="stable")]
            cut = int(np.searchsorted(rows[:, 4], until, side="right"))
            held = rows[cut:]
            yield rows[:cut]
        if held is not None:
            yield held


def _cleared(opening: np.ndarray, state: np.ndarray) -> np.ndarray:
    """A clear and the snapshot of ``state``, one event with its time and sequence; shaped as at the open."""
    rows = opening.copy()
    for word in (0, 1, 4, 5):
        rows[:, word] = state[word]
    levels = rows[:, FIRST_LEVEL:].reshape(len(rows), LEVELS, LEVEL_WORDS)
    whole = state[FIRST_LEVEL:].reshape(LEVELS, LEVEL_WORDS)
    levels[:, :, :2], levels[:, :, 2:] = UNDEF_PRICE, 0
    for k in range(LEVELS):
        bid_row, ask_row = 1 + 2 * k, 2 + 2 * k
        levels[bid_row:, k, 0], levels[ask_row:, k, 1] = whole[k, 0], whole[k, 1]
        for column in (2, 3):
            levels[bid_row:, k, column] = whole[k, column] & LOW_WORD
            levels[ask_row:, k, column] = whole[k, column]
        size = whole[k, 2] & LOW_WORD, whole[k, 2] >> 32
        for row, price, contracts in ((bid_row, whole[k, 0], size[0]), (ask_row, whole[k, 1], size[1])):
            rows[row, 2] = price
            rows[row, 3] = rows[row, 3] & ~LOW_WORD | contracts
    rows[:, FIRST_LEVEL:] = levels.reshape(len(rows), -1)
    rows[:-1, 3] &= ~(F_LAST << FLAGS_AT)
    return rows


def resent(records: np.ndarray) -> np.ndarray:
    """The records of the events that come again in a second file: one event in 200, by its sequence."""
    sequence = (records[:, 5] >> 32) & LOW_WORD
    return records[sequence * 2_654_435_761 % 2**32 % RESENT_ONE_IN == 0]


def swapped_ids(records: np.ndarray, ids: dict[int, int]) -> np.ndarray:
    """The records with instrument ids exchanged as ``ids`` says."""
    out = records.copy()
    instrument = records[:, 0] >> 32
    for old, new in ids.items():
        out[instrument == old, 0] = (records[instrument == old, 0] & LOW_WORD) | new << 32
    return out
