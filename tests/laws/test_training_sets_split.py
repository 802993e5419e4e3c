"""The cut of a training set equals the specification's sentences, and its folds an independent library's."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pytest
from sklearn.model_selection import TimeSeriesSplit

from ml.training_sets import split
from ml.training_sets.split import HOUR_US, SIDES, EmptySide, Samples
from tests.oracle import temporal_split as oracle
from tests.oracle.temporal_split import Sample

START = datetime(2024, 12, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def world(rng: random.Random, n: int, days: float) -> list[Sample]:
    """Samples with ties, operations that last for days, one operation number under two clients, labels at t + 24 h."""
    times = [START + timedelta(days=rng.random() * days) for _ in range(max(1, n // 2))]
    times += [START + timedelta(hours=rng.randrange(int(days * 24) + 1)) for _ in range(5)]
    samples = []
    for _ in range(n):
        as_of = rng.choice(times)
        late = rng.choice([0, 0.000001, 2, 3600, 86_400])
        samples.append(
            Sample(rng.randrange(1, 4), rng.randrange(n // 2 + 1), as_of, as_of + timedelta(seconds=late))
        )
    return samples


def arrays(samples: list[Sample]) -> Samples:
    def us(when: datetime) -> int:
        return (when - EPOCH) // timedelta(microseconds=1)

    columns = [[us(s.as_of) for s in samples], [us(s.label_time) for s in samples]]
    columns += [[s.client for s in samples], [s.operation for s in samples]]
    return Samples.of(*(np.array(c, dtype=np.int64) for c in columns))


def check(samples: list[Sample]) -> bool:
    expected = oracle.sides(samples)
    if not {"train", "test"} <= set(expected):
        with pytest.raises(EmptySide):
            split.cut(arrays(samples))
        return False
    found = split.cut(arrays(samples))
    assert [SIDES[s] for s in found.side] == expected
    assert found.split_at_us == (oracle.split_at(samples) - EPOCH) // timedelta(microseconds=1)
    given = arrays(samples)
    is_tail = (found.side == split.TRAIN) & (given.as_of_us >= found.validation_from_us)
    assert sorted(s.as_of for s, t in zip(samples, is_tail, strict=True) if t) == sorted(
        s.as_of for s in oracle.tail(samples)
    )
    judge(given, found)
    return True


def judge(given: Samples, found: split.Cut) -> None:
    """What no reader may ever find, whatever the formula: spec/execution.md 5.2, rule 3 (d) and (e)."""
    train, test = (found.side == s for s in (split.TRAIN, split.TEST))
    assert not set(given.operation[train]) & set(given.operation[test])
    assert given.label_time_us[train].max() < found.split_at_us - split.EMBARGO_S * 1_000_000
    assert given.as_of_us[test].min() >= found.split_at_us
    before = None
    for fold in found.folds:
        inside = Samples(given.as_of_us[train], given.label_time_us[train], given.operation[train])
        rows, held = split.fold_rows(fold, inside)
        assert not set(inside.operation[rows]) & set(inside.operation[held])
        assert (inside.label_time_us[rows] < fold.test_start_us - split.EMBARGO_S * 1_000_000).all()
        assert fold.test_end_us <= found.split_at_us - split.EMBARGO_S * 1_000_000
        assert before is None or before <= fold.test_start_us
        before = fold.test_end_us


def run(count: int, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    done = [check(world(rng, rng.randrange(1, 120), rng.choice([0.5, 3, 20, 60]))) for _ in range(count)]
    assert 0 < sum(done) < count, "some worlds must be cut, and some be too short"


def test_the_cut_equals_the_oracle():
    run(60, 5)


@pytest.mark.long
def test_the_cut_equals_the_oracle_many_times():
    run(3_000, 6)


def test_the_cut_is_duckdbs_quantile_disc():
    rng = np.random.default_rng(3)
    for n in (1, 2, 4, 5, 9, 10, 11, 99, 100, 101, 1_000):
        as_of = rng.integers(0, 90 * 24 * HOUR_US, n)
        ordered = np.sort(as_of)
        expected = duckdb.execute(
            "select quantile_disc(x, 0.8) from (select unnest($1) as x)", [as_of.tolist()]
        )
        assert ordered[-(-4 * n // 5) - 1] == expected.fetchone()[0]


@pytest.mark.parametrize("n", [60, 131, 500])
def test_folds_equal_those_of_scikit_learn(n):
    """One sample an hour, whose label is known at once: an embargo of 24 hours is a gap of 24 samples."""
    as_of = np.arange(n, dtype=np.int64) * HOUR_US + 17
    given = Samples(as_of, as_of, np.arange(n))
    found = split.folds(as_of, int(as_of[-1]) + 1)
    expected = _of_library(as_of)
    assert len(found) == len(expected) > 0
    for fold, (train, test) in zip(found, expected, strict=True):
        rows, held = split.fold_rows(fold, given)
        assert rows.tolist() == train.tolist()
        assert held.tolist() == test.tolist()


def _of_library(as_of: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The library refuses folds without a training row: its tests without a gap, less the last 24 rows before them."""
    plain = TimeSeriesSplit(split.FOLDS).split(as_of)
    return [(train[:-24], test) for train, test in plain if len(train) > 24]


def test_a_label_known_before_its_features_is_no_training_sample():
    as_of = np.arange(100, dtype=np.int64) * HOUR_US
    found = split.cut(Samples(as_of, np.zeros(100, dtype=np.int64), np.arange(100)))
    assert (found.side[as_of >= found.split_at_us] == split.TEST).all()


def test_an_empty_side_is_refused_with_what_to_do():
    empty = np.array([], dtype=np.int64)
    with pytest.raises(EmptySide, match=r"no eligible sample.*build"):
        split.cut(Samples(empty, empty, empty))
    with pytest.raises(EmptySide, match="train had no sample of 3"):
        split.cut(Samples(np.array([1, 2, 3]), np.array([1, 2, 3]), np.array([1, 2, 3])))


def test_times_are_written_as_they_are_read():
    for time in (0, 1, 1_735_300_800_123_456):
        assert split.from_iso(split.iso(time)) == time
    assert split.iso(1_735_300_800_123_456) == "2024-12-27T12:00:00.123456Z"
