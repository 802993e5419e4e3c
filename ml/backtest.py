"""What the decisions would have earned: entered late, left at the threshold or the end of the window, costs paid.

One file for each test session, ``lake/gold/evaluation/backtest_<date>.parquet``: out-of-fold rows of every evaluated
experiment, each by the model that would have been live. Source: spec/market.md 13.2.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from numba import njit

from lake import atomic, params, runs
from lake import datasets as lake_datasets
from lake.commits import now_utc
from lake.paths import stage_dir
from ml import datasets, ensemble, experiments, training
from ml.walk import BOTH, Components, walk

FOLDER = "lake/gold/evaluation"
TRADES, FRONT, TOUCHES = (
    f"silver/datasets/{name}" for name in ("stg_futures__trades", "dim_front_month", "touches")
)
TICK_POINTS = 0.25
COST_TICKS = 2  # one on each side
LOCK_TIMEOUT_S = 600
MS_NS = 1_000_000
CODE = ("backtest.py", "walk.py", "ensemble.py", "retrieval.py", "calibration.py", "fitting.py", "heads.py")
"""Everything that enters a backtest beside the experiment itself."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trades:
    """Trades of the front contract of one session in total order, (n,) each: ns UTC, ticks."""

    ts_ns: np.ndarray
    tick: np.ndarray


def evaluate(
    root: Path,
    experiment: str,
    *,
    components: Components = BOTH,
    contract: datasets.Contract | None = None,
    num_threads: int = 1,
    on_progress: Progress = lambda what, done, total: None,
) -> list[Path]:
    """Backtest a completed experiment and put its rows into the file of each of its test sessions; returns the files.

    Rows of the same experiment that stood there are replaced, those of others stay. Raises ExperimentError for an
    experiment without files, DatasetError when its table isn't the one that it was trained on any more.
    """
    entry = experiments.entry_of(root, experiment)
    stored = experiments.stored_of(root, entry["id"])
    if stored is None:
        raise experiments.ExperimentError(
            f"experiment {experiment} has no whole set of files, expected {', '.join(experiments.FILES)}; train it"
        )
    inputs = stored.config["inputs"]
    version = inputs["silver_version"]
    if (now := datasets.digest(root, version)) != inputs["dataset_digest"]:
        raise datasets.DatasetError(
            f"{stored.path.name} was trained on table {inputs['dataset_digest'][:12]}, {version} is {now[:12]} now; "
            "train it again under a new name"
        )
    table = datasets.load(root, version, contract or datasets.load_contract(version))
    config = training.Config.from_dict(inputs["training"])
    run_id, started_at = runs.new_run_id("evaluate"), now_utc()
    parts = []
    for stage in config.stages:
        rows = walk(
            table,
            config,
            stage,
            components,
            num_threads=num_threads,
            on_fold=lambda done, total, stage=stage: on_progress(stage, done, total),
        )
        parts.append(_with_names(rows, stored.path.name, stage, run_id))
    rows = pa.concat_tables(parts)
    param_set = params.load(stored.config["param_set"] or "default")
    rows = pa.concat_tables(
        [part for _, part in _priced(root, rows, param_set, stored.config["params_digest"])]
    )
    _mark_path(root, stored).unlink(missing_ok=True)
    files = _publish(root, rows, experiments.parse_name(stored.path.name))
    atomic.write_text(_mark_path(root, stored), _mark(stored))
    runs.write_run(
        root,
        run_id,
        config={"command": "evaluate", "experiment": stored.path.name},
        counts={"rows": rows.num_rows, "files": len(files)},
        status="ok",
        started_at=started_at,
    )
    return files


def is_current(root: Path, experiment: str) -> bool:
    """Whether a completed experiment was backtested since it was trained last, and with the code of now."""
    stored = experiments.stored_of(root, experiments.entry_of(root, experiment)["id"])
    mark = _mark_path(root, stored) if stored else None
    return mark is not None and mark.is_file() and mark.read_text() == _mark(stored)


