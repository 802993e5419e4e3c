"""Scores against scikit-learn and by hand; the bootstrap draws sessions, the same ones every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from ml import metrics
from tests.oracle import intervals


def test_scores_by_hand():
    y = np.array([1, 0, 1, 0])
    p = np.array([0.9, 0.6, 0.4, 0.1])
    w = np.array([1.0, 1.0, 2.0, 1.0])
    scores = metrics.binary_scores(y, p, w)
    # Pairs by weight: (0.9 above both) 2, (0.4 above 0.1 only) 2 of 4: 4 of 6.
    assert scores["roc_auc"] == pytest.approx(4 / 6)
    # Recall steps: 1/3 at precision 1, then 2/3 at precision 3/4.
    assert scores["pr_auc"] == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)
    assert scores["brier"] == pytest.approx((0.01 + 0.36 + 2 * 0.36 + 0.01) / 5)
    assert scores["log_loss"] == pytest.approx(
        -(np.log(0.9) + np.log(0.4) + 2 * np.log(0.4) + np.log(0.9)) / 5
    )
    assert scores["accuracy"] == pytest.approx(2 / 5)
    assert metrics.brier_skill(0.1, 0.25) == pytest.approx(0.6)
    assert metrics.brier_skill(0.1, 0.0) is None


def test_one_class_has_no_ranking():
    scores = metrics.binary_scores(np.ones(3, dtype=int), np.array([0.2, 0.5, 0.9]), np.ones(3))
    assert scores["roc_auc"] is None
    assert scores["pr_auc"] is None
    assert scores["brier"] == pytest.approx((0.64 + 0.25 + 0.01) / 3)


rows = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.2000001, 0.5, 0.9]), st.integers(0, 3)),
    min_size=2,
    max_size=40,
)


@given(rows)
@settings(max_examples=200, deadline=None)
def test_weighted_ranking_equals_scikit_learn(table):
    y, p, w = (np.array(column) for column in zip(*table, strict=True))
    w = w.astype(float)
    if not (w[y == 1].sum() and w[y == 0].sum()):
        assert np.isnan(metrics.weighted_roc_auc(y, p, w))
        assert np.isnan(metrics.weighted_average_precision(y, p, w))
        return
    assert metrics.weighted_roc_auc(y, p, w) == pytest.approx(roc_auc_score(y, p, sample_weight=w), rel=1e-9)
    expected = average_precision_score(y, p, sample_weight=w)
    assert metrics.weighted_average_precision(y, p, w) == pytest.approx(expected, rel=1e-9)


def world(seed=3, n_sessions=8, per=30):
    rng = np.random.default_rng(seed)
    session = np.repeat([f"2025-12-{d:02d}" for d in range(1, n_sessions + 1)], per)
    y = rng.integers(0, 2, len(session))
    p = np.clip(0.5 + 0.2 * (y - 0.5) + rng.normal(0, 0.2, len(session)), 0.01, 0.99)
    return session, y, p, rng.uniform(0.2, 1.0, len(session))


def test_draws_take_whole_sessions_and_equal_a_resampled_table():
    session, y, p, w = world()
    boot = metrics.SessionBootstrap.of(session, draws=20, seed=7)
    auc, ap = boot.ranked(y, p, w)
    brier = boot.ratio(w * (p - y) ** 2, w)
    names = np.unique(session)
    for draw in range(20):
        counts = dict(zip(names, boot.counts[draw], strict=True))
        assert sum(counts.values()) == len(names)
        picked = np.concatenate([np.repeat(np.flatnonzero(session == s), c) for s, c in counts.items()])
        assert auc[draw] == pytest.approx(roc_auc_score(y[picked], p[picked], sample_weight=w[picked]))
        assert ap[draw] == pytest.approx(
            average_precision_score(y[picked], p[picked], sample_weight=w[picked])
        )
        assert brier[draw] == pytest.approx(np.average((p[picked] - y[picked]) ** 2, weights=w[picked]))


def test_bootstrap_repeats_itself_and_hangs_on_its_seed(monkeypatch):
    session, y, p, w = world()
    first = metrics.SessionBootstrap.of(session, seed=42).ranked(y, p, w)[0]
    assert len(first) == 1_000
    again = metrics.SessionBootstrap.of(session, seed=42).ranked(y, p, w)[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, metrics.SessionBootstrap.of(session, seed=43).ranked(y, p, w)[0])
    monkeypatch.setattr(metrics, "BLOCK_CELLS", 1_000)  # blocks bound memory, nothing else
    assert np.array_equal(first, metrics.SessionBootstrap.of(session, seed=42).ranked(y, p, w)[0])
    low, high = metrics.SessionBootstrap.of(session, seed=42).interval(first)
    assert low < metrics.weighted_roc_auc(y, p, w) < high
    narrow = np.percentile(first, [2.5, 97.5])
    assert low < narrow[0] < narrow[1] < high


@pytest.mark.parametrize("sessions", [2, 3, 10, 15, 40, 400])
def test_an_interval_is_the_oracles(sessions):
    rng = np.random.default_rng(sessions)
    session = np.repeat(np.arange(sessions), rng.integers(1, 30, sessions))
    weight = rng.uniform(0.2, 1, len(session))
    boot = metrics.SessionBootstrap.of(session, draws=300, seed=1, weight=weight)
    values = boot.ratio(weight * rng.normal(0, 1, len(session)), weight)
    effective = max(2.0, intervals.effective([weight[session == s].sum() for s in range(sessions)]))
    assert boot.effective == pytest.approx(effective)
    for coverage in (0.5, 0.9, 0.95):
        expected = intervals.expanded_percentiles(values.tolist(), effective, coverage)
        assert boot.interval(np.r_[values, np.nan], coverage) == pytest.approx(expected, abs=1e-6)


def test_sessions_of_one_size_are_as_many_as_they_are_and_one_large_one_is_hardly_any():
    def of(sizes):
        return metrics.SessionBootstrap.of(np.repeat(np.arange(len(sizes)), sizes), draws=2, seed=1)

    assert of([7] * 12).effective == pytest.approx(12)
    assert of([1000, 1, 1, 1]).effective == 2.0
    assert of([20, 10]).effective == 2.0
    by_weight = metrics.SessionBootstrap.of(
        np.arange(12), draws=2, seed=1, weight=np.r_[np.ones(6), np.zeros(6)]
    )
    assert by_weight.effective == pytest.approx(6)


def test_draws_of_a_mean_give_the_t_interval_of_a_normal_sample():
    """What the expansion is made for: as wide as x̄ ± t·s/√n, on average over samples of ten."""
    wide, narrow, expected = [], [], []
    for seed in range(200):
        sample = np.random.default_rng(seed).normal(0, 1, 10)
        boot = metrics.SessionBootstrap.of(np.arange(10), seed=seed)
        means = boot.ratio(sample, np.ones(10))
        low, high = boot.interval(means)
        wide.append(high - low)
        narrow.append(float(np.diff(np.percentile(means, [2.5, 97.5]))[0]))
        expected.append(2 * 2.262157 * sample.std(ddof=1) / np.sqrt(10))
        assert boot.standard_error(means) == pytest.approx(sample.std(ddof=1) / np.sqrt(10), rel=0.1)
    assert np.mean(wide) == pytest.approx(np.mean(expected), rel=0.06)
    assert np.mean(narrow) < 0.85 * np.mean(expected)


def test_interval_of_nothing_is_none():
    boot = metrics.SessionBootstrap.of(np.arange(3), seed=1)
    assert boot.interval(np.array([np.nan, np.nan])) == (None, None)
    assert boot.standard_error(np.array([np.nan, 1.0])) == 0.0


def test_pairs_within_strata_by_brute_force():
    session, y, p, w = world(n_sessions=5, per=12)
    ordered, total = metrics.pairs_within(y, p, w, session)
    for s in np.unique(session):
        part = np.flatnonzero(session == s)
        pairs = [(i, j) for i in part for j in part if y[i] == 1 and y[j] == 0]
        assert total[part].sum() == pytest.approx(sum(w[i] * w[j] for i, j in pairs))
        expected = sum(w[i] * w[j] * ((p[i] > p[j]) + (p[i] == p[j]) / 2) for i, j in pairs)
        assert ordered[part].sum() == pytest.approx(expected)


def test_knowing_only_the_stratum_gains_nothing_within():
    rng = np.random.default_rng(0)
    stratum = np.repeat(["calm", "wild"], 500)
    rate = np.where(stratum == "wild", 0.8, 0.2)
    y = (rng.random(1_000) < rate).astype(int)
    assert metrics.weighted_roc_auc(y, rate, np.ones(1_000)) > 0.7
    ordered, total = metrics.pairs_within(y, rate, np.ones(1_000), stratum)
    assert ordered.sum() / total.sum() == pytest.approx(0.5)
