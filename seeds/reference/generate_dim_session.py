"""Write `dim_session.csv`: one row per weekday from 2018-01-01 to 2028-12-29, with the session's instants.

Run `python seeds/reference/generate_dim_session.py` after the pin of exchange_calendars moves; the same pin
gives the same bytes. Holidays and early closes are those of XNYS, clock hours become instants through the tz
database.
"""

import csv
import io
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import exchange_calendars

FIRST = date(2018, 1, 1)
LAST = date(2028, 12, 29)
NEW_YORK = ZoneInfo("America/New_York")

GLOBEX_OPEN = time(18, 0)
PREMARKET_OPEN = time(4, 0)
RTH_OPEN = time(9, 30)
RTH_CLOSE = time(16, 0)
EARLY_CLOSE = time(13, 0)
GLOBEX_CLOSE = time(17, 0)

COLUMNS = (
    "session_date",
    "globex_open_ns",
    "premarket_open_ns",
    "rth_open_ns",
    "rth_close_ns",
    "globex_close_ns",
    "is_holiday",
    "is_early_close",
)


def instant_ns(day: date, clock: time) -> int:
    """Return the wall time ``clock`` of New York on ``day`` as nanoseconds UTC.

    ``clock`` must exist and be unique on that day; every hour used here is far from the 02:00 change.
    """
    return int(datetime.combine(day, clock, tzinfo=NEW_YORK).timestamp()) * 1_000_000_000


def session_rows(first: date = FIRST, last: date = LAST) -> list[dict[str, object]]:
    """Return one row per weekday in ``[first, last]`` in date order, keyed by `COLUMNS`.

    A holiday keeps the hours of a full day: `is_holiday` alone says that there is no regular session, so that
    readers need no NULL arithmetic. Source: exchange_calendars XNYS; hours of the specification, 1.2.
    """
    calendar = exchange_calendars.get_calendar("XNYS", start=first.isoformat(), end=last.isoformat())
    sessions = {session.date() for session in calendar.sessions}
    early_closes = {session.date() for session in calendar.early_closes}

    rows: list[dict[str, object]] = []
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        if day.weekday() >= 5:  # Saturday, Sunday
            continue
        is_early_close = day in early_closes
        rows.append(
            {
                "session_date": day.isoformat(),
                "globex_open_ns": instant_ns(day - timedelta(days=1), GLOBEX_OPEN),
                "premarket_open_ns": instant_ns(day, PREMARKET_OPEN),
                "rth_open_ns": instant_ns(day, RTH_OPEN),
                "rth_close_ns": instant_ns(day, EARLY_CLOSE if is_early_close else RTH_CLOSE),
                "globex_close_ns": instant_ns(day, GLOBEX_CLOSE),
                "is_holiday": str(day not in sessions).lower(),
                "is_early_close": str(is_early_close).lower(),
            }
        )
    return rows


def as_csv(rows: list[dict[str, object]]) -> str:
    """Return ``rows`` as CSV text with a header and newline endings."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    Path(__file__).with_name("dim_session.csv").write_text(as_csv(session_rows()), encoding="utf-8")