def read(root: Path, experiment: str | None = None) -> pa.Table:
    """All backtest rows, or those of one experiment by its id, in order of session, instant and model."""
    tables = []
    for file in sorted((root / FOLDER).glob("backtest_*.parquet")):
        table = pq.ParquetFile(file).read()
        if experiment is not None:
            table = table.filter(_is_of(table, experiment))
        tables.append(table)
    if not tables:
        raise experiments.ExperimentError(
            f"{FOLDER} held no backtest, expected one file a test session; run `tickhouse evaluate` on an experiment"
        )
    return pa.concat_tables(tables)


def _mark(stored: experiments.Stored) -> str:
    """What a backtest follows from: the experiment's model, and the code of the walk."""
    code = "".join(atomic.sha256_file(Path(__file__).with_name(name)) for name in CODE)
    return hashlib.sha256((stored.metrics["artifact"]["sha256"] + code).encode()).hexdigest() + "\n"


def _mark_path(root: Path, stored: experiments.Stored) -> Path:
    return root / FOLDER / f"._made-{experiments.parse_name(stored.path.name)}"


def _with_names(rows: pa.Table, experiment: str, stage: str, run_id: str) -> pa.Table:
    """Who said it, in which run, and the rank within its session and head set."""
    n = rows.num_rows
    fold = rows["fold"].to_pylist()
    ranks = ensemble.ranks(
        datasets.session_dates(rows),
        rows["utility_score"].to_numpy(),
        np.array(rows["observation_id"].to_pylist()),
    )
    exp_id = experiments.parse_name(experiment)
    models = [f"{exp_id}_{stage}_{f'fold{f}' if f else 'final'}" for f in fold]
    at = rows.column_names.index("fold")
    for name, values in (
        ("head_set", pa.array([stage] * n, pa.string())),
        ("model_id", pa.array(models, pa.string())),
        ("run_id", pa.array([run_id] * n, pa.string())),
    ):
        rows = rows.add_column(at, name, values)
    return rows.add_column(rows.column_names.index("utility_score"), "rank", pa.array(ranks, pa.int64()))


# -- trades ------------------------------------------------------------------------------------------------------------


def _priced(
    root: Path, rows: pa.Table, param_set: params.ParamSet, params_digest: str
) -> Iterator[tuple[str, pa.Table]]:
    """Session by session the rows with what they would have earned; one session's trades are in memory."""
    dates = datasets.session_dates(rows)
    for date in sorted(set(dates.tolist())):
        part = rows.filter(pa.array(dates == date))
        touches = lake_datasets.read(root, TOUCHES, ["event_id", "level_tick"], [date], params_digest)
        place = pc.index_in(part["event_id"].combine_chunks(), value_set=touches["event_id"].combine_chunks())
        level_tick = touches["level_tick"].combine_chunks().take(place).to_numpy(zero_copy_only=False)
        yield date, priced(part, front_trades(root, date), level_tick, param_set.values["LATENESS_BUFFER_MS"])


def front_trades(root: Path, date: str) -> Trades:
    """Trades of the contract that the session's features are about."""
    front = lake_datasets.read(root, FRONT, ["contract"], [date])["contract"][0].as_py()
    trades = lake_datasets.read(root, TRADES, ["contract", "ts_event_ns", "tick"], [date])
    trades = trades.filter(pc.equal(trades["contract"], front))
    return Trades(trades["ts_event_ns"].to_numpy(), trades["tick"].to_numpy().astype(np.int64))


