"""Walls, the gamma flip and the levels of options against answers on paper, through the compiled SQL (spec/market.md
5.4, 7.4)."""

from typing import Any

import pytest

from lake.params import LEVEL_KINDS, ParamSet, load
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import calendar, in_order, of_contract
from tests.oracle.rules import MINUTE_NS, SECOND_NS

FRONT, DATE = "ESZ5", "2025-11-03"
OPEN_NS = calendar()[DATE]["rth_open_ns"]
WALLS = ("wall_short_call", "wall_short_put", "wall_long_call", "wall_long_put")
BEFORE_OPTIONS = (
    "stg_futures__trades",
    "ohlcv",
    "dim_front_month",
    "int_es_spy_ratio__live",
    "dim_es_spy_ratio",
)
BEFORE_OPTIONS += ("int_bars__ranges", "int_bars__averages", "int_levels__running")
SPOT_TICK = 24_000  # $600 at a ratio of 10


@pytest.fixture(scope="module")
def pipeline(manifest: dict[str, Any]) -> Pipeline:
    """One ES trade a minute before the open, at 6000 points, and the default ratio of 10 for every second."""
    default = load("default")
    values = {**default.values, "level_kinds": sorted(LEVEL_KINDS)}
    found = Pipeline(manifest, ParamSet("all kinds", values, default.digest))
    trade = {"ts_event_ns": OPEN_NS - MINUTE_NS, "sequence": 1, "ordinal": 0, "size": 1, "aggressor": 1}
    found.market((in_order(of_contract([{**trade, "tick": SPOT_TICK}], FRONT)), []))
    found.build(DATE, only=BEFORE_OPTIONS)
    return found


def walls(pipeline: Pipeline, *rows: tuple) -> list[dict]:
    """Rows of `option_walls` of the first minutes; ``rows`` of exposure are (minute, strike in $, right, gamma of the
    window, gamma of the strike in the session)."""
    pipeline.replace(
        "option_exposure",
        DATE,
        [
            {
                "minute_ns": OPEN_NS + minute * MINUTE_NS,
                "strike_milli": round(strike * 1000),
                "right": right,
                "dealer_gamma_window": float(window),
                "dealer_gamma_session": float(of_strike),
                "dealer_gamma_strike": float(of_strike),
                "contracts_session": 1,
                "max_input_ts_ns": OPEN_NS + minute * MINUTE_NS - 1,
            }
            for minute, strike, right, window, of_strike in sorted(rows)
        ],
    )
    pipeline.build(DATE, only=("option_walls",))
    found = pipeline.rows("option_walls", DATE)
    assert [row["minute_ns"] for row in found] == [*range(OPEN_NS, OPEN_NS + 390 * MINUTE_NS, MINUTE_NS)]
    assert {(row["spot_tick"], row["spot_spy_milli"]) for row in found} == {(SPOT_TICK, 600_000)}
    return found


def wall_of(pipeline: Pipeline, name: str, *strikes: tuple) -> float | None:
    """One wall of minute 1 from (strike, gamma of the window) of its right."""
    right = "C" if name.endswith("call") else "P"
    rows = walls(pipeline, *((1, strike, right, gamma, 0) for strike, gamma in strikes))
    others = [w for w in WALLS if w.split("_")[2] != name.split("_")[2]]
    assert [rows[1][w] for w in others] == [None, None]
    return rows[1][name]


@pytest.mark.parametrize("right", ["call", "put"])
@pytest.mark.parametrize(("side", "sign"), [("short", -1), ("long", 1)])
def test_a_wall_stands_out_by_the_threshold_or_more(pipeline: Pipeline, right: str, side: str, sign: int):
    name = f"wall_{side}_{right}"
    assert wall_of(pipeline, name, (601, sign * 999.999), (602, -sign * 5000)) is None
    assert wall_of(pipeline, name, (601, sign * 1000)) == 601.0
    assert wall_of(pipeline, name, (601, sign * 1000), (604, sign * 1000.5), (605, sign * 10)) == 604.0


@pytest.mark.parametrize("right", ["call", "put"])
@pytest.mark.parametrize(("side", "sign"), [("short", -1), ("long", 1)])
def test_of_equal_sums_the_nearest_strike_then_the_lower(
    pipeline: Pipeline, right: str, side: str, sign: int
):
    name = f"wall_{side}_{right}"
    assert wall_of(pipeline, name, (595, sign * 2000), (602, sign * 2000), (607, sign * 2000)) == 602.0
    assert wall_of(pipeline, name, (598, sign * 2000), (602, sign * 2000), (603, sign * 2000)) == 598.0


def test_strikes_within_ten_dollars_of_the_spot(pipeline: Pipeline):
    assert wall_of(pipeline, "wall_short_put", (590, -2000), (589.999, -9000), (610.001, -9000)) == 590.0
    assert wall_of(pipeline, "wall_short_put", (610, -2000), (611, -9000)) == 610.0


