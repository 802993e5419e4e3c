"""One row through a model of 200 trees over 50 features: ours against LightGBM's own single-row path, one thread."""

import statistics
import time

import lightgbm as lgb
import numpy as np

from ml.prediction import Trees

TREES, FEATURES, ROWS, ASKED = 200, 50, 20_000, 2_000


def bench(*, trees: int = TREES, features: int = FEATURES, asked: int = ASKED) -> dict[str, float]:
    """Medians over ``asked`` rows, each asked of both in turn; ``bits_differ`` counts rows that aren't equal."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, features))
    y = (x[:, :5].sum(axis=1) + rng.normal(size=ROWS) > 0).astype(float)
    params = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 31, "max_depth": 6}
    booster = lgb.train(params, lgb.Dataset(x, label=y), num_boost_round=trees)
    ours = Trees.parse(booster.model_to_string())
    rows = rng.normal(size=(asked, features))
    ours.predict_one(rows[0])
    mine, theirs, differ = [], [], 0
    for row in rows:
        started = time.perf_counter()
        one = ours.predict_one(row)
        between = time.perf_counter()
        other = booster.predict(row[None, :], num_threads=1)[0]
        theirs.append(time.perf_counter() - between)
        mine.append(between - started)
        differ += one != other
    return {
        "ratio": statistics.median(mine) / statistics.median(theirs),
        "ours_us": statistics.median(mine) * 1e6,
        "lightgbm_us": statistics.median(theirs) * 1e6,
        "bits_differ": int(differ),
    }
