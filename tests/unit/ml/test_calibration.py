"""Calibration, deflation and baselines against other people's code, and against the formula written out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.calibration import _sigmoid_calibration
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ml import calibration, deflation
from ml.baselines import CellRate, Design, Logistic
from ml.calibration import Platt


@pytest.fixture
def rows():
    rng = np.random.default_rng(4)
    truth = rng.uniform(0.05, 0.95, 3_000)
    y = (rng.random(3_000) < truth).astype(int)
    return y, calibration.sigmoid(2.5 * calibration.logit(truth) - 0.7), rng.uniform(0.2, 1, 3_000)


# -- calibration -----------------------------------------------------------------------------------------------------


def test_platt_equals_scikit_learn(rows):
    y, p, weight = rows
    slope, intercept = _sigmoid_calibration(calibration.logit(p), y, sample_weight=weight)
    found = Platt.fit(p, y, weight)
    assert found.slope == pytest.approx(-slope, rel=1e-4)
    assert found.intercept == pytest.approx(-intercept, rel=1e-3, abs=1e-4)


def test_platt_brings_probabilities_back(rows):
    y, p, weight = rows
    found = Platt.fit(p, y, weight)
    assert found.slope == pytest.approx(1 / 2.5, rel=0.15)
    before, after = (
        calibration.expected_error(calibration.reliability(y, q, weight)) for q in (p, found.apply(p))
    )
    assert after < 0.03 < before
    assert np.average(found.apply(p), weights=weight) == pytest.approx(
        np.average(y, weights=weight), abs=2e-3
    )


def test_platt_of_predictions_that_say_nothing_or_everything():
    y, ones = np.array([0, 1, 1, 1]), np.ones(4)
    flat = Platt.fit(np.full(4, 0.5), y, ones)
    assert flat.apply(np.array([0.5]))[0] == pytest.approx((3 * 0.8 + 1 / 3) / 4)
    sure = Platt.fit(np.array([0.0, 1, 1, 1]), y, ones)
    assert np.isfinite([sure.slope, sure.intercept]).all()
    assert ((sure.apply(np.array([0.0, 1])) > 0.5) == [False, True]).all()


def test_reliability_by_hand():
    p = np.array([0.1, 0.1, 0.2, 0.8, 0.9, 0.9])
    y = np.array([0, 1, 0, 1, 1, 1])
    found = calibration.reliability(y, p, np.ones(6), bins=3)
    assert [(b["n"], b["p_low"], b["p_high"], b["rate"]) for b in found] == [
        (2, 0.1, 0.1, 0.5),
        (2, 0.2, 0.8, 0.5),
        (2, 0.9, 0.9, 1.0),
    ]
    assert calibration.expected_error(found) == pytest.approx((0.4 + 0 + 0.1) / 3)


def test_rows_of_one_prediction_share_a_bin():
    p = np.r_[np.full(90, 0.3), np.linspace(0.4, 0.9, 10)]
    found = calibration.reliability((p > 0.5).astype(int), p, np.ones(100))
    assert [b["n"] for b in found] == [90, 10]
    assert sum(b["n"] for b in calibration.reliability(np.zeros(7), np.arange(7) / 7, np.ones(7))) == 7
    assert calibration.reliability(np.array([]), np.array([]), np.array([])) == []
    assert calibration.expected_error([]) is None


def test_precision_of_the_best_rows_does_not_hang_on_their_order():
    p = np.array([0.9, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    # two rows: the first, and a third of each of the three that tie
    assert calibration.precision_at(y, p, np.ones(10), 0.2) == pytest.approx((1 + 1 / 3) / 2)
    back = slice(None, None, -1)
    assert calibration.precision_at(y[back], p[back], np.ones(10), 0.2) == pytest.approx((1 + 1 / 3) / 2)
    assert calibration.precision_at(y, p, np.ones(10), 0.05) == 1
    assert calibration.precision_at(y, p, np.ones(10), 1) == pytest.approx(0.2)
    assert calibration.precision_at(y[:0], p[:0], y[:0], 0.1) is None


# -- deflation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tries", [2, 5, 20, 100])
def test_the_expected_maximum_is_about_what_noise_gives(tries):
    noise = np.random.default_rng(tries).normal(size=(40_000, tries)).max(axis=1)
    assert deflation.expected_maximum(tries) == pytest.approx(noise.mean(), abs=0.06)


def test_more_tries_leave_less():
    found = [deflation.deflate(0.02, 0.01, n, 1e9) for n in (1, 10, 100)]
    assert found[0].deflated == 0.02
    assert found[0].probability == pytest.approx(0.97725, abs=1e-4)
    assert found[0].probability > found[1].probability > found[2].probability
    assert found[2].deflated < 0
    assert deflation.deflate(0.02, 0.0, 1, 9) is None
    with pytest.raises(ValueError, match="tries was 0"):
        deflation.expected_maximum(0)


def test_a_probability_from_few_sessions_is_less_sure():
    """Student's t: with nine degrees of freedom 2.262 errors above 0 are worth 97.5 %."""
    assert deflation.deflate(2.262157, 1.0, 1, 9).probability == pytest.approx(0.975, abs=1e-6)


