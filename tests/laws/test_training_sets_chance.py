"""Worlds of made-up stops: where outcomes hang on nothing, no skill is claimed more often than chance allows; where an
effect is planted, it is found with the right sign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ml.training_sets import inputs, train
from ml.training_sets.publish import publish
from ml.training_sets.train import Config
from tests.fixtures import training_candidates as kit

NAME = "stop_outcome"
DAYS = 60
CONFIG = Config(max_rounds=40, stopping_rounds=8, bootstrap_draws=200)


def world(root: Path, seed: int, *, planted: bool) -> tuple[dict, dict]:
    """Scores of the test of one world, and its model."""
    rows = kit.rows(NAME, days=DAYS, per_day=24 if planted else 9, seed=seed)
    if not planted:
        order = np.random.default_rng(seed).permutation(len(rows))
        labels = [rows[i]["label"] for i in order]
        for row, label in zip(rows, labels, strict=True):
            row["label"] = label
    kit.commit(root, NAME, rows)
    publish(root, NAME, data_through=kit.THROUGH)
    scored = train.train(root, NAME, config=CONFIG).metrics["scores"]["execution_success"]
    return scored, train.load(root, NAME, "v1.0.0")


def claims(root: Path, seeds: range) -> list[int]:
    """Seeds of null worlds in which an interval of skill lies above 0, or one of the AUC off 0.5."""
    found = []
    for seed in seeds:
        intervals = world(root / str(seed), seed, planted=False)[0]["intervals"]
        low, high = intervals["roc_auc"]
        if intervals["brier_skill"]["base_rate"][0] > 0 or not low <= 0.5 <= high:
            found.append(seed)
    return found


def test_chance_is_not_taken_for_skill(tmp_path):
    assert len(claims(tmp_path, range(100, 103))) <= 1


@pytest.mark.long
def test_chance_is_not_taken_for_skill_in_many_worlds(tmp_path):
    """Two intervals of 95 % over 12 days: one world in ten may lie outside of one, and five of 25 once in 30 times."""
    found = claims(tmp_path, range(100, 125))
    assert len(found) <= 5, found


def planted(root: Path, seeds: range) -> None:
    for seed in seeds:
        scored, model = world(root / str(seed), seed, planted=True)
        assert scored["intervals"]["brier_skill"]["base_rate"][0] > 0, seed
        # The more volatile, and the more failures just before, the more likely a failure.
        rows = kit.table(NAME, kit.rows(NAME, days=2, per_day=20, seed=seed + 1))
        features = inputs.flat(rows, "features", model["features"])
        calm, stressed = (
            _with(features, volatility_15m=v, consecutive_failures_1h=f) for v, f in ((4e-4, 0), (4e-3, 3))
        )
        p = [train.predict(model, "execution_success", x).mean() for x in (calm, stressed)]
        assert p[0] > p[1] + 0.2, (seed, p)


def _with(features: pa.Table, **values: float) -> pa.Table:
    for name, value in values.items():
        at = features.column_names.index(name)
        filled = pa.array(np.full(features.num_rows, value)).cast(
            features.schema.field(name).type, safe=False
        )
        features = features.set_column(at, name, filled)
    return features


def test_a_planted_effect_is_found_with_its_sign(tmp_path):
    planted(tmp_path, range(200, 201))


@pytest.mark.long
def test_a_planted_effect_is_found_in_many_worlds(tmp_path):
    planted(tmp_path, range(200, 212))
