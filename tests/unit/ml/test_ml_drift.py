"""The population stability index against sums by hand, and label rates."""

import math

import numpy as np
import pyarrow as pa
import pytest

from ml import drift


def term(p: float, q: float) -> float:
    return (q - p) * math.log(q / p)


def test_equal_columns_have_no_index():
    x = pa.array(np.random.default_rng(1).normal(size=1000))
    assert drift.psi(x, x) == 0
    assert drift.psi(pa.array(["a", "b", None]), pa.array([None, "a", "b"])) == 0


def test_categories_by_value_and_null_a_bin_of_its_own():
    a = pa.array(["WALL"] * 6 + ["WEAK"] * 4)
    b = pa.array(["WALL"] * 3 + ["WEAK"] * 4 + [None] * 3)
    assert drift.psi(a, b) == pytest.approx(term(0.6, 0.3) + term(drift.FLOOR, 0.3))
    flags = drift.psi(pa.array([True, False]), pa.array([True, True, True, False]))
    assert flags == pytest.approx(term(0.5, 0.75) + term(0.5, 0.25))


def test_numbers_fall_into_the_tenths_of_the_first():
    a = pa.array(list(range(1, 101)))
    top = pa.array([101.0] * 50 + [None] * 50)
    # nine bins of a emptied, one of a tenth holds a half, NULLs the other half
    expected = 9 * term(0.1, drift.FLOOR) + term(0.1, 0.5) + term(drift.FLOOR, 0.5)
    assert drift.psi(a, top) == pytest.approx(expected)


def test_a_cut_belongs_to_the_bin_above_and_equal_cuts_are_one():
    constant, other = pa.array([3, 3, 3, 3]), pa.array([2, 3, 4, 3])
    assert drift.psi(constant, other) == pytest.approx(term(1, 0.75) + term(drift.FLOOR, 0.25))
    nothing = pa.array([None, None], pa.float64())
    assert drift.psi(nothing, pa.array([None, 1.0])) == pytest.approx(term(1, 0.5) + term(drift.FLOOR, 0.5))


def test_no_row_gives_no_index():
    assert drift.psi(pa.array([], pa.float64()), pa.array([1.0])) is None
    assert drift.psi(pa.array([1.0]), pa.array([], pa.float64())) is None


def test_rates_of_labels_by_stage():
    table = pa.table(
        {
            "stage": ["touch"] * 4 + ["confirm_120"],
            "outcome": ["BREAK", "BOUNCE", "BOUNCE", "CHOP", "CHOP"],
            "tradeable_1": [1, 1, 0, 0, 1],
            "tradeable_2": [1, 0, 0, 0, 0],
        }
    )
    found = drift.rates_by_stage(table)
    assert found["touch", "BREAK"] == 0.25
    assert found["touch", "BOUNCE"] == 0.5
    assert found["touch", "CHOP"] == 0.25
    assert (found["touch", "tradeable_1"], found["touch", "tradeable_2"]) == (0.5, 0.25)
    assert found["confirm_120", "CHOP"] == found["confirm_120", "tradeable_1"] == 1
    assert len(found) == 10
