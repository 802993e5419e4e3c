"""A rollback restores byte for byte what served, whatever today's code would make of it."""

import json
import shutil
from pathlib import Path

import pytest

from ml import placing, promotion, registry
from tests.unit.ml.promoted_worlds import ONE, TWO, promote, tree


@pytest.fixture
def root(two_experiments, tmp_path) -> Path:
    return shutil.copytree(two_experiments, tmp_path / "lake_root")


def test_a_rollback_restores_byte_for_byte_and_is_told(root: Path) -> None:
    promote(root, ONE)
    first = tree(root)
    promote(root, TWO)
    second = tree(root)
    assert second != first
    done = promotion.rollback(root, reason="odd signals")
    assert (done.state, done.dataset_version, done.experiment) == ("rolled_back", 1, ONE)
    assert tree(root) == first
    told = registry.read(root)["history"][-1]
    assert (told["to"], told["reason"]) == ("exp001_tradeable_2_touch", "rollback to 1: odd signals")
    assert promotion.rollback(root, 2).experiment == TWO
    assert tree(root) == second
    runs = [json.loads(p.read_text()) for p in (root / "_meta" / "runs").glob("*.json")]
    assert sorted(r["mode"] for r in runs if r["mode"] != "train") == [
        "promote",
        "promote",
        "rollback",
        "rollback",
    ]


def test_code_that_makes_another_index_today_doesn_t_stop_a_rollback(
    root: Path, judged_already: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(root, ONE)
    first = tree(root)
    monkeypatch.setattr(placing, "_retrieval_index", lambda *_: b"another")
    promote(root, TWO)
    assert (root / placing.RETRIEVAL).read_bytes() == b"another"
    promotion.rollback(root)
    assert tree(root) == first


def test_a_pickle_of_another_release_doesn_t_stop_a_rollback(
    root: Path, judged_already: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What served is kept, and copied: the experiment needn't give its bytes again, nor be there."""
    promote(root, ONE)
    first, told = tree(root), {m["model_id"]: m["production"] for m in registry.read(root)["models"]}
    written = placing.joblib.dump
    monkeypatch.setattr(placing.joblib, "dump", lambda value, file: written({**value, "release": 2}, file))
    promote(root, TWO)
    second = tree(root)
    shutil.move(root / "ml" / "experiments" / ONE, root / "away")
    assert promotion.rollback(root).experiment == ONE
    assert tree(root) == first
    shutil.move(root / "away", root / "ml" / "experiments" / ONE)
    promotion.rollback(root, 2)
    assert tree(root) == second
    # As a challenger and as a champion again it is the file that served, too.
    promote(root, ONE, alias="challenger")
    promote(root, ONE)
    now = {m["model_id"]: m["production"] for m in registry.read(root)["models"]}
    assert {k: now[k] for k in told} == told
    assert {k: v for k, v in tree(root).items() if k in first and "_mechanics" in k} == {
        k: v for k, v in first.items() if "_mechanics" in k
    }


def test_a_kept_model_that_was_altered_is_not_placed(
    root: Path, judged_already: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(root, ONE)
    first = tree(root)
    promote(root, TWO)
    before, serving = registry.read(root), tree(root)
    (kept, *_) = sorted((root / placing.VERSIONS / "v=1" / placing.MODELS).iterdir())
    kept.write_bytes(kept.read_bytes()[:-1])
    remade = placing.production_copy
    monkeypatch.setattr(placing, "production_copy", lambda *asked: remade(*asked) + b"2")
    with pytest.raises(
        registry.AlteredModel, match=f"v=1/models/{kept.name} is missing or not the registered"
    ):
        promotion.rollback(root)
    assert (registry.read(root), tree(root)) == (before, serving)
    # A lake in which none was kept yet: the experiment gives the registered bytes, or nothing is switched.
    monkeypatch.setattr(placing, "production_copy", remade)
    shutil.rmtree(kept.parent)
    promotion.rollback(root)
    assert tree(root) == first


def test_what_can_not_be_placed_is_not_switched_to(root: Path, judged_already: None) -> None:
    promote(root, ONE)
    promote(root, TWO)
    before, serving = registry.read(root), tree(root)
    (root / placing.VERSIONS / "v=1" / placing.INDEX).write_bytes(b"other")
    with pytest.raises(registry.AlteredModel, match="is missing or not the registered one"):
        promotion.rollback(root)
    assert registry.read(root) == before
    assert tree(root) == serving


def test_there_is_nothing_to_roll_back_to(root: Path, judged_already: None) -> None:
    with pytest.raises(promotion.NothingToRollBack, match="no earlier promotion"):
        promotion.rollback(root)
    promote(root)
    with pytest.raises(promotion.NothingToRollBack, match="expected one of 1"):
        promotion.rollback(root, 5)
