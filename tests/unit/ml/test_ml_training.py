"""Training end to end on small tables: what is reported, what is skipped, and that it repeats to the byte."""

import json
from dataclasses import replace

import lightgbm as lgb
import ml_worlds
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from ml import datasets, experiments, splits, training
from ml.comparators import BaseRate

NAME = "exp001_mechanics_only"


def train(root, contract, config, **more):
    return training.train(root, ml_worlds.VERSION, NAME, config=config, contract=contract, **more)


@pytest.fixture(scope="module")
def evaluated():
    table = datasets.check(ml_worlds.gold(sessions=20, touches=30, planted=True), ml_worlds.contract())
    config = training.Config(max_rounds=20, stopping_rounds=5, bootstrap_draws=100)
    return table, config, training.evaluate(table, config)


def test_every_head_stage_and_fold_stands_beside_its_comparators(evaluated):
    _, _, evaluation = evaluated
    m = evaluation.metrics
    assert [(r["stage"], r["head"]) for r in m["results"]] == [
        ("touch", "tradeable_2"), ("touch", "direction"), ("confirm_240", "tradeable_2"),
        ("confirm_240", "direction"),
    ]  # fmt: skip
    assert m["n_folds"] == 6
    assert not m["insufficient_folds"]
    assert m["holdout"] == ml_worlds.session_names(20)[18:]
    assert m["feature_count"] == 44
    assert m["signal_count"] == 600
    for r in m["results"]:
        assert len(r["folds"]) == 6
        for scored in (*r["folds"], r["pooled"], r["holdout"]):
            for name in ("model", "level_only", "logistic", "base_rate", "class_prior", "calibrated"):
                assert {"roc_auc", "pr_auc", "brier", "log_loss", "accuracy"} <= set(scored[name])
            assert 0 <= scored["majority"]["accuracy"] <= 1
            assert set(scored["brier_skill"]) == {"level_only", "logistic", "base_rate", "class_prior"}
        assert r["folds"][0]["test_first"] == ml_worlds.session_names(20)[12]
        low, high = r["pooled"]["ci"]["model"]["roc_auc"]
        assert low <= r["pooled"]["model"]["roc_auc"] <= high
        assert r["pooled"]["sessions"] == 6
    json.dumps(m, allow_nan=False)


def test_scores_equal_those_recomputed_from_the_rows(evaluated):
    table, _, evaluation = evaluated
    plan = splits.plan(table.sessions)
    oof = evaluation.oof["touch", "direction"]
    rows = table.stage("touch")
    rows = rows.filter(pc.equal(rows["tradeable_2"], 1))
    session = datasets.session_dates(rows)
    y = np.array([o == "BREAK" for o in rows["outcome"].to_pylist()], dtype=int)
    weight = rows["sample_weight"].to_numpy()
    result = evaluation.metrics["results"][1]
    for fold, scored in zip(plan.folds, result["folds"], strict=True):
        test, fit = np.isin(session, fold.test), np.isin(session, fold.training)
        assert scored["n"] == test.sum()
        assert scored["positives"] == y[test].sum()
        assert scored["n_train"] == np.isin(session, fold.train).sum()
        prior = np.average(y[fit], weights=weight[fit])
        assert scored["class_prior"]["brier"] == pytest.approx(
            np.average((y[test] - prior) ** 2, weights=weight[test])
        )
        names = [np.array(rows[c].to_pylist()) for c in ("level_kind_name", "direction", "asof_ns")]
        base = BaseRate.fit(*(v[fit] for v in names), y[fit], weight[fit]).predict(*(v[test] for v in names))
        expected = np.average((y[test] - base) ** 2, weights=weight[test])
        assert scored["base_rate"]["brier"] == pytest.approx(expected)
        ours = oof["fold"] == fold.number
        assert oof["y"][ours].tolist() == y[test].tolist()
        auc = roc_auc_score(y[test], oof["model"][ours], sample_weight=weight[test])
        assert scored["model"]["roc_auc"] == pytest.approx(auc)
    assert result["mean"]["model"]["roc_auc"] == pytest.approx(
        np.mean([f["model"]["roc_auc"] for f in result["folds"]])
    )


