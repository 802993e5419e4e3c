"""What a model must beat, by hand."""

import numpy as np
import pytest

from ml.comparators import BaseRate, class_prior, half_hour, majority_class


def ns(text):
    return np.datetime64(text, "ns").astype(np.int64).item()


def test_prior_and_majority_are_weighted():
    y, w = np.array([1, 0, 0]), np.array([2.0, 1.0, 0.5])
    assert class_prior(y, w) == pytest.approx(2 / 3.5)
    assert majority_class(y, w) == 1
    assert majority_class(y, np.ones(3)) == 0
    assert majority_class(np.array([1, 0]), np.ones(2)) == 1


def test_half_hours_follow_the_new_york_clock():
    # 09:30 in New York: 14:30 UTC in winter, 13:30 in summer; both are half hour 19.
    at = [
        ns("2025-12-15T14:30"),
        ns("2025-12-15T14:59:59.999999999"),
        ns("2025-12-15T15:00"),
        ns("2025-07-15T13:30"),
    ]
    assert half_hour(np.array(at)).tolist() == [19, 19, 20, 19]
    # The clocks change between these two sessions, the half hour does not.
    assert half_hour(np.array([ns("2025-10-31T13:30"), ns("2025-11-03T14:30")])).tolist() == [19, 19]


def cells(n_early=20, n_late=19):
    kind = np.array(["VWAP"] * n_early + ["VWAP"] * n_late + ["ROUND"])
    direction = np.array(["UP"] * (n_early + n_late) + ["DOWN"])
    asof = np.array(
        [ns("2025-12-15T14:40")] * n_early + [ns("2025-12-15T15:10")] * n_late + [ns("2025-12-15T15:10")]
    )
    y = np.array([1] * 5 + [0] * (n_early - 5) + [1] * n_late + [0])
    return kind, direction, asof, y


def test_base_rate_smooths_each_cell_and_falls_back_under_20_rows():
    kind, direction, asof, y = cells()
    w = np.full(len(y), 0.5)
    rate = BaseRate.fit(kind, direction, asof, y, w)
    prior = class_prior(y, w)
    assert prior == pytest.approx(24 / 40)
    assert rate.cells == {("VWAP", "UP", 19): pytest.approx((2.5 + 1) / (10 + 2))}
    asked = rate.predict(
        np.array(["VWAP", "VWAP", "VWAP", "PM_LOW"]),
        np.array(["UP", "UP", "DOWN", "UP"]),
        np.array(
            [ns("2025-12-16T14:31"), ns("2025-12-16T15:10"), ns("2025-12-16T14:31"), ns("2025-12-16T14:31")]
        ),
    )
    assert asked.tolist() == pytest.approx([3.5 / 12, prior, prior, prior])
    assert len(BaseRate.fit(*cells(n_late=20), np.ones(41)).cells) == 2


def test_state_is_builtins_and_comes_back():
    rate = BaseRate.fit(*cells(), np.ones(40))
    state = rate.state()
    assert state["cells"] == [["VWAP", "UP", 19, pytest.approx(6 / 22)]]
    assert [type(v) for v in state["cells"][0]] == [str, str, int, float]
    assert BaseRate.from_state(state) == rate
