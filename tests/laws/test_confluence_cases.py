"""Confluence by hand: each code, each sign and each limit of spec market 7.7, worked out on paper.

A case stands in a minute of its own, so that its levels are its own too. Ratio 10: the band of $0.20 is 8 ticks, $1 is
40 ticks, a strike of $600 is 6000 points.
"""

from dataclasses import dataclass, field

import pytest

from lake import params
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import calendar
from tests.laws.confluence_kit import NOTHING_SEEN, confluence, level_row, point_row
from tests.oracle.rules import MINUTE_NS, SECOND_NS

DATE = "2025-12-02"
RTH_OPEN_NS = calendar()[DATE]["rth_open_ns"]
FIRST_HOUR, LATER = 20, 200  # minutes since the open
EARLIER = ("2025-11-24", "2025-11-25", "2025-11-26")

# premarket 5998 to 6001, opening range 5999 to 6000
BOUNDS = {"PM_HIGH": 24_004, "PM_LOW": 23_992, "OR_HIGH": 24_000, "OR_LOW": 23_996}
CODES = {"PM_HIGH": 0, "PM_LOW": 1, "OR_HIGH": 2, "OR_LOW": 3}
ABOVE, BELOW, INSIDE = 24_005, 23_991, 23_998
NEAR_SMA = {"sma_200": 6010.0, "sma_400": 5990.0}  # 30 points are half a percent of 6000
WALLS = {"wall_short_call": 600.0, "wall_short_put": 600.0, "fuel_effect": "AMPLIFY"}


@dataclass
class Case:
    """A point one second into the minute ``since_open``, and what stands around it."""

    spot: int = INSIDE
    bounds: dict[str, int] = field(default_factory=lambda: BOUNDS)
    others: list[tuple[str, int, int]] = field(default_factory=list)  # name, code, tick
    level: int = 24_000
    direction: str = "UP"
    seen: dict = field(default_factory=dict)
    since_open: int = FIRST_HOUR
    volume: int | None = None  # since the open; on each earlier day it was 1000


@pytest.fixture(scope="module")
def pipeline(manifest: dict) -> Pipeline:
    return Pipeline(manifest, params.load("default"))


def answers(pipeline: Pipeline, cases: list[Case]) -> list[dict]:
    """The model's row of each case."""
    points, levels, seen, trades = [], [], {}, []
    profiles = {date: {} for date in (*EARLIER, DATE)}
    for i, case in enumerate(cases):
        minute = RTH_OPEN_NS + (case.since_open + i) * MINUTE_NS
        trades.append({"ts_event_ns": minute, "tick": case.spot})
        standing = [(name, CODES[name], tick, False) for name, tick in case.bounds.items()]
        standing += [(name, code, tick, True) for name, code, tick in [*case.others, ("VWAP", 7, case.level)]]
        levels += [
            level_row(name, tick, minute, minute + MINUTE_NS, code, dynamic)
            for name, code, tick, dynamic in standing
        ]
        point = {
            "observation_id": f"case-{i:03d}",
            "asof_ns": minute + SECOND_NS,
            "level_id": "VWAP",
            "level_kind_name": "VWAP",
            "level_tick": case.level,
            "direction": case.direction,
        }
        points.append(point_row(point, trades, 10.0))
        seen[point["observation_id"]] = {**NOTHING_SEEN, **case.seen}
        for date, profile in profiles.items():
            volume = case.volume if date == DATE else 1000
            if volume is not None:
                profile[minute] = {
                    "minute_ns": minute,
                    "minutes_since_open": case.since_open + i,
                    "volume_since_open": volume,
                    "is_full_session": True,
                }
    for date, profile in profiles.items():
        pipeline.replace("int_bars__volume_profile", date, list(profile.values()))
    return list(confluence(pipeline, DATE, points, levels, seen).values())


def column(pipeline: Pipeline, name: str, cases: list[tuple[Case, object]]) -> None:
    found = [row[name] for row in answers(pipeline, [case for case, _ in cases])]
    assert found == [expected for _, expected in cases]


def test_every_code_of_the_setup(pipeline: Pipeline):
    close, walls, near = NEAR_SMA, WALLS, NEAR_SMA | WALLS
    rest = {"fuel_effect": "NEUTRAL"}
    column(
        pipeline,
        "confluence_level",
        [
            (Case(bounds={k: v for k, v in BOUNDS.items() if k != "OR_LOW"}, spot=ABOVE, seen=near), 0),
            (Case(spot=ABOVE, seen=near, volume=1300), 1),
            (Case(spot=BELOW, seen=near, volume=1300), 1),
            (Case(spot=ABOVE, seen=near, volume=1299), 2),
            (Case(spot=ABOVE, seen=near), 2),  # no volume is no high volume
            (Case(spot=ABOVE, seen=near | rest, volume=1300), 3),
            (Case(spot=ABOVE, seen=close, volume=1300), 3),  # no walls, so not aligned
            (Case(spot=BELOW, seen=walls, volume=1300), 4),  # no averages, so not close
            (Case(spot=BELOW, seen=walls | {"sma_200": 6000.0}, volume=1300), 4),
            (Case(spot=BELOW, seen=walls, volume=1299), 5),
            (Case(spot=BELOW, seen={}, volume=1300), 5),
            (Case(spot=ABOVE, seen=near, volume=1300, since_open=LATER), 6),
            (Case(spot=ABOVE, seen=close, volume=1300, since_open=LATER), 6),
            (Case(spot=ABOVE, seen=near, volume=1299, since_open=LATER), 7),
            (Case(spot=ABOVE, seen=walls, volume=1300, since_open=LATER), 7),
            (Case(spot=24_002, seen=near, volume=1300), 9),
            (Case(spot=23_994, seen=near, volume=1300, since_open=LATER), 9),
            (Case(spot=INSIDE, seen=near, volume=1300), 10),
            (Case(spot=24_000, seen=near, volume=1300), 10),  # at a bound is not beyond it
        ],
    )


