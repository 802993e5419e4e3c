"""The ES/SPY ratio and the greeks in the compiled pipeline: carried over sessions, and as of each instant wherever a
width in SPY dollars becomes ticks (spec market 1.5, 5.2, 5.5).
"""

import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from lake import params
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import Day, calendar, in_order, of_contract, prints
from tests.e2e.support import (
    DEFAULT,
    LABEL_COLUMNS,
    LEVEL_COLUMNS,
    TOUCH_COLUMNS,
    assert_same,
)
from tests.oracle import labels, levels, option_worlds, options, points, ratio, tape, touches, worlds
from tests.oracle.rules import MINUTE_NS, SECOND_NS

PAIRED, CARRIED, TOO_LATE, EARLY_CLOSE = "2025-10-30", "2025-10-31", "2025-11-03", "2025-11-28"
CONTRACT = "ESZ5"
WHOLE = ("labels", "feat_touch_tape", "option_greeks")


def day_of(date: str, *, spy: bool, seed: int) -> Day:
    """An hour of a session from its RTH open, with or without SPY prints, whose ratio runs from 9 to 12: no market's,
    but every band of the touch machine changes by whole ticks on the way.
    """
    rng = worlds.seeded(seed)
    session = calendar()[date]
    start = session["rth_open_ns"]
    trades = prints(rng, [(start, start + 60 * MINUTE_NS, 3 * SECOND_NS)], tick=24_000)
    found = []
    for trade in trades if spy else ():
        t = trade["ts_event_ns"] + rng.randrange(1, SECOND_NS)
        value = 9 + 3 * (t - start) / (60 * MINUTE_NS)
        price = Decimal(str(round(trade["tick"] * 0.25 / value, 2)))
        found.append(
            {
                "ts_event_ns": t,
                "ordinal": 0,
                "price": price,
                "size": Decimal(100),
                "conditions": [],
                "correction": 0,
            }
        )
    found.sort(key=lambda row: row["ts_event_ns"])
    found = [{**row, "ordinal": k} for k, row in enumerate(found)]
    sold = option_worlds.random_prints(rng, session, trades, 10.0, n=150)
    return Day(session, in_order(of_contract(trades, CONTRACT)), options=sold, spy=found)


def with_ancestors(pipeline: Pipeline, names: Iterable[str]) -> set[str]:
    """These models and every one that they stand on."""
    parents = {model.name: [parent["alias"] for parent in model.parents] for model in pipeline.models}
    found, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += parents.get(name, [])
    return found


@pytest.fixture(scope="module")
def built(manifest: dict[str, Any]) -> tuple[Pipeline, dict[str, Day]]:
    """Four sessions: pairs, none after pairs, none after none, and pairs on an early close."""
    pipeline = Pipeline(manifest, params.load("default"))
    dates = {PAIRED: True, CARRIED: False, TOO_LATE: False, EARLY_CLOSE: True}
    days = {date: day_of(date, spy=spy, seed=k) for k, (date, spy) in enumerate(dates.items())}
    for date, day in days.items():
        pipeline.land(day)
        wanted = WHOLE if date in (PAIRED, EARLY_CLOSE) else ("dim_es_spy_ratio",)
        pipeline.build(date, only=with_ancestors(pipeline, wanted))
    return pipeline, days


def expected_ratio(days: dict[str, Day], date: str, before: str | None = None) -> list[dict]:
    def live(day: Day) -> list[dict]:
        # seconds without a print in the minute before them have no pairs: the oracle need not look at them
        trades = day.front_trades(CONTRACT)
        found = ratio.pairs(day.spy, trades, day.session)
        first = day.session["rth_open_ns"]
        return ratio.medians(found, first, first + 70 * MINUTE_NS)

    previous = live(days[before]) if before else []
    return ratio.ratio_rows(live(days[date]), previous, days[date].session)


