"""Models of training sets on the page: figures beside baselines, no equity, and no verdict from too few days."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import evaluate as command
from lake import training_sets
from ml.report import page, serving, set_facts, set_page
from ml.training_sets import evaluation, train
from tests.unit.ml.test_report import Reader
from tests.unit.ml.test_training_sets_train import lake, trained  # noqa: F401 (fixtures)


@pytest.fixture(scope="module")
def root(trained) -> Path:  # noqa: F811
    return trained[0]


@pytest.fixture(scope="module")
def found(root: Path) -> list[set_facts.SetModel]:
    return set_facts.gather(root)


def test_every_part_is_there_and_no_equity(found) -> None:
    text = page.page([], found)
    assert {m.title for m in found} == {"slippage_prediction v1.0.0", "stop_outcome v1.0.0"}
    for part in (
        "Models of training sets", "saves of each baseline", "Reliability of execution_success",
        "Reliability of the quantiles of", "Contributions to execution_success", "Share of NULL",
        "Distribution of execution_success", "Drift from train to test",
    ):  # fmt: skip
        assert part in text, part
    assert "Points earned" not in text
    assert "below the peak" not in text
    reader = Reader()
    reader.feed(text)
    assert reader.addresses == []
    assert reader.open == []
    assert not re.search(r"https?:|@import|url\(|<script", text)


def test_figures_are_those_of_training(root: Path, found) -> None:
    for model in found:
        told = json.loads((train.folder(root, model.name, model.version) / train.METRICS_FILE).read_text())
        for target in model.targets:
            scored = told["scores"][target.name]
            by_name = {(s.loss, s.predictor): s for s in target.scores}
            if isinstance(scored, list):
                for row in scored:
                    rival = by_name[row["loss"], "symbol_median"]
                    assert rival.value == row["mean"]["symbol_median"]
                    assert [rival.low, rival.high] == row["less"]["symbol_median"]["interval"]
                assert [q for q, _ in target.reached] == [*evaluation.ALPHAS]
                assert all(0 < share < 1 for _, share in target.reached)
            else:
                rival = by_name["brier", "logistic"]
                assert [rival.low, rival.high] == scored["intervals"]["brier_skill"]["logistic"]
                assert rival.value == scored["logistic"]["brier"]
                assert sum(b["n"] for b in target.bins) == model.rows_test
                assert [sum(v) for _, v in target.labels] == [pytest.approx(1)] * 2
            assert target.verdict in page.page([], found).replace("&#x27;", "'")


def test_too_few_days_stand_in_place_of_a_verdict(root: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(root, tmp_path / "root"))
    place = train.folder(copied, "stop_outcome", "v1.0.0") / train.METRICS_FILE
    told = json.loads(place.read_text())
    told["rows"]["test_days"] = 3
    place.write_text(json.dumps(told))
    (model,) = set_facts.gather(copied, ["stop_outcome"])
    assert {t.verdict for t in model.targets} == {evaluation.claim(3)}


def test_an_altered_model_is_not_shown(root: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(root, tmp_path / "root"))
    with (train.folder(copied, "stop_outcome", "v1.0.0") / train.MODEL_FILE).open("a") as file:
        file.write(" ")
    with pytest.raises(train.AlteredModel, match="train it again"):
        set_facts.gather(copied)


def test_without_a_model_there_is_no_section() -> None:
    assert set_page.sections([]) == ""


def test_the_command_shows_sets_without_any_experiment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_ROOT", str(root))
    done = CliRunner().invoke(command.app, ["--json"])
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {r["experiment"] for r in rows} == {f"{name} v1.0.0" for name in training_sets.SETS}
    assert "Models of training sets" in (root / page.PLACE).read_text()
    one = CliRunner().invoke(command.app, ["stop_outcome", "--json"])
    assert {r["experiment"] for r in json.loads(one.stdout)} == {"stop_outcome v1.0.0"}


def test_champion_and_challenger_stand_side_by_side(tmp_path: Path) -> None:
    comparison = {"against": "exp001_direction_touch", "told": "brier +0.1, log_loss +0.2"}

    def model(experiment: str, head: str, compared: dict | None) -> dict:
        return {
            "model_id": f"{experiment[:6]}_{head}_touch", "experiment_id": experiment, "stage": "touch",
            "comparison": compared, "components": {"use_knn": head == "direction", "use_gate": False},
        }  # fmt: skip

    now = {
        "models": [model("exp001_a", "direction", None), model("exp002_b", "strength", comparison)],
        "aliases": {
            "champion": {"direction_touch": "exp001_direction_touch"},
            "challenger": {"strength_touch": "exp002_strength_touch"},
        },
        "history": [{"alias": "champion/direction_touch", "at": "2026-01-02T00:00:00Z"}],
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serving.registry, "read", lambda _: now)
        champion, challenger = serving.gather(tmp_path)
        assert (champion.experiment, champion.since[:10], champion.compared) == ("exp001_a", "2026-01-02", "")
        assert champion.components == "trees with neighbours at touch"
        assert challenger.compared == "exp001_direction_touch: brier +0.1, log_loss +0.2"
        assert not challenger.is_stale
        comparison["against"] = "exp009_direction_touch"
        text = serving.section(serving.gather(tmp_path))
    assert "promote it as challenger again" in text
    assert text.count("<tr>") == 3
    assert serving.section([]) == ""
