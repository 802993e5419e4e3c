"""A lake with nothing but a gold training table, and a configuration that trains in a second."""

import itertools

import ml_worlds
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lake.commits import Commit, publish
from lake.digest import file_digest
from ml import datasets, training

_runs = itertools.count()


def commit_gold(root, table):
    """Commit ``table`` as the gold training table of v1.0, one partition for each session."""
    dataset = root / "lake" / datasets.folder(ml_worlds.VERSION)
    stage = root / "lake" / "_stage"
    stage.mkdir(parents=True, exist_ok=True)
    for day in sorted(set(datasets.session_dates(table).tolist())):
        rows = table.filter(pc.equal(table["session_date"].cast(pa.string()), day)).drop_columns(
            ["session_date"]
        )
        staged = stage / f"{next(_runs)}.parquet"
        pq.write_table(rows, staged)
        digest = file_digest(staged)
        folder = dataset / f"date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        publish(
            staged,
            folder,
            Commit(
                dataset="train_signals", date=day, params_digest=None, rows=rows.num_rows, bytes=0,
                content_digest=digest, build_key=digest, code_digest="", inputs={}, input_digest="",
                build_digest=None, built_at="2025-12-24T00:00:00Z", run_id="test",
            ),
        )  # fmt: skip


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
    commit_gold(tmp_path, small)
    return tmp_path
