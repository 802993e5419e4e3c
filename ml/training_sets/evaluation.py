"""Scores of a model of a training set, each beside what it must beat, with intervals over days.

Source: spec/execution.md 5.4, 5.6.
"""

from collections.abc import Mapping

import numpy as np

from ml import calibration, metrics
from ml.deflation import deflate
from ml.scoring import log_loss

MODEL, CALIBRATED, MAJORITY = "model", "calibrated", "majority"
MIN_DAYS_FOR_A_CLAIM = 10
SCORES = ("roc_auc", "brier", "log_loss")
ALPHAS = (0.5, 0.9)

Predictions = Mapping[str, np.ndarray]


def binary(
    y: np.ndarray,
    predictions: Predictions,
    day: np.ndarray,
    *,
    against: str,
    draws: int,
    seed: int,
    tries: int,
) -> dict[str, object]:
    """Scores of probabilities by predictor, the one named ``model`` first; all (n,), n ≥ 1.

    ``intervals`` are 95 %, over draws of whole days, None with fewer than two. ``brier_skill`` is 1 − Brier / Brier of
    each other predictor; the skill against the predictor ``against`` is deflated by ``tries``. Of ``majority``, which
    has no probabilities, the accuracy is all there is.
    """
    weight = np.ones(len(y))
    majority = {MAJORITY: {"accuracy": float(np.mean((predictions[MAJORITY] >= 0.5) == (y == 1)))}}
    predictions = {name: p for name, p in predictions.items() if name != MAJORITY}
    scored: dict[str, object] = {
        name: {
            s: v
            for s, v in metrics.binary_scores(y, p, weight).items()
            if s in (*SCORES, "pr_auc", "accuracy")
        }
        for name, p in predictions.items()
    }
    others = [name for name in predictions if name != MODEL]
    brier = {name: scored[name]["brier"] for name in predictions}
    scored["brier_skill"] = {name: metrics.brier_skill(brier[MODEL], brier[name]) for name in others}
    scored |= majority
    scored |= {
        "n": len(y),
        "positives": int(y.sum()),
        "days": len(np.unique(day)),
        "intervals": None,
        "deflated": None,
    }
    scored["calibration"] = calibration.summary(y, predictions[MODEL], weight)
    if scored["days"] < 2:
        return scored
    boot = metrics.SessionBootstrap.of(day, draws=draws, seed=seed)
    loss = {name: (p - y) ** 2 for name, p in predictions.items()}
    logs = {name: log_loss(y, p) for name, p in predictions.items()}
    auc, ap = boot.ranked(y, predictions[MODEL], weight)
    skills = {name: 1 - boot.ratio(loss[MODEL], loss[name]) for name in others}
    scored["intervals"] = {
        "roc_auc": _interval(boot, auc),
        "pr_auc": _interval(boot, ap),
        "brier": _interval(boot, boot.ratio(loss[MODEL], weight)),
        "log_loss": _interval(boot, boot.ratio(logs[MODEL], weight)),
        "brier_skill": {name: _interval(boot, draw) for name, draw in skills.items()},
        "log_loss_less": {
            name: _interval(boot, boot.ratio(logs[name] - logs[MODEL], weight)) for name in others
        },
    }
    if (skill := scored["brier_skill"][against]) is not None and (
        found := deflate(skill, boot.standard_error(skills[against]), tries, boot.freedom)
    ):
        scored["deflated"] = {"against": against, **found.as_dict()}
    return scored


def numeric(
    y: np.ndarray, predictions: Mapping[str, Predictions], day: np.ndarray, *, draws: int, seed: int
) -> list[dict[str, object]]:
    """One row for each loss: ``mae`` and ``pinball_0.5`` of ``predictions["0.5"]``, ``pinball_0.9`` of ``["0.9"]``.

    Each row has the mean loss by predictor, and ``less``: what the model saves against each other predictor as a share
    of its loss, with a 95 % interval over draws of whole days (None with fewer than two).
    """
    boot = metrics.SessionBootstrap.of(day, draws=draws, seed=seed) if len(np.unique(day)) > 1 else None
    rows = []
    for name, alpha in (("mae", None), *((f"pinball_{a}", a) for a in ALPHAS)):
        known = predictions[str(alpha or 0.5)]
        losses = {p: np.abs(y - q) if alpha is None else pinball(y, q, alpha) for p, q in known.items()}
        others = [p for p in losses if p != MODEL]
        mean = {p: float(loss.mean()) for p, loss in losses.items()}
        less = {
            p: {
                "share": metrics.brier_skill(mean[MODEL], mean[p]),
                "interval": _interval(boot, 1 - boot.ratio(losses[MODEL], losses[p])) if boot else None,
            }
            for p in others
        }
        rows.append({"loss": name, "n": len(y), "mean": mean, "less": less})
    return rows


def pinball(y: np.ndarray, q: np.ndarray, alpha: float) -> np.ndarray:
    """Loss of the ``alpha`` quantile ``q``: alpha · (y − q) above it, (1 − alpha) · (q − y) below; (n,)."""
    return np.where(y >= q, alpha * (y - q), (1 - alpha) * (q - y))


def verdicts(scored: Mapping[str, object]) -> list[str]:
    """What may be said of the scores of a classifier, one line each; with too few days why nothing may."""
    if why := claim(scored["days"]):
        return [why]
    lines = []
    for name, (low, high) in (scored["intervals"] or {}).get("brier_skill", {}).items():
        if name != CALIBRATED and low is not None and low <= 0:
            told = "worse than" if high < 0 else "not shown to be better than"
            lines.append(
                f"{told} {name}: Brier skill {scored['brier_skill'][name]:.3f} [{low:.3f}, {high:.3f}]"
            )
    if found := scored["deflated"]:
        lines.append(
            f"Brier skill against {found['against']}: {found['score']:.3f}, after {found['tries']} tries "
            f"{found['deflated']:.3f}, above 0 with probability {found['probability']:.3f}"
        )
    return lines


def claim(days: int) -> str | None:
    """Why no claim of skill may be made of a test; None where one may."""
    if days >= MIN_DAYS_FOR_A_CLAIM:
        return None
    return (
        f"no claim of skill: {days} test days, expected at least {MIN_DAYS_FOR_A_CLAIM}; intervals over so few days "
        "are too narrow"
    )


def _interval(boot: metrics.SessionBootstrap, draws: np.ndarray) -> list[float | None]:
    return [*boot.interval(draws)]
