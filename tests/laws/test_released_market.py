"""The market's own versions: physics is shared by versions and computed once for each param set; a released version
stands. What an edit of a file does is in test_released_versions (a small project) and test_released_checkout (long)."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from lake import params, release, verify
from tests.e2e.market import busy_morning
from tests.fixtures.bronze import make_bronze
from tests.fixtures.dbt import Project, repository_project

VERSION = "v1.0_mechanics_only"
FEATURES, TRAINING = f"lake/silver/features/{VERSION}", f"lake/gold/training/candidates/{VERSION}"
DAYS = busy_morning(1)[-2:]
BEFORE, DAY = DAYS
V1_0 = ("+touch_features.v1_0", "+train_signals.v1_0")
LATE_FROM_NS = DAY.session["rth_open_ns"] + 20 * 60_000_000_000


@pytest.fixture(scope="module")
def project() -> Project:
    return repository_project()


@pytest.fixture(scope="module")
def built(project, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("market")
    make_bronze(root, [day.delivery() for day in DAYS])
    built = project.built(root, *V1_0)
    assert built["touch_features_v1_0"] == built["observation_features"] == built["labels"] == 2
    release.release(root, VERSION, project.graph(), project.macros())
    return root


@pytest.fixture
def lake(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "lake"))


def files(root: Path) -> dict[str, bytes]:
    places = (root / FEATURES, root / TRAINING)
    return {
        str(p): p.read_bytes()
        for place in places
        for p in place.rglob("*")
        if p.name == "data.parquet" or p.name.startswith("commit-")
    }


def params_with(folder: Path, **changes: object) -> Path:
    """The repository's sets; ``fast`` beside them, if changes name none in the default set."""
    shutil.copytree(params.PARAMS_DIR, folder)
    default = folder / "default.yaml"
    for name, value in changes.items():
        text, count = re.subn(rf"(?m)^{name}: \S+", f"{name}: {value}", default.read_text())
        assert count == 1
        default.write_text(text)
    return folder


def refused(project: Project, root: Path, *args: str, **variables: str) -> str:
    before = files(root)
    outcome = project.run(root, "run", "--select", *V1_0, *args, **variables)
    assert not outcome.ok
    assert [n for n, s in outcome.statuses.items() if s == "error"] == ["touch_features_v1_0"]
    assert files(root) == before
    return " ".join(outcome.messages["touch_features_v1_0"].split())


def test_a_second_version_on_the_same_params_computes_no_physics(project, lake, monkeypatch, tmp_path):
    assert project.built(lake, "+touch_features.v1_1") == {"touch_features_v1_1": 2}
    # A set of its own is computed once, whatever number of versions name it.
    folder = params_with(tmp_path / "params")
    (folder / "fast.yaml").write_text("extends: default\nW_b: 120\n")
    monkeypatch.setenv("TICKHOUSE_PARAMS_DIR", str(folder))
    fast = {"param_set": "fast"}
    first = project.built(lake, "+touch_features.v1_1", **fast)
    assert first["touch_features_v1_1"] == first["observation_features"] == first["feat_touch_barrier"] == 2
    assert not {"stg_futures__trades", "ohlcv", "dim_front_month", "touch_features_v1_0"} & first.keys()
    assert project.built(lake, "+touch_features.v2_0", **fast) == {"touch_features_v2_0": 2}
    resolved = yaml.safe_load((lake / "lake/silver/features/v2.0_full_ensemble/params.yaml").read_text())
    assert resolved["param_set"] == "fast"
    assert resolved["resolved"] == params.load("default").values | {"W_b": 120}
    # Back to the old set: nothing of its physics is due.
    assert project.built(lake, "+touch_features.v1_1") == {"touch_features_v1_1": 2}


def test_a_parameter_that_is_edited_is_refused(project, lake, monkeypatch, tmp_path):
    monkeypatch.setenv("TICKHOUSE_PARAMS_DIR", str(params_with(tmp_path / "params", W_b=120)))
    told = refused(project, lake)
    assert (
        f"E_RELEASED_CHANGED: {VERSION}, {BEFORE.date} is released and a rebuild differs in params (W_b 240 → 120)"
        in told
    )
    assert "first differing columns:" in told
    assert "params_digest" in told


@pytest.mark.long
def test_another_set_for_the_invocation_is_refused(project, lake):
    told = refused(project, lake, param_set="atr")
    assert 'params (--vars param_set: atr; theta_mode "dollars" → "atr")' in told


@pytest.mark.long
def test_a_full_refresh_of_what_is_equal_does_nothing(project, lake):
    before = files(lake)
    outcome = project.run(lake, "run", "--full-refresh", "--select", *V1_0)
    assert outcome.ok, outcome
    assert outcome.messages["touch_features_v1_0"] == outcome.messages["train_signals_v1_0"] == "0 of 2 dates"
    assert outcome.dates()["observation_features"] == 2
    assert files(lake) == before


def test_late_bronze_is_told_and_changes_nothing(project, lake):
    before = files(lake)
    again = DAY.hour_again(LATE_FROM_NS, "an hour again")
    rows = [{**row, "size": row["size"] + 7} for row in again.rows["trades"]]
    make_bronze(lake, [type(again)("late", {"trades": rows}, source="databento_dbn")])
    outcome = project.run(lake, "run", "--select", *V1_0)
    assert outcome.ok, outcome
    told = outcome.messages["touch_features_v1_0"]
    assert told.startswith(
        f"0 of 2 dates; E_INPUT_CHANGED: {VERSION}, {DAY.date} is released and what it was made from"
    )
    assert "bronze/futures_trades/" in told
    assert files(lake) == before


def test_it_is_verified(project, built, tmp_path):
    before = files(built)
    report = verify.verify(built, VERSION, scratch=tmp_path / "scratch", threads=2)
    assert report.is_equal
    assert (report.code, report.bronze, report.engines) == ([], [], [])
    names = {row.dataset for row in report.rows}
    assert {"silver/datasets/book_tape", "silver/datasets/physics", "silver/datasets/labels"} < names
    assert {r.date for r in report.rows if r.dataset == f"silver/features/{VERSION}"} == {
        BEFORE.date,
        DAY.date,
    }
    assert files(built) == before