def test_each_wall_is_carried_on_its_own(pipeline: Pipeline):
    rows = walls(
        pipeline,
        *((1, 601, "C", -2000, -50), (1, 602, "C", 3000, 50), (1, 603, "C", 0, 50)),
        *((2, 601, "C", -10, -50), (2, 602, "C", 1500, 50), (2, 604, "P", -1000, 0)),
        *((3, 605, "C", -1000, 0),),
    )
    assert [[row[wall] for wall in WALLS] for row in rows[:5]] == [
        [None, None, None, None],
        [601.0, None, 602.0, None],
        [601.0, 604.0, 602.0, None],
        [605.0, 604.0, 602.0, None],
        [605.0, 604.0, 602.0, None],
    ]
    assert [rows[-1][wall] for wall in WALLS] == [605.0, 604.0, 602.0, None]
    # the flip is of its minute alone: nothing changes its sign from the second one on
    assert [row["hvl"] for row in rows[:4]] == [None, 601.5, 601.5, None]


def flip(pipeline: Pipeline, *strikes: tuple) -> float | None:
    """The flip of minute 1 from (strike, gamma of the session)."""
    return walls(pipeline, *((1, strike, "C", 0, gamma) for strike, gamma in strikes))[1]["hvl"]


def test_the_flip_is_the_crossing_nearest_to_the_spot(pipeline: Pipeline):
    """594 + 1 · 100/400 = 594.25 is 5.75 away, 603 + 1 · 100/400 = 603.25 only 3.25."""
    both = ((594, -100), (595, 300), (603, 100), (604, -300))
    assert flip(pipeline, *both) == 603.25
    # a wide pair counts by where it crosses: 595 + 14 · 600/1400, and not by its strikes
    assert flip(pipeline, (595, -600), (609, 800), (610, -800)) == 601.0
    assert (
        flip(pipeline, (597, -100), (598, 100), (602, 100), (603, -100)) == 597.5
    )  # both 2.5 away: the lower


def test_no_flip_without_three_strikes_or_a_change_of_sign(pipeline: Pipeline):
    assert flip(pipeline, (599, -100), (601, 100)) is None
    assert flip(pipeline, (599, -100), (601, 100), (602, 1)) == 600.0
    assert flip(pipeline, (599, -100), (601, 100), (610.001, 1)) is None  # the third one is too far away
    assert flip(pipeline, (599, 1), (600, 2), (601, 3)) is None
    assert (
        flip(pipeline, (599, -100), (600, 0), (601, 100)) is None
    )  # neighbours of opposite signs there are none


def test_both_rights_of_a_strike_are_one_strike(pipeline: Pipeline):
    rows = ((1, 599, "C", 0, -100), (1, 599, "P", 0, -100), (1, 601, "P", 0, 100))
    assert walls(pipeline, *rows)[1]["hvl"] is None
    assert walls(pipeline, *rows, (1, 602, "C", 0, 1))[1]["hvl"] == 600.0


