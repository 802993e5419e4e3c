"""What a stream of trades or book records says about its own completeness and quality, in one pass in file order.

Per contract and UTC date: counts behind the checks of spec/market.md 4.5 that need no other data, holes in a dense
numbering, silence of the book in regular hours, and spans that the vendor marks as maybe bad. Everything counts
every record; nothing is sampled.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict

import numpy as np
from numba import njit

from ingest.dbn_format import UNDEF_PRICE
from ingest.symbology import DAY_NS, EPOCH, product_root
from lake import calendar

PRICE_RANGE_POINTS = (3000, 10_000)  # of the index that the outrights follow
TICK = 250_000_000  # billionths of an index point
SILENCE_NS = 60_000_000_000
SILENCE_ERROR_S = 1800
DENSE = 0.99  # share of steps of one among the steps of a numbering that has holes only where something is missing
MAX_GAPS = 1000  # of a kind, contract and file, in commit records; ``value`` of the check is the true number

_OUTRIGHT = re.compile(r"ES[HMUZ]\d{1,2}")
_KINDS = ("sequence", "silence", "maybe_bad_book")
_HOLE, _SILENCE, _BAD_BOOK = range(3)
_EVENTS = 4096  # of one call of the kernel
(
    ROWS, BUYS, SELLS, OUT_OF_RANGE, OFF_TICK, LAST, TWO_SIDED, CROSSED, UNORDERED, STEPS, ONES, HOLES,
    SILENCES, LONGEST_NS, FIRST_NS, LAST_NS, COUNTS,
) = range(17)  # fmt: skip
_SUMS = [i for i in range(COUNTS) if i not in (LONGEST_NS, FIRST_NS, LAST_NS)]


class RecordQuality:
    """Feed blocks in file order (``add``), then ask for what belongs into commit records, by date."""

    def __init__(self, contracts: list[str], *, is_book: bool) -> None:
        """``contracts`` are raw symbols by code; the list may get longer between calls of ``add``."""
        self.is_book = is_book
        self._contracts = contracts
        self._roots: list[str] = []
        # 2: an outright of the index, whose price range and tick are known; 1: any other contract
        self._class = np.zeros(0, dtype=np.int8)
        # Last sequence, last time, start and end of the open span of maybe bad books; −1: none.
        self._state = np.zeros((0, 4), dtype=np.int64)
        self._emitted = np.zeros((0, len(_KINDS)), dtype=np.int64)
        self._events = np.empty((_EVENTS, 4), dtype=np.int64)
        self._counts: dict[int, np.ndarray] = {}
        self._gaps: list[tuple[int, int, int, int]] = []
        self._learn()

    def _learn(self) -> None:
        """Make room for contracts that are new."""
        new = self._contracts[len(self._roots) :]
        self._roots += [product_root(c) for c in new]
        classes = np.array([2 if _OUTRIGHT.fullmatch(c) else 1 for c in new], dtype=np.int8)
        self._class = np.concatenate([self._class, classes])
        self._state = np.concatenate([self._state, np.full((len(new), 4), -1, dtype=np.int64)])
        self._emitted = _longer(self._emitted, len(new))
        self._counts = {day: _longer(counts, len(new)) for day, counts in self._counts.items()}

    def add(self, records: np.ndarray, contracts: np.ndarray, low_ns: int, high_ns: int) -> None:
        """``records`` (n,) of trades or the book, contiguous; ``contracts`` (n,) codes; bounds of ``ts_event``."""
        if len(self._contracts) > len(self._roots):
            self._learn()
        words = records.view("<i8").reshape(len(records), -1)
        if low_ns // DAY_NS == high_ns // DAY_NS:
            self._add(words, contracts, low_ns // DAY_NS)
            return
        days = records["ts_event"] // DAY_NS
        cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
        for start, end in itertools.pairwise(cuts):
            self._add(words[start:end], contracts[start:end], int(days[start]))

    def _add(self, words: np.ndarray, contracts: np.ndarray, day: int) -> None:
        counts = self._counts.get(day)
        if counts is None:
            counts = self._counts[day] = np.zeros((len(self._contracts), COUNTS), dtype=np.int64)
        rth_open, rth_close = _regular_hours(day)
        for start in range(0, len(words), _EVENTS // 3):  # a record gives one event of each kind at most
            part = slice(start, start + _EVENTS // 3)
            found = _scan(
                words[part], contracts[part], self._class, self.is_book, rth_open, rth_close,
                counts, self._state, self._emitted, self._events,
            )  # fmt: skip
            self._gaps += map(tuple, self._events[:found].tolist())

    def gaps(self, scale: float = 1.0) -> dict[str, list[dict]]:
        """Entries of the commit records by ISO date, in order of time.

        A hole counts where the contract's numbering is dense; silence where the contract is the one of most rows
        among the outrights of its root and date: the quiet of a contract that hardly trades misses nothing. A book
        that the simulator thinned to the share ``scale`` is silent after as many times the usual seconds.
        """
        dense = {code for code in range(len(self._contracts)) if self._is_dense(code)}
        busiest = {day: self._busiest(counts) for day, counts in self._counts.items()}
        found = defaultdict(list)
        open_spans = [
            (_BAD_BOOK, c, *self._state[c, 2:].tolist()) for c in np.flatnonzero(self._state[:, 2] >= 0)
        ]
        for kind, code, start, end in self._gaps + open_spans:
            day = start // DAY_NS
            if kind == _HOLE and code not in dense:
                continue
            if kind == _SILENCE and (
                busiest[day].get(self._roots[code]) != code or (end - start) * scale <= SILENCE_NS
            ):
                continue
            found[_iso(day)].append(
                {
                    "key": {"symbol": self._roots[code]},
                    "contract": self._contracts[code],
                    "from_ns": min(start, end),
                    "to_ns": max(start, end),
                    "reason": _KINDS[kind],
                }
            )
        return {date: sorted(gaps, key=_gap_order) for date, gaps in sorted(found.items())}

    def checks(self, scale: float = 1.0) -> dict[str, list[dict]]:
        """Verdicts of the commit records by ISO date and key. ``scale`` is the simulator's share of a day's rows.

        Source: spec/market.md 4.5; shares are of all contracts of the key, price and silence of outrights.
        """
        return {
            _iso(day): [
                {"key": {"symbol": root}} | verdict
                for root in sorted(set(self._roots))
                for verdict in self._verdicts(day, counts, root, scale)
            ]
            for day, counts in sorted(self._counts.items())
        }

    def _verdicts(self, day: int, counts: np.ndarray, root: str, scale: float) -> list[dict]:
        codes = [c for c, r in enumerate(self._roots) if r == root and counts[c, ROWS]]
        if not codes:
            return []
        total = counts[codes][:, _SUMS].sum(axis=0)
        total = dict(zip(_SUMS, total.tolist(), strict=True))
        rth_open, rth_close = _regular_hours(day)
        spans = (
            rth_close > 0
            and int(counts[codes, FIRST_NS].min()) <= rth_open
            and int(counts[codes, LAST_NS].max()) >= rth_close
        )
        made = [_verdict("order_violations", 0, "ok")]  # what isn't in order is never written
        if not spans:
            made.append(_verdict("partial_day", total[ROWS], "warn"))
        elif root == "ES":
            made.append(_verdict("rows", total[ROWS], self._of_rows(total[ROWS], scale)))
        if any(self._class[c] == 2 for c in codes):
            for name, count in (("price_out_of_range", OUT_OF_RANGE), ("price_off_tick", OFF_TICK)):
                made.append(_verdict(name, total[count], "error" if total[count] else "ok"))
        if total[BUYS] + total[SELLS]:
            share = total[BUYS] / (total[BUYS] + total[SELLS])
            made.append(_verdict("buy_share", share, "ok" if 0.30 <= share <= 0.70 else "warn"))
        if total[STEPS]:
            made.append(_verdict("sequence_dense_share", total[ONES] / total[STEPS], "ok"))
            holes = sum(int(counts[c, HOLES]) for c in codes if self._is_dense(c))
            made.append(_verdict("sequence_holes", holes, "warn" if holes else "ok"))
        if self.is_book:
            made += self._of_book(counts, total, root, spans, scale)
        return made

    def _of_book(
        self, counts: np.ndarray, total: dict[int, int], root: str, spans: bool, scale: float
    ) -> list[dict]:
        made = [_verdict("f_last_share", total[LAST] / total[ROWS], "ok" if total[LAST] else "warn")]
        if total[TWO_SIDED]:
            share = total[CROSSED] / total[TWO_SIDED]
            made.append(_verdict("crossed_share", share, _graded(share, 0, 0.001)))
        share = total[UNORDERED] / total[ROWS]
        made.append(_verdict("unordered_levels_share", share, _graded(share, 0.01, 0.05)))
        busiest = self._busiest(counts).get(root)
        if busiest is not None:
            silence_s = int(counts[busiest, LONGEST_NS]) / 1e9
            verdict = _graded(silence_s * scale, SILENCE_NS / 1e9, SILENCE_ERROR_S)
            made.append(
                _verdict("silence_s", silence_s, verdict if spans else min(verdict, "warn", key=_weight))
            )
        return made

    def _of_rows(self, rows: int, scale: float) -> str:
        usual, possible = (
            ((5_000_000, 25_000_000), (1_000_000, 60_000_000))
            if self.is_book
            else ((200_000, 800_000), (50_000, 3_000_000))
        )
        if not possible[0] * scale <= rows <= possible[1] * scale:
            return "error"
        return "ok" if usual[0] * scale <= rows <= usual[1] * scale else "warn"

    def _is_dense(self, code: int) -> bool:
        steps = sum(int(counts[code, STEPS]) for counts in self._counts.values())
        ones = sum(int(counts[code, ONES]) for counts in self._counts.values())
        return steps > 0 and ones >= DENSE * steps

    def _busiest(self, counts: np.ndarray) -> dict[str, int]:
        """The outright of most rows by root; with equal rows the first by name."""
        found: dict[str, int] = {}
        for code in np.flatnonzero((self._class == 2) & (counts[:, ROWS] > 0)).tolist():
            other = found.get(self._roots[code])
            if other is None or (-counts[code, ROWS], self._contracts[code]) < (
                -counts[other, ROWS],
                self._contracts[other],
            ):
                found[self._roots[code]] = code
        return found


def _longer(table: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([table, np.zeros((rows, table.shape[1]), dtype=table.dtype)])


def _verdict(check: str, value: float, verdict: str) -> dict:
    return {"check": check, "value": value, "verdict": verdict}


def _graded(value: float, warn_above: float, error_above: float) -> str:
    return "error" if value > error_above else "warn" if value > warn_above else "ok"


def _weight(verdict: str) -> int:
    return ("ok", "warn", "error").index(verdict)


def _gap_order(gap: dict) -> tuple:
    return gap["from_ns"], gap["to_ns"], gap["contract"], gap["reason"]


def _iso(day: int) -> str:
    return EPOCH.fromordinal(EPOCH.toordinal() + day).isoformat()


def _regular_hours(day: int) -> tuple[int, int]:
    """Open and close (ns) of the regular session of a UTC date; zeros where it has none."""
    session = calendar.load().find(_iso(day))
    return (0, 0) if session is None or session.is_holiday else (session.rth_open_ns, session.rth_close_ns)


@njit(cache=True)
def _emit(events, emitted, found, kind, code, start, end):
    if emitted[code, kind] < MAX_GAPS:
        emitted[code, kind] += 1
        events[found, 0] = kind
        events[found, 1] = code
        events[found, 2] = start
        events[found, 3] = end
        return found + 1
    return found


@njit(cache=True)
def _scan(words, contracts, classes, is_book, rth_open, rth_close, counts, state, emitted, events):
    """One pass over records of one UTC date in file order, as words of 8 bytes; returns the number of events.

    ``counts`` (contracts, COUNTS) and ``state`` (contracts, 4) go on from the call before; ``events`` gets rows of
    (kind, code, from_ns, to_ns). Layout of a record: the vendor's TradeMsg and MBP10Msg.
    """
    found = 0
    for i in range(len(words)):
        code = contracts[i]
        ts = words[i, 1]
        price = words[i, 2]
        packed = words[i, 3]
        action = (packed >> 32) & 0xFF
        side = (packed >> 40) & 0xFF
        flags = (packed >> 48) & 0xFF
        sequence = (words[i, 5] >> 32) & 0xFFFFFFFF
        if counts[code, ROWS] == 0:
            counts[code, FIRST_NS] = ts
        # Branches that nearly always go one way are cheaper than writing what stays as it is.
        if ts < counts[code, FIRST_NS]:  # noqa: PLR1730
            counts[code, FIRST_NS] = ts
        if ts > counts[code, LAST_NS]:  # noqa: PLR1730
            counts[code, LAST_NS] = ts
        counts[code, ROWS] += 1
        traded = action == 84  # T
        counts[code, BUYS] += traded & (side == 66)
        counts[code, SELLS] += traded & (side == 65)
        if classes[code] == 2 and price != UNDEF_PRICE:
            if price < PRICE_RANGE_POINTS[0] * 10**9 or price > PRICE_RANGE_POINTS[1] * 10**9:
                counts[code, OUT_OF_RANGE] += 1
            if np.uint64(abs(price)) % np.uint64(TICK) != 0:
                counts[code, OFF_TICK] += 1
        if state[code, 0] != sequence:
            if state[code, 0] >= 0:
                counts[code, STEPS] += 1
                if sequence == state[code, 0] + 1:
                    counts[code, ONES] += 1
                elif sequence > state[code, 0]:
                    counts[code, HOLES] += 1
                    found = _emit(events, emitted, found, _HOLE, code, state[code, 1], ts)
            state[code, 0] = sequence
        if is_book:
            if classes[code] == 2 and state[code, 1] >= 0 and ts - state[code, 1] > SILENCE_NS:
                start, end = max(state[code, 1], rth_open), min(ts, rth_close)
                counts[code, LONGEST_NS] = max(counts[code, LONGEST_NS], end - start)
                if end - start > SILENCE_NS:
                    counts[code, SILENCES] += 1
                    found = _emit(events, emitted, found, _SILENCE, code, start, end)
            if flags & 4:
                if state[code, 2] < 0:
                    state[code, 2] = ts
                state[code, 3] = ts
            elif state[code, 2] >= 0:
                found = _emit(events, emitted, found, _BAD_BOOK, code, state[code, 2], ts)
                state[code, 2] = -1
            unordered = False
            for k in range(6, 42, 4):
                below, above = words[i, k + 4], words[i, k + 5]
                unordered |= (below != UNDEF_PRICE) & (words[i, k] <= below)
                unordered |= (above != UNDEF_PRICE) & (words[i, k + 1] >= above)
            counts[code, UNORDERED] += unordered
            if flags & 128:
                counts[code, LAST] += 1
                bid, ask = words[i, 6], words[i, 7]
                if rth_open <= ts < rth_close and max(bid, ask) != UNDEF_PRICE:
                    counts[code, TWO_SIDED] += 1
                    counts[code, CROSSED] += ask <= bid
        state[code, 1] = ts
    return found
