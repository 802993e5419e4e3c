"""A million rows of fifty features, from Parquet to a trained model, against LightGBM fed the same columns directly.

Ours is the way of an experiment: partitions by their commit records, the table checked for leaks, a head's rows with
their sessions, kinds and clusters, a fold's parts purged, one booster fitted with early stopping on the last sessions.
The other side reads the same Parquet columns with pyarrow and hands the Arrow table to LightGBM with the same
parameters. Each side runs in processes of its own, in turn, and both have to come to the same trees.
"""

import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake import commits
from lake.digest import table_digest
from ml import datasets, fitting, heads, splits, training

ROWS, FEATURES, SESSIONS, ROUNDS = 1_000_000, 50, 40, 100
VERSION = "v0.1_bench"
KINDS = np.array(["PM_HIGH", "PM_LOW", "OR_HIGH", "OR_LOW", "SMA_200", "SMA_400", "VWAP", "ROUND"])
INNER = SESSIONS // 5


def contract(features: int) -> datasets.Contract:
    """Identity, features and the labels that a table is checked by."""

    def column(name: str, dtype: str, role: str, group: str) -> dict:
        return {"name": name, "dtype": dtype, "role": role, "group": group, "nullable": True}

    ids = [
        ("observation_id", "varchar"),
        ("event_id", "varchar"),
        ("session_date", "date"),
        ("stage", "varchar"),
        ("level_kind_name", "varchar"),
        ("direction", "varchar"),
        ("attempt_cluster_id", "integer"),
    ]
    times = [("asof_ns", "bigint"), ("max_input_ts_ns", "bigint")]
    labels = [
        ("outcome", "varchar"), ("tradeable_2", "tinyint"), ("label_status", "varchar"), ("label_start_ns", "bigint"),
        ("label_end_ns", "bigint"), ("sample_weight", "double"),
    ]  # fmt: skip
    return datasets.contract_from(
        VERSION,
        [
            *(column(n, t, "id", "identity") for n, t in [*ids, *times]),
            *(column(f"f{i:02d}", "double", "feature", "level") for i in range(features)),
            *(column(n, t, "label", "labels") for n, t in labels),
        ],
    )