def test_close_is_within_half_a_percent_of_both_averages(pipeline: Pipeline):
    # spot 6400: 32 points are exactly half a percent
    above = {"spot": 25_600, "since_open": LATER, "volume": 1300}
    column(
        pipeline,
        "confluence_level",
        [
            (Case(**above, seen={"sma_200": 6431.75, "sma_400": 6368.25}), 6),
            (Case(**above, seen={"sma_200": 6432.0, "sma_400": 6400.0}), 7),
            (Case(**above, seen={"sma_200": 6400.0, "sma_400": 6368.0}), 7),
        ],
    )


def test_the_first_hour_ends_at_half_past_ten(pipeline: Pipeline):
    # asof is one second into the minute: 10:29:01 and 10:30:01; the cases take one minute each
    column(
        pipeline,
        "confluence_level",
        [(Case(spot=ABOVE, since_open=59), 5), (Case(spot=ABOVE, since_open=59), 7)],
    )


def test_breakout_states(pipeline: Pipeline):
    cases = [
        *[(Case(spot=spot), 2) for spot in (24_005, 24_400)],
        *[(Case(spot=spot), 3) for spot in (23_991, 23_000)],
        *[(Case(spot=spot), 1) for spot in (24_004, 24_001, 23_995, 23_992)],
        *[(Case(spot=spot), 0) for spot in (24_000, 23_998, 23_996)],
        # the opening range outside of the premarket's
        (Case(spot=24_006, bounds=BOUNDS | {"OR_HIGH": 24_008}), 1),
        (Case(spot=24_009, bounds=BOUNDS | {"OR_HIGH": 24_008}), 2),
        (Case(spot=23_990, bounds=BOUNDS | {"OR_LOW": 23_988}), 1),
        (Case(spot=23_987, bounds=BOUNDS | {"OR_LOW": 23_988}), 3),
        *[(Case(spot=ABOVE, bounds={k: v for k, v in BOUNDS.items() if k != name}), None) for name in BOUNDS],
        (Case(bounds={}), None),
    ]
    column(pipeline, "breakout_state", cases)


def wall_case(state: int, away: int, effect: str, **walls: float | None) -> Case:
    """Spot at the bound's far side, ``away`` ticks beyond the short wall of its side (below 0: not yet there)."""
    spot = 24_000 + away if state == 2 else 24_000 - away
    bounds = dict.fromkeys(BOUNDS, 23_000 if state == 2 else 25_000)
    return Case(spot=spot, bounds=bounds, seen=WALLS | {"fuel_effect": effect} | walls)


@pytest.mark.parametrize("state", [2, 3])
def test_dealers_at_the_wall(pipeline: Pipeline, state: int):
    """State 3 is the mirror of state 2, with the put wall; the other wall may stand anywhere, but it has to stand."""
    mine, other = (
        ("wall_short_call", "wall_short_put") if state == 2 else ("wall_short_put", "wall_short_call")
    )
    column(
        pipeline,
        "gex_alignment",
        [
            (wall_case(state, 1, "AMPLIFY"), 1),
            (wall_case(state, 400, "AMPLIFY"), 1),
            (wall_case(state, 0, "AMPLIFY"), 0),
            (wall_case(state, -1, "AMPLIFY"), 0),
            (wall_case(state, 39, "DAMPEN"), -1),
            (wall_case(state, 0, "DAMPEN"), -1),
            (wall_case(state, -39, "DAMPEN"), -1),
            (wall_case(state, 40, "DAMPEN"), 0),
            (wall_case(state, -40, "DAMPEN"), 0),
            (wall_case(state, 1, "NEUTRAL"), 0),
            (wall_case(state, 1, "UNKNOWN"), 0),
            (wall_case(state, 1, "AMPLIFY", **{other: 700.0}), 1),
            (wall_case(state, 1, "DAMPEN", **{other: 500.0}), -1),
            (wall_case(state, 1, "AMPLIFY", **{other: None}), None),
            (wall_case(state, 1, "AMPLIFY", **{mine: None}), None),
        ],
    )


def test_only_full_breakouts_meet_walls(pipeline: Pipeline):
    near = {"seen": WALLS | {"fuel_effect": "DAMPEN"}}
    column(pipeline, "gex_alignment", [(Case(spot=s, **near), None) for s in (24_002, 23_994, INSIDE)])
    column(pipeline, "gex_alignment", [(Case(spot=ABOVE, bounds={}, **near), None)])