@pytest.mark.parametrize(
    ("date", "before", "sources"),
    [
        (PAIRED, None, {"default", "live", "carried"}),
        (CARRIED, PAIRED, {"carried"}),
        (TOO_LATE, CARRIED, {"default"}),
    ],
)
def test_every_second_has_a_ratio(built, date, before, sources):
    """Live, else the last of this or the previous session, else 10: also where no SPY file is landed."""
    pipeline, days = built
    found = pipeline.rows("dim_es_spy_ratio", date)
    assert found == expected_ratio(days, date, before)
    assert {row["ratio_source"] for row in found} == sources


@pytest.mark.parametrize("date", [PAIRED, EARLY_CLOSE])
def test_levels_touches_tape_and_labels_take_the_ratio_as_of_their_instant(built, date):
    pipeline, days = built
    day = days[date]
    rows = expected_ratio(days, date)
    trades = day.front_trades(CONTRACT)

    def asof(t_ns: int) -> float:
        return ratio.ratio_at(rows, t_ns)["es_spy_ratio"]

    p = DEFAULT | {"level_kinds": [k for k in DEFAULT["level_kinds"] if "WALL" not in k]}
    wanted = levels.level_rows(day.session, trades, (), p, ratio_asof=asof)
    found = [row for row in pipeline.rows("levels", date) if "WALL" not in row["level_kind_name"]]
    assert_same("levels", found, wanted, ("level_id", "valid_from_ns"), LEVEL_COLUMNS)

    hits = touches.touches(day.session, trades, wanted, p, asof)
    hits = [{**hit, "contract": CONTRACT} for hit in hits]
    found = [row for row in pipeline.rows("touches", date) if "WALL" not in row["level_kind_name"]]
    assert_same("touches", found, hits, ("event_id",), TOUCH_COLUMNS)
    assert len({hit["es_spy_ratio"] for hit in hits}) > len(hits) / 2 > 20

    seen = points.observation_points(hits, trades, p)
    for point in seen:
        of = ratio.ratio_at(rows, point["asof_ns"])
        point |= {"es_spy_ratio": of["es_spy_ratio"], "ratio_source": of["ratio_source"]}
        point |= {"ratio_ts_ns": of["max_input_ts_ns"]}
    mine = {row["observation_id"]: row for row in pipeline.rows("observation_points", date)}
    mine = [mine[point["observation_id"]] for point in seen]
    assert_same(
        "points",
        mine,
        seen,
        ("observation_id",),
        seen[0],
    )

    chosen = random.Random(0).sample(seen, 60)  # noqa: S311
    flows = {row["observation_id"]: row for row in pipeline.rows("feat_touch_tape", date)}
    expected = [
        {"observation_id": point["observation_id"], **tape.tape_row(trades, point, p, point["es_spy_ratio"])}
        for point in chosen
    ]
    found = [flows[row["observation_id"]] for row in expected]
    assert_same("tape", found, expected, ("observation_id",), expected[0])

    expected = [
        {"observation_id": point["observation_id"], **row}
        for point, row in zip(
            seen, labels.label_rows(trades, day.session, seen, p, ratio_asof=asof), strict=True
        )
    ]
    outcomes = {row["observation_id"]: row for row in pipeline.rows("labels", date)}
    found = [outcomes[row["observation_id"]] for row in expected]
    assert_same("labels", found, expected, ("observation_id",), LABEL_COLUMNS)
    assert len({row["theta_1"] for row in expected}) > 3


@pytest.mark.parametrize("date", [PAIRED, EARLY_CLOSE])
def test_greeks_are_of_todays_options_with_todays_expiry(built, date):
    """Expiry is 16:00 New York, 13:00 on the early close, one side of the clock change and the other."""
    pipeline, days = built
    day = days[date]
    rows = expected_ratio(days, date)
    found = pipeline.rows("option_greeks", date)
    standing = options.with_aggressors(day.options)
    wanted = options.greeks_rows(
        standing, day.front_trades(CONTRACT), lambda t: ratio.ratio_at(rows, t)["es_spy_ratio"], day.session
    )
    assert_same("greeks", found, wanted, ("ts_event_ns", "ordinal"), wanted[0])
    staged = pipeline.rows("stg_options__trades", date)
    assert_same("aggressors", staged, standing, ("ts_event_ns", "ordinal"), ("aggressor", "aggressor_method"))
