"""Kinematics of mids that follow a known polynomial, and where a mid is missing."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from book_kit import T0, points_table
from hypothesis import given, settings
from hypothesis import strategies as st

from physics.kinematics import KINEMATICS_SCHEMA, LAGS, WINDOWS_MIN, filters, kinematics
from physics.units import MS_NS, SECOND_NS

ASOF = T0 + 3600 * SECOND_NS


def states_of(mids, ends, ages=None):
    """States rows of best bid + best ask in ticks (None: no ask), each known from its end on."""
    ages = ages or [MS_NS] * len(ends)
    return pa.table(
        {
            "cell_end_ns": pa.array(ends, pa.int64()),
            "state_ts_ns": pa.array([end - age for end, age in zip(ends, ages, strict=True)], pa.int64()),
            "bid_tick_00": pa.array([0 if m is None else m // 2 for m in mids], pa.int32()),
            "bid_size_00": pa.array([1] * len(mids), pa.int32()),
            "ask_tick_00": pa.array([None if m is None else m - m // 2 for m in mids], pa.int32()),
            "ask_size_00": pa.array([0 if m is None else 1 for m in mids], pa.int32()),
        }
    )


def each_second(mid_of, seconds=LAGS, until=ASOF):
    """A mid every second up to asof; ``mid_of`` takes the seconds since asof, 0 and below."""
    lags = range(1 - seconds, 1)
    return states_of([mid_of(t) for t in lags], [until + t * SECOND_NS for t in lags])


def row_of(states, sign=1, asof=ASOF, level=24_000):
    (row,) = kinematics(points_table([(asof, level, sign)]), states, grid_ms=100).to_pylist()
    return row


HALF_TICK = 0.125


def test_a_line_has_its_slope_and_nothing_else():
    row = row_of(each_second(lambda t: 48_000 + 3 * t))
    for w in WINDOWS_MIN:
        assert row[f"velocity_{w}min"] == pytest.approx(3 * HALF_TICK, rel=1e-15)
        assert row[f"acceleration_{w}min"] == 0.0
        assert row[f"jerk_{w}min"] == 0.0
        assert w == 1 or row[f"momentum_trend_{w}min"] == 0.0
    assert "momentum_trend_1min" not in row


def test_a_parabola_has_its_acceleration_at_any_width():
    row = row_of(each_second(lambda t: 48_000 + t * t + t))
    for w in WINDOWS_MIN:
        assert row[f"acceleration_{w}min"] == pytest.approx(2 * HALF_TICK, rel=1e-14)
        assert row[f"jerk_{w}min"] == 0.0
        # a fitted line has the slope of the middle: -(60 w - 1)/2 s; the halves' middles are 30 w s apart
        assert row[f"velocity_{w}min"] == pytest.approx((-(60 * w - 1) + 1) * HALF_TICK, rel=1e-14)
        assert w == 1 or row[f"momentum_trend_{w}min"] == pytest.approx(2 * 30 * w * HALF_TICK, rel=1e-14)


def test_a_cubic_has_its_jerk():
    row = row_of(each_second(lambda t: 48_000 + (t**3 - t) // 6, 300))
    for w in (1, 3, 5):
        assert row[f"jerk_{w}min"] == pytest.approx(HALF_TICK, rel=1e-13)
    assert row["jerk_10min"] is None


def test_signs_follow_the_direction_and_the_level_shifts_nothing():
    states = each_second(lambda t: 48_000 + (t * t) // 7 + t)
    up, down = row_of(states, 1), row_of(states, -1, level=11)
    for name in KINEMATICS_SCHEMA.names[1:-1]:
        assert up[name] == -down[name] != 0


def test_a_still_market_is_zero_and_never_minus_zero():
    row = row_of(each_second(lambda _: 48_001), -1)
    assert {str(row[name]) for name in KINEMATICS_SCHEMA.names[1:-1]} == {"0.0"}


@pytest.mark.parametrize("seconds", [59, 60, 179, 180, 1199, 1200])
def test_a_window_is_whole_or_null(seconds):
    """The first state is that many whole seconds back, the one at asof among them; states older than it, none."""
    row = row_of(each_second(lambda t: 48_000 + t, seconds))
    for w in WINDOWS_MIN:
        names = [f"{what}_{w}min" for what in ("velocity", "acceleration", "jerk", "momentum_trend")]
        assert {row[n] is None for n in names[: 3 + (w > 1)]} == {seconds < 60 * w}


def test_a_mid_may_be_sixty_seconds_old_and_no_older():
    def aged(by_ns):
        """One state, whose cell ends 59 s before asof, this long after the state."""
        return states_of([48_000], [ASOF - 59 * SECOND_NS], [by_ns])

    # it is oldest at the newest lag, asof itself
    assert row_of(aged(SECOND_NS))["velocity_1min"] == 0.0
    assert row_of(aged(SECOND_NS + 1))["velocity_1min"] is None


def test_a_one_sided_state_is_a_missing_mid():
    hole = each_second(lambda t: None if t == -100 else 48_000 + t)
    row = row_of(hole)
    assert row["velocity_1min"] is not None
    assert [row[f"velocity_{w}min"] for w in WINDOWS_MIN[1:]] == [None] * 4
    assert row_of(each_second(lambda t: None if t == 0 else 48_000))["velocity_1min"] is None
    two_sided = each_second(lambda t: 48_000)
    for side in ("bid", "ask"):
        at = two_sided.column_names.index(f"{side}_size_00")
        gone = two_sided.set_column(at, f"{side}_size_00", pa.array([1] * (LAGS - 1) + [0], pa.int32()))
        assert row_of(two_sided)["velocity_1min"] == 0.0
        assert row_of(gone)["velocity_1min"] is None


def test_a_state_at_asof_is_not_known_and_one_just_before_is():
    """The cell that ends at asof holds events before it; the cell after it is of the future."""
    states = each_second(lambda t: 48_000 + t)
    later = pa.concat_tables([states, states_of([99_999], [ASOF + 100 * MS_NS])])
    assert row_of(later) == row_of(states)
    assert row_of(states)["kinematics_max_input_ts_ns"] == ASOF - MS_NS
    moved = pa.concat_tables([states.slice(0, LAGS - 1), states_of([48_777], [ASOF])])
    assert row_of(moved)["velocity_1min"] != row_of(states)["velocity_1min"]


def test_lags_are_whole_seconds_from_asof_wherever_it_lies():
    """Mids that jump between the whole seconds, seen at .3 s past one."""
    ends = [ASOF + k * 100 * MS_NS for k in range(-13_000, 4)]
    mids = [48_000 + (7 if k % 10 == 3 else 0) for k in range(-13_000, 4)]
    states = states_of(mids, ends)
    at = ASOF + 300 * MS_NS
    assert row_of(states, asof=at)["velocity_20min"] == 0.0
    assert row_of(states, asof=at - 100 * MS_NS)["velocity_20min"] == 0.0


@given(st.lists(st.integers(-40, 40), min_size=60, max_size=60))
@settings(max_examples=30, deadline=None)
def test_a_random_minute_equals_numpys_fit(changes):
    mids = 48_000 + np.cumsum(changes)
    row = row_of(each_second(lambda t: int(mids[59 + t]), 60))
    x = np.linspace(-1, 1, 60)
    half_span = 29.5
    for degree, name in ((1, "velocity"), (2, "acceleration"), (3, "jerk")):
        leading = np.polyfit(x, (mids - mids[0]) * HALF_TICK, degree)[0]
        wanted = leading * [1, 1, 2, 6][degree] / half_span**degree
        assert row[f"{name}_1min"] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_filters_are_orthogonal_to_everything_below_their_degree():
    for w in WINDOWS_MIN:
        weights = filters(60 * w).weights
        x = [Fraction(-j) for j in range(60 * w)]
        for degree in (1, 2, 3):
            for power in range(degree):
                assert sum(int(a) * b**power for a, b in zip(weights[degree - 1], x, strict=True)) == 0
        assert weights.sum(axis=1).tolist() == [0, 0, 0, 0]


def test_nothing_of_the_book_gives_nulls_and_no_points_give_no_rows():
    none = states_of([], [])
    assert set(row_of(none).values()) == {"p0", None}
    assert kinematics(points_table([]), none, grid_ms=100).schema == KINEMATICS_SCHEMA


def test_refusals():
    states = each_second(lambda t: 48_000, 3)
    with pytest.raises(ValueError, match="divisor of 1000"):
        kinematics(points_table([(ASOF, 1, 1)]), states, grid_ms=300)
    with pytest.raises(ValueError, match="grid_ms"):
        kinematics(points_table([(ASOF + 1, 1, 1)]), states, grid_ms=100)
    with pytest.raises(ValueError, match="direction_sign"):
        kinematics(points_table([(ASOF, 1, 0)]), states, grid_ms=100)
    with pytest.raises(ValueError, match="ascend"):
        kinematics(points_table([(ASOF, 1, 1)]), [*states.to_batches()] * 2, grid_ms=100)
