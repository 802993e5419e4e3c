"""Entries, exits and costs by hand and against a plain loop; files of several experiments; a walk without leaks."""

import dataclasses
import shutil
from pathlib import Path

import ml_worlds
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import silver_worlds

from lake.commits import read_partitions
from ml import backtest, datasets, experiments, splits, training
from ml.backtest import Trades, priced
from ml.walk import Components, walk
from tests.unit.ml.promoted_worlds import QUICK, contract, landed, trained, world

SECOND_NS = 1_000_000_000
START = 1_000 * SECOND_NS


def row(**changes: object) -> dict:
    usual = {
        "decision": "GO", "p_break": 0.6, "p_bounce": 0.2, "direction": "UP", "theta_2": 2.0,
        "label_start_ns": START, "label_end_ns": START + 480 * SECOND_NS,
    }  # fmt: skip
    return usual | changes


def one(trades: list[tuple[float, int]], level: int = 100, **changes: object) -> dict:
    """One row over trades of (seconds after the label's start, tick), entered half a second late."""
    ts = np.array([START + int(s * SECOND_NS) for s, _ in trades], dtype=np.int64)
    found = priced(
        pa.Table.from_pylist([row(**changes)]),
        Trades(ts, np.array([t for _, t in trades], dtype=np.int64)),
        np.array([level]),
        500,
    )
    return found.to_pylist()[0]


def test_a_break_upwards_is_bought_late_and_sold_at_the_threshold() -> None:
    found = one([(0.0, 100), (0.5, 101), (0.6, 102), (10, 105), (20, 108), (30, 90)])
    assert (found["entry_price"], found["exit_price"]) == (25.5, 27.0)
    assert (found["pnl_points"], found["cost_points"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("direction", "p_break", "sign"), [("UP", 0.6, 1), ("UP", 0.1, -1), ("DOWN", 0.6, -1), ("DOWN", 0.1, 1)]
)
def test_the_side_is_that_of_the_likelier_outcome(direction: str, p_break: float, sign: int) -> None:
    found = one([(1, 100), (2, 108)], direction=direction, p_break=p_break)
    assert found["pnl_points"] == sign * 2.0 - 0.5


def test_the_other_side_of_the_threshold_ends_it_too() -> None:
    assert one([(1, 100), (2, 92), (3, 108)])["pnl_points"] == -2.5


def test_the_end_of_the_window_ends_it() -> None:
    found = one([(1, 100), (2, 103), (479.9, 104), (480, 108)])
    assert found["exit_price"] == 26.0


@pytest.mark.parametrize(
    "trades", [[], [(0.1, 100), (0.5, 100)], [(0.6, 100)], [(0.6, 100), (480, 108)], [(481, 100), (482, 108)]]
)
def test_without_two_trades_nothing_was_done(trades: list) -> None:
    found = one(trades)
    assert (found["entry_price"], found["exit_price"]) == (None, None)
    assert (found["pnl_points"], found["cost_points"]) == (0.0, 0.0)


@pytest.mark.parametrize("decision", ["WAIT", "NO_GO"])
def test_only_go_trades(decision: str) -> None:
    assert one([(1, 100), (2, 108)], decision=decision)["pnl_points"] == 0.0


def test_random_rows_equal_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    ts = np.sort(rng.integers(START, START + 900 * SECOND_NS, 3000))
    tick = 400 + np.cumsum(rng.integers(-1, 2, 3000))
    rows, levels = [], []
    for _ in range(200):
        begin = START + int(rng.integers(0, 500)) * SECOND_NS
        rows.append(
            row(
                decision=str(rng.choice(["GO", "WAIT"])), p_break=float(rng.random()), p_bounce=float(rng.random()),
                direction=str(rng.choice(["UP", "DOWN"])), theta_2=float(rng.integers(1, 20)) / 4,
                label_start_ns=begin, label_end_ns=begin + 480 * SECOND_NS,
            )
        )  # fmt: skip
        levels.append(int(rng.integers(380, 420)))
    found = priced(pa.Table.from_pylist(rows), Trades(ts, tick.astype(np.int64)), np.array(levels), 500)
    traded = 0
    for told, r, level in zip(found.to_pylist(), rows, levels, strict=True):
        inside = [
            (t, p)
            for t, p in zip(ts.tolist(), tick.tolist(), strict=True)
            if r["label_start_ns"] + 500_000_000 < t < r["label_end_ns"]
        ]
        if r["decision"] != "GO" or len(inside) < 2:
            assert told["pnl_points"] == 0.0
            continue
        traded += 1
        out = next((p for _, p in inside[1:] if abs(p - level) >= r["theta_2"] * 4), inside[-1][1])
        buys = (r["p_break"] >= r["p_bounce"]) == (r["direction"] == "UP")
        assert told["pnl_points"] == (1 if buys else -1) * (out - inside[0][1]) / 4 - 0.5
    assert traded > 50


# -- the walk ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> datasets.TrainingTable:
    return datasets.check(world(sessions=22, touches=30), contract())


@pytest.fixture(scope="module")
def walked(table) -> pa.Table:
    return walk(table, training.Config(**QUICK), "touch")


def test_every_test_row_is_said_once_and_adds_up(table, walked) -> None:
    plan = splits.plan(table.sessions)
    tested = {d for fold in plan.folds for d in fold.test} | set(plan.holdout)
    assert set(datasets.session_dates(walked).tolist()) == tested
    assert pc.count_distinct(walked["observation_id"]).as_py() == walked.num_rows
    for prefix in ("", "tree_", "base_", "knn_"):
        total = sum(
            walked[f"{prefix}p_{k}"].to_numpy(zero_copy_only=False) for k in ("break", "bounce", "chop")
        )
        assert np.allclose(total[~np.isnan(total)], 1.0)
    assert set(walked["split"].to_pylist()) == {"oof", "holdout"}


def test_neighbours_are_of_earlier_sessions_only(table, walked) -> None:
    session = dict(
        zip(table.table["event_id"].to_pylist(), datasets.session_dates(table.table).tolist(), strict=True)
    )
    asked = 0
    for mine, found in zip(datasets.session_dates(walked), walked["neighbors"].to_pylist(), strict=True):
        assert all(session[n["event_id"]] < mine for n in found or [])
        asked += len(found or [])
    assert asked > 100


def test_the_future_changes_nothing_that_was_said_before(table, walked) -> None:
    """Labels and features of every later session drawn anew: what was said of the first fold stays."""
    first = splits.plan(table.sessions).folds[0].test[-1]
    other = world(sessions=22, touches=30, seed=9)
    past, future = (
        t.filter(compare(t["session_date"].cast(pa.string()), first))
        for t, compare in ((world(sessions=22, touches=30), pc.less_equal), (other, pc.greater))
    )
    changed = datasets.check(pa.concat_tables([past, future]), contract())
    again = walk(changed, training.Config(**QUICK), "touch")

    def of_first(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.less_equal(rows["session_date"].cast(pa.string()), first))

    assert of_first(again).num_rows > 20
    assert of_first(again).equals(of_first(walked))


def test_without_components_the_trees_stand_alone(table) -> None:
    rows = walk(table, training.Config(**QUICK), "touch", Components(use_knn=False, use_gate=False))
    assert rows["neighbors"].null_count == rows.num_rows
    assert set(rows["gate_bias"].to_pylist()) == {0.0}
    assert set(rows["mix_weight"].to_pylist()) == {1.0}


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    tmp_path = tmp_path_factory.mktemp("built")
    table = world(sessions=22, touches=30)
    landed(tmp_path, table)
    rng = np.random.default_rng(2)
    folder = f"silver/datasets/touches/params={'ab' * 4}"
    for date, partition in _by_date(tmp_path).items():
        events = table.filter(pc.equal(table["session_date"].cast(pa.string()), date))
        ids = pc.unique(events["event_id"].combine_chunks())
        ticks = rng.integers(390, 410, len(ids))
        silver_worlds.commit(tmp_path, folder, date, pa.table({"event_id": ids, "level_tick": ticks}))
        silver_worlds.commit(tmp_path, backtest.FRONT, date, pa.table({"contract": ["ESZ5"]}))
        first = pc.min(events["label_start_ns"]).as_py()
        ts = np.sort(first + rng.integers(0, 8 * 3600 * SECOND_NS, 4000))
        trades = {
            "contract": ["ESZ5", "ESH6"] * 2000,
            "ts_event_ns": ts,
            "tick": 400 + np.cumsum(rng.integers(-1, 2, 4000)),
        }
        silver_worlds.commit(tmp_path, backtest.TRADES, date, pa.table(trades))
        assert partition.commit.rows
    trained(tmp_path, "exp001_first")
    trained(tmp_path, "exp002_second", seed=7)
    return tmp_path


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "root")