# -- baselines -------------------------------------------------------------------------------------------------------


def test_a_cell_answers_with_its_own_rate_and_a_small_one_with_the_prior():
    cells = [("a", 1)] * 20 + [("a", 2)] * 19
    y = np.array([1] * 5 + [0] * 34)
    found = CellRate.fit(cells, y, np.ones(39))
    assert found.predict([("a", 1), ("a", 2), ("b", 1)]).tolist() == [6 / 22, 5 / 39, 5 / 39]
    assert found.state() == {"prior": 5 / 39, "cells": [["a", 1, 6 / 22]]}


def inputs(n: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    return pa.table(
        {
            "x": rng.normal(5, 3, n),
            "holed": pa.array([None if rng.random() < 0.2 else v for v in rng.normal(0, 1, n)], pa.float64()),
            "kind": pa.array([None if k == 2 else int(k) for k in kind], pa.int32()),
            "constant": np.full(n, 7.0),
        }
    )


def test_logistic_regression_equals_scikit_learn():
    table = inputs(800, 1)
    rng = np.random.default_rng(2)
    x, holed = table["x"].to_numpy(), table["holed"].to_numpy(zero_copy_only=False)
    y = (rng.random(800) < calibration.sigmoid(0.4 * (x - 5) - 0.3)).astype(int)
    weight = rng.uniform(0.1, 1, 800)
    found = Logistic.fit(table, ["kind"], y, weight)
    missing = np.isnan(holed)
    filled = np.where(missing, np.median(holed[~missing]), holed)
    kinds = np.array([-1 if k is None else k for k in table["kind"].to_pylist()])[:, None]
    one_hot = OneHotEncoder(sparse_output=False, categories=[[0, 1]], handle_unknown="ignore").fit_transform(
        kinds
    )
    design = np.column_stack([StandardScaler().fit_transform(np.column_stack([x, filled])), missing, one_hot])
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=2_000).fit(design, y, sample_weight=weight)
    assert found.predict(table) == pytest.approx(expected.predict_proba(design)[:, 1], abs=1e-5)
    assert [c[0] for c in found.design.columns] == ["x", "holed"]


def test_a_separable_table_and_a_value_never_seen():
    table = pa.table({"x": [0.0, 0, 1, 1], "kind": pa.array([0, 0, 1, 1], pa.int32())})
    found = Logistic.fit(table, ["kind"], np.array([0, 0, 1, 1]), np.ones(4))
    p = found.predict(pa.table({"x": [0.0, 1.0, None], "kind": pa.array([0, 1, 9], pa.int32())}))
    assert p[0] < 0.5 < p[1]
    assert np.isfinite(p).all()
    nothing = pa.table({"x": pa.array([None, None], pa.float64())})
    assert Design.fit(nothing, []).matrix(nothing).shape == (2, 1)
