"""Scores of every predictor on the same rows, and how sure they are: draws of whole sessions (spec/market.md 14.4)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ml import calibration, metrics
from ml.deflation import deflate

SCORES = ("roc_auc", "pr_auc", "brier", "log_loss", "accuracy")
# Every predictor of a class that stands in a table, the model first. Majority has no probabilities: accuracy only.
PREDICTORS = ("model", "level_only", "logistic", "base_rate", "class_prior")
CALIBRATED = "calibrated"
# Of a number: the prior is the median of the training part, the base rate that of the row's cell.
NUMBER_PREDICTORS = ("model", "level_only", "base_rate", "class_prior")
AGAINST = "base_rate"
KINDS = {*PREDICTORS, CALIBRATED, "majority", "brier_skill", "mae_skill"}
"""Keys of a fold that hold scores."""

Predictions = Mapping[str, np.ndarray]


def scores(y: np.ndarray, weight: np.ndarray, predictions: Predictions, *, is_regression: bool) -> dict:
    """Of rows (n,), n ≥ 1, by predictor; and the model's skill against each other one, 1 − loss / its loss."""
    if is_regression:
        found: dict = {name: {"mae": mae(y, predictions[name], weight)} for name in NUMBER_PREDICTORS}
        found["mae_skill"] = {
            name: metrics.brier_skill(found["model"]["mae"], found[name]["mae"])
            for name in NUMBER_PREDICTORS[1:]
        }
        return found
    found = {name: metrics.binary_scores(y, predictions[name], weight) for name in (*PREDICTORS, CALIBRATED)}
    found["majority"] = {"accuracy": metrics.binary_scores(y, predictions["majority"], weight)["accuracy"]}
    found["brier_skill"] = {
        name: metrics.brier_skill(found["model"]["brier"], found[name]["brier"]) for name in PREDICTORS[1:]
    }
    return found


def mae(y: np.ndarray, p: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(np.abs(y - p), weights=weight))


def mean_scores(folds: Sequence[dict]) -> dict | None:
    """Mean of each score over the folds that have it; None without one."""
    done = [f for f in folds if f["skipped"] is None]
    if not done:
        return None

    def mean(values: Iterator[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else None

    return {
        kind: {s: mean(f[kind][s] for f in done) for s in value}
        for kind, value in done[0].items()
        if kind in KINDS
    }


def pooled(oof: Predictions, *, is_regression: bool, draws: int, seed: int, tries: int) -> dict:
    """Scores of all out-of-fold rows together, with intervals over draws of whole sessions (None with fewer than two).

    For a class besides: ``calibration`` raw and calibrated, the AUC within a session and level kind. The skill against
    the base rate is ``deflated`` by ``tries``.
    """
    y, weight = oof["y"], oof["weight"]
    found = scores(y, weight, oof, is_regression=is_regression)
    found |= {"n": len(y), "positives": 0 if is_regression else int(y.sum())}
    found |= {"sessions": len(np.unique(oof["session_date"])), "ci": None, "deflated": None}
    if not is_regression:
        found["calibration"] = {
            "raw": calibration.summary(y, oof["model"], weight),
            CALIBRATED: calibration.summary(y, oof[CALIBRATED], weight),
        }
        ordered, pairs = metrics.pairs_within(y, oof["model"], weight, oof["stratum"])
        # Only pairs of one session and level kind: a model can't gain here by knowing which of these has more
        # of a class.
        found["roc_auc_within"] = float(ordered.sum() / pairs.sum()) if pairs.sum() > 0 else None
    if found["sessions"] < 2:
        return found
    boot = metrics.SessionBootstrap.of(oof["session_date"], draws=draws, seed=seed, weight=weight)
    if is_regression:
        loss = {name: weight * np.abs(oof[name] - y) for name in NUMBER_PREDICTORS}
        intervals: dict = {name: {"mae": boot.interval(boot.ratio(loss[name], weight))} for name in loss}
        kind = "mae_skill"
    else:
        loss = {name: weight * (oof[name] - y) ** 2 for name in (*PREDICTORS, CALIBRATED)}
        intervals = {name: _binary_intervals(boot, oof, name, loss[name]) for name in loss}
        intervals["roc_auc_within"] = boot.interval(boot.ratio(ordered, pairs))
        kind = "brier_skill"
    skills = {
        name: 1.0 - boot.ratio(loss["model"], loss[name])
        for name in loss
        if name not in ("model", CALIBRATED)
    }
    intervals[kind] = {name: boot.interval(skill) for name, skill in skills.items()}
    found["ci"] = {k: _lists(v) for k, v in intervals.items()}
    score = found[kind][AGAINST]
    error = boot.standard_error(skills[AGAINST])
    if score is not None and (left := deflate(score, error, tries, boot.freedom)):
        found["deflated"] = {"against": AGAINST, **left.as_dict()}
    return found


def _binary_intervals(boot: metrics.SessionBootstrap, oof: Predictions, name: str, loss: np.ndarray) -> dict:
    y, weight = oof["y"], oof["weight"]
    auc, ap = boot.ranked(y, oof[name], weight)
    return {
        "roc_auc": boot.interval(auc),
        "pr_auc": boot.interval(ap),
        "brier": boot.interval(boot.ratio(loss, weight)),
        "log_loss": boot.interval(boot.ratio(weight * log_loss(y, oof[name]), weight)),
    }


def _lists(value: object) -> object:
    return {k: list(v) for k, v in value.items()} if isinstance(value, dict) else list(value)


def log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Of each row, (n,): of a chance of class 1 ``p`` (n,), or of a vector ``p`` (n, classes) that sums to 1.
    ``y`` (n,) is the number of the class that came. Chances are kept off 0 and 1 by the machine's precision.

    A vector (p_tradeable·p_dir, p_tradeable·(1 − p_dir), 1 − p_tradeable) loses what its parts lose: that of
    ``tradeable`` on every row, and that of ``direction`` besides on the rows that moved (spec/market.md 14.5).
    """
    if p.ndim == 1:
        p = np.column_stack([1 - p, p])
    came = p[np.arange(len(y)), y.astype(np.int64)]
    return -np.log(np.clip(came, np.finfo(float).eps, 1 - np.finfo(float).eps))


def ranked(names: Sequence[str], values: Sequence[np.ndarray], key: str) -> list[dict]:
    """Share of each feature in a fold's total, averaged over the folds, largest first, under ``key``."""
    if not values:
        return []
    shares = [v / v.sum() if v.sum() > 0 else v for v in values]
    mean = np.mean(shares, axis=0)
    ordered = sorted(zip(names, mean, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return [{"feature": name, key: float(share)} for name, share in ordered]