def priced(rows: pa.Table, trades: Trades, level_tick: np.ndarray, lateness_ms: int) -> pa.Table:
    """``rows`` with entry_price, exit_price, pnl_points and cost_points; without a trade NULL prices and amounts of 0.

    ``level_tick``: (rows,) ticks. Entered at the first trade later than label_start + ``lateness_ms``: the touching
    trade itself can't be had. Left at the first later trade at or beyond θ2 from the level, to either side, else at the
    last one of the window. The side is that of the likelier of break and bounce.
    """
    is_go = np.array(rows["decision"].to_pylist()) == "GO"
    breaks = rows["p_break"].to_numpy() >= rows["p_bounce"].to_numpy()
    is_up = np.array(rows["direction"].to_pylist()) == "UP"
    side = np.where(breaks == is_up, 1, -1).astype(np.int64)
    theta = np.floor(rows["theta_2"].to_numpy() / TICK_POINTS + 0.5).astype(np.int64)
    entry, exit_ = _fills(
        trades.ts_ns,
        trades.tick,
        is_go,
        rows["label_start_ns"].to_numpy() + lateness_ms * MS_NS,
        rows["label_end_ns"].to_numpy(),
        np.asarray(level_tick, dtype=np.int64),
        theta,
    )
    traded = entry >= 0
    entry_tick, exit_tick = (
        trades.tick[np.where(traded, at, 0)] if len(trades.tick) else at for at in (entry, exit_)
    )
    cost = np.where(traded, COST_TICKS * TICK_POINTS, 0.0)
    pnl = np.where(traded, side * (exit_tick - entry_tick) * TICK_POINTS - cost, 0.0)
    for name, values in (
        ("entry_price", pa.array(entry_tick * TICK_POINTS, mask=~traded)),
        ("exit_price", pa.array(exit_tick * TICK_POINTS, mask=~traded)),
        ("pnl_points", pa.array(pnl)),
        ("cost_points", pa.array(cost)),
    ):
        rows = rows.append_column(name, values)
    return rows.drop_columns(["label_start_ns", "label_end_ns", "theta_2"])


@njit(cache=True)
def _fills(ts, tick, wanted, start, end, level, theta):
    """Places of the entry and the exit trade of each row, −1 where there is none."""
    entries = np.full(wanted.size, -1, dtype=np.int64)
    exits = np.full(wanted.size, -1, dtype=np.int64)
    for row in range(wanted.size):
        if not wanted[row]:
            continue
        at = np.searchsorted(ts, start[row], side="right")
        last = np.searchsorted(ts, end[row], side="left") - 1
        if at >= last:  # an exit takes another trade than the entry
            continue
        entries[row] = at
        exits[row] = last
        for i in range(at + 1, last + 1):
            if abs(tick[i] - level[row]) >= theta[row]:
                exits[row] = i
                break
    return entries, exits


# -- files -------------------------------------------------------------------------------------------------------------


def _publish(root: Path, rows: pa.Table, exp_id: str) -> list[Path]:
    folder = root / FOLDER
    atomic.make_dirs(folder)
    atomic.make_dirs(stage_dir(root))
    dates = datasets.session_dates(rows)
    files = []
    with FileLock(folder / "._lock-backtest", timeout=LOCK_TIMEOUT_S):
        mine = set(dates.tolist())
        for file in sorted(folder.glob("backtest_*.parquet")):
            if file.stem.partition("_")[2] not in mine:  # a session that this experiment tests no more
                old = pq.ParquetFile(file).read()
                kept = old.filter(pc.invert(_is_of(old, exp_id)))
                if kept.num_rows < old.num_rows:
                    _replace(root, file, kept)
        for date in sorted(mine):
            file = folder / f"backtest_{date}.parquet"
            part = rows.filter(pa.array(dates == date))
            if file.is_file():
                old = pq.ParquetFile(file).read()
                part = pa.concat_tables([old.filter(pc.invert(_is_of(old, exp_id))), part])
            _replace(root, file, part)
            files.append(file)
    return files


def _replace(root: Path, file: Path, rows: pa.Table) -> None:
    if rows.num_rows == 0:
        file.unlink(missing_ok=True)
        return
    keys = ("asof_ns", "observation_id", "model_id")
    staged = stage_dir(root) / file.name
    pq.write_table(
        rows.sort_by([(k, "ascending") for k in keys]), staged, compression="zstd", compression_level=3,
        version="2.6", data_page_version="2.0", row_group_size=122_880,
    )  # fmt: skip
    atomic.fsync_file(staged)
    atomic.replace(staged, file)


def _is_of(rows: pa.Table, exp_id: str) -> pa.ChunkedArray:
    return pc.starts_with(rows["model_id"], f"{exp_id}_")
