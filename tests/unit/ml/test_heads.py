"""Heads, ablations and what stands beside a model: targets by hand, and equal to what the libraries say."""

from __future__ import annotations

import json
from dataclasses import replace

import lightgbm as lgb
import ml_worlds
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml import ablations, calibration, datasets, experiments, heads, splits, training
from ml.calibration import Platt
from ml.comparators import CellMedian, half_hour, weighted_median
from ml.deflation import expected_maximum

NAME = "exp001_mechanics_only"


@pytest.fixture(scope="module")
def evaluated():
    table = datasets.check(ml_worlds.gold(sessions=20, touches=30, planted=True), ml_worlds.contract())
    chosen = ("tradeable_2", "strength", "t2_120", "t2_break_300")
    config = training.Config(
        heads=chosen, stages=("touch",), max_rounds=20, stopping_rounds=5, bootstrap_draws=100
    )
    return table, config, training.evaluate(table, config)


def result(evaluation: training.Evaluation, head: str) -> dict:
    return next(r for r in evaluation.metrics["results"] if r["head"] == head)


# -- targets ---------------------------------------------------------------------------------------------------------


def test_there_are_the_heads_of_the_specification():
    assert len(heads.ALL_HEADS) == 3 + 2 * 3 * 4
    assert {"tradeable_2", "direction", "strength", "t1_60", "t2_break_300", "t1_bounce_180"} <= set(
        heads.ALL_HEADS
    )


def test_a_threshold_is_reached_at_the_second_and_never_without_a_time():
    table = pa.table(
        {"time_to_threshold_2": [119.9, 120.0, 120.1, None], "time_to_break_1": [None, 60.0, 61.0, 0.0]}
    )
    assert heads.target(table, "t2_120")[1].tolist() == [1, 1, 0, 0]
    assert heads.target(table, "t1_break_60")[1].tolist() == [0, 1, 0, 1]


def test_direction_is_of_what_moved_and_strength_of_everything(evaluated):
    rows = evaluated[0].stage("touch")
    moved, y = heads.target(rows, "direction")
    assert moved.num_rows == pc.sum(rows["tradeable_2"]).as_py()
    assert y.tolist() == [int(o == "BREAK") for o in moved["outcome"].to_pylist()]
    every, points = heads.target(rows, "strength")
    assert every.num_rows == rows.num_rows
    assert points.tolist() == rows["strength_signed"].to_pylist()


# -- what is reported ------------------------------------------------------------------------------------------------


def test_strength_is_judged_by_its_error_against_medians(evaluated):
    table, _, evaluation = evaluated
    found = result(evaluation, "strength")
    assert set(found["pooled"]["mae_skill"]) == {"level_only", "base_rate", "class_prior"}
    assert found["pooled"]["ci"]["mae_skill"]["base_rate"][0] <= found["pooled"]["mae_skill"]["base_rate"]
    rows = table.stage("touch")
    session, y = datasets.session_dates(rows), rows["strength_signed"].to_numpy()
    weight = rows["sample_weight"].to_numpy()
    for fold, scored in zip(splits.plan(table.sessions).folds, found["folds"], strict=True):
        fit, test = np.isin(session, fold.training), np.isin(session, fold.test)
        median = weighted_median(y[fit], weight[fit])
        expected = np.average(np.abs(y[test] - median), weights=weight[test])
        assert scored["class_prior"]["mae"] == pytest.approx(expected)
    model = evaluation.models["models"]["touch"]["strength"]
    assert model["calibration"] is model["logistic"] is model["majority"] is None
    assert "objective=regression_l1" in model["booster"]
    holdout = rows.filter(pa.array(np.isin(session, table.sessions[-2:])))
    p = training.predict(evaluation.models, "touch", "strength", holdout)
    truth, w = holdout["strength_signed"].to_numpy(), holdout["sample_weight"].to_numpy()
    assert found["holdout"]["model"]["mae"] == pytest.approx(np.average(np.abs(p - truth), weights=w))


def test_reach_times_are_probabilities_beside_their_baselines(evaluated):
    for head in ("t2_120", "t2_break_300"):
        pooled = result(evaluated[2], head)["pooled"]
        assert {"model", "calibrated", "level_only", "logistic", "base_rate", "class_prior"} <= set(pooled)
        assert 0 < pooled["positives"] < pooled["n"]


def test_calibration_of_production_is_fitted_out_of_fold(evaluated):
    _, _, evaluation = evaluated
    found, oof = result(evaluation, "tradeable_2"), evaluation.oof["touch", "tradeable_2"]
    expected = Platt.fit(oof["model"], oof["y"], oof["weight"])
    assert found["calibration"] == expected.state()
    assert evaluation.models["models"]["touch"]["tradeable_2"]["calibration"] == expected.state()
    for kind, name in (("raw", "model"), ("calibrated", "calibrated")):
        told = found["pooled"]["calibration"][kind]
        assert told == calibration.summary(oof["y"], oof[name], oof["weight"])
        assert sum(b["n"] for b in told["reliability"]) == len(oof["y"])


def test_a_fold_is_calibrated_on_its_inner_validation_alone(evaluated):
    """Refitted from the stored way: nothing of the fold's test can have entered."""
    table, config, evaluation = evaluated
    columns = datasets.feature_columns(table.contract)
    names, levels = [c.name for c in columns], [c.name for c in datasets.level_columns(table.contract)]
    data = heads.head_data(table.stage("touch"), "tradeable_2", names, levels, datasets.categories(columns))
    fold = splits.plan(table.sessions).folds[1]
    rows = heads.rows_of(data, fold)
    fitted = training.fit_head(data, rows, config, 1)
    inner = fitted.booster.predict(data.inputs.take(pa.array(rows.inner)), num_threads=1)
    scaler = Platt.fit(inner, data.y[rows.inner], data.weight[rows.inner])
    oof = evaluation.oof["touch", "tradeable_2"]
    ours = oof["fold"] == fold.number
    assert oof["calibrated"][ours] == pytest.approx(scaler.apply(oof["model"][ours]), rel=1e-12)