def test_a_fold_is_what_lightgbm_makes_of_its_rows_alone(evaluated):
    """Refitted from the specification's parameters on the fold's own rows; nothing of a later session can
    have entered.
    """
    table, config, evaluation = evaluated
    fold = splits.plan(table.sessions).folds[2]
    rows = table.stage("touch")
    session = datasets.session_dates(rows)
    columns = datasets.feature_columns(table.contract)
    x = datasets.encode(rows, [c.name for c in columns], datasets.categories(columns)).to_pandas()
    y, w = rows["tradeable_2"].to_numpy(), rows["sample_weight"].to_numpy()
    params = {
        "objective": "binary", "num_leaves": 31, "max_depth": 6, "learning_rate": 0.05,
        "min_data_in_leaf": 40, "feature_fraction": 0.8, "seed": 42,
        "deterministic": True, "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }  # fmt: skip
    categorical = ["level_kind_name", "direction", "barrier_state", "fuel_effect", "gamma_bucket"]
    train, inner, test = (np.isin(session, p) for p in (fold.train, fold.inner, fold.test))
    fit = lgb.Dataset(x[train], y[train], weight=w[train], categorical_feature=categorical)
    valid = lgb.Dataset(x[inner], y[inner], weight=w[inner], reference=fit)
    stop = lgb.early_stopping(config.stopping_rounds, verbose=False)
    booster = lgb.train(params, fit, config.max_rounds, valid_sets=[valid], callbacks=[stop])
    oof = evaluation.oof["touch", "tradeable_2"]
    expected = booster.predict(x[test], num_iteration=booster.best_iteration)
    assert oof["model"][oof["fold"] == 3] == pytest.approx(expected, rel=1e-9)
    assert evaluation.metrics["results"][0]["folds"][2]["rounds"] == booster.best_iteration


def test_later_sessions_change_no_earlier_fold(evaluated):
    table, config, evaluation = evaluated
    # Outcomes of the last six sessions turned round: the folds before them must not notice.
    late = np.isin(datasets.session_dates(table.table), table.sessions[14:])
    flipped = np.where(late, 1 - table.table["tradeable_2"].to_numpy(), table.table["tradeable_2"].to_numpy())
    outcome = np.where(flipped == 1, "BREAK", "CHOP")
    rows = table.table
    for name, values in (("tradeable_2", pa.array(flipped.astype(np.int8))), ("outcome", pa.array(outcome))):
        rows = rows.set_column(rows.column_names.index(name), name, values)
    other = training.evaluate(
        replace(table, table=rows), replace(config, heads=("tradeable_2",), stages=("touch",))
    )
    before, after = evaluation.metrics["results"][0]["folds"], other.metrics["results"][0]["folds"]
    assert after[:2] == before[:2]
    assert after[2]["model"] != before[2]["model"]


def test_importance_names_the_planted_feature_first(evaluated):
    _, _, evaluation = evaluated
    direction = evaluation.metrics["results"][1]["importance_gain"]
    assert len(direction) == 44
    assert direction[0]["feature"] in {"barrier_state", "barrier_delta_liq"}
    assert sum(i["share"] for i in direction) == pytest.approx(1)
    assert [i["share"] for i in direction] == sorted((i["share"] for i in direction), reverse=True)


def test_order_of_rows_and_number_of_threads_change_no_byte(contract, quick):
    # One fold, one head, few rounds: two threads on a busy machine wait for each other at every node.
    config = replace(quick, max_rounds=4, stages=("touch",), heads=("tradeable_2",))
    gold = ml_worlds.gold(sessions=13, touches=25, planted=True)
    shuffled = gold.take(pa.array(np.random.default_rng(0).permutation(gold.num_rows)))
    first = training.evaluate(datasets.check(gold, contract), config, num_threads=1)
    second = training.evaluate(datasets.check(shuffled, contract), config, num_threads=2)
    assert second.metrics == first.metrics
    assert second.models == first.models
    assert "[num_threads: 1]" in first.models["models"]["touch"]["tradeable_2"]["booster"]


def test_a_second_run_writes_the_same_files(tmp_path, contract, quick, small):
    files = []
    for name in ("a", "b"):
        ml_worlds.commit_gold(tmp_path / name, small)
        path = train(tmp_path / name, contract, quick).path
        files.append({f.name: f.read_bytes() for f in sorted(path.iterdir())})
    assert set(files[0]) == {"model.joblib", "metrics.json", "config.yaml"}
    assert files[0] == files[1]


def test_nothing_new_is_nothing_done(root, contract, quick, monkeypatch):
    first = train(root, contract, quick)
    assert first.state == "trained"
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file() and "lock" not in p.name}
    monkeypatch.setattr(training, "evaluate", lambda *a, **k: pytest.fail("trained again"))
    second = train(root, contract, quick)
    assert second.state == "up_to_date"
    assert second.metrics == first.metrics
    assert second.rows() == first.rows()
    assert {
        p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file() and "lock" not in p.name
    } == before


