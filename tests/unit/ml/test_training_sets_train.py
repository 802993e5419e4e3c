"""Training on a published version: the planted effect is found, chance isn't, and files say which data they are of."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli import train as command
from cli import training_sets as sets_command
from lake import contracts, training_sets
from lake.paths import PROJECT_DIR
from lake.training_sets import NoSuchSet
from ml.training_sets import evaluation, inputs, train
from ml.training_sets.publish import publish
from ml.training_sets.train import AlteredModel, Config, NotTrainable
from tests.fixtures import training_candidates as kit

QUICK = Config(max_rounds=40, stopping_rounds=8, bootstrap_draws=100)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sets over 60 days, published; nobody trains here."""
    root = tmp_path_factory.mktemp("sets")
    for name in training_sets.SETS:
        kit.commit(root, name, kit.rows(name, days=60, per_day=16))
        publish(root, name, data_through=kit.THROUGH)
    return root


@pytest.fixture(scope="module")
def trained(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, train.Report]]:
    root = Path(shutil.copytree(lake, tmp_path_factory.mktemp("trained") / "lake_root"))
    return root, {name: train.train(root, name, config=QUICK) for name in training_sets.SETS}


@pytest.fixture
def root(trained: tuple[Path, dict], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "lake_root"))


def test_the_planted_effect_of_stop_outcome_is_found(trained):
    told = trained[1]["stop_outcome"].metrics
    scored = told["scores"]["execution_success"]
    assert scored["days"] >= evaluation.MIN_DAYS_FOR_A_CLAIM
    assert scored["intervals"]["brier_skill"]["base_rate"][0] > 0
    assert scored["intervals"]["brier_skill"]["symbol_hour_rate"][0] > 0
    assert scored["model"]["log_loss"] < scored["base_rate"]["log_loss"]
    assert scored["intervals"]["roc_auc"][0] > 0.5
    assert scored["deflated"]["against"] == "base_rate"
    assert scored["deflated"]["probability"] > 0.99
    top = [c["feature"] for c in told["contributions"]["execution_success"][:2]]
    assert set(top) == {"volatility_15m", "consecutive_failures_1h"}
    assert told["walk_forward"]["execution_success"]["n"] > 0
    # The outcomes are drawn from a logistic function: a line in the log odds is hard to beat, and the report says so.
    assert any("logistic" in line for line in trained[1]["stop_outcome"].remarks())


def test_slippage_is_judged_against_both_medians(trained):
    for target, rows in trained[1]["slippage_prediction"].metrics["scores"].items():
        assert [r["loss"] for r in rows] == ["mae", "pinball_0.5", "pinball_0.9"]
        for row in rows:
            assert set(row["mean"]) == {"model", "train_median", "symbol_median", "train_quantile"}
            for against in ("train_median", "symbol_median", "train_quantile"):
                assert row["less"][against]["interval"][0] > 0, (target, row["loss"], against)


def test_no_skill_is_found_where_there_is_none(tmp_path):
    rows = kit.rows("stop_outcome", days=60, per_day=16)
    shuffled = np.random.default_rng(5).permutation(len(rows))
    labels = [rows[i]["label"] for i in shuffled]
    for row, label in zip(rows, labels, strict=True):
        row["label"] = label
    kit.commit(tmp_path, "stop_outcome", rows)
    publish(tmp_path, "stop_outcome", data_through=kit.THROUGH)
    report = train.train(tmp_path, "stop_outcome", config=QUICK)
    scored = report.metrics["scores"]["execution_success"]
    low, high = scored["intervals"]["roc_auc"]
    assert low <= 0.5 <= high
    assert scored["intervals"]["brier_skill"]["base_rate"][0] <= 0
    assert any(
        "not shown to be better than base_rate" in line or "worse than base_rate" in line
        for line in report.remarks()
    )


def test_equal_samples_give_equal_files_at_any_number_of_threads(trained, root):
    for name in training_sets.SETS:
        folder = train.folder(root, name, "v1.0.0")
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        train.train(root, name, config=QUICK, num_threads=2)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
        assert set(before) == {"model.json", "metrics.json", "dataset_hash"}
        told = json.loads(before["metrics.json"])
        contracts.check(told, "training_set_metrics", "metrics.json")
        contracts.check(json.loads(before["model.json"]), "training_set_model", "model.json")
        assert before["dataset_hash"].decode().strip() == told["dataset_hash"]
        assert told["dataset_hash"] == training_sets.version(root, name).record["dataset_hash"]


def test_what_is_stored_predicts_what_was_scored(trained):
    root, reports = trained
    test = inputs.read(training_sets.version(root, "stop_outcome"), "test")
    p = train.predict(train.load(root, "stop_outcome", "v1.0.0"), "execution_success", test.features)
    scored = reports["stop_outcome"].metrics["scores"]["execution_success"]
    assert np.mean((p - test.target("execution_success")) ** 2) == pytest.approx(
        scored["calibrated"]["brier"], abs=1e-12
    )
    test = inputs.read(training_sets.version(root, "slippage_prediction"), "test")
    q = train.predict(train.load(root, "slippage_prediction", "v1.0.0"), "slippage_pct_0.9", test.features)
    rows = reports["slippage_prediction"].metrics["scores"]["slippage_pct"]
    loss = evaluation.pinball(test.target("slippage_pct"), q, 0.9).mean()
    assert loss == pytest.approx(rows[2]["mean"]["model"], abs=1e-12)


