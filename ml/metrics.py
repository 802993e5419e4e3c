"""Weighted scores of a binary prediction, and how sure they are: a bootstrap that draws whole sessions.

Every interval that is shown is `SessionBootstrap.interval`; docs/adr/0017 has what it covers with few sessions.

Point values are scikit-learn's. The draws of the bootstrap only change row weights, never the order of the
scores, so they reuse one sort; `weighted_roc_auc` and `weighted_average_precision` equal scikit-learn's on
any weights.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

DRAWS = 1_000
COVERAGE = 0.95
# Draws are evaluated in blocks of about this many (draw, row) cells: 32 MB of doubles.
BLOCK_CELLS = 4_000_000


def binary_scores(y: np.ndarray, p: np.ndarray, weight: np.ndarray) -> dict[str, float | None]:
    """Scores of the probabilities ``p`` against the classes ``y`` in {0, 1}; all (n,), n ≥ 1.

    ``roc_auc`` and ``pr_auc`` (average precision) are None when only one class is there. ``accuracy`` is at
    0.5.
    """
    both = 0 < int(np.sum(y)) < len(y)
    return {
        "roc_auc": float(roc_auc_score(y, p, sample_weight=weight)) if both else None,
        "pr_auc": float(average_precision_score(y, p, sample_weight=weight)) if both else None,
        "brier": float(brier_score_loss(y, p, sample_weight=weight, pos_label=1)),
        "log_loss": float(log_loss(y, p, sample_weight=weight, labels=[0, 1])),
        "accuracy": float(np.average((p >= 0.5) == (y == 1), weights=weight)),
    }


def brier_skill(brier: float, reference: float) -> float | None:
    """1 − brier/reference: 1 is perfect, 0 is no better than the reference, below 0 is worse. None for a
    perfect reference.
    """
    return 1.0 - brier / reference if reference > 0 else None


@dataclass(frozen=True)
class SessionBootstrap:
    """How often each session stands in each draw: ``counts`` is (draws, sessions), every row sums to the
    sessions. ``effective``: how many sessions of one weight would be as good as these, at least 2.
    """

    session: np.ndarray  # (rows,) index of the row's session
    counts: np.ndarray
    effective: float

    @classmethod
    def of(
        cls,
        session_date: np.ndarray,
        *,
        draws: int = DRAWS,
        seed: int,
        weight: np.ndarray | None = None,
    ) -> "SessionBootstrap":
        """``session_date`` and ``weight`` (rows,); without weights each row counts the same.

        ``effective`` is (Σ W)²/Σ W² over the sessions' total weights W. Source: Kish 1965, "Survey Sampling".
        """
        names, session = np.unique(session_date, return_inverse=True)
        rng = np.random.default_rng(seed)
        total = np.bincount(session, weight, len(names)).astype(float)
        effective = float(total.sum() ** 2 / (total**2).sum()) if total.any() else 0.0
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
        return cls(session, counts, max(effective, 2.0))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of what varies between the sessions."""
        return self.effective - 1

    def standard_error(self, values: np.ndarray) -> float:
        """Of a score, by its value in each draw (draws,); 0 where fewer than two are finite.

        Draws vary less than samples do, by √((n − 1)/n) of n sessions.
        """
        values = values[np.isfinite(values)]
        return float(values.std(ddof=1)) * (self.effective / self.freedom) ** 0.5 if len(values) > 1 else 0.0

    def interval(self, values: np.ndarray, coverage: float = COVERAGE) -> tuple[float | None, float | None]:
        """Expanded percentile interval of a score by its value in each draw, (draws,); (None, None) if none is finite.

        The plain percentiles of draws of few sessions are too narrow: they stand for x̄ ± z·σ̂ where a sample of n allows
        x̄ ± t·s, with n − 1 degrees of freedom and s = σ̂·√(n/(n − 1)). So the quantiles are taken further out, where a
        normal distribution of the draws would give the t-interval: at Φ(∓ t·√(n/(n − 1))). Of sessions that weigh
        differently n is `effective`.

        Source: Hesterberg 2015, "What teachers should know about the bootstrap", The American Statistician 69(4);
        Carter, Schnepel and Steigerwald 2017, "Asymptotic behavior of a t-test robust to cluster
        heterogeneity", The Review of Economics and Statistics 99(4), for the effective number of clusters.
        """
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return None, None
        t = float(stdtrit(self.freedom, (1 + coverage) / 2))
        tail = NormalDist().cdf(-t * (self.effective / self.freedom) ** 0.5)
        low, high = np.quantile(values, [tail, 1 - tail])
        return float(low), float(high)

    def ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        """Σ numerator / Σ denominator over the rows of each draw; inputs (rows,), result (draws,), NaN for
        0/0.
        """
        n = self.counts.shape[1]
        top = self.counts @ np.bincount(self.session, numerator, n)
        bottom = self.counts @ np.bincount(self.session, denominator, n)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(bottom != 0, top / bottom, np.nan)

    def ranked(self, y: np.ndarray, p: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ROC-AUC and average precision of each draw, (draws,) each; NaN where it holds one class only."""
        rank = _Ranking.of(y, p)
        draws = len(self.counts)
        auc, ap = np.empty(draws), np.empty(draws)
        step = max(1, BLOCK_CELLS // max(1, len(y)))
        for lo in range(0, draws, step):
            block = slice(lo, min(draws, lo + step))
            auc[block], ap[block] = rank.scores(self.counts[block][:, self.session] * weight)
        return auc, ap


@dataclass(frozen=True)
class _Ranking:
    """Rows from the highest score to the lowest; equal scores form one group."""

    order: np.ndarray
    starts: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray, p: np.ndarray) -> "_Ranking":
        order = np.argsort(-p, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(p[order]) != 0])
        return cls(order, starts, (y[order] == 1).astype(float))

    def scores(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = weights[:, self.order]
        positive = np.add.reduceat(weights * self.positive, self.starts, axis=1)
        negative = np.add.reduceat(weights * (1 - self.positive), self.starts, axis=1)
        above = np.cumsum(positive, axis=1)
        all_above = above + np.cumsum(negative, axis=1)
        n_pos, n_neg = positive.sum(axis=1), negative.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            auc = (negative * (above - positive / 2)).sum(axis=1) / (n_pos * n_neg)
            precision = np.where(all_above > 0, above / all_above, 0.0)
            ap = (positive * precision).sum(axis=1) / n_pos
        one_class = (n_pos == 0) | (n_neg == 0)
        return np.where(one_class, np.nan, auc), np.where(one_class, np.nan, ap)


def weighted_roc_auc(y: np.ndarray, p: np.ndarray, weight: np.ndarray) -> float:
    """Share of (positive, negative) pairs, by weight, that ``p`` puts in order; ties count half. NaN for
    one class.
    """
    return float(_Ranking.of(y, p).scores(weight[None, :].astype(float))[0][0])


def weighted_average_precision(y: np.ndarray, p: np.ndarray, weight: np.ndarray) -> float:
    """Precision at each distinct score, weighted by the recall it adds. NaN for one class."""
    return float(_Ranking.of(y, p).scores(weight[None, :].astype(float))[1][0])


def pairs_within(
    y: np.ndarray, p: np.ndarray, weight: np.ndarray, stratum: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ordered and all (positive, negative) pairs inside each stratum, by weight, booked on the stratum's
    first row.

    Their ratio is the AUC that no difference between strata can raise: under labels permuted within strata
    it is 0.5 on average whatever the model knows about a stratum. All (rows,).
    """
    ordered, total = np.zeros(len(y)), np.zeros(len(y))
    by_stratum = np.argsort(stratum, kind="stable")
    edges = np.flatnonzero(np.r_[True, stratum[by_stratum][1:] != stratum[by_stratum][:-1]])
    for part in np.split(by_stratum, edges[1:]):
        n_pos = weight[part][y[part] == 1].sum()
        n_neg = weight[part][y[part] == 0].sum()
        if n_pos > 0 and n_neg > 0:
            total[part[0]] = n_pos * n_neg
            ordered[part[0]] = weighted_roc_auc(y[part], p[part], weight[part]) * n_pos * n_neg
    return ordered, total