def test_a_completed_experiment_is_final_until_it_is_given_up(root, contract, quick, small):
    train(root, contract, quick)
    day = ml_worlds.session_names(17)[16]
    more = ml_worlds.gold(sessions=17, touches=25, planted=True, seed=9)
    ml_worlds.commit_gold(root, more.filter(pc.equal(more["session_date"].cast(pa.string()), day)))
    assert training.outlook(root, ml_worlds.VERSION, NAME, config=quick, contract=contract) == "final"
    with pytest.raises(
        experiments.ExperimentIsFinal, match=r"completed and dataset_digest changed.*--replace"
    ):
        train(root, contract, quick)
    assert experiments.find(root, NAME).metrics["sessions"] == 16
    assert train(root, contract, quick, replace=True).metrics["sessions"] == 17
    assert experiments.read_index(root)[0]["metrics"]["date_coverage"] == 17
    with pytest.raises(experiments.ExperimentIsFinal, match="training changed"):
        train(root, contract, replace(quick, seed=7))


def test_the_stored_model_predicts_what_was_scored(tmp_path, contract, quick):
    gold = ml_worlds.gold(sessions=20, touches=20, planted=True)
    ml_worlds.commit_gold(tmp_path, gold)
    report = train(tmp_path, contract, quick)
    model = experiments.load_model(tmp_path, NAME)
    table = datasets.check(gold, contract).stage("touch")
    rows = table.filter(pa.array(np.isin(datasets.session_dates(table), report.metrics["holdout"])))
    p = training.predict(model, "touch", "tradeable_2", rows)
    y, w = rows["tradeable_2"].to_numpy(), rows["sample_weight"].to_numpy()
    holdout = report.metrics["results"][0]["holdout"]
    assert holdout["n"] == len(y) == 40
    assert holdout["model"]["brier"] == pytest.approx(np.average((p - y) ** 2, weights=w))
    one = np.concatenate(
        [training.predict(model, "touch", "tradeable_2", rows.slice(i, 1)) for i in range(5)]
    )
    assert np.array_equal(one, p[:5])
    strange = rows.set_column(
        rows.column_names.index("barrier_state"), "barrier_state", pa.array(["NEVER_SEEN"] * len(y))
    )
    missing = rows.set_column(
        rows.column_names.index("barrier_state"), "barrier_state", pa.nulls(len(y), pa.string())
    )
    assert np.array_equal(
        training.predict(model, "touch", "direction", strange),
        training.predict(model, "touch", "direction", missing),
    )


def test_the_artifact_needs_no_code_of_ours(root, contract, quick):
    train(root, contract, quick)

    def plain(v):
        if isinstance(v, dict):
            return all(isinstance(k, str) and plain(x) for k, x in v.items())
        return (
            all(map(plain, v))
            if isinstance(v, list)
            else v is None or type(v) in (str, int, float, bool, np.ndarray)
        )

    model = experiments.load_model(root, NAME)
    assert plain(model)
    assert model["categories"]["direction"] == ["UP", "DOWN"]
    assert len(model["features"]) == 44
    assert set(model["models"]["touch"]) == {"tradeable_2", "direction"}


def test_configuration_says_everything_that_is_needed_to_repeat(root, contract, quick):
    report = train(root, contract, quick)
    config = yaml.safe_load((report.path / "config.yaml").read_text())
    assert config["inputs"]["dataset_digest"] == datasets.digest(root, ml_worlds.VERSION)
    assert config["inputs"]["training"]["seed"] == 42
    assert config["inputs"]["training"]["boosting"]["num_leaves"] == 31
    assert config["inputs"]["training"]["stages"] == ["touch", "confirm_240"]
    assert config["inputs"]["training"]["ablation"] == "mechanics"
    assert config["params_digest"] == "ab" * 32
    assert [len(f["test"]) for f in config["folds"]] == [1, 1, 1, 1]
    assert config["folds"][0]["inner"] == ml_worlds.session_names(16)[9:11]


