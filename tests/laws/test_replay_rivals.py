"""The fold that the benchmark times in Polars and pandas is the fold: over worlds of every oddity each execution and
column is equal to ours (`benchmarks.rivals.replay_columns`). Else their seconds could not be compared with ours."""

import importlib

import pytest

from benchmarks.rivals import replay_columns
from tests.e2e.execution import ExecutionPipeline
from tests.oracle import replay_worlds

SEEDS = [*range(4), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 40))]


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def written(pipeline, rows, folder):
    """Staged events of these rows, a file a date, and our executions; the paths of both."""
    pipeline.land(events=rows)
    pipeline.build("int_stop_executions__folded")
    staged = folder / "lake" / "silver" / "stg_execution__stop_events"
    staged.mkdir(parents=True)
    pipeline.con.execute(
        f"copy (from silver.stg_execution__stop_events order by client_id, execution_token, event_id) to '{staged}' "
        "(format parquet, partition_by (date))"
    )
    ours = folder / "ours.parquet"
    listed = ", ".join(replay_columns.GIVES)
    pipeline.con.execute(
        f"copy (select {listed} from silver.int_stop_executions__folded order by client_id, execution_token) "
        f"to '{ours}'"
    )
    return replay_columns.staged(folder), ours


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_rival_folds_as_ours_does(pipeline, tmp_path, name, seed):
    pytest.importorskip(
        name, reason=f"{name} comes with `make bench`, which holds the same over its own world"
    )
    rival = importlib.import_module(f"benchmarks.rivals.replay_with_{name}")
    files, ours = written(pipeline, replay_worlds.world(seed, 60), tmp_path)
    assert len(files) > 1
    rival.main(files, tmp_path / "theirs.parquet")
    assert replay_columns.differences(ours, tmp_path / "theirs.parquet") == {}


def test_a_difference_is_seen(pipeline, tmp_path):
    _, ours = written(pipeline, replay_worlds.world(1, 60), tmp_path)
    other = tmp_path / "other.parquet"
    pipeline.con.execute(
        f"copy (select * replace (case when status = 'EXECUTED' then fill_price + 0.00000001 else fill_price end as "
        f"fill_price) from '{ours}' where status != 'PENDING') to '{other}'"
    )
    assert replay_columns.differences(ours, other).keys() == {"rows", "fill_price"}
