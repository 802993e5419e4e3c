"""The ES/SPY ratio equals the slow oracle on random prints, and holds where no print says anything."""

import random
from collections import Counter

import pyarrow as pa
import pytest

from physics.ratio import LIVE_RATIO_SCHEMA, live_ratio
from tests.oracle import option_worlds, ratio, worlds
from tests.oracle.rules import MINUTE_NS, SECOND_NS

HOUR_NS = 60 * MINUTE_NS


def seeds(few: int, many: int):
    more = [pytest.param(seed, marks=pytest.mark.long) for seed in range(few, few + many)]
    return pytest.mark.parametrize("seed", [*range(few), *more])


def world(seed: int) -> tuple[dict, list[dict], list[dict]]:
    """A session with ES and SPY prints: a squeezed one, or a stretch of a whole one at an edge of SPY's hours."""
    rng = worlds.seeded(seed)
    session = worlds.random_session(rng, minutes=20)
    start = session["globex_open_ns"]
    if seed % 2:
        # 18:00 to 17:00: the prints lie around 20:00, 04:00 or the end, where pairs begin or stop to count.
        session |= {"premarket_open_ns": start + 10 * HOUR_NS, "globex_close_ns": start + 23 * HOUR_NS}
        start += rng.choice((2, 10, 23)) * HOUR_NS - 3 * MINUTE_NS
    trades = worlds.random_trades(rng, 300, start_ns=start, mean_gap_ns=rng.choice((1, 4)) * SECOND_NS)
    trades = [trade for trade in trades if trade["ts_event_ns"] < session["globex_close_ns"]]
    value = rng.choice((10.0, 10.03, 9.87))
    return session, trades, option_worlds.random_spy(rng, session, trades, value, n=rng.choice((40, 300)))


def by_kernel(session: dict, trades: list[dict], spy: list[dict]) -> pa.Table:
    usable = [p for p in spy if p["correction"] == 0 and ratio.ODD_LOT not in p["conditions"]]
    prints = pa.table(
        {
            "ts_event_ns": pa.array([p["ts_event_ns"] for p in usable], pa.int64()),
            "ordinal": pa.array([p["ordinal"] for p in usable], pa.int64()),
            "price": pa.array([float(p["price"]) for p in usable], pa.float64()),
        }
    )
    instants = ("globex_open_ns", "premarket_open_ns", "globex_close_ns")
    return live_ratio(prints, worlds.trades_table(trades), **{name: session[name] for name in instants})


