"""The `--dates` and `--sessions` options: which trading sessions a command means."""

import csv
from datetime import date

from lake.calendar import CALENDAR_FILE


def trading_sessions(dates: str, sessions: int | None = None) -> list[date]:
    """Return the session dates that ``dates`` names, in order and once each.

    ``START:END`` is every trading session from START to END, both inclusive; ``START`` with ``sessions`` = n
    is the n trading sessions from START on; ``D1,D2,…`` is these dates, each of which must be a trading
    session. A trading session is a weekday of dim_session that is no holiday.

    Raises ValueError when a date is no ISO date, no trading session where one is named alone, or when the
    calendar ends before ``sessions`` are found.
    """
    with open(CALENDAR_FILE, encoding="utf-8", newline="") as file:
        rows = [(date.fromisoformat(row["session_date"]), row["is_holiday"]) for row in csv.DictReader(file)]
    trading = [day for day, is_holiday in rows if is_holiday == "false"]

    start, colon, end = dates.partition(":")
    if colon or sessions is not None:
        first = _parse(start)
        last = _parse(end) if colon else rows[-1][0]
        chosen = [day for day in trading if first <= day <= last][:sessions]
        if not chosen or (sessions is not None and len(chosen) < sessions):
            raise ValueError(
                f"{dates} holds {len(chosen)} trading sessions, expected {sessions or 'at least 1'}; "
                f"the calendar runs from {trading[0]} to {trading[-1]}"
            )
        return chosen

    named = sorted({_parse(text) for text in dates.split(",")})
    closed = [day for day in named if day not in set(trading)]
    if closed:
        raise ValueError(
            f"{closed[0]} is no trading session (weekend, holiday or outside dim_session); leave it out"
        )
    return named


def _parse(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"a date was {text!r}, expected YYYY-MM-DD, START:END or D1,D2,…") from error
