"""Every session of dim_session against the exchange's own calendar, and its feasts against their rules.

`test_reference_seeds` holds the file to its generator and to days written down by hand; here nothing is shared with
the generator but the package.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import exchange_calendars
import pandas as pd
import pytest

from tests.e2e.market import calendar

FIRST, LAST = "2018-01-01", "2028-12-29"
HOUR_NS = 3600 * 1_000_000_000
YEARS = range(2018, 2029)


@pytest.fixture(scope="module")
def sessions() -> dict[str, dict]:
    return calendar()


@pytest.fixture(scope="module")
def schedule() -> pd.DataFrame:
    """Opens and closes of the New York Stock Exchange, UTC, by session."""
    return exchange_calendars.get_calendar("XNYS", start=FIRST, end=LAST).schedule


def test_regular_hours_are_the_exchanges(sessions: dict[str, dict], schedule: pd.DataFrame):
    """Its opens and closes come from its own time zone data, daylight saving included."""
    theirs = {
        row.Index.date().isoformat(): (row.open.value, row.close.value) for row in schedule.itertuples()
    }
    ours = {d: (s["rth_open_ns"], s["rth_close_ns"]) for d, s in sessions.items() if not s["is_holiday"]}
    assert len(theirs) > 2700
    assert {open_ns % 1_000_000_000 for open_ns, _ in theirs.values()} == {0}
    assert ours == theirs


def test_early_closes_are_the_exchanges(sessions: dict[str, dict], schedule: pd.DataFrame):
    theirs = [
        row.Index.date().isoformat()
        for row in schedule.itertuples()
        if row.close - row.open < pd.Timedelta("6h")
    ]
    assert [d for d, s in sessions.items() if s["is_early_close"]] == theirs
    lengths = {d: s["rth_close_ns"] - s["rth_open_ns"] for d, s in sessions.items()}
    assert {lengths[d] for d in theirs} == {7 * HOUR_NS // 2}
    assert {n for d, n in lengths.items() if d not in theirs} == {13 * HOUR_NS // 2}


def test_the_overnight_session_opens_when_the_futures_exchange_does(sessions: dict[str, dict]):
    """Of its whole holidays dim_session keeps the nominal hours."""
    futures = exchange_calendars.get_calendar("CMES", start=FIRST, end=LAST).schedule
    theirs = {row.Index.date().isoformat(): row.open.value for row in futures.itertuples()}
    assert len(theirs) > 2800
    assert {d: sessions[d]["globex_open_ns"] for d in theirs} == theirs
    assert all(sessions[d]["is_holiday"] for d in sessions.keys() - theirs.keys())


# -- feasts, by their rules ----------------------------------------------------------------------------------------


def nth(year: int, month: int, weekday: int, n: int) -> date:
    """The n-th Monday (0) to Sunday (6) of a month."""
    first = date(year, month, 1)
    return first + timedelta((weekday - first.weekday()) % 7 + 7 * (n - 1))


def good_friday(year: int) -> date:
    """Two days before Easter, by the method published in Nature in 1876."""
    a, b, c = year % 19, year // 100, year % 100
    d, e, f = b // 4, b % 4, (b + 8) // 25
    g = (b - f + 1) // 3
    h = (19 * a + b - d - g + 15) % 30
    i, k = c // 4, c % 4
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1) - timedelta(2)


def kept(day: date) -> date:
    """A feast on a Saturday is kept on the Friday before, on a Sunday on the Monday after."""
    return day + timedelta({5: -1, 6: 1}.get(day.weekday(), 0))


def feasts(year: int) -> Iterator[date]:
    if date(year, 1, 1).weekday() != 5:  # in the old year nobody rests for it
        yield kept(date(year, 1, 1))
    yield from (nth(year, 1, 0, 3), nth(year, 2, 0, 3), good_friday(year))  # King, Washington
    yield nth(year, 6, 0, 1) - timedelta(7)  # Memorial Day, the last Monday of May
    if year >= 2022:
        yield kept(date(year, 6, 19))
    yield from (kept(date(year, 7, 4)), nth(year, 9, 0, 1), nth(year, 11, 3, 4), kept(date(year, 12, 25)))


MOURNING = [date(2018, 12, 5), date(2025, 1, 9)]


@pytest.mark.parametrize("year", YEARS)
def test_feasts_of_a_year(sessions: dict[str, dict], year: int):
    expected = sorted({*feasts(year), *(day for day in MOURNING if day.year == year)})
    found = [d for d, s in sessions.items() if s["is_holiday"] and d.startswith(str(year))]
    assert found == [day.isoformat() for day in expected if day.isoformat() <= LAST]


@pytest.mark.parametrize("year", YEARS)
def test_short_days_of_a_year(sessions: dict[str, dict], year: int):
    """The eves of 4 July and Christmas when eve and feast are weekdays, and the Friday after Thanksgiving."""
    eves = [day - timedelta(1) for day in (date(year, 7, 4), date(year, 12, 25)) if 1 <= day.weekday() <= 4]
    expected = sorted([*eves, nth(year, 11, 3, 4) + timedelta(1)])
    found = [d for d, s in sessions.items() if s["is_early_close"] and d.startswith(str(year))]
    assert found == [day.isoformat() for day in expected]


@pytest.mark.parametrize("year", YEARS)
def test_both_clock_changes_of_a_year(sessions: dict[str, dict], year: int):
    """From the Monday after the second Sunday of March to the Friday before the first Sunday of November everything is
    an hour earlier in UTC, the Sunday evening's open included."""
    spring = nth(year, 3, 6, 2) + timedelta(1)
    autumn = nth(year, 11, 6, 1) + timedelta(1)
    days = {d: s for d, s in sessions.items() if d.startswith(str(year))}
    utc_hours = {"globex_open_ns": 23, "premarket_open_ns": 9, "rth_open_ns": 14, "globex_close_ns": 22}
    for name, winter in utc_hours.items():
        hours = {d: datetime.fromtimestamp(s[name] // 1_000_000_000, UTC).hour for d, s in days.items()}
        summer = {d for d, hour in hours.items() if hour == winter - 1}
        assert {*hours.values()} == {winter, winter - 1}
        assert summer == {d for d in days if spring.isoformat() <= d < autumn.isoformat()}, name
