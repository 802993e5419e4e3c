"""A lake with nothing but a gold training table, and a configuration that trains in a second."""

from pathlib import Path

import ml_worlds
import pytest

from ml import experiments, gates, judging, training
from tests.unit.ml import promoted_worlds


@pytest.fixture
def quick():
    """Few rounds and draws; everything else as it is in earnest."""
    return training.Config(max_rounds=12, stopping_rounds=5, bootstrap_draws=50)


@pytest.fixture(scope="session")
def contract():
    return ml_worlds.contract()


@pytest.fixture(scope="session")
def small():
    """16 sessions, 4 folds, no holdout: the smallest that trains every head."""
    return ml_worlds.gold(sessions=16, touches=25, planted=True)


@pytest.fixture
def root(tmp_path, small):
    ml_worlds.commit_gold(tmp_path, small)
    return tmp_path


@pytest.fixture(scope="session")
def two_experiments(tmp_path_factory) -> Path:
    """Two trained experiments over one table; nothing promoted yet."""
    root = tmp_path_factory.mktemp("built")
    promoted_worlds.landed(root, promoted_worlds.world())
    promoted_worlds.trained(root, promoted_worlds.ONE)
    promoted_worlds.trained(root, promoted_worlds.TWO, seed=7)
    return root


@pytest.fixture
def judged_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging writes nothing and takes seconds: here it says yes at once."""

    def yes(root: Path, entry: dict, stored: experiments.Stored, *_: object) -> tuple:
        gate = gates.Gate("released", "released", "")
        return [gate], judging._table(root, promoted_worlds.VERSION), None

    monkeypatch.setattr(judging, "judge", yes)
