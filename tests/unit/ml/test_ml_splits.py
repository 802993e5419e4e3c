"""The walk-forward of spec/market.md 14.3 against a brute-force reading of its sentences, and a library's."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_worlds import session_names
from sklearn.model_selection import TimeSeriesSplit

from ml import splits


@pytest.mark.parametrize("n", range(13, 90))
def test_folds_keep_every_sentence_of_the_specification(n):
    days = session_names(n)
    plan = splits.plan(days)
    holdout = days[-2:] if n >= 20 else []
    rest = days[: len(days) - len(holdout)]
    block = max(1, (len(rest) - 10 - 2) // 5)

    assert list(plan.holdout) == holdout
    assert plan.insufficient_folds == (len(plan.folds) < 5)
    assert (len(plan.folds) >= 5) == (len(rest) >= 17)
    for fold in plan.folds:
        assert len(fold.test) == block
        assert len(fold.training) >= 10
        assert len(fold.inner) == max(1, len(fold.training) // 5)
        at = [days.index(part[i]) for part in (fold.train, fold.inner, fold.test) for i in (0, -1)]
        assert at[0] == 0, "training expands from the first session"
        assert at[2] - at[1] == 2, "one embargoed session before the inner validation"
        assert at[4] - at[3] == 2, "one embargoed session before the test"
        for part in (fold.train, fold.inner, fold.test):
            start = days.index(part[0])
            assert list(part) == days[start : start + len(part)], "parts are blocks in order"
        assert not set(fold.test) & set(holdout)
    tested = list(itertools.chain(*(f.test for f in plan.folds)))
    assert tested == rest[len(rest) - len(tested) :], "test blocks follow each other up to the last session"
    assert len(rest) - len(tested) - 12 < block, "as many folds as fit"


@pytest.mark.parametrize("n", [13, 17, 18, 19, 20, 23, 38, 40, 61])
def test_test_blocks_are_those_of_a_library(n):
    days = np.array(session_names(n))
    plan = splits.plan(days.tolist())
    rest = days[: n - len(plan.holdout)]
    block = len(plan.folds[0].test)
    oracle = (
        TimeSeriesSplit(n_splits=len(plan.folds), test_size=block, gap=1).split(rest)
        if len(plan.folds) > 1
        else []
    )
    for fold, (before, test) in zip(plan.folds, oracle, strict=False):
        assert list(fold.test) == rest[test].tolist()
        assert fold.inner[-1] == rest[before][-1]


def test_final_fit_keeps_its_distance_from_the_holdout_and_uses_all_without_one():
    days = session_names(20)
    final = splits.plan(days).final
    assert final.test == tuple(days[18:])
    assert final.inner[-1] == days[16]
    assert len(final.training) == 16
    assert splits.plan(days[:19]).final.inner[-1] == days[18]


def test_too_few_sessions_say_how_many_are_needed():
    with pytest.raises(splits.TooFewSessions, match="had 12 sessions, expected at least 13"):
        splits.plan(session_names(12))
    assert splits.plan(session_names(13)).insufficient_folds


@pytest.mark.parametrize("days", [["2025-12-02", "2025-12-01"], ["2025-12-01", "2025-12-01"]])
def test_sessions_out_of_order_are_refused(days):
    with pytest.raises(ValueError, match="strictly ascending"):
        splits.plan(days * 10)


intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=12)


@given(a=intervals, b=intervals)
@settings(max_examples=200, deadline=None)
def test_overlap_equals_every_pair_compared(a, b):
    start, end = (
        np.array([s for s, _ in a], dtype=np.int64),
        np.array([s + d for s, d in a], dtype=np.int64),
    )
    other = (np.array([s for s, _ in b], dtype=np.int64), np.array([s + d for s, d in b], dtype=np.int64))
    brute = [any(s <= t + e and t <= s + d for t, e in b) for s, d in a]
    assert splits.overlaps(start, end, *other).tolist() == brute


@st.composite
def tables(draw):
    """Rows whose label windows may reach into later sessions: what whole sessions are meant to exclude."""
    n_days = draw(st.integers(13, 24))
    n = draw(st.integers(30, 120))
    day = np.array(draw(st.lists(st.integers(0, n_days - 1), min_size=n, max_size=n)))
    # Every session has a row, or it would be no session of the table.
    day[:n_days] = np.arange(n_days)
    asof = day * 1_000 + np.array(draw(st.lists(st.integers(0, 900), min_size=n, max_size=n)))
    end = asof + np.array(draw(st.lists(st.sampled_from([5, 50, 400, 2_500, 6_000]), min_size=n, max_size=n)))
    return np.array(session_names(n_days))[day], asof, end


@given(tables())
@settings(max_examples=60, deadline=None)
def test_no_window_of_a_training_row_touches_another_side(table):
    session, asof, end = table
    plan = splits.plan(sorted(set(session.tolist())))
    cluster = np.array([f"{s}|{i % 3}" for i, s in enumerate(session)])
    for fold in (*plan.folds, plan.final):
        rows = splits.rows(fold, session, asof, end, cluster)
        parts = [set(p.tolist()) for p in (rows.train, rows.inner, rows.test)]
        assert len(parts[0] | parts[1] | parts[2]) == sum(map(len, parts))
        assert {session[i] for i in parts[2]} <= set(fold.test)

        def meets(i, others):
            return any(asof[i] <= end[j] and asof[j] <= end[i] for j in others)

        inner = {i for i in range(len(session)) if session[i] in fold.inner and not meets(i, parts[2])}
        train = {
            i
            for i in range(len(session))
            if session[i] in fold.train and not meets(i, parts[2]) and not meets(i, inner)
        }
        assert parts[1] == inner
        assert parts[0] == train
        whole = sum(s in fold.training for s in session)
        assert rows.purged == whole - len(train) - len(inner)
        assert [session[i] for i in sorted(parts[2])] == [s for s in session if s in fold.test]


def test_a_cluster_on_two_sides_is_refused():
    days = session_names(13)
    session = np.array(days)
    asof = np.arange(13) * 1_000
    cluster = np.array([f"c{i}" for i in range(13)])
    fold = splits.plan(days).folds[0]
    assert splits.rows(fold, session, asof, asof + 10, cluster).purged == 0
    cluster[12] = cluster[3]
    with pytest.raises(splits.SplitViolation, match="cluster c3"):
        splits.rows(fold, session, asof, asof + 10, cluster)
    numbers = np.arange(13) * 7
    by_day = session.astype("datetime64[D]")
    assert splits.rows(fold, by_day, asof, asof + 10, numbers).test.tolist() == [12]
    numbers[12] = numbers[3]
    with pytest.raises(splits.SplitViolation, match="cluster 21 stood on two sides"):
        splits.rows(fold, by_day, asof, asof + 10, numbers)


def test_days_choose_the_rows_that_their_names_do():
    days = session_names(24)
    rng = np.random.default_rng(0)
    session = np.array(days)[np.sort(np.concatenate([np.arange(24), rng.integers(0, 24, 300)]))]
    asof = np.unique(session, return_inverse=True)[1] * 1_000 + rng.integers(0, 900, len(session))
    end = asof + rng.choice([5, 2_500], len(session))
    plan, cluster = splits.plan(days), np.arange(len(session))
    for fold in (*plan.folds, plan.final):
        named, dated = (splits.rows(fold, s, asof, end, cluster) for s in (session, session.astype("M8[D]")))
        assert named.purged == dated.purged > 0
        for part in ("train", "inner", "test"):
            assert getattr(named, part).tolist() == getattr(dated, part).tolist()