def test_levels_of_options_on_the_ticks_of_the_minute(pipeline: Pipeline):
    """At 10.03 the strike of 601 stands at 6028.03 points: tick 24112. A print at the minute itself comes too late."""
    ratio = {"ratio_source": "live", "max_input_ts_ns": OPEN_NS - 9}
    steps = [
        (OPEN_NS - 60 * SECOND_NS, 10.0),
        (OPEN_NS + 2 * MINUTE_NS, 10.03),
        (OPEN_NS + 2 * MINUTE_NS + 1, 10.3),
    ]
    pipeline.replace("dim_es_spy_ratio", DATE, [{"asof_ns": t, "es_spy_ratio": r, **ratio} for t, r in steps])
    pipeline.replace(
        "option_exposure",
        DATE,
        [
            {"minute_ns": OPEN_NS + 2 * MINUTE_NS, "strike_milli": strike, "right": "C", "contracts_session": 1,
             "dealer_gamma_window": window, "dealer_gamma_session": total, "dealer_gamma_strike": total,
             "max_input_ts_ns": OPEN_NS}
            for strike, window, total in ((598_000, 0.0, -1.0), (599_000, 0.0, 3.0), (601_000, -1000.0, 4.0))
        ],
    )  # fmt: skip
    prints = [(OPEN_NS, 601_000), (OPEN_NS + MINUTE_NS, 598_000), (OPEN_NS + MINUTE_NS - 1, 603_500)]
    prints += [
        (OPEN_NS + 7, 605_000),
        (OPEN_NS + 8, 605_001),
    ]  # at 1, one exactly $5 from the spot, one beyond
    names = ("ts_event_ns", "ordinal", "strike_milli", "right", "size", "aggressor", "max_input_ts_ns")
    pipeline.replace(
        "option_greeks",
        DATE,
        [
            dict(zip(names, (t, k, strike, "C", 1, 0, t), strict=True))
            for k, (t, strike) in enumerate(sorted(prints))
        ],
    )
    pipeline.build(DATE, only=("option_walls", "int_levels__options", "levels"))
    found = {
        (row["level_kind_name"], (row["valid_from_ns"] - OPEN_NS) / MINUTE_NS): row
        for row in pipeline.rows("levels", DATE)
        if row["level_kind_name"] in ("CALL_WALL", "PUT_WALL", "GAMMA_FLIP")
    }
    assert sorted(found)[:2] == [("CALL_WALL", 2.0), ("CALL_WALL", 3.0)]
    wall = found["CALL_WALL", 2.0]
    assert (wall["level_price_raw"], wall["level_tick"], wall["level_id"]) == (
        601 * 10.03,
        24_112,
        "CALL_WALL",
    )
    assert (wall["source_asof_ns"], wall["valid_to_ns"]) == (wall["valid_from_ns"], OPEN_NS + 3 * MINUTE_NS)
    assert found["CALL_WALL", 3.0]["level_tick"] == round(
        601 * 10.3 * 4
    )  # carried, by the ratio of its minute
    assert [key for key in found if key[0] == "GAMMA_FLIP"] == [("GAMMA_FLIP", 2.0)]
    assert found["GAMMA_FLIP", 2.0]["level_price_raw"] == 598.25 * 10.03
    strikes: dict[int, list[str]] = {}
    for row in pipeline.rows("levels", DATE):
        if row["level_kind_name"] == "STRIKE":
            strikes.setdefault((row["valid_from_ns"] - OPEN_NS) // MINUTE_NS, []).append(row["level_id"])
    # At 2 the spot is $598.205: 603.5 is more than $5 away, and at 1 it was at 600.
    assert {m: strikes.get(m) for m in range(3)} == {
        0: None,
        1: ["STRIKE_24040", "STRIKE_24140", "STRIKE_24200"],
        2: ["STRIKE_23992", "STRIKE_24112"],
    }


def test_words_and_limits_of_fuel(pipeline: Pipeline):
    """At a threshold itself the effect is neutral; a gamma of 0 is long; a baseline of 1e-6 a minute is none."""
    edge = 1.9999999999999998e-05  # the double whose twentieth is 1e-6
    assert edge / 20 == 1e-6
    cases = {  # flows since the session start and over 20 min: effect, bucket, impulse
        (-10_000.001, 0.0): ("AMPLIFY", "SHORT_GAMMA", None),
        (-10_000.0, edge): ("NEUTRAL", "SHORT_GAMMA", None),
        (-0.001, -edge): ("NEUTRAL", "SHORT_GAMMA", None),
        (0.0, -40.0): ("NEUTRAL", "LONG_GAMMA", (2.0 + 2.0) / 2.0),
        (10_000.0, 20.0): ("NEUTRAL", "LONG_GAMMA", 1.0),
        (10_000.001, 40.0): ("DAMPEN", "LONG_GAMMA", 0.0),
        (None, None): ("UNKNOWN", "UNKNOWN", None),
    }
    con = pipeline.con
    flows = con.query("select * from silver.int_touch__gamma_flows limit 0").to_arrow_table().schema.names
    known = con.query("select * from silver.observation_points limit 0").to_arrow_table().schema.names
    points, rows = [], []
    for k, (session, baseline) in enumerate(cases):
        name = f"case {k}"
        points.append(
            {**dict.fromkeys(known), "observation_id": name, "asof_ns": OPEN_NS, "ratio_ts_ns": OPEN_NS - 5}
        )
        row = dict.fromkeys((f for f in flows if f.startswith("flow_")), None if session is None else 10.0)
        row |= {"observation_id": name, "option_prints": 0 if session is None else 3, "flow_session": session}
        rows.append(
            row | {"flow_20m": baseline, "flows_max_input_ts_ns": None if session is None else OPEN_NS - 9}
        )
    pipeline.replace("observation_points", DATE, points)
    pipeline.replace("int_touch__gamma_flows", DATE, rows)
    pipeline.build(DATE, only=("feat_touch_fuel", "feat_touch_dealer_velocity"))
    fuel = {row["observation_id"]: row for row in pipeline.rows("feat_touch_fuel", DATE)}
    velocity = {row["observation_id"]: row for row in pipeline.rows("feat_touch_dealer_velocity", DATE)}
    for k, expected in enumerate(cases.values()):
        one, other = fuel[f"case {k}"], velocity[f"case {k}"]
        assert (one["fuel_effect"], one["gamma_bucket"], other["gamma_flow_impulse"]) == expected
        used = None if expected[0] == "UNKNOWN" else OPEN_NS - 5
        assert (one["fuel_max_input_ts_ns"], other["dealer_velocity_max_input_ts_ns"]) == (used, used)
