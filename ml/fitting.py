"""One fit: a booster with everything that it must beat, made of the same training part (spec/market.md 14.2, 14.4)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import lightgbm as lgb
import numpy as np
import pyarrow as pa

from ml import datasets, splits
from ml.baselines import Logistic
from ml.calibration import Platt
from ml.comparators import BaseRate, CellMedian, class_prior, majority_class, weighted_median
from ml.heads import HeadData

MIN_OF_EACH_CLASS = 30
# As many as two classes have to have.
MIN_OF_NUMBERS = 2 * MIN_OF_EACH_CLASS
SHAP_ROWS = 2_000
"""Contributions are averaged over at most about so many rows of a test: they cost as much as a fit."""

NUMBER = {"objective": "regression_l1", "metric": "l1"}
"""Objective of a head that is a number."""

_Part = tuple[pa.Table, np.ndarray, np.ndarray]  # inputs, targets, weights of the same rows


class Settings(Protocol):
    """How boosters are fitted: what `ml.training.Config` has."""

    seed: int
    max_rounds: int
    stopping_rounds: int
    boosting: dict[str, object]


@dataclass(frozen=True)
class Fit:
    """A booster with the comparators of the same training part; for a number instead of a class, ``prior`` is a median,
    ``base_rate`` one for each cell, and there is no logistic regression, no scaler and no majority."""

    booster: lgb.Booster
    level_only: lgb.Booster
    prior: float
    base_rate: BaseRate | CellMedian
    logistic: Logistic | None
    scaler: Platt | None
    majority: int | None

    def predict(self, data: HeadData, part: np.ndarray) -> dict[str, np.ndarray]:
        """By predictor, (part,): the model first."""
        inputs, level_inputs, _, _ = data.take(part)
        found = {
            "model": predict_with(self.booster, inputs),
            "level_only": predict_with(self.level_only, level_inputs),
            "base_rate": self.base_rate.predict(data.kind[part], data.direction[part], data.asof_ns[part]),
            "class_prior": np.full(len(part), self.prior),
        }
        if self.logistic is not None:
            found["logistic"] = self.logistic.predict(inputs)
        if self.scaler is not None:
            found["calibrated"] = self.scaler.apply(found["model"])
        if self.majority is not None:
            found["majority"] = np.full(len(part), float(self.majority))
        return found

    def contributions(self, data: HeadData, part: np.ndarray) -> np.ndarray:
        """Mean |contribution| of each input to the raw score over (a sample of) the rows ``part``, (inputs,): SHAP
        values, by LightGBM itself."""
        sample = part[:: max(1, len(part) // SHAP_ROWS)]
        inputs = data.take(sample)[0]
        return np.abs(np.asarray(self.booster.predict(inputs, pred_contrib=True, num_threads=1)))[
            :, :-1
        ].mean(axis=0)


def why_not(data: HeadData, train: np.ndarray, inner: np.ndarray) -> str | None:
    """Why a training part, by its row numbers, can't be fitted; None when it can."""
    n = len(train)
    if data.is_regression:
        counts = ((n, "labels", MIN_OF_NUMBERS),)
    else:
        positives = int(data.y[train].sum())
        counts = (
            (positives, "positives", MIN_OF_EACH_CLASS),
            (n - positives, "negatives", MIN_OF_EACH_CLASS),
        )
    for count, what, least in counts:
        if count < least:
            return f"{count} {what} in {n} training rows, expected at least {least}"
    return "no row in the inner validation" if len(inner) == 0 else None


