"""A thinned ES market over several real calendar dates: sparse prints all session, some dense hours, some of them
with a book. Everything is drawn from seeds, lands as bronze, and stays at hand as the oracle's lists of dicts.
"""

import csv
import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tests.conftest import PROJECT_DIR
from tests.fixtures.bronze import Delivery
from tests.oracle import option_worlds, worlds
from tests.oracle.book import F_LAST
from tests.oracle.rules import MINUTE_NS, SECOND_NS

INSTANTS = ("globex_open_ns", "premarket_open_ns", "rth_open_ns", "rth_close_ns", "globex_close_ns")


def calendar() -> dict[str, dict]:
    """Every row of dim_session by date: instants as integers, flags as booleans."""
    with open(PROJECT_DIR / "seeds" / "reference" / "dim_session.csv", newline="") as f:
        return {
            row["session_date"]: {
                "session_date": row["session_date"],
                **{name: int(row[name]) for name in INSTANTS},
                **{name: row[name] == "true" for name in ("is_holiday", "is_early_close")},
            }
            for row in csv.DictReader(f)
        }


@dataclass
class Day:
    """One session's events as they were landed, in total order; each of futures knows its ``contract``.

    ``options`` and ``spy`` are prints of `tests/oracle/option_worlds.py` as the vendor sends them.
    ``gaps`` of the book and ``trade_gaps`` are (contract, from_ns, to_ns, reason); ``f_last_absent``: no record marks
    the end of an event.
    """

    session: dict
    trades: list[dict]
    records: list[dict] = field(default_factory=list)
    options: list[dict] = field(default_factory=list)
    spy: list[dict] = field(default_factory=list)
    gaps: Sequence[tuple[str, int, int, str]] = ()
    trade_gaps: Sequence[tuple[str, int, int, str]] = ()
    f_last_absent: bool = False

    @property
    def date(self) -> str:
        return self.session["session_date"]

    def front_trades(self, contract: str) -> list[dict]:
        """The oracle's trades: one contract, inside the session."""
        return self._inside(self.trades, contract)

    def front_records(self, contract: str) -> list[dict]:
        return self._inside(self.records, contract)

    def front_gaps(self, contract: str, of: str = "gaps") -> tuple[tuple[int, int], ...]:
        """Where records of a contract are missing, but for what the records that are there show themselves."""
        shown = ("silence", "maybe_bad_book")
        return tuple((a, b) for c, a, b, reason in getattr(self, of) if c == contract and reason not in shown)

    def without_event_ends(self) -> "Day":
        records = [{**r, "flags": r["flags"] & ~F_LAST} for r in self.records]
        return replace(self, records=records, f_last_absent=True)

    def _inside(self, events: Iterable[dict], contract: str) -> list[dict]:
        first, end = self.session["globex_open_ns"], self.session["globex_close_ns"]
        return [e for e in events if e["contract"] == contract and first <= e["ts_event_ns"] < end]

    def delivery(self, name: str | None = None) -> Delivery:
        """The day as one delivery; a second ``name`` delivers the same rows again."""
        rows = {
            "trades": [trade_row(t) for t in self.trades],
            "mbp10": [book_row(r) for r in self.records],
            "options_trades": [option_row(o) for o in self.options],
            "stocks_trades": [spy_row(s) for s in self.spy],
        }
        key = {"key": {"symbol": "ES"}}
        gaps = {
            name: [key | {"contract": c, "from_ns": a, "to_ns": b, "reason": why} for c, a, b, why in found]
            for name, found in (("mbp10", self.gaps), ("trades", self.trade_gaps))
        }
        quality = (
            [key | {"check": "f_last_share", "value": 0.0, "verdict": "warn"}] if self.f_last_absent else []
        )
        held = {k: v for k, v in rows.items() if v}
        return Delivery(name or f"session {self.date}", held, gaps=gaps, quality=quality)

    def hour_again(self, hour_ns: int, name: str) -> Delivery:
        """One UTC hour of the day in a delivery of its own: copies of what the day's own delivery holds."""
        again = Day(self.session, *([e for e in es if e["ts_event_ns"] // HOUR_NS == hour_ns // HOUR_NS]
                                    for es in (self.trades, self.records, self.options, self.spy)),
                    f_last_absent=self.f_last_absent)  # fmt: skip
        return again.delivery(name)


HOUR_NS = 60 * MINUTE_NS


def trade_row(trade: dict) -> dict:
    """A trade of the oracle as a row of bronze: the aggressor is known by its side."""
    kept = ("ts_event_ns", "sequence", "ordinal", "contract", "size")
    return {
        **{k: trade[k] for k in kept},
        "price": trade["tick"],
        "side": {1: "B", -1: "A", 0: "N"}[trade["aggressor"]],
        "flags": 0,
    }


def book_row(record: dict) -> dict:
    """A record of the oracle as a row of bronze: ten wide levels for each side."""
    kept = ("ts_event_ns", "sequence", "ordinal", "contract", "action", "side", "flags", "size")
    row = {**{k: record[k] for k in kept}, "price": record["tick"]}
    for side, levels in (("bid", record["bids"]), ("ask", record["asks"])):
        for k, (tick, size) in enumerate(levels):
            row[f"{side}_px_{k:02d}"], row[f"{side}_sz_{k:02d}"] = tick, size
            row[f"{side}_ct_{k:02d}"] = min(size, 1)
    return row


def option_row(option: dict) -> dict:
    """An option print of the oracle as a row of bronze."""
    kept = ("ts_event_ns", "ordinal", "option_symbol", "exp_date", "right", "price", "size", "correction")
    return {
        **{k: option[k] for k in (*kept, "opt_bid", "opt_ask")},
        "strike": Decimal(option["strike_milli"]) / 1000,
        "aggressor": option["stated_aggressor"],
        "sequence": option["ordinal"],
        "exchange": 302,
    }


def spy_row(spy: dict) -> dict:
    """A SPY print of the oracle as a row of bronze."""
    kept = ("ts_event_ns", "ordinal", "price", "size", "conditions", "correction")
    number = spy["ordinal"]
    return {**{k: spy[k] for k in kept}, "trade_id": str(number), "sequence": number, "exchange": 4}


def in_order(*streams: Iterable[dict]) -> list[dict]:
    """Events of several streams in one file: by time and sequence, and numbered as they stand."""
    rows = sorted(itertools.chain(*streams), key=lambda e: (e["ts_event_ns"], e["sequence"]))
    return [{**row, "ordinal": i} for i, row in enumerate(rows)]


def of_contract(events: Iterable[dict], contract: str) -> list[dict]:
    return [{**event, "contract": contract} for event in events]


def prints(
    rng: random.Random, spans: Sequence[tuple[int, int, int]], *, tick: int, swing_ticks: int = 90
) -> list[dict]:
    """Trades over ``spans`` of (from_ns, until_ns, mean gap in ns). The price trends and is pulled back within
    ``swing_ticks`` of ``tick``; some prints share their instant, some follow within a sweep's gap."""
    centre, drift, found = tick, 0, []
    for start, until, mean_gap_ns in spans:
        now = start + rng.randrange(SECOND_NS)
        while now < until:
            if rng.random() < 0.06:
                drift = rng.choice((-3, -2, -1, 0, 0, 1, 2, 3))
            if abs(tick - centre) > swing_ticks:
                drift = -2 if tick > centre else 2
            tick += drift + rng.choice((-1, 0, 0, 1))
            found.append(
                {
                    "ts_event_ns": now,
                    "sequence": len(found) // 2,
                    "tick": tick,
                    "size": rng.choice((1, 1, 2, 3, 5, 10, 30, 60)),
                    "aggressor": rng.choice((1, 1, 1, -1, -1, -1, 0)),
                }
            )
            if rng.random() < 0.2:
                now += rng.choice((0, 1, 20_000_000, 100_000_000, 100_000_001))
            else:
                now += int(rng.expovariate(1 / mean_gap_ns)) + 1
    return found


def book_spell(rng: random.Random, start_ns: int, *, events: int, tick: int, gap_ns: int) -> list[dict]:
    """Records of a whole book from ``start_ns`` on, with every kind of fault; its prints are `worlds.trades_of`."""
    return worlds.random_book(rng, events, start_ns=start_ns, mean_gap_ns=gap_ns, mid_tick=tick)


def autumn() -> dict[str, Day]:
    """Eight sessions of late 2025, by date.

    10-30, 10-31 and 11-03 stand around the end of daylight saving time (the night to Sunday 11-02); 11-26 has no
    session with data among the ten before it; 11-27 is a holiday, 11-28 closes early; on 12-01 most of the volume
    has moved to the next contract, which is the front of 12-02 with two sessions of its own behind it. The book is
    there on 11-03, 11-28 and 12-02 only. On 10-31 prints and a spread stand outside of every session; before 11-03
    opens the book is crossed. SPY trades on 10-31, so that its ratio is carried into 11-03, and on 11-26 and 12-02;
    options on 11-03, 11-26, 11-28 and 12-02.
    """
    sessions = calendar()
    days = {}
    near, far = "ESZ5", "ESH6"
    for seed, (date, front, quiet_s) in enumerate(
        [
            ("2025-10-30", near, 60),
            ("2025-10-31", near, 110),
            ("2025-11-03", near, 110),
            ("2025-11-26", near, 110),
            ("2025-11-27", near, 110),
            ("2025-11-28", near, 110),
            ("2025-12-01", far, 60),
            ("2025-12-02", far, 110),
        ]
    ):
        rng = worlds.seeded(20_251_000 + seed)
        session = sessions[date]
        opened, rth, closed = (session[k] for k in ("globex_open_ns", "rth_open_ns", "rth_close_ns"))
        quiet_ns, busy_ns = quiet_s * SECOND_NS, 5 * SECOND_NS
        noon = rth + 75 * MINUTE_NS
        book: list[dict] = []
        if date == "2025-11-03":
            start = rth - 10 * MINUTE_NS
            book = book_spell(rng, start, events=2_000, tick=24_010, gap_ns=3 * SECOND_NS)
            early = book_spell(rng, opened - 20 * MINUTE_NS, events=60, tick=24_000, gap_ns=5 * SECOND_NS)
            quiet = [(opened, start, quiet_ns), (noon, closed, quiet_ns)]
            book = early + book
        elif date == "2025-11-28":
            start = closed - 100 * MINUTE_NS  # up to and past the last touch that is emitted, 12:44
            book = book_spell(rng, start, events=2_000, tick=24_015, gap_ns=3 * SECOND_NS)
            quiet = [(opened, start, quiet_ns), (start + 110 * MINUTE_NS, closed + 60 * MINUTE_NS, quiet_ns)]
        elif date == "2025-12-02":
            book = book_spell(rng, rth + 20 * MINUTE_NS, events=2_000, tick=23_990, gap_ns=3 * SECOND_NS)
            quiet = [(opened, rth, quiet_ns), (rth, rth + 20 * MINUTE_NS, busy_ns)]
        elif date in ("2025-10-30", "2025-12-01"):
            quiet = [(opened, closed, quiet_ns)]
        elif date == "2025-11-27":  # nobody trades long on a holiday, but somebody does
            quiet = [(opened, rth, quiet_ns), (rth, rth + 60 * MINUTE_NS, busy_ns)]
        else:
            quiet = [(opened, rth, quiet_ns), (rth, noon, busy_ns), (noon, closed, quiet_ns)]
        front_trades = [*prints(rng, quiet, tick=24_000), *worlds.trades_of(book)]
        other = {near: far, far: near}[front]
        # a tenth of the volume in the other contract; on the roll day the far one leads a little too late
        sparse = [(opened, closed, 15 * MINUTE_NS)]
        if date == "2025-12-01":
            sparse = [(opened, rth, 2 * MINUTE_NS), (rth, rth + 45 * MINUTE_NS, busy_ns)]
        other_trades = prints(rng, sparse, tick=24_200)
        stray = []
        if date == "2025-10-31":
            weekend = session["globex_close_ns"] + 10 * MINUTE_NS
            stray = of_contract(
                prints(rng, [(weekend, weekend + HOUR_NS, 5 * MINUTE_NS)], tick=24_000), front
            )
            spreads = prints(rng, [(rth, rth + HOUR_NS, 5 * MINUTE_NS)], tick=200, swing_ticks=4)
            stray += of_contract(spreads, f"{near}-{far}")
        other_book = []
        if date == "2025-12-02":
            other_book = book_spell(rng, rth, events=200, tick=24_200, gap_ns=20 * SECOND_NS)
        days[date] = day = Day(
            session,
            in_order(of_contract(front_trades, front), of_contract(other_trades, other), stray),
            in_order(of_contract(book, front), of_contract(other_book, other)),
        )
        add_spy(
            day,
            worlds.seeded(20_252_000 + seed),
            front=front,
            options=400 if date in ("2025-11-03", "2025-11-26", "2025-11-28", "2025-12-02") else 0,
            spy=1_200 if date in ("2025-10-31", "2025-11-26", "2025-12-02") else 0,
        )
    return days


def add_spy(
    day: Day, rng: random.Random, *, front: str, options: int, spy: int, ratio: float = 10.03
) -> None:
    """About as many option and SPY prints beside the front contract's trades of a day."""
    trades = day.front_trades(front)
    if options:
        day.options = option_worlds.random_prints(rng, day.session, trades, ratio, options)
    if spy:
        day.spy = option_worlds.random_spy(rng, day.session, trades, ratio, spy)


def busy_morning(seed: int) -> tuple[Day, ...]:
    """Four quiet sessions, 2025-10-28 to 10-31, and after them one with an hour of book and prints from a little before
    its RTH open: small enough to be built in a moment, busy enough that most touches can be observed and have outcomes.
    """
    sessions = calendar()
    rng = worlds.seeded(seed)
    day, contract = sessions["2025-11-03"], "ESZ5"
    found = []
    for date in ("2025-10-28", "2025-10-29", "2025-10-30", "2025-10-31"):
        before = sessions[date]
        quiet = prints(rng, [(before["rth_open_ns"], before["rth_close_ns"], 100 * SECOND_NS)], tick=24_000)
        found.append(Day(before, in_order(of_contract(quiet, contract))))
    start = day["rth_open_ns"] - 4 * MINUTE_NS
    book = worlds.random_book(
        rng,
        3_500,
        rng.random() < 0.7,
        start_ns=start,
        mean_gap_ns=SECOND_NS,
        mid_tick=24_000 + rng.randrange(40),
    )
    early = prints(rng, [(day["globex_open_ns"], start, 110 * SECOND_NS)], tick=24_000)
    found.append(
        Day(
            day,
            in_order(of_contract([*early, *worlds.trades_of(book)], contract)),
            in_order(of_contract(book, contract)),
        )
    )
    rng = worlds.seeded(seed)
    add_spy(found[-2], rng, front=contract, options=0, spy=300)
    add_spy(found[-1], rng, front=contract, options=400, spy=800)
    return tuple(found)
