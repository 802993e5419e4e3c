"""A lake with nothing but a gold training table, and a configuration that trains in a second."""

import ml_worlds
import pytest

from ml import training


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
