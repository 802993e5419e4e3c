"""Geometry, mean reversion, approach, context and attempts against answers worked out on paper: the edges at which a
window, a count or a clock changes its mind (spec market 5.3, 7.7, 19.13)."""

from typing import Any

import pytest

from lake.params import load
from tests.e2e.market import calendar, of_contract
from tests.fixtures.observed import Observed, closes, touch_of
from tests.oracle.rules import DEFAULT, MINUTE_NS, MS_NS, SECOND_NS
from tests.oracle.touches import number_attempts

TOUCH_ONLY = DEFAULT | {"CONFIRMATION_WINDOWS": []}
CELL_NS = 100 * MS_NS
EARLY_CLOSE, PLAIN = "2025-11-28", "2025-11-26"


def seen(world: Observed, *asofs: int, **said: Any) -> list[dict]:
    """The features of touches at these instants, in their order; ``said`` of every touch."""
    touches = [touch_of(at, session_date=world.date, **said) for at in asofs]
    points = world.points(touches, TOUCH_ONLY)
    assert len(points) == len(asofs)
    found = world.observe(points, touches)
    return [found[point["observation_id"]] for point in points]


def test_fourteen_bars_make_an_average_range_and_twenty_one_a_deviation(manifest: dict[str, Any]):
    """Closes rise and fall by 4 ticks in turn, and two minutes are empty: bars that are there count."""
    opened = calendar()[PLAIN]["globex_open_ns"]
    ticks: list[int | None] = [24_000 + 4 * (i % 2) for i in range(24)]
    ticks[5:5] = [None, None]
    world = Observed(manifest, load("default"), {PLAIN: closes(opened, ticks)})
    thirteen, fourteen = (opened + minutes * MINUTE_NS for minutes in (15, 16))
    twenty, twenty_one = (opened + minutes * MINUTE_NS for minutes in (22, 23))
    before, full, later = seen(world, fourteen - CELL_NS, fourteen, twenty_one)
    # the 14th bar may be used at its end, and not 100 ms before; the first bar's own range is 0
    assert (before["atr"], before["distance_atr"]) == (None, None)
    assert full["atr"] == pytest.approx(13 * 1.0 / 14)
    assert full["distance_signed"] == -1.0  # the spot is at 24,004
    assert full["distance_signed_atr"] == pytest.approx(-1.0 / (13 / 14 + 1e-6))
    assert later["atr"] == pytest.approx(1.0)
    rows = {row["bar_end_ns"]: row for row in world.pipeline.rows("int_bars__indicators", PLAIN)}
    assert rows[thirteen]["atr"] is None
    assert rows[twenty]["sigma_20"] is None
    # ten changes of +1 point and ten of -1: mean 0, variance 20/19
    assert rows[twenty_one]["sigma_20"] == pytest.approx((20 / 19) ** 0.5, rel=1e-12)


def test_two_hundred_bars_make_an_average_and_ten_more_a_slope(manifest: dict[str, Any]):
    """Two-minute closes rise by a tick each: the mean of the last 200 is 99.5 ticks below the last, and follows at
    0.25 points in 2 minutes. The session before gives 190 of them, which the ten of this one complete."""
    sessions = calendar()
    before, date = "2025-11-25", PLAIN
    history = closes(sessions[before]["globex_open_ns"], range(24_000, 24_190), bar_s=120)
    opened = sessions[date]["globex_open_ns"]
    world = Observed(
        manifest,
        load("default"),
        {before: history, date: closes(opened, range(24_190, 24_190 + 225), bar_s=120)},
    )
    end = [opened + 120 * SECOND_NS * count for count in range(226)]
    asofs = (end[10] - CELL_NS, end[10], end[14], end[15], end[19], end[20], end[209], end[210], end[215])
    rows = dict(zip(asofs, seen(world, *asofs, level_tick=24_200), strict=True))
    assert rows[end[10] - CELL_NS]["sma_200"] is None
    assert rows[end[10]]["sma_200"] == (24_199 - 99.5) / 4
    assert rows[end[10]]["dist_to_sma_200"] == (24_200 - 24_099.5) / 4
    assert [rows[end[k]]["sma_200_slope_5bar"] for k in (14, 15)] == [None, 0.125]
    assert [rows[end[k]]["sma_200_slope"] for k in (19, 20)] == [None, 0.125]
    assert [rows[end[k]]["sma_400"] for k in (209, 210)] == [None, (24_399 - 199.5) / 4]
    assert [rows[end[k]]["sma_spread"] for k in (209, 210)] == [None, 25.0]
    # the average of ten minutes ago needs its 200 bars then; price and average rise alike, so nothing comes nearer
    assert [rows[end[k]]["mean_reversion_velocity_200"] for k in (14, 15)] == [None, 0.0]
    # a print at the very instant counts at neither end
    at_prints = end[20] + 60 * SECOND_NS
    assert {at_prints, at_prints - 10 * MINUTE_NS} <= {t["ts_event_ns"] for t in world.front_trades()}
    assert seen(world, at_prints)[0]["mean_reversion_velocity_200"] == 0.0
    # one-minute closes of a two-minute rhythm: a tick up in each, and no deviation at all
    assert rows[end[210]]["mean_reversion_pressure_200"] is None
    indicators = world.pipeline.rows("int_bars__indicators", date)
    assert {row["sigma_20"] for row in indicators} == {None, 0.0}


