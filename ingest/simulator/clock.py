"""Trading sessions as instants: New York wall time through the tz database, holidays from the exchange's calendar."""

import functools
import warnings
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import exchange_calendars

NEW_YORK = ZoneInfo("America/New_York")
EPOCH = date(2010, 1, 4)  # first session of the simulated price history
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
EARLY_CLOSE = time(13)
FRIDAY, SATURDAY = 4, 5


@dataclass(frozen=True)
class SessionClock:
    """The instants of one session (ns UTC): [globex_open, globex_close) with the regular hours inside."""

    day: date
    globex_open_ns: int
    premarket_open_ns: int
    rth_open_ns: int
    rth_close_ns: int
    globex_close_ns: int


def wall_ns(day: date, at: time) -> int:
    """Nanoseconds UTC of a New York wall-clock time."""
    return int(datetime.combine(day, at, NEW_YORK).timestamp()) * SECOND_NS


def utc_midnight_ns(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * SECOND_NS


def utc_day(ts_ns: int) -> date:
    return datetime.fromtimestamp(ts_ns // SECOND_NS, UTC).date()


def _calendar(day: date) -> tuple[tuple[date, ...], frozenset[date]]:
    return _calendar_to(day.year // 10 * 10 + 9)  # by decades: loading one takes a tenth of a second


@functools.cache
def _calendar_to(last_year: int) -> tuple[tuple[date, ...], frozenset[date]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the calendar package trips over a pandas deprecation
        xnys = exchange_calendars.get_calendar("XNYS", start=EPOCH.isoformat(), end=f"{last_year}-12-31")
        return tuple(s.date() for s in xnys.sessions), frozenset(s.date() for s in xnys.early_closes)


def trading_sessions(first: date, last: date) -> list[date]:
    """Session dates from ``first`` to ``last``, both inclusive: weekdays that are no full holiday of XNYS.

    Raises ValueError when ``first`` lies before the simulated history begins.
    """
    if first < EPOCH:
        raise ValueError(f"first date was {first}, expected {EPOCH} or later; choose a later date")
    days, _ = _calendar(last)
    return [day for day in days if first <= day <= last]


def is_early_close(day: date) -> bool:
    """True when the regular hours of ``day`` end at 13:00 New York time."""
    return day in _calendar(day)[1]


def is_open_holiday(day: date) -> bool:
    """True on a weekday on which XNYS is closed and ES trades until 13:00: not on New Year's Day, Good Friday and
    Christmas, when both are closed.
    """
    closed = (
        (12, 24),
        (12, 25),
        (12, 26),
        (12, 31),
        (1, 1),
        (1, 2),
    )  # the day itself, or the one it is moved to
    if day.weekday() >= SATURDAY or trading_sessions(day, day) or (day.month, day.day) in closed:
        return False
    return not (day.weekday() == FRIDAY and day.month in (3, 4))


def session_clock(day: date) -> SessionClock:
    """The instants of session ``day``: 18:00 of the calendar day before to 17:00, New York wall time; to 13:00 on a
    holiday.
    """
    if is_open_holiday(day):
        closes = wall_ns(day, EARLY_CLOSE)
        return SessionClock(
            day, wall_ns(day - timedelta(days=1), time(18)), wall_ns(day, time(4)), wall_ns(day, time(9, 30)),
            rth_close_ns=closes, globex_close_ns=closes,
        )  # fmt: skip
    return SessionClock(
        day=day,
        globex_open_ns=wall_ns(day - timedelta(days=1), time(18)),
        premarket_open_ns=wall_ns(day, time(4)),
        rth_open_ns=wall_ns(day, time(9, 30)),
        rth_close_ns=wall_ns(day, EARLY_CLOSE if is_early_close(day) else time(16)),
        globex_close_ns=wall_ns(day, time(17)),
    )