def test_a_rare_class_skips_the_head_with_its_reason(small, contract, quick):
    rng = np.random.default_rng(0)
    tradeable = rng.random(small.num_rows) < 0.08
    rows = small
    for name, values in (
        ("tradeable_2", pa.array(tradeable.astype(np.int8))),
        ("outcome", pa.array(np.where(tradeable, "BREAK", "CHOP"))),
    ):
        rows = rows.set_column(rows.column_names.index(name), name, values)
    evaluation = training.evaluate(datasets.check(rows, contract), replace(quick, stages=("touch",)))
    head, direction = evaluation.metrics["results"]
    assert "positives in 200 training rows, expected at least 30" in head["folds"][0]["skipped"]
    assert direction["skipped"].startswith("every fold was skipped: fold 1: ")
    assert direction["pooled"] is None
    assert "direction" not in evaluation.models["models"]["touch"]
    reported = training.Report(
        "exp001_x", "trained", None, {**evaluation.metrics, "dataset_digest": "0" * 64}
    )
    assert any("skipped: direction at touch" in line for line in reported.remarks())
    assert {s["head"] for s in evaluation.metrics["skipped"]} == {"tradeable_2", "direction"}
    flat = reported.rows()
    assert len({tuple(row) for row in flat}) == 1, "every row has the same keys in the same order"
    assert all(row["brier_base_rate"] is None for row in flat if row["skipped"])


def test_a_leaking_feature_never_reaches_a_model(root, contract, quick):
    for leak in ("tradeable_1", "excursion_max", "label_end_ns", "sample_weight"):
        config = replace(quick, features=("barrier_state", leak))
        with pytest.raises(datasets.LeakError, match=leak):
            train(root, contract, config)
    assert experiments.find(root, NAME) is None
    assert experiments.read_index(root) == []


def test_a_subset_of_features_is_what_the_model_sees(root, contract, quick):
    report = train(
        root, contract, replace(quick, features=("barrier_state", "tape_imbalance"), stages=("touch",))
    )
    model = experiments.load_model(root, NAME)
    assert model["features"] == ["barrier_state", "tape_imbalance"]
    assert report.metrics["feature_count"] == 2
    assert lgb.Booster(model_str=model["models"]["touch"]["direction"]["booster"]).num_feature() == 2


def test_errors_say_what_to_do(tmp_path, contract, quick):
    with pytest.raises(datasets.NoTrainingTable, match=r"had no partition.*tickhouse ingest dbn.*dbt build"):
        train(tmp_path, contract, quick)
    assert not experiments.index_path(tmp_path).exists()
    ml_worlds.commit_gold(tmp_path, ml_worlds.gold(sessions=12, touches=5, planted=False))
    with pytest.raises(splits.TooFewSessions, match="had 12 sessions, expected at least 13"):
        train(tmp_path, contract, quick)
    with pytest.raises(experiments.ExperimentError, match="expected expNNN_name"):
        training.train(tmp_path, ml_worlds.VERSION, "first try", config=quick, contract=contract)
    with pytest.raises(datasets.DatasetError, match="head was 'strong'"):
        training.Config(heads=("strong",))
    with pytest.raises(datasets.DatasetError, match="stage was 'confirm_5'"):
        training.Config(stages=("confirm_5",))


def test_a_stage_without_rows_is_skipped_with_its_reason(small, contract, quick):
    table = datasets.check(small.filter(pc.equal(small["stage"], "touch")), contract)
    evaluation = training.evaluate(table, quick)
    assert [r["skipped"] is None for r in evaluation.metrics["results"]] == [True, True, False, False]
    assert "0 positives in 0 training rows" in evaluation.metrics["results"][2]["skipped"]


def test_a_run_that_fails_says_why_and_can_be_made_again(root, contract, quick, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no memory\nleft")

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", fail)
        with pytest.raises(RuntimeError, match="no memory"):
            train(root, contract, quick)
    (entry,) = experiments.read_index(root)
    assert (entry["status"], entry["notes"]) == ("failed", "no memory left")
    assert experiments.find(root, NAME) is None
    train(root, contract, quick, notes="second try")
    (entry,) = experiments.read_index(root)
    assert (entry["status"], entry["notes"]) == ("completed", "second try")
    assert entry["metrics"]["signal_count"] == 400
    assert set(entry["model_metrics"]) == {
        "tradeable_2_touch", "direction_touch", "tradeable_2_confirm_240", "direction_confirm_240",
    }  # fmt: skip


def test_edited_code_or_another_library_makes_a_result_out_of_date(root, contract, quick, monkeypatch):
    train(root, contract, quick)
    with monkeypatch.context() as patch:
        patch.setattr(training, "code_digest", lambda: "edited")
        with pytest.raises(experiments.ExperimentIsFinal, match="code_digest changed"):
            train(root, contract, quick)
    columns = list(contract.columns)
    at = columns.index(contract.column("barrier_state"))
    columns[at] = replace(columns[at], domain=tuple(reversed(columns[at].domain)))
    patched = replace(contract, columns=tuple(columns))
    with pytest.raises(experiments.ExperimentIsFinal, match="categories changed"):
        train(root, patched, quick)
