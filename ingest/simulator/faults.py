"""What may be wrong, or merely odd, in a vendor's files: every fault can be switched on, and says how it is handled.

Faults hit every session, or one session of the call, which `resolve` chooses once for a root. Docs:
docs/guides/simulator.md holds the table of `FAULTS`; a test compares.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from types import MappingProxyType

from ingest.simulator.clock import NEW_YORK, is_early_close, is_open_holiday, trading_sessions

EVERY, ONE, ADDED = "every session", "one session", "a session more"
SEARCH_DAYS = 400


@dataclass(frozen=True)
class Fault:
    """``hits``: every session, one of those asked for, or one that is added; ``handling``: what is expected."""

    hits: str
    what: str
    handling: str


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "redelivery": Fault(
            EVERY,
            "0.5 % of the events of each file come again in a second file",
            "bronze holds both deliveries; staging keeps each row once, so its counts are those without the fault",
        ),
        "disorder": Fault(
            EVERY,
            "2 % of the ES events arrive up to 500 ms late: `ts_recv` rises, `ts_event` goes back",
            "bronze is sorted by (`ts_event_ns`, `sequence`, `ordinal`): the clean stream again, in order",
        ),
        "other-contracts": Fault(
            EVERY,
            "4 % of the ES records are of the next contract and of the spread (else 1.5 %; more at small scales)",
            "all are in bronze; silver follows the front contract alone, bars hold the outrights, spreads are in none",
        ),
        "book-gap": Fault(
            EVERY,
            "five minutes of regular hours without any book record, while trades go on",
            "a segment break: no flow is taken across it, the barrier isn't observable; where numbers of events are "
            "dense, the commit records list the gap",
        ),
        "book-clear": Fault(
            EVERY,
            "in regular hours the book is cleared (R) and sent again as a snapshot",
            "a segment break: the snapshot is a reference, its sizes are no flow",
        ),
        "crossed-book": Fault(
            EVERY,
            "ten minutes before the Globex open the bid stands above the ask",
            "in bronze; the pre-open lies in no session, so that silver never sees it",
        ),
        "undef-levels": Fault(
            EVERY,
            "for ten minutes of regular hours the book has seven levels a side: the others are UNDEF",
            "NULL prices and zero sizes in bronze; with fewer than ten levels the whole axis counts as visible",
        ),
        "id-reuse": Fault(
            EVERY,
            "on every other UTC day the front contract has the `instrument_id` that the spread has on the days between",
            "contracts are mapped by id and date, so that every row has the contract it has without the fault",
        ),
        "odd-tickers": Fault(
            EVERY,
            "options of the roots `NA`, `NULL` and `nan`, and stocks with these tickers",
            "read as text, never as missing values: other tickers than SPY, filtered and counted",
        ),
        "fractional-size": Fault(
            EVERY,
            "two prints of SPY options have half a contract",
            "these rows are rejected with line, rule and raw text; the rest of the file lands",
        ),
        "identical-prints": Fault(
            EVERY,
            "1 % of the option trades print twice with equal values",
            "both are kept: equal prints within one delivery are genuine",
        ),
        "no-spy-day": Fault(
            ONE,
            "the stocks file has no row of SPY",
            "the file lands with no row of ours; `es_spy_ratio` is that of the session before (`carried`), without one "
            "10 (`default`)",
        ),
        "no-options-day": Fault(
            ONE,
            "there is no options file",
            "every fuel column is NULL, `fuel_effect` is UNKNOWN",
        ),
        "roll-day": Fault(
            ONE,
            "the next contract trades nearly as much as the front one",
            "`dominance_ratio` below 0.60: the date is built and flagged `roll_contaminated`, and left out of training",
        ),
        "truncated-file": Fault(
            ONE,
            "a second trades file and a second options file end in the middle of their compressed data",
            "quarantined with the reason in the receipt; no row in bronze, the others land",
        ),
        "wrong-sha256": Fault(
            ONE,
            "a second trades file is not the one that the delivery list (simulation.json) names",
            "quarantined where the list is given, as the demo does; no row in bronze",
        ),
        "early-close": Fault(
            ADDED,
            "a session whose regular hours end at 13:00",
            "RTH, expiry and event hours end earlier, by the calendar",
        ),
        "holiday": Fault(
            ADDED,
            "a weekday holiday on which ES trades until 13:00, without stocks and options",
            "a session of its own in which no event of regular hours is taken",
        ),
        "dst-change": Fault(
            ADDED,
            "the sessions before and after New York changes its clocks",
            "every instant follows New York wall time: the regular open moves by an hour in UTC",
        ),
    }
)
BROKEN_DELIVERIES = ("truncated-file", "wrong-sha256")
NO_FAULTS, ALL_FAULTS = "none", "all"
# What a user should see handled, and what neither rejects a row nor adds a session.
DEMO_FAULTS = ("crossed-book", "identical-prints", "odd-tickers")


class FaultError(ValueError):
    """A fault was named that isn't known, or can't be had."""


@dataclass(frozen=True)
class Faults:
    """Faults that are on: the session that each hits, None for every session."""

    dates: Mapping[str, date | None]

    def of(self, session: date) -> frozenset[str]:
        """Names of the faults that hit ``session``."""
        return frozenset(name for name, day in self.dates.items() if day is None or day == session)

    def added_sessions(self) -> set[date]:
        """Sessions that are simulated because of a fault."""
        days = {day for name, day in self.dates.items() if FAULTS[name].hits == ADDED}
        if changed := self.dates.get("dst-change"):
            days.add(trading_sessions(changed - timedelta(days=10), changed - timedelta(days=1))[-1])
        return days

    def to_json(self) -> dict[str, str | None]:
        return {name: day and day.isoformat() for name, day in sorted(self.dates.items())}


def chosen_names(names: Iterable[str]) -> tuple[str, ...]:
    """The faults that are meant, each once: names, ``all``, or ``none``. Raises FaultError for a name not known."""
    asked = list(dict.fromkeys(names))
    if unknown := [name for name in asked if name not in FAULTS and name not in (ALL_FAULTS, NO_FAULTS)]:
        raise FaultError(
            f"fault was {unknown[0]!r}, expected {ALL_FAULTS}, {NO_FAULTS} or one of {', '.join(FAULTS)}; "
            "choose one of them"
        )
    if NO_FAULTS in asked and len(asked) > 1:
        raise FaultError(
            f"faults were {', '.join(asked)}, expected {NO_FAULTS} alone; name the one or the others"
        )
    return tuple(FAULTS) if ALL_FAULTS in asked else tuple(name for name in asked if name != NO_FAULTS)


def resolve(names: Iterable[str], days: list[date], known: Mapping[str, date | None]) -> Faults:
    """Choose the session of each fault: the one it has in ``known``, else by the ``days`` asked for (sorted).

    A fault of one session takes the first of the days for what must not be carried from the day before, the others
    follow day by day. Raises FaultError when the calendar has no such session within 400 days.
    """
    single = [name for name, fault in FAULTS.items() if fault.hits == ONE]
    chosen: dict[str, date | None] = {}
    for name in chosen_names(names):
        if name in known:
            chosen[name] = known[name]
        elif name in single:
            chosen[name] = days[single.index(name) % len(days)]
        else:
            chosen[name] = _session_with(name, days) if FAULTS[name].hits == ADDED else None
    return Faults(MappingProxyType(chosen))


def _session_with(name: str, days: list[date]) -> date:
    """The first session from the first of ``days`` on that is what the calendar fault ``name`` says."""
    first = days[0]
    sessions = trading_sessions(first, first + timedelta(days=SEARCH_DAYS))
    if name == "early-close":
        found = (day for day in sessions if is_early_close(day))
    elif name == "dst-change":
        before = dict(zip(sessions[1:], sessions, strict=False))
        found = (day for day in sessions[1:] if _utc_offset(day) != _utc_offset(before[day]))
    else:
        every = (first + timedelta(days=k) for k in range(SEARCH_DAYS))
        found = (day for day in every if is_open_holiday(day))
    if day := next(found, None):
        return day
    raise FaultError(
        f"{name} was asked for from {first} on, expected one within {SEARCH_DAYS} days; choose other dates"
    )


def _utc_offset(day: date) -> timedelta:
    return datetime.combine(day, time(12), NEW_YORK).utcoffset()