def averages(sma_200: float | None, sma_400: float | None, a: float | None, b: float | None) -> dict:
    return {"sma_200": sma_200, "sma_400": sma_400, "sma_200_slope": a, "sma_400_slope": b}


FALLING, RISING = (-0.1, -0.2), (0.1, 0.2)  # ds > 0 and ds < 0


@pytest.mark.parametrize(
    ("smas", "slopes", "up"),
    [
        # the level stands at 6000
        ((6001.0, 6001.0), FALLING, 1),
        ((5999.0, 5999.0), RISING, -1),
        ((6001.0, 6001.0), RISING, 0),
        ((5999.0, 5999.0), FALLING, 0),
        ((6001.0, 5999.0), FALLING, 0),
        ((5999.0, 6001.0), RISING, 0),
        ((6000.0, 6001.0), FALLING, 0),  # at an average is neither side
        ((5999.0, 6000.0), RISING, 0),
        ((6001.0, 6001.0), (-0.2, -0.1), 0),  # ds < 0
        ((5999.0, 5999.0), (0.2, 0.1), 0),  # ds > 0
        ((6001.0, 6001.0), (-0.1, -0.1), 0),
        ((5999.0, 5999.0), (0.1, 0.1), 0),
        ((6001.0, 6001.0), (0.0, -0.1), 0),
        ((6001.0, 6001.0), (-0.1, 0.0), 0),
        ((5999.0, 5999.0), (0.0, 0.1), 0),
        ((6001.0, 6001.0), (None, -0.1), 0),
        ((5999.0, 5999.0), (0.1, None), 0),
        ((None, 6001.0), FALLING, None),
        ((5999.0, None), RISING, None),
        ((None, None), (None, None), None),
    ],
)
def test_alignment_and_its_mirror(pipeline: Pipeline, smas: tuple, slopes: tuple, up: int | None):
    seen = averages(*smas, *slopes)
    found = answers(pipeline, [Case(direction=d, seen=seen) for d in ("UP", "DOWN")])
    down = None if up is None else -up
    assert [row["confluence_alignment"] for row in found] == [up, down]


def test_the_edge_of_the_band_counts_and_weighs_nothing(pipeline: Pipeline):
    """Weights of ROUND 0.3, SESSION_HIGH 0.6; the band is 8 ticks."""
    far = {"bounds": {}}
    cases = [
        Case(**far),
        Case(**far, others=[("ROUND", 8, 24_008)]),
        Case(**far, others=[("ROUND", 8, 24_009)]),
        Case(**far, others=[("ROUND", 8, 24_000)]),
        Case(**far, others=[("ROUND", 8, 23_998), ("SESSION_HIGH", 4, 24_004), ("SMA_200", 6, 24_400)]),
    ]
    found = answers(pipeline, cases)
    assert [row["confluence_count"] for row in found] == [0, 1, 0, 1, 2]
    assert [row["confluence_weighted_score"] for row in found] == pytest.approx([0, 0, 0, 0.3, 0.225 + 0.3])
    assert [row["confluence_pressure"] for row in found] == pytest.approx([0, 0, 0, 1.0, 0.525 / 1.7])
    assert [row["confluence_min_distance"] for row in found] == [None, 2.0, 2.25, 0.0, 0.5]


def test_levels_at_one_price_count_and_are_no_stack(pipeline: Pipeline):
    """Stacking is 0 < d: 2, 5 and 10 points are 8, 20 and 40 ticks, each included."""
    ticks = (24_000, 24_000, 24_001, 23_992, 24_009, 23_980, 24_021, 24_040, 23_959)
    others = [(("ROUND", "SESSION_HIGH")[i == 1], (8, 4)[i == 1], tick) for i, tick in enumerate(ticks)]
    (row,) = answers(pipeline, [Case(bounds={}, others=others)])
    assert row["confluence_count"] == 4
    assert [row[f"level_stacking_{n}pt"] for n in (2, 5, 10)] == [2, 4, 6]


def test_a_distance_in_ranges(pipeline: Pipeline):
    others = [("ROUND", 8, 24_006)]
    cases = [
        Case(bounds={}, others=others, seen={"atr": 3.0}),
        Case(bounds={}, others=others),
        Case(bounds={}),
    ]
    found = [row["confluence_min_distance_atr"] for row in answers(pipeline, cases)]
    assert found == [pytest.approx(1.5 / 3.000001, rel=1e-12), None, None]


def test_volume_against_three_days_or_more(pipeline: Pipeline):
    cases = [Case(volume=v) for v in (0, 1300, 2500, None)]
    column(pipeline, "rel_vol_ratio", list(zip(cases, (0.0, 1.3, 2.5, None), strict=True)))
    pipeline.replace("int_bars__volume_profile", EARLIER[0], [])
    pipeline.build(DATE, only=("feat_touch_confluence",))
    assert {row["rel_vol_ratio"] for row in pipeline.rows("feat_touch_confluence", DATE)} == {None}