def test_the_window_of_the_approach_is_open_at_its_start(manifest: dict[str, Any]):
    """Closes 0, 10, 1, 2, 3, … : the bar with the 10 ended ten minutes before the second instant."""
    opened = calendar()[PLAIN]["globex_open_ns"]
    ticks = [24_000, 24_010, *range(24_001, 24_010), 24_008]
    world = Observed(manifest, load("default"), {PLAIN: closes(opened, ticks)})
    runs = [
        (row["rising_closes"], row["falling_closes"])
        for row in world.pipeline.rows("int_bars__indicators", PLAIN)
    ]
    assert runs == [(0, 0), (1, 0), (0, 1), *((k, 0) for k in range(1, 9)), (0, 1)]
    minute = [opened + count * MINUTE_NS for count in range(14)]
    one, two, before, full, fell = seen(world, minute[1], minute[2], minute[11], minute[12], minute[13])
    assert (one["approach_velocity"], one["approach_bars"], one["approach_distance"]) == (None, None, None)
    assert (two["approach_velocity"], two["approach_bars"], two["approach_distance"]) == (2.5, 1, 2.5)
    # ten closes end in (1, 11] min: 10, 1, …, 9; the run upwards began after the 10
    assert (before["approach_velocity"], before["approach_bars"]) == (pytest.approx(-0.25 / 9), 8)
    # in (2, 12]: 1, …, 9, 8
    assert (full["approach_velocity"], full["approach_bars"]) == (pytest.approx(1.75 / 9), 0)
    # nothing traded in the thirteenth minute: 2, …, 9, 8, nine closes
    assert fell["approach_velocity"] == pytest.approx(1.5 / 8)
    down, edge = seen(world, minute[12], minute[12] - CELL_NS, direction="DOWN")
    assert (down["approach_velocity"], down["approach_bars"]) == (pytest.approx(-1.75 / 9), 1)
    # 100 ms earlier the last close is the 9, and the window still begins with the 10, which ended at 2
    assert edge["approach_velocity"] == pytest.approx(-(24_009 - 24_010) / 4 / 9)
    assert edge["approach_bars"] == 0


@pytest.mark.parametrize(
    ("date", "utc_minute", "contract"),
    [
        ("2025-03-07", 870, "ESH5"),
        ("2025-03-10", 810, "ESH5"),
        ("2025-10-31", 810, "ESZ5"),
        ("2025-11-03", 870, "ESZ5"),
    ],
)
def test_the_clock_follows_new_york_over_both_changes(
    manifest: dict[str, Any], date: str, utc_minute: int, contract: str
):
    session = calendar()[date]
    opened = session["rth_open_ns"]
    assert opened // MINUTE_NS % 1440 == utc_minute
    trades = of_contract(closes(session["globex_open_ns"], [24_000] * 1_380), contract)
    world = Observed(manifest, load("overnight"), {date: trades})
    asofs = (
        session["globex_open_ns"] + MINUTE_NS,
        opened - CELL_NS,
        opened,
        opened + 15 * MINUTE_NS - CELL_NS,
    )
    rows = seen(world, *asofs, opened + 15 * MINUTE_NS)
    found = [(row["minutes_since_open"], row["is_first_15m"]) for row in rows]
    assert found[0] == (-929.0, False)  # 18:01 is 15 h 29 min before the open
    assert found[1] == (pytest.approx(-0.1 / 60), False)
    assert found[2] == (0.0, True)
    assert found[3] == (pytest.approx(15 - 0.1 / 60), True)
    assert found[4] == (15.0, False)


