"""The session calendar as the planner needs it: which UTC instants and which earlier sessions a date reads."""

import bisect
import csv
import functools
import hashlib
import itertools
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from lake.paths import PROJECT_DIR

CALENDAR_FILE = PROJECT_DIR / "seeds" / "reference" / "dim_session.csv"
NEW_YORK = ZoneInfo("America/New_York")


class CalendarError(ValueError):
    """A date lies outside the session calendar."""


@dataclass(frozen=True)
class Session:
    date: str
    open_ns: int
    close_ns: int
    row_digest: str
    rth_open_ns: int
    rth_close_ns: int
    is_holiday: bool


@dataclass(frozen=True)
class Calendar:
    """Sessions in order of date, one per weekday; session D is [18:00 NY of the day before, 17:00 NY of D)."""

    sessions: list[Session]
    index: dict[str, int] = field(default_factory=dict)

    def before(self, date: str, count: int) -> list[str]:
        """The ``count`` sessions before ``date``, oldest first."""
        i = self._position(date)
        return [s.date for s in self.sessions[max(0, i - count) : i]]

    def session(self, date: str) -> Session:
        return self.sessions[self._position(date)]

    def find(self, date: str) -> Session | None:
        """The session of a date, None on weekends and outside the calendar."""
        at = self.index.get(date)
        return None if at is None else self.sessions[at]

    def overlapping(self, ts_min_ns: int, ts_max_ns: int) -> list[Session]:
        """Sessions that may hold an event of the closed span [ts_min_ns, ts_max_ns].

        Raises CalendarError when the span reaches into a session that the calendar doesn't have: its events would
        count as of no session, and be left out in silence.
        """
        closed_ns, opens_ns = self._neighbours
        for ts_ns in (ts_min_ns, ts_max_ns):
            if not closed_ns <= ts_ns < opens_ns:
                raise self._outside(
                    datetime.fromtimestamp(ts_ns // 1_000_000_000, NEW_YORK).date().isoformat()
                )
        i = bisect.bisect_right(self.sessions, ts_min_ns, key=lambda s: s.open_ns) - 1
        found = []
        for s in self.sessions[max(i, 0) :]:
            if s.open_ns > ts_max_ns:
                break
            if s.close_ns > ts_min_ns and s.open_ns <= ts_max_ns:
                found.append(s)
        return found

    @functools.cached_property
    def _neighbours(self) -> tuple[int, int]:
        """When the last session before the calendar closed, and when the first one after it opens."""
        before, after = (
            _next_weekday(date.fromisoformat(s.date), step)
            for s, step in ((self.sessions[0], -1), (self.sessions[-1], 1))
        )
        closed, opens = (
            datetime.combine(before, time(17), NEW_YORK),
            datetime.combine(after, time(18), NEW_YORK),
        )
        return int(closed.timestamp()) * 1_000_000_000, int(
            (opens - timedelta(1)).timestamp()
        ) * 1_000_000_000

    def _position(self, date: str) -> int:
        if date not in self.index:
            raise self._outside(date)
        return self.index[date]

    def _outside(self, day: str) -> CalendarError:
        first, last = self.sessions[0].date, self.sessions[-1].date
        return CalendarError(
            f"session date was {day}, expected a weekday of dim_session ({first} to {last}); "
            "extend seeds/reference/dim_session.csv with its generator"
        )


def _next_weekday(day: date, step: int) -> date:
    """The next day but Saturdays and Sundays, backwards with a ``step`` of -1."""
    while True:
        day += timedelta(step)
        if day.weekday() < 5:
            return day


@functools.cache
def load(path: Path = CALENDAR_FILE) -> Calendar:
    with open(path, newline="") as f:
        sessions = [
            Session(
                date=row["session_date"],
                open_ns=int(row["globex_open_ns"]),
                close_ns=int(row["globex_close_ns"]),
                row_digest=hashlib.sha256(",".join(row.values()).encode()).hexdigest(),
                rth_open_ns=int(row["rth_open_ns"]),
                rth_close_ns=int(row["rth_close_ns"]),
                is_holiday=row["is_holiday"] == "true",
            )
            for row in csv.DictReader(f)
        ]
    for one, following in itertools.pairwise(sessions):
        if (expected := _next_weekday(date.fromisoformat(one.date), 1).isoformat()) != following.date:
            raise CalendarError(
                f"{path.name}: the row after {one.date} was {following.date}, expected {expected}: one for each "
                "weekday; write the file anew with its generator"
            )
    return Calendar(sessions, {s.date: i for i, s in enumerate(sessions)})