def test_contributions_are_lightgbms_own(evaluated):
    table, _, evaluation = evaluated
    found = result(evaluation, "tradeable_2")["contributions"]
    assert {"barrier_state", "barrier_delta_liq"} & {c["feature"] for c in found[:10]}
    assert sum(c["share"] for c in found) == pytest.approx(1)
    model = lgb.Booster(model_str=evaluation.models["models"]["touch"]["tradeable_2"]["booster"])
    columns = datasets.feature_columns(table.contract)
    inputs = datasets.encode(
        table.stage("touch").slice(0, 50), [c.name for c in columns], datasets.categories(columns)
    )
    raw = model.predict(inputs, raw_score=True, num_threads=1)
    assert model.predict(inputs, pred_contrib=True, num_threads=1).sum(axis=1) == pytest.approx(raw)


def test_the_skill_is_deflated_by_heads_and_stages(evaluated):
    pooled = result(evaluated[2], "tradeable_2")["pooled"]
    left = pooled["deflated"]
    assert left["tries"] == 4
    assert left["score"] == pooled["brier_skill"]["base_rate"]
    assert left["luck"] == pytest.approx(left["standard_error"] * expected_maximum(4))
    assert left["deflated"] < left["score"]


def test_the_index_of_experiments_has_calibration_and_precision(root, contract, quick):
    config = replace(quick, heads=("tradeable_2", "strength"), stages=("touch",))
    report = training.train(root, ml_worlds.VERSION, NAME, config=config, contract=contract)
    (entry,) = experiments.read_index(root)
    pooled = report.metrics["results"][0]["pooled"]["calibration"]["raw"]
    assert entry["metrics"]["ece"] == pooled["ece"]
    assert entry["metrics"]["precision_at_k"] == pooled["precision_at_5"]
    strength = entry["model_metrics"]["strength_touch"]
    assert strength["n_folds"] == 4
    assert strength["brier"] is None
    rows = report.rows()
    assert len({tuple(r) for r in rows}) == 1
    assert {r["head"] for r in rows if r["mae_model"] is not None} == {"strength"}
    json.dumps(rows, allow_nan=False)
    again = training.Config.from_dict(report.metrics and config.as_dict())
    assert again == config


# -- ablations -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not datasets.CONTRACTS.is_file(), reason="contracts/features.json was not generated yet")
def test_ablations_are_by_group():
    full = datasets.load_contract("v2.0_full_ensemble")
    by_name = {c.name: c.group for c in full.columns}
    level = {c.name for c in datasets.level_columns(full)}
    mechanics, ta = (set(ablations.features(full, a)) for a in ("mechanics", "ta"))
    assert ablations.features(full, "full") is None
    assert set(ablations.features(full, "level_only")) == level
    assert mechanics & ta == level
    assert {by_name[n] for n in mechanics} == {
        *(
            "level",
            "barrier_physics",
            "tape_physics",
            "fuel_physics",
            "pressure_indicators",
            "dealer_velocity",
        ),
    }
    assert {"geometry", "mean_reversion", "confluence", "approach_context"} <= {by_name[n] for n in ta}
    assert not {by_name[n] for n in ta} & {
        "barrier_physics",
        "tape_physics",
        "fuel_physics",
        "ofi",
        "kinematics",
    }
    config = training.Config.of_ablation(full, "mechanics")
    assert (config.ablation, set(config.features)) == ("mechanics", mechanics)
    own = datasets.load_contract("v1.0_mechanics_only")
    assert training.Config.of_ablation(own, "mechanics") == training.Config(version=own.version)
    assert training.Config.of_ablation(own, "full").ablation == "mechanics"
    with pytest.raises(
        datasets.DatasetError, match=r"has no feature beside the level; train it on v2\.0_full_ensemble"
    ):
        ablations.features(own, "ta")
    with pytest.raises(datasets.DatasetError, match="ablation was 'mech', expected one of"):
        ablations.features(own, "mech")


# -- medians ---------------------------------------------------------------------------------------------------------


def test_a_weighted_median_by_hand():
    assert weighted_median(np.array([3.0, 1, 2]), np.array([1.0, 1, 1])) == 2
    assert weighted_median(np.array([3.0, 1, 2]), np.array([10.0, 1, 1])) == 3
    assert weighted_median(np.array([1.0, 2]), np.array([1.0, 1])) == 1


def test_a_cell_has_its_own_median():
    at = np.full(45, np.datetime64("2025-10-06T15:00", "ns").astype(np.int64))
    kind = np.array(["A"] * 20 + ["B"] * 25)
    direction = np.array(["UP"] * 20 + ["UP"] * 19 + ["DOWN"] * 6)
    y = np.arange(45, dtype=float)
    found = CellMedian.fit(kind, direction, at, y, np.ones(45))
    assert found.median == 22
    assert found.cells == {("A", "UP", int(half_hour(at[:1])[0])): 9.0}
    assert found.predict(np.array(["A", "B"]), np.array(["UP", "UP"]), at[:2]).tolist() == [9, 22]
    assert CellMedian.from_state(json.loads(json.dumps(found.state()))) == found