def test_a_changed_byte_is_refused(root):
    path = train.folder(root, "stop_outcome", "v1.0.0") / "model.json"
    path.write_bytes(path.read_bytes().replace(b"num_leaves", b"num_leavez", 1))
    with pytest.raises(AlteredModel, match=r"sha256.*expected.*train it again"):
        train.load(root, "stop_outcome", "v1.0.0")
    with pytest.raises(AlteredModel, match=r"no metrics.json"):
        train.load(root, "stop_outcome", "v1.0.1")


def test_too_little_to_train_on(tmp_path):
    with pytest.raises(NoSuchSet, match="none is"):
        train.train(tmp_path, "stop_outcome")
    for name in training_sets.SETS:
        kit.commit(tmp_path, name, kit.rows(name, days=6, per_day=5))
        publish(tmp_path, name, data_through=kit.THROUGH)
        with pytest.raises(NotTrainable, match=r"expected at least \d+; publish more dates"):
            train.train(tmp_path, name)
        assert not train.folder(tmp_path, name, "v1.0.0").exists()


def test_categories_come_from_train_and_unknown_values_are_missing():
    features = pa.table({"side": ["SELL", None, "BUY", "SELL"], "x": [1.0, None, 2.0, 3.0]})
    dictionaries = inputs.categories(features)
    assert dictionaries == {"side": ["BUY", "SELL"]}
    other = pa.table({"side": ["BUY", "HOLD", None], "x": [None, 1.0, 2.0]})
    encoded = inputs.encode(other, ["x", "side"], dictionaries)
    assert encoded.to_pydict() == {"x": [None, 1.0, 2.0], "side": [0, None, None]}


def test_pinball_by_hand():
    y, q = np.array([1.0, 3.0]), np.array([2.0, 2.0])
    assert evaluation.pinball(y, q, 0.9).tolist() == pytest.approx([0.1, 0.9])
    assert evaluation.pinball(y, q, 0.5).tolist() == [0.5, 0.5]


# -- commands --------------------------------------------------------------------------------------------------------


def test_the_commands(lake, tmp_path):
    root = Path(shutil.copytree(lake, tmp_path / "lake_root"))
    runner = CliRunner()
    found = runner.invoke(sets_command.app, ["list", "--root", str(root), "--json"])
    assert [(r["set"], r["version"]) for r in json.loads(found.stdout)] == [
        (n, "v1.0.0") for n in training_sets.SETS
    ]
    shown = runner.invoke(sets_command.app, ["show", "stop_outcome", "--root", str(root)])
    assert "split.policy" in shown.stdout
    assert runner.invoke(sets_command.app, ["verify", "stop_outcome", "--root", str(root)]).exit_code == 0
    dry = runner.invoke(command.app, ["stop_outcome", "--dry-run", "--root", str(root), "--json"])
    assert json.loads(dry.stdout)[0]["version"] == "v1.0.0"
    assert not (root / "lake" / "gold" / "models").exists()
    done = runner.invoke(
        command.app, ["stop_outcome", "--version", "v1.0.0", "--tries", "20", "--root", str(root)]
    )
    assert done.exit_code == 0, done.output
    assert {"roc_auc", "brier", "log_loss"} <= set(done.stdout.split())
    assert {"model", "base_rate", "logistic", "majority"} <= set(done.stdout.split())
    told = json.loads((train.folder(root, "stop_outcome", "v1.0.0") / "metrics.json").read_text())
    left = told["scores"]["execution_success"]["deflated"]
    assert left["tries"] == 20
    assert left["deflated"] < left["score"]
    part = training_sets.version(root, "stop_outcome").files("test")[0]
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-1] + b"\0")
    bad = runner.invoke(sets_command.app, ["verify", "stop_outcome", "--root", str(root)])
    assert bad.exit_code == 1
    assert "1 of" in bad.stderr


def test_the_source_documents_script_runs(trained, monkeypatch, capsys):
    root, reports = trained
    monkeypatch.setenv("LAKE_ROOT", str(root))
    runpy.run_path(str(PROJECT_DIR / "analyses" / "train_stop_outcome.py"))
    told = dict(
        line.split("  ", 1)[0].split(" ", 1)
        for line in capsys.readouterr().out.splitlines()
        if "hash" in line
    )
    assert told["dataset_hash"] == reports["stop_outcome"].metrics["dataset_hash"]
    saved = train.folder(root, "stop_outcome", "v1.0.0") / "sample.txt"
    assert saved.is_file()
    saved.unlink()
