"""Are probabilities what they say: Platt scaling, reliability, and how good the best-ranked rows are.

Source: spec/market.md 14.4; Platt 1999, "Probabilistic outputs for support vector machines".
"""

import itertools
from dataclasses import dataclass

import numpy as np

BINS = 10
SHARES = (0.05, 0.10)
"""Shares of the rows that precision@k looks at."""
CLIP = 1e-6
STEPS = 100
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Platt:
    """σ(slope · logit(p) + intercept); (1, 0) changes nothing."""

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(cls, p: np.ndarray, y: np.ndarray, weight: np.ndarray) -> "Platt":
        """By maximum likelihood on predictions that the model was not fitted on; all (n,), n ≥ 1.

        Classes are smoothed as Platt does, (N₊ + 1)/(N₊ + 2) and 1/(N₋ + 2), so that separable predictions have an
        optimum. Newton's steps are halved until they gain; predictions of one single value only move the intercept.
        """
        x = logit(p)
        positive, negative = weight[y == 1].sum(), weight[y != 1].sum()
        target = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
        design = np.column_stack([x, np.ones_like(x)])
        if np.ptp(x) == 0:
            rate = float(np.average(target, weights=weight))
            return cls(1.0, float(np.log(rate / (1 - rate)) - x[0]))
        at = np.array([1.0, 0.0])
        loss = _loss(design @ at, target, weight)
        for _ in range(STEPS):
            q = sigmoid(design @ at)
            gradient = design.T @ (weight * (q - target))
            hessian = (design * (weight * q * (1 - q))[:, None]).T @ design
            step = np.linalg.solve(hessian + np.eye(2) * 1e-12 * (1 + np.trace(hessian)), gradient)
            size = 1.0
            while size > TOLERANCE:
                tried = at - size * step
                new = _loss(design @ tried, target, weight)
                if new < loss:
                    break
                size /= 2
            else:
                break
            gained, at, loss = loss - new, tried, new
            if gained < TOLERANCE * (1 + abs(loss)):
                break
        return cls(float(at[0]), float(at[1]))

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n,)."""
        return sigmoid(self.slope * logit(p) + self.intercept)

    def state(self) -> dict[str, float]:
        return {"slope": self.slope, "intercept": self.intercept}


def logit(p: np.ndarray) -> np.ndarray:
    """Log odds, of probabilities kept 1e-6 away from 0 and 1."""
    kept = np.clip(np.asarray(p, dtype=float), CLIP, 1 - CLIP)
    return np.log(kept) - np.log1p(-kept)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _loss(z: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """Cross entropy of σ(z) against ``target``, without overflow."""
    return float((weight * (np.logaddexp(0, z) - target * z)).sum())


def reliability(
    y: np.ndarray, p: np.ndarray, weight: np.ndarray, bins: int = BINS
) -> list[dict[str, float | int]]:
    """Bins of (nearly) equally many rows from low to high predictions, each with what was said and what happened.

    Rows of one prediction stay in one bin, so that there may be fewer. Keys: ``n``, ``weight``, ``p_low``, ``p_high``,
    ``p_mean`` and ``rate``, the last two weighted.
    """
    order = np.argsort(p, kind="stable")
    ranked = p[order]
    edges = [len(p) * i // bins for i in range(1, bins)]
    # A cut inside a run of equal predictions moves to where the run began.
    cuts = (
        np.unique([0, *np.searchsorted(ranked, ranked[edges], side="left"), len(p)])
        if len(p)
        else np.array([0])
    )
    found = []
    for lo, hi in itertools.pairwise(cuts):
        part = order[lo:hi]
        total = float(weight[part].sum())
        if total <= 0:
            continue
        found.append(
            {
                "n": int(hi - lo),
                "weight": total,
                "p_low": float(ranked[lo]),
                "p_high": float(ranked[hi - 1]),
                "p_mean": float(np.average(p[part], weights=weight[part])),
                "rate": float(np.average(y[part] == 1, weights=weight[part])),
            }
        )
    return found


def expected_error(bins: list[dict[str, float | int]]) -> float | None:
    """ECE: mean of |rate − prediction| over `reliability`'s bins, by weight. None without a bin."""
    total = sum(b["weight"] for b in bins)
    return sum(b["weight"] * abs(b["rate"] - b["p_mean"]) for b in bins) / total if total else None


def precision_at(y: np.ndarray, p: np.ndarray, weight: np.ndarray, share: float) -> float | None:
    """Weighted share of class 1 among the ⌈share · n⌉ rows of the highest predictions; None without rows.

    Of the rows that tie for the last place each counts in part: the order of rows says nothing.
    """
    n = len(p)
    if n == 0:
        return None
    k = int(np.ceil(share * n))
    last = np.sort(p)[n - k]
    above, tied = p > last, p == last
    part = (k - above.sum()) / tied.sum()
    counted = weight * (above + part * tied)
    return float((counted * (y == 1)).sum() / counted.sum()) if counted.sum() > 0 else None


def summary(y: np.ndarray, p: np.ndarray, weight: np.ndarray) -> dict[str, object]:
    """``reliability``, ``ece`` and ``precision_at_5`` and ``_10``, which are percent of the rows."""
    bins = reliability(y, p, weight)
    found: dict[str, object] = {"reliability": bins, "ece": expected_error(bins)}
    return found | {f"precision_at_{round(100 * s)}": precision_at(y, p, weight, s) for s in SHARES}