def fit_head(data: HeadData, rows: splits.Rows, config: Settings, num_threads: int) -> Fit:
    """Boosters stop by the inner validation, and the scaler is fitted on what they say of it; the comparators have it
    too."""
    train_inputs, train_level, train_y, train_weight = data.take(rows.train)
    inner_inputs, inner_level, inner_y, inner_weight = data.take(rows.inner)
    everything = rows.training
    objective = NUMBER if data.is_regression else {}
    booster, level = (
        boost((inputs, train_y, train_weight), (inner, inner_y, inner_weight), config, num_threads, objective)
        for inputs, inner in ((train_inputs, inner_inputs), (train_level, inner_level))
    )
    cells = (data.kind[everything], data.direction[everything], data.asof_ns[everything])
    y, weight = data.y[everything], data.weight[everything]
    if data.is_regression:
        prior = weighted_median(y, weight)
        return Fit(booster, level, prior, CellMedian.fit(*cells, y, weight), None, None, None)
    whole = data.inputs.take(pa.array(everything))
    return Fit(
        booster,
        level,
        class_prior(y, weight),
        BaseRate.fit(*cells, y, weight),
        Logistic.fit(whole, _categorical(whole), y, weight),
        Platt.fit(predict_with(booster, inner_inputs), inner_y, inner_weight),
        majority_class(y, weight),
    )


def boost(
    train_part: _Part,
    inner_part: _Part,
    config: Settings,
    num_threads: int,
    objective: Mapping[str, object] | None = None,
) -> lgb.Booster:
    """A booster of the rounds up to the best on ``inner_part``; ``objective`` goes over the settings' own."""
    inputs, y, weight = train_part
    inner_inputs, inner_y, inner_weight = inner_part
    # Explicit threads: with LightGBM's own choice a busy machine takes minutes for what takes a second.
    params = {
        **config.boosting,
        **(objective or {}),
        "seed": config.seed,
        "num_threads": num_threads,
        "verbosity": -1,
    }
    train_set = lgb.Dataset(
        inputs, label=y, weight=weight, categorical_feature=_categorical(inputs), params=params
    )
    inner_set = lgb.Dataset(
        inner_inputs, label=inner_y, weight=inner_weight, reference=train_set, params=params
    )
    booster = lgb.train(
        params,
        train_set,
        num_boost_round=config.max_rounds,
        valid_sets=[inner_set],
        callbacks=[lgb.early_stopping(config.stopping_rounds, verbose=False)],
    )
    # Only the rounds up to the best stay: what is stored, predicted with and weighed by gain is then one
    # model.
    return lgb.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))


def _categorical(inputs: pa.Table) -> list[str]:
    return [c for c in inputs.column_names if c in datasets.CATEGORICAL_COLUMNS]


def predict_with(booster: lgb.Booster, inputs: pa.Table) -> np.ndarray:
    """(rows,) float64; probabilities of class 1 of a binary booster."""
    return np.asarray(booster.predict(inputs, num_threads=1), dtype=float)


def model_text(booster: lgb.Booster) -> str:
    """The booster's text without the thread count, the one setting that enters no tree."""
    return re.sub(r"\[num_threads: \d+\]", "[num_threads: 1]", booster.model_to_string())


# -- what an artifact stores ------------------------------------------------------------------------------------------


def state(fit: Fit, scaler: Platt | None) -> dict[str, object]:
    """A fit as builtins and arrays; ``calibration`` is of ``scaler``, fitted out of fold."""
    return {
        "booster": model_text(fit.booster),
        "level_only": model_text(fit.level_only),
        "rounds": fit.booster.current_iteration(),
        "class_prior": fit.prior,
        "base_rate": fit.base_rate.state(),
        "majority": fit.majority,
        "logistic": None if fit.logistic is None else fit.logistic.state(),
        "calibration": None if scaler is None else scaler.state(),
        "importance_gain": [float(g) for g in fit.booster.feature_importance("gain")],
    }


def kept(model: Mapping[str, object], data: HeadData) -> Fit:
    """The fit that `state` stored, with the scaler that is stored beside it."""
    cells = CellMedian if data.is_regression else BaseRate
    return Fit(
        lgb.Booster(model_str=model["booster"]),
        lgb.Booster(model_str=model["level_only"]),
        model["class_prior"],
        cells.from_state(model["base_rate"]),
        None if model["logistic"] is None else Logistic.from_state(model["logistic"]),
        None if data.is_regression else Platt(**(model["calibration"] or {})),
        model["majority"],
    )