def make(root: Path, rows: int, features: int) -> None:
    """The table as the lake keeps it: a partition a session."""
    rng = np.random.default_rng(1)
    each = rows // SESSIONS
    for number in range(SESSIONS):
        day = np.datetime64("2025-01-06") + number
        x = rng.normal(size=(each, features))
        moves = x[:, :5].sum(axis=1) + rng.normal(size=each) > 0
        asof = (
            day.astype("datetime64[ns]").astype(np.int64)
            + np.sort(rng.integers(0, 86_400, each)) * 1_000_000_000
        )
        table = pa.table(
            {
                "observation_id": [f"{number:02d}{i:010d}" for i in range(each)],
                "event_id": [f"{number:02d}{i // 4:010d}" for i in range(each)],
                "stage": ["touch"] * each,
                "level_kind_name": KINDS[rng.integers(0, len(KINDS), each)],
                "direction": np.array(["UP", "DOWN"])[rng.integers(0, 2, each)],
                "attempt_cluster_id": (np.arange(each) // 5).astype(np.int32),
                "asof_ns": asof,
                "max_input_ts_ns": asof - 1,
                **{f"f{i:02d}": x[:, i] for i in range(features)},
                "outcome": np.where(moves, "BREAK", "CHOP"),
                "tradeable_2": moves.astype(np.int8),
                "label_status": ["ok"] * each,
                "label_start_ns": asof,
                "label_end_ns": asof + 1,
                "sample_weight": np.ones(each),
            }
        )
        staged = root / "stage.parquet"
        pq.write_table(table, staged, compression="zstd", compression_level=3)
        digest = table_digest(table)
        commits.publish(
            staged,
            root / "lake" / datasets.folder(VERSION) / f"date={day}",
            commits.Commit(
                dataset=datasets.folder(VERSION), date=str(day), params_digest=None, rows=each, bytes=0,
                content_digest=digest, build_key=digest, code_digest="", inputs={}, input_digest="",
                build_digest=None, built_at="2025-12-24T00:00:00Z", run_id="20251224T000000Z_bench_000000",
            ),
        )  # fmt: skip


def config() -> training.Config:
    return training.Config(max_rounds=ROUNDS, stopping_rounds=ROUNDS)


def ours(root: Path, features: int) -> lgb.Booster:
    loaded = datasets.load(root, VERSION, contract(features))
    names = [f"f{i:02d}" for i in range(features)]
    data = heads.head_data(loaded.stage("touch"), "tradeable_2", names, names[:4], {})
    days = tuple(loaded.sessions)
    rows = heads.rows_of(data, splits.Fold(0, days[:-INNER], days[-INNER:], ()))
    train, inner = (
        (inputs, y, weight) for inputs, _, y, weight in (data.take(rows.train), data.take(rows.inner))
    )
    return fitting.boost(train, inner, config(), 1)


def direct(root: Path, features: int) -> lgb.Booster:
    names = [f"f{i:02d}" for i in range(features)]
    files = sorted((root / "lake" / datasets.folder(VERSION)).glob("date=*/data.parquet"))
    tables = [
        pq.read_table(f, columns=[*names, "tradeable_2", "sample_weight"], partitioning=None) for f in files
    ]
    train, inner = pa.concat_tables(tables[:-INNER]), pa.concat_tables(tables[-INNER:])
    params = {**config().boosting, "seed": config().seed, "num_threads": 1, "verbosity": -1}

    def dataset(table: pa.Table, reference: lgb.Dataset | None) -> lgb.Dataset:
        labels = {"label": table["tradeable_2"].to_numpy(), "weight": table["sample_weight"].to_numpy()}
        return lgb.Dataset(table.select(names), **labels, reference=reference, params=params)

    whole = dataset(train, None)
    return lgb.train(
        params, whole, num_boost_round=ROUNDS, valid_sets=[dataset(inner, whole)],
        callbacks=[lgb.early_stopping(ROUNDS, verbose=False)],
    )  # fmt: skip


def bench(scratch: Path, *, rows: int = ROWS, features: int = FEATURES, runs: int = 3) -> dict[str, float]:
    """Ratios of medians, ours / direct, of CPU seconds and of peak memory."""
    root = scratch / "training"
    root.mkdir(parents=True, exist_ok=True)
    make(root, rows, features)
    found: dict[str, list[dict]] = {"ours": [], "direct": []}
    for _ in range(runs):
        for side, results in found.items():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.bench_training", side, str(root), str(features)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            results.append(json.loads(done.stdout))
    if len(trees := {r.pop("trees") for results in found.values() for r in results}) > 1:
        raise AssertionError(f"{len(trees)} different models came out, expected the same of both sides")
    median = {
        side: {k: statistics.median(r[k] for r in results) for k in results[0]}
        for side, results in found.items()
    }
    return {
        "cpu_ratio": median["ours"]["cpu_s"] / median["direct"]["cpu_s"],
        "memory_ratio": median["ours"]["peak_mb"] / median["direct"]["peak_mb"],
        **{f"{side}_{k}": v for side, result in median.items() for k, v in result.items()},
    }


def main() -> None:
    side, root, features = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    started = time.process_time()
    booster = {"ours": ours, "direct": direct}[side](root, features)
    cpu_s = time.process_time() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    best = booster.best_iteration if booster.best_iteration > 0 else None
    trees = booster.model_to_string(num_iteration=best).partition("end of trees")[0]
    digest = hashlib.sha256(trees.encode()).hexdigest()
    print(json.dumps({"cpu_s": cpu_s, "peak_mb": peak_mb, "trees": digest}))


if __name__ == "__main__":
    main()
