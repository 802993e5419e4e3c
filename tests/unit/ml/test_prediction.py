"""Our walk over the trees equals LightGBM's own prediction to the last bit, and batch equals single rows."""

import lightgbm as lgb
import numpy as np
import pytest

from ml.prediction import Trees, UnreadableModel

ROWS = 1_500


def fitted(seed: int, **options: object) -> tuple[lgb.Booster, np.ndarray]:
    """A booster over numbers with and without NULL, zeros, and categories; rows to ask about, odd ones among them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 8))
    x[:, 1] = np.where(rng.random(ROWS) < 0.3, np.nan, x[:, 1])
    x[:, 2] = np.where(rng.random(ROWS) < 0.5, 0.0, x[:, 2])
    x[:, 3] = rng.integers(0, 6, ROWS)
    x[:, 4] = np.where(rng.random(ROWS) < 0.1, np.nan, rng.integers(0, 70, ROWS))
    signal = x[:, 0] + np.nan_to_num(x[:, 1]) * (x[:, 3] == 2) + (x[:, 4] % 3 == 1)
    y = signal + rng.normal(size=ROWS)
    if options.get("objective", "binary") == "binary":
        y = (y > 0).astype(float)
    params = {"verbosity": -1, "num_threads": 1, "seed": seed, "min_data_in_leaf": 5, "objective": "binary"}
    data = lgb.Dataset(x, label=y, categorical_feature=[3, 4])
    booster = lgb.train({**params, **options}, data, num_boost_round=30)
    asked = rng.normal(size=(400, 8)) * 3
    asked[:, 3] = rng.integers(-2, 9, 400)
    asked[:, 4] = rng.choice([np.nan, -1.0, 0.0, 31.0, 32.0, 63.0, 64.0, 69.0, 1e6, 2.9], 400)
    for column in (1, 2, 5):
        asked[:, column] = np.where(
            rng.random(400) < 0.3, rng.choice([np.nan, 0.0, -0.0, 1e-36], 400), asked[:, column]
        )
    return booster, np.vstack([x, asked])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"sigmoid": 0.7},
        {"num_leaves": 2},
        {"max_cat_to_onehot": 1, "cat_smooth": 1.0},
        {"objective": "regression_l1"},
        {"objective": "regression"},
    ],
    ids=str,
)
def test_every_bit_is_that_of_lightgbm(seed: int, options: dict) -> None:
    booster, rows = fitted(seed, **options)
    trees = Trees.parse(booster.model_to_string())
    expected = booster.predict(rows, num_threads=1)
    assert trees.predict(rows).tobytes() == expected.tobytes()
    assert len(np.unique(expected)) > 5


def test_a_model_of_stumps_only_is_walked() -> None:
    x = np.zeros((200, 2))
    y = (np.arange(200) % 3 == 0).astype(float)
    booster = lgb.train(
        {"objective": "binary", "verbosity": -1, "num_threads": 1}, lgb.Dataset(x, label=y), 3
    )
    trees = Trees.parse(booster.model_to_string())
    assert trees.predict(x[:2]).tobytes() == booster.predict(x[:2], num_threads=1).tobytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"objective": "multiclass", "num_class": 3}, "had 3 classes"),
        ({"objective": "poisson"}, "objective was 'poisson'"),
        ({"objective": "regression", "linear_tree": True}, "linear trees"),
        ({"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "averages"),
    ],
)
def test_a_model_that_can_not_be_walked_is_told(options: dict, told: str) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
    y = y % 2 if options["objective"] == "binary" else y
    booster = lgb.train({"verbosity": -1, "num_threads": 1, **options}, lgb.Dataset(x, label=y), 5)
    with pytest.raises(UnreadableModel, match=told):
        Trees.parse(booster.model_to_string())
