"""The session calendar of the planner."""

import pytest

from lake import calendar
from tests.fixtures.bronze import at_ns


@pytest.fixture(scope="module")
def sessions() -> calendar.Calendar:
    return calendar.load()


def dates(found: list[calendar.Session]) -> list[str]:
    return [s.date for s in found]


def test_sessions_before_skip_the_weekend(sessions):
    assert sessions.before("2025-12-16", 3) == ["2025-12-11", "2025-12-12", "2025-12-15"]
    assert sessions.before("2025-12-16", 0) == []
    first = sessions.sessions[0].date
    assert sessions.before(first, 3) == []


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        # Winter: session 2025-12-16 is [12-15 23:00, 12-16 22:00) UTC.
        ("2025-12-15T14:00:00", "2025-12-15T14:59:59", ["2025-12-15"]),
        ("2025-12-15T22:00:00", "2025-12-15T22:59:59", []),
        ("2025-12-15T21:59:59", "2025-12-15T21:59:59", ["2025-12-15"]),
        ("2025-12-15T23:00:00", "2025-12-15T23:00:00", ["2025-12-16"]),
        ("2025-12-15T21:00:00", "2025-12-15T23:30:00", ["2025-12-15", "2025-12-16"]),
        ("2025-12-13T12:00:00", "2025-12-13T13:00:00", []),  # Saturday
        ("2025-12-14T23:00:00", "2025-12-14T23:10:00", ["2025-12-15"]),  # Sunday evening
        ("2023-12-25T23:00:00", "2023-12-25T23:59:59", ["2023-12-26"]),
        # Summer: one hour earlier.
        ("2025-07-01T22:00:00", "2025-07-01T22:00:00", ["2025-07-02"]),
        ("2025-07-01T21:00:00", "2025-07-01T21:59:59", []),
        # A span of days holds every session it touches.
        ("2025-12-12T12:00:00", "2025-12-15T12:00:00", ["2025-12-12", "2025-12-15"]),
    ],
)
def test_a_span_finds_the_sessions_it_may_hold(sessions, first, last, expected):
    assert dates(sessions.overlapping(at_ns(first), at_ns(last))) == expected


def test_the_last_ns_before_an_open_belongs_to_no_session(sessions):
    open_ns = sessions.session("2025-12-16").open_ns
    assert dates(sessions.overlapping(open_ns - 1, open_ns - 1)) == []
    assert dates(sessions.overlapping(open_ns - 1, open_ns)) == ["2025-12-16"]
    close_ns = sessions.session("2025-12-16").close_ns
    assert dates(sessions.overlapping(close_ns - 1, close_ns - 1)) == ["2025-12-16"]
    assert dates(sessions.overlapping(close_ns, close_ns)) == []


def test_a_date_outside_the_calendar_is_an_error_never_a_guess(sessions):
    for date in ("2025-12-13", "1999-01-04"):
        with pytest.raises(calendar.CalendarError, match=f"session date was {date}, expected a weekday"):
            sessions.session(date)


def test_a_longer_calendar_changes_no_row_that_was_there(tmp_path):
    lines = calendar.CALENDAR_FILE.read_text().splitlines(keepends=True)
    short = tmp_path / "short.csv"
    short.write_text("".join(lines[:-10]))
    longer = calendar.load()
    shorter = calendar.load(short)
    assert shorter.sessions == longer.sessions[: len(shorter.sessions)]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("2029-01-02T15:00:00", "2029-01-02T16:00:00"),
        (
            "2028-12-29T15:00:00",
            "2028-12-31T23:00:00",
        ),  # the Sunday evening opens the first Monday that is missing
        ("2017-12-29T21:59:59", "2018-01-02T15:00:00"),
        ("2017-12-28T15:00:00", "2029-01-02T15:00:00"),
    ],
)
def test_events_of_a_session_that_is_missing_are_an_error(sessions, first, last):
    with pytest.raises(calendar.CalendarError, match=r"expected a weekday of dim_session .* extend"):
        sessions.overlapping(at_ns(first), at_ns(last))


def test_no_session_stands_at_the_ends_of_the_calendar(sessions):
    """What lies between the last close and the next open is of no session, as on any weekend."""
    assert dates(sessions.overlapping(at_ns("2028-12-29T22:00:00"), at_ns("2028-12-31T22:59:59"))) == []
    assert dates(sessions.overlapping(at_ns("2017-12-29T22:00:00"), at_ns("2017-12-31T22:59:59"))) == []


def test_a_calendar_without_a_weekday_is_refused(tmp_path):
    lines = calendar.CALENDAR_FILE.read_text().splitlines(keepends=True)
    holed = tmp_path / "holed.csv"
    holed.write_text("".join(line for line in lines if not line.startswith("2025-12-16")))
    with pytest.raises(calendar.CalendarError, match="after 2025-12-15 was 2025-12-17, expected 2025-12-16"):
        calendar.load(holed)
    twice = tmp_path / "twice.csv"
    twice.write_text("".join(lines[:3] + lines[2:]))
    with pytest.raises(calendar.CalendarError, match="after 2018-01-02 was 2018-01-02, expected 2018-01-03"):
        calendar.load(twice)