def _by_date(root: Path) -> dict:
    return {
        p.commit.date: p for p in read_partitions(root / "lake" / datasets.folder(ml_worlds.VERSION)).values()
    }


def test_files_hold_every_experiment_once(root: Path) -> None:
    assert not backtest.is_current(root, "exp001")
    files = backtest.evaluate(root, "exp001", contract=contract())
    assert backtest.is_current(root, "exp001")
    assert not backtest.is_current(root, "exp002")
    tested = {f.stem.partition("_")[2] for f in files}
    assert tested == set(datasets.session_dates(backtest.read(root)).tolist())
    alone = backtest.read(root)
    assert {"run_id", "model_id", "head_set", "rank", "entry_price", "pnl_points", "neighbors"} <= set(
        alone.column_names
    )
    assert not {"label_start_ns", "label_end_ns", "theta_2"} & set(alone.column_names)
    backtest.evaluate(root, "exp002", contract=contract())
    assert backtest.read(root).num_rows == 2 * alone.num_rows
    backtest.evaluate(root, "exp001", contract=contract())
    both = backtest.read(root)
    assert both.num_rows == 2 * alone.num_rows
    again = backtest.read(root, "exp001")
    assert again.drop_columns(["run_id"]).equals(alone.drop_columns(["run_id"]))
    for file in files:
        dates = {d.isoformat() for d in backtest.pq.read_table(file)["session_date"].to_pylist()}
        assert dates == {file.stem.partition("_")[2]}


def test_an_experiment_of_another_table_is_told(root: Path) -> None:
    ml_worlds.commit_gold(root, world(sessions=22, touches=30, seed=3))
    with pytest.raises(datasets.DatasetError, match="was trained on table"):
        backtest.evaluate(root, "exp001", contract=contract())


def test_an_unknown_experiment_is_told(root: Path) -> None:
    with pytest.raises(experiments.ExperimentError, match="expected one of exp001, exp002"):
        backtest.evaluate(root, "exp009")


def test_no_backtest_is_told(tmp_path: Path) -> None:
    with pytest.raises(experiments.ExperimentError, match="run `tickhouse evaluate`"):
        backtest.read(tmp_path)


def test_components_are_what_they_say() -> None:
    assert [f.name for f in dataclasses.fields(Components)] == ["use_knn", "use_gate"]
