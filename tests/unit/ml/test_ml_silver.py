"""The silver catalogue and comparisons, in Python and on the command line, on versions put there by hand."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from lake import params
from lake.contracts import BrokenContract
from ml import comparison, experiments, silver
from tests.unit.ml.silver_worlds import DATES, put_training, put_version

A, B = "v1.0_mechanics_only", "v2.0_full_ensemble"
HEAD = dict.fromkeys(("pr_auc", "roc_auc", "brier", "brier_skill", "ci_low", "ci_high"), 0.5) | {
    "n_folds": 2,
    "base_rate_brier": 0.2,
    "base_rate_roc_auc": 0.5,
    "ece": 0.02,
    "precision_at_k": 0.7,
}
METRICS = HEAD | {"signal_count": 8, "feature_count": 2, "date_coverage": 2, "null_rate_avg": 0.1}


@pytest.fixture
def lake(root: Path) -> Path:
    put_version(
        root,
        A,
        {
            "tape_imbalance": [0.1, 0.2, None, 0.4],
            "sweep_detected": [True, False, True, False],
            "tape_buy_vol": [1, 2, 3, 4],
        },
    )
    put_version(
        root,
        B,
        {
            "tape_imbalance": [0.1, None, None, 0.4],
            "sweep_detected": [True, True, True, False],
            "tape_velocity": [1.0, 2.0, 3.0, 4.0],
        },
        param_set="atr",
    )
    put_training(root, A, ["BREAK", "BOUNCE"] * 2, [1, 0, 0, 0])
    put_training(root, B, ["BREAK", "BREAK"] * 2, [1, 1, 0, 0])
    return root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAKE_ROOT", str(tmp_path))
    return tmp_path


def run(*args: str) -> str:
    result = CliRunner().invoke(app, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(*args: str) -> list[dict]:
    return json.loads(run(*args, "--json"))


def register(root: Path, version: str, **entry: object) -> dict:
    return experiments.register(root, version, **entry)


def complete(root: Path, version: str, **metrics: float) -> dict:
    """An entry as training completes it."""
    entry = register(root, version, metrics=METRICS | metrics, stage="touch")
    done = {"status": "completed", "model_path": f"ml/experiments/{entry['id']}_x/model.joblib"}
    return experiments.upsert(root, {"id": entry["id"], **done, "model_metrics": {"tradeable_2_touch": HEAD}})


# -- versions --------------------------------------------------------------------------------------------------------


def test_versions_are_listed_with_digests_and_dates(lake):
    found = silver.SilverFeatureBuilder(lake).list_versions()
    assert [v["version"] for v in found] == [A, B]
    first = found[0]
    assert (first["status"], first["dates"], first["not_ok"], first["rows"]) == ("draft", 2, 0, 8)
    assert (first["first_date"], first["last_date"]) == DATES
    assert first["params_digest"] == params.load("default").digest
    assert rows("versions", "list") == found
    table = run("versions", "list")
    assert first["params_digest"][:8] in table
    assert first["params_digest"] not in table


def test_no_version_is_told(root):
    assert silver.list_versions(root) == []
    assert rows("versions", "list") == []
    with pytest.raises(silver.NoSuchVersion, match="version was 'v9_x', expected one that is built: none is"):
        silver.get_manifest(root, "v9_x")


def test_a_manifest_and_every_parameter_are_shown(lake):
    shown = {(r["file"], r["key"]): r["value"] for r in rows("versions", "show", B)}
    assert shown["manifest.yaml", "name"] == "full_ensemble"
    assert shown["manifest.yaml", f"dates.{DATES[1]}.rows"] == 4
    assert shown["params.yaml", "resolved.theta_mode"] == "atr"
    held = {key for file, key in shown if file == "params.yaml" and key.startswith("resolved.")}
    assert held == {f"resolved.{name}" for name in params.load("atr").values}


def test_an_unknown_key_in_a_manifest_is_refused(lake):
    path = lake / "lake" / "silver" / "features" / A / "manifest.yaml"
    path.write_text(path.read_text() + "owner: ann\n")
    with pytest.raises(BrokenContract, match="unknown key owner"):
        silver.get_manifest(lake, A)


def test_features_are_loaded_by_date_and_column(lake):
    builder = silver.SilverFeatureBuilder(lake)
    assert builder.load_features(A).num_rows == 8
    one = builder.load_features(A, [DATES[1]], ["tape_buy_vol"])
    assert one.column_names == ["session_date", "tape_buy_vol"]
    assert one["tape_buy_vol"].to_pylist() == [1, 2, 3, 4]
    with pytest.raises(silver.NoSuchVersion):
        builder.load_features(A, ["2025-01-01"])


def test_two_versions_are_compared(lake):
    complete(lake, A, roc_auc=0.5)
    complete(lake, A, roc_auc=0.6)
    complete(lake, B, roc_auc=0.75)
    found = silver.SilverFeatureBuilder(lake).compare_versions(A, B)
    assert found["features_added"] == ["tape_velocity"]
    assert found["features_removed"] == ["tape_buy_vol"]
    assert found["features_common"] == ["tape_imbalance", "sweep_detected"]
    assert (found["feature_count_a"], found["feature_count_b"]) == (3, 3)
    assert found["parameters_diff"] == {"theta_mode": {"a": "dollars", "b": "atr"}}
    assert found["null_rate_diff"] == {"tape_imbalance": {"a": 0.25, "b": 0.5}}
    assert found["metric_diff"]["roc_auc"] == {"a": 0.6, "b": 0.75, "difference": pytest.approx(0.15)}
    shown = {(r["what"], r["name"]): (r["a"], r["b"]) for r in rows("versions", "compare", A, B)}
    assert shown["parameters_diff", "theta_mode"] == ("dollars", "atr")
    assert shown["feature_count", None] == (3, 3)
    assert ("features_common", "tape_imbalance") in shown
    assert "features_common" not in run("versions", "compare", A, B)


# -- experiments -----------------------------------------------------------------------------------------------------


def test_an_experiment_is_registered_with_what_its_version_says(lake):
    (row,) = rows("experiments", "register", A, "--notes", "baseline", "--tag", "x", "--tag", "y")
    assert (row["id"], row["status"], row["param_set"]) == ("exp001", "running", "default")
    (second,) = rows("experiments", "register", B, "--parent", "exp001", "--stage", "touch,confirm_120")
    assert (second["id"], second["parent"]) == ("exp002", "exp001")
    entry = experiments.entry_of(lake, "exp001_whatever")
    assert entry["tags"] == ["x", "y"]
    assert entry["build_digest"] == silver.get_manifest(lake, A)["digests"]["build"]
    run("experiments", "register", A, "--id", "exp001", "--status", "failed")
    assert experiments.entry_of(lake, "exp001")["status"] == "failed"
    assert experiments.entry_of(lake, "exp001")["notes"] == "baseline"
    assert [r["id"] for r in rows("experiments", "list")] == ["exp001", "exp002"]
    shown = {r["key"]: r["value"] for r in rows("experiments", "show", "exp002")}
    assert (shown["version"], shown["stage"]) == (B, "touch,confirm_120")


def test_what_can_not_be_registered_is_told(lake):
    told = r"version was 'v9\.0_x', expected one with a manifest"
    with pytest.raises(experiments.ExperimentError, match=told):
        register(lake, "v9.0_x")
    with pytest.raises(experiments.ExperimentError, match="parent was 'exp007', expected one of nothing yet"):
        register(lake, A, parent="exp007")
    with pytest.raises(BrokenContract, match="experiment exp001"):
        register(lake, A, stage="lunch")
    with pytest.raises(BrokenContract, match="experiment exp001"):
        register(lake, A, status="completed")  # without metrics and a model
    assert experiments.read_index(lake) == []
    complete(lake, A)
    with pytest.raises(experiments.ExperimentIsFinal, match="exp001 was completed"):
        register(lake, A, experiment_id="exp001", status="running")
    with pytest.raises(experiments.ExperimentError, match="experiment was 'exp009', expected one of exp001"):
        experiments.entry_of(lake, "exp009")


def test_everything_of_two_stands_side_by_side(lake):
    complete(lake, A, roc_auc=0.5)
    complete(lake, B, roc_auc=0.75)
    by_version = rows("experiments", "compare", A, B)
    by_experiment = rows("experiments", "compare", "exp001", "exp002_of_b")
    assert by_version == by_experiment == comparison.compare(lake, A, B)
    assert list(by_version[0]) == ["what", "name", "stage", "a", "b", "difference"]
    found = {(r["what"], r["name"], r["stage"]): r for r in by_version}
    assert found["features_added", "tape_velocity", None]["b"] == "yes"
    assert found["features_removed", "tape_buy_vol", None]["a"] == "yes"
    assert found["parameter", "theta_mode", None]["b"] == "atr"
    assert found["null_rate", "tape_imbalance", None]["difference"] == 0.25
    assert found["psi", "sweep_detected", None]["difference"] > 0
    assert ("psi", "tape_velocity", None) not in found
    assert (
        found["label_rate", "BREAK", "touch"] | {"difference": 0.5} == found["label_rate", "BREAK", "touch"]
    )
    assert found["label_rate", "tradeable_2", "touch"]["a"] == 0.5
    assert found["label_rate", "tradeable_2", "touch"]["b"] == 1
    assert found["metric", "roc_auc", None]["difference"] == 0.25
    assert found["metric", "brier", "tradeable_2_touch"]["difference"] == 0
    assert {r["what"] for r in by_version} == set(comparison.KINDS)


def test_a_version_without_experiment_or_training_table_is_compared_too(lake):
    put_version(lake, "v1.1_ta_only", {"tape_imbalance": [0.3, 0.3]})
    found = comparison.compare(lake, A, "v1.1_ta_only")
    assert {r["what"] for r in found} == {
        "features_removed",
        "feature_count",
        "null_rate",
        "psi",
        "label_rate",
    }
    assert {r["b"] for r in found if r["what"] == "label_rate"} == {None}