@seeds(60, 400)
def test_live_ratio(seed: int) -> None:
    """Every live second, its median, its pairs and its newest print: equal, not close."""
    session, trades, spy = world(seed)
    found = by_kernel(session, trades, spy)
    assert found.schema == LIVE_RATIO_SCHEMA
    # The oracle looks at every second; around a whole session's prints it is spared the hours without any.
    lively = [p["ts_event_ns"] for p in spy]
    first = max(session["globex_open_ns"], (min(lively) // SECOND_NS) * SECOND_NS)
    near = session | {"globex_close_ns": min(session["globex_close_ns"], max(lively) + 70 * SECOND_NS)}
    assert found.to_pylist() == live_rows_from(first, spy, trades, near)


def live_rows_from(first_ns: int, spy: list[dict], trades: list[dict], session: dict) -> list[dict]:
    """`ratio.live_rows` with its seconds counted from ``first_ns``: pairs are found by the session's own hours."""
    found = ratio.pairs(spy, trades, session)
    return ratio.medians(found, first_ns, session["globex_close_ns"])


def test_the_worlds_have_every_kind_of_second() -> None:
    """Even and odd numbers of pairs, seconds with fewer than five, and prints that may not pair."""
    seen: Counter = Counter()
    for seed in range(20):
        session, trades, spy = world(seed)
        rows = by_kernel(session, trades, spy).to_pylist()
        seen.update(row["pair_count"] % 2 for row in rows)
        seen["none"] += not rows
        seen["least"] += any(row["pair_count"] == 5 for row in rows)
        seen["unpaired"] += len(spy) > len(ratio.pairs(spy, trades, session))
    assert min(seen[kind] for kind in (0, 1, "least", "unpaired")) > 0, seen


def test_the_median_of_an_even_number_is_between_the_two_middle_ones() -> None:
    """Six pairs in a minute by hand: ratios of 10, 10, 10, 10.1, 10.1, 10.1 give 10.05."""
    open_ns = worlds.OPEN_NS
    session = {
        "globex_open_ns": open_ns,
        "premarket_open_ns": open_ns,
        "globex_close_ns": open_ns + 2 * MINUTE_NS,
    }
    trades = [
        {
            "ts_event_ns": open_ns + k * SECOND_NS,
            "sequence": k,
            "ordinal": k,
            "tick": tick,
            "size": 1,
            "aggressor": 1,
        }
        for k, tick in enumerate((4000, 4000, 4000, 4040, 4040, 4040))
    ]
    spy = [
        {
            "ts_event_ns": trade["ts_event_ns"] + 1,
            "ordinal": k,
            "price": 100,
            "conditions": [],
            "correction": 0,
        }
        for k, trade in enumerate(trades)
    ]
    rows = by_kernel(session, trades, spy).to_pylist()
    # the fifth pair is at 4 s + 1 ns: seconds 5 to 60 are live, and of 60 s the first pair is 1 ns inside
    assert [row["asof_ns"] for row in rows] == [open_ns + k * SECOND_NS for k in range(5, 62)]
    assert rows[0]["pair_count"] == 5
    assert rows[0]["es_spy_ratio"] == 10.0
    assert rows[1]["pair_count"] == 6
    assert rows[1]["es_spy_ratio"] == pytest.approx(10.05, rel=1e-15)
    assert rows[1]["max_input_ts_ns"] == spy[-1]["ts_event_ns"]
    assert [row["pair_count"] for row in rows[55:]] == [6, 5]


@pytest.mark.parametrize(
    ("hours", "offset_ns", "pairs"),
    [(2, -1, True), (2, 0, False), (2, 1, False), (10, -1, False), (10, 0, True), (10, 1, True)],
)
def test_pairs_are_of_four_to_twenty_hundred(hours: int, offset_ns: int, pairs: bool) -> None:
    """18:00 to 17:00 holds [18:00, 20:00) and [04:00, 17:00): the ns around 20:00 and 04:00."""
    open_ns = worlds.OPEN_NS
    session = {
        "globex_open_ns": open_ns,
        "premarket_open_ns": open_ns + 10 * HOUR_NS,
        "globex_close_ns": open_ns + 23 * HOUR_NS,
    }
    at = open_ns + hours * HOUR_NS + offset_ns
    trades = [{"ts_event_ns": at - 5, "sequence": 1, "ordinal": 1, "tick": 4000, "size": 1, "aggressor": 1}]
    spy = [
        {"ts_event_ns": at, "ordinal": k, "price": 100, "conditions": [], "correction": 0} for k in range(5)
    ]
    assert bool(by_kernel(session, trades, spy).num_rows) is pairs
    assert bool(ratio.pairs(spy, trades, session)) is pairs


def test_prints_out_of_order_are_refused() -> None:
    spy = pa.table({"ts_event_ns": [2, 1], "ordinal": [0, 1], "price": [1.0, 1.0]})
    none = worlds.trades_table([])
    with pytest.raises(ValueError, match="was 1 in row 1 after 2, expected ascending"):
        live_ratio(spy, none, globex_open_ns=0, premarket_open_ns=0, globex_close_ns=SECOND_NS)


def test_cutting_the_future_changes_no_second_before_it() -> None:
    """A second depends on prints strictly before it: without the later ones it is the same."""
    session, trades, spy = world(6)
    whole = by_kernel(session, trades, spy).to_pylist()
    at = random.Random(1).choice(whole)["asof_ns"]  # noqa: S311
    cut = by_kernel(
        session,
        [trade for trade in trades if trade["ts_event_ns"] < at],
        [p for p in spy if p["ts_event_ns"] < at],
    ).to_pylist()
    assert [r for r in whole if r["asof_ns"] <= at] == [r for r in cut if r["asof_ns"] <= at]
