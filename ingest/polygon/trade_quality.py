"""What the prints of a delivery say about their own completeness and quality, for its commit records.

Sequence numbers are no part of it: this vendor's run over all tickers of a tape, so that holes in those of one
ticker say nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa

from ingest.bronze_writer import Partition
from lake import calendar

USUAL_0DTE_ROWS = (400_000, 1_500_000)  # of SPY on a weekday
LEAST_0DTE_SHARE = 0.3  # of its volume
USUAL_STRIKES = (20, 400)
MINUTE_NS = 60_000_000_000  # within which the first and the last print of a session come


@dataclass
class _Day:
    rows: int = 0
    first_ns: int = 2**63 - 1
    last_ns: int = -1
    volume: int = 0
    rows_0dte: int = 0
    volume_0dte: int = 0
    strikes: set[int] = field(default_factory=set)


class TradeQuality:
    """Feed sorted batches of each partition (``add``), then ask for ``checks``."""

    def __init__(self, key: str, *, is_option: bool) -> None:
        self._key, self._is_option = key, is_option
        self._days: dict[tuple[str, str], _Day] = defaultdict(_Day)

    def add(self, partition: Partition, batch: pa.RecordBatch) -> None:
        """``batch`` is as `SortedRows` has it: sizes in contracts, ``expiry`` in days, ``strike`` in thousandths."""
        day = self._days[partition.date, partition.symbol]
        ts = batch.column("ts_event_ns")
        day.rows += batch.num_rows
        day.first_ns, day.last_ns = min(day.first_ns, ts[0].as_py()), max(day.last_ns, ts[-1].as_py())
        if self._is_option:
            size, expiry = batch.column("size").to_numpy(), batch.column("expiry").to_numpy()
            today = expiry == (date.fromisoformat(partition.date) - date(1970, 1, 1)).days
            day.volume += int(size.sum())
            day.volume_0dte += int(size[today].sum())
            day.rows_0dte += int(np.count_nonzero(today))
            day.strikes.update(np.unique(batch.column("strike").to_numpy()[today]).tolist())

    def checks(self, scale: float = 1.0) -> dict[str, list[dict]]:
        """Verdicts of the commit records by ISO date. ``scale`` is the simulator's share of a day's rows.

        Only a date whose prints span the regular hours is judged by its counts. Source: spec/market.md 4.5.
        """
        found = defaultdict(list)
        for (iso, symbol), day in sorted(self._days.items()):
            found[iso] += [
                {"key": {self._key: symbol}} | verdict for verdict in self._verdicts(iso, symbol, day, scale)
            ]
        return dict(found)

    def _verdicts(self, iso: str, symbol: str, day: _Day, scale: float) -> list[dict]:
        made = [_verdict("order_violations", 0, ok=True)]  # what isn't in order is never written
        session = calendar.load().find(iso)
        spans = (
            session is not None
            and not session.is_holiday
            and day.first_ns <= session.rth_open_ns + MINUTE_NS
            and day.last_ns >= session.rth_close_ns - MINUTE_NS
        )
        if not spans:
            return [*made, _verdict("partial_day", day.rows, ok=False)]
        if self._is_option and symbol == "SPY":
            low, high = (n * scale for n in USUAL_0DTE_ROWS)
            made.append(_verdict("rows_0dte", day.rows_0dte, ok=low <= day.rows_0dte <= high))
            share = day.volume_0dte / day.volume
            made.append(_verdict("volume_0dte_share", share, ok=share >= LEAST_0DTE_SHARE))
            strikes = len(day.strikes)
            made.append(_verdict("strikes_0dte", strikes, ok=USUAL_STRIKES[0] <= strikes <= USUAL_STRIKES[1]))
        return made


def _verdict(check: str, value: float, *, ok: bool) -> dict:
    return {"check": check, "value": value, "verdict": "ok" if ok else "warn"}
