"""Hour windows as numbers (hours since the epoch), instants and texts, and which of them a load publishes.

Source: spec/execution.md 2.3, 3.1.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Set
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from ingest.window_parts import PENDING_ROWS
from ingest.window_runs import numbers
from lake.windows import format_window

log = logging.getLogger(__name__)

# Hours without rows between two windows of one load count as read, up to this many; a wider hole is more likely a
# wrong clock than a quiet market, and is only told of.
MAX_GAP_HOURS = 31 * 24
# The same where both bounds were asked for: a year and a day. Each hour is a file, and a longer hole is a wrong year.
MAX_BOUNDED_GAP_HOURS = 367 * 24
NO_WINDOW = 0  # rejects of a file without any good row: they have no time


def pieces(tables: Iterator[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """Runs of one window, in the order of the rows."""
    for table in tables:
        windows = numbers(table.column("_window"))
        cuts = [0, *(i + 1 for i in (windows[1:] != windows[:-1]).nonzero()[0].tolist()), len(windows)]
        for low, high in itertools.pairwise(cuts):
            for start in range(low, high, PENDING_ROWS):
                yield int(windows[low]), table.slice(start, min(PENDING_ROWS, high - start))


def wanted_windows(
    with_rows: list[int], with_rejects: Set[int], low: int | None, high: int | None
) -> list[int]:
    """Windows to publish, in order: those of rows and rejects, and the hours without any that were read too."""
    touched = sorted({*with_rows, *(window for window in with_rejects if window != NO_WINDOW)})
    edges = [low] if low is not None else touched[:1]
    last = high - 1 if high is not None else touched[-1] if touched else None
    if not edges or last is None:
        return touched
    stops = sorted({*touched, edges[0], last}) if edges[0] <= last else touched
    bounded = low is not None and high is not None
    windows = set(stops)
    for before, after in itertools.pairwise(stops):
        if after - before <= (MAX_BOUNDED_GAP_HOURS if bounded else MAX_GAP_HOURS):
            windows.update(range(before + 1, after))
        else:
            log.warning(
                "gap from=%s to=%s: hours without rows were left open", start_text(before), start_text(after)
            )
    return sorted(windows)


def hour_of(when: datetime | None) -> int | None:
    if when is None:
        return None
    if when.tzinfo is None or when.astimezone(UTC).replace(minute=0, second=0, microsecond=0) != when:
        raise ValueError(
            f"bound was {when.isoformat()}, expected a full hour of UTC, such as 2024-12-01T05:00:00Z"
        )
    if not 2000 <= when.year < 2100:
        raise ValueError(f"bound was {when.isoformat()}, expected one between the years 2000 and 2100")
    return int(when.timestamp()) // 3600


def inside(window: int, low: int | None, high: int | None) -> bool:
    return (low is None or window >= low) and (high is None or window < high)


def hour_start(window: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=window)


def start_text(window: int) -> str:
    return format_window(hour_start(window))


def date_of(window: int) -> str:
    return f"{hour_start(window):%Y-%m-%d}"


def instant_text(when: datetime | None) -> str | None:
    return None if when is None else f"{when:%Y-%m-%dT%H:%M:%S.%fZ}"