@pytest.mark.parametrize("param_set", ["default", "overnight"])
def test_ranges_count_from_their_end_to_the_close(manifest: dict[str, Any], param_set: str):
    """An early close ends them at 13:00 in regular hours, and at 17:00 where the whole session counts, whose set has
    no level of either range. What trades in the last minute before a range or in the first after it is not in it."""
    session = calendar()[EARLY_CLOSE]
    ticks = [24_000] * 1_380
    marks = {
        session["premarket_open_ns"] - MINUTE_NS: 25_000,
        session["premarket_open_ns"]: 24_040,
        session["rth_open_ns"] - MINUTE_NS: 23_980,
        session["rth_open_ns"]: 24_020,
        session["rth_open_ns"] + 14 * MINUTE_NS: 23_990,
        session["rth_open_ns"] + 15 * MINUTE_NS: 26_000,
    }
    for at, tick in marks.items():
        ticks[(at - session["globex_open_ns"]) // MINUTE_NS] = tick
    world = Observed(manifest, load(param_set), {EARLY_CLOSE: closes(session["globex_open_ns"], ticks)})
    opened, closed = session["rth_open_ns"], session["rth_close_ns"]
    assert closed - opened == 210 * MINUTE_NS
    opening = opened + 15 * MINUTE_NS
    rows = seen(world, opened - CELL_NS, opened, opening - CELL_NS, opening, closed - CELL_NS, closed)
    names = ("dist_to_pm_high", "dist_to_pm_low", "dist_to_or_high", "dist_to_or_low")
    found = [tuple(row[name] for name in names) for row in rows]
    none, premarket, both = (None,) * 4, (-10.0, 5.0, None, None), (-10.0, 5.0, -5.0, 2.5)
    last = none if param_set == "default" else both
    assert found == [none, premarket, premarket, both, both, last]
    assert rows[3]["dist_to_pm_high_atr"] == pytest.approx(-10.0 / (rows[3]["atr"] + 1e-6))


def test_a_holiday_keeps_its_clock(manifest: dict[str, Any]):
    session = calendar()["2025-11-27"]
    world = Observed(
        manifest, load("overnight"), {"2025-11-27": closes(session["globex_open_ns"], [24_000] * 1_000)}
    )
    (row,) = seen(world, session["rth_open_ns"] + MINUTE_NS)
    assert (row["minutes_since_open"], row["is_first_15m"], row["dist_to_pm_high"]) == (1.0, True, 0.0)


def test_touches_of_one_nanosecond_and_of_one_cell_do_not_know_each_other(manifest: dict[str, Any]):
    """Two touches at t, one 30 ms later in the same cell of the grid, one in the next cell, one of the other side."""
    session = calendar()[PLAIN]
    world = Observed(manifest, load("default"), {PLAIN: closes(session["globex_open_ns"], [24_000] * 1_000)})
    t = session["rth_open_ns"] + 50 * MS_NS
    said = [
        (t, {"level_tick": 24_000}),
        (t, {"level_tick": 24_002}),
        (t + 30 * MS_NS, {"level_tick": 24_001}),
        (t + CELL_NS, {"level_tick": 24_000}),
        (t + SECOND_NS, {"level_tick": 24_004, "direction": "DOWN"}),
        (t + 2 * SECOND_NS, {"level_tick": 24_005}),
        (t + 3 * SECOND_NS, {"level_tick": 24_000, "level_kind": 8, "level_kind_name": "ROUND"}),
    ]
    touches = [touch_of(at, session_date=PLAIN, **more) for at, more in said]
    number_attempts(touches)
    assert [touch["attempt_cluster_id"] for touch in touches] == [1, 1, 1, 1, 1, 2, 1]
    points = world.points(touches, DEFAULT | {"CONFIRMATION_WINDOWS": [120]})
    value = {p["observation_id"]: float(i) for i, p in enumerate(points)}
    barrier = {i: {"barrier_delta_liq": int(v)} for i, v in value.items()}
    tape = {i: {"tape_imbalance": None if v == 0 else v} for i, v in value.items()}
    found = world.observe(points, touches, barrier=barrier, tape=tape)
    counts = {
        (p["ts_ns"], p["level_tick"], p["stage"]): (found[p["observation_id"]], value[p["observation_id"]])
        for p in points
    }

    def counted(stage: str) -> list[tuple[int, int]]:
        rows = [counts[(at, more["level_tick"], stage)][0] for at, more in said]
        return [(row["attempt_index"], row["prior_touches"]) for row in rows]

    # as of t, floored, none is known; a cell later three are; 24,004 is 4 ticks from 24,000 and 24,001 and 24,002,
    # 24,005 is 5 from 24,000
    assert counted("touch") == [(1, 0), (1, 0), (1, 0), (4, 3), (1, 4), (1, 3), (1, 0)]
    # two minutes later the anchor decides: the pair of one nanosecond is still no two attempts, the third knows both
    assert counted("confirm_120") == [(1, 0), (1, 0), (3, 2), (4, 3), (1, 4), (1, 3), (1, 0)]

    first, its_value = counts[(t, 24_000, "touch")]
    assert (first["barrier_delta_liq_trend"], first["tape_imbalance_trend"]) == (
        0.0,
        None,
    )  # its value is NULL
    fourth, value_now = counts[(t + CELL_NS, 24_000, "touch")]
    assert (fourth["barrier_delta_liq_trend"], fourth["tape_imbalance_trend"]) == (
        value_now - its_value,
        None,
    )
    first, its_value = counts[(t, 24_000, "confirm_120")]
    assert (first["barrier_delta_liq_trend"], first["tape_imbalance_trend"]) == (0.0, 0.0)
    fourth, value_now = counts[(t + CELL_NS, 24_000, "confirm_120")]
    assert fourth["tape_imbalance_trend"] == fourth["barrier_delta_liq_trend"] == value_now - its_value
    assert fourth["attempts_max_input_ts_ns"] == t + 30 * MS_NS
    twin, _ = counts[(t, 24_002, "confirm_120")]
    assert (twin["barrier_delta_liq_trend"], twin["tape_imbalance_trend"]) == (0.0, 0.0)
