"""The one cut of a training set, strictly by time (spec/execution.md 5.3), and its walk-forward folds.

A sample reaches from ``as_of``, the instant its features are of, to ``label_time``, when its label was known::

    train … train │ embargo │ test … test        train:  label_time < split_at − embargo
                            split_at             test:   as_of ≥ split_at

Times are microseconds since 1970, UTC. Nothing here is random.
"""

from dataclasses import dataclass

import numpy as np

HOUR_US = 3_600_000_000
EMBARGO_S = 86_400
"""The larger of the label horizon and the longest look-back, 24 hours each."""
FOLDS = 5

TRAIN, TEST, EMBARGO, OPERATION_STRADDLE = range(4)
SIDES = ("train", "test", "EMBARGO", "OPERATION_STRADDLE")


class EmptySide(ValueError):
    """Train or test would hold no sample."""


@dataclass(frozen=True)
class Samples:
    """Keys of the eligible samples, all (n,), in any order; ``operation`` is a number for each (client, operation)."""

    as_of_us: np.ndarray
    label_time_us: np.ndarray
    operation: np.ndarray

    @classmethod
    def of(
        cls, as_of_us: np.ndarray, label_time_us: np.ndarray, client_id: np.ndarray, operation_id: np.ndarray
    ) -> "Samples":
        pairs = np.column_stack([client_id, operation_id]).astype(np.int64)
        return cls(as_of_us, label_time_us, np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1))


@dataclass(frozen=True)
class Fold:
    """Bounds of one walk-forward fold: train is ``label_time < train_end``, test is ``[test_start, test_end)``."""

    train_end_us: int
    test_start_us: int
    test_end_us: int


@dataclass(frozen=True)
class Cut:
    """``side`` (n,) int8 is an index into `SIDES`; the last tenth of train begins at ``validation_from_us``."""

    split_at_us: int
    side: np.ndarray
    validation_from_us: int
    folds: tuple[Fold, ...]


def cut(samples: Samples, embargo_s: int = EMBARGO_S) -> Cut:
    """Put each sample on one side.

    ``split_at`` is the hour in which the ⌈0.8 n⌉-th ``as_of`` lies. A sample that is in neither side by its times is
    ``EMBARGO``; one of train whose operation has a sample in test is ``OPERATION_STRADDLE``.
    Raises EmptySide when train or test would be empty.
    """
    n = len(samples.as_of_us)
    if n == 0:
        raise EmptySide(
            "training set had no eligible sample, expected some; build the candidates of more dates"
        )
    ordered = np.sort(samples.as_of_us)
    split_at = int(ordered[-(-4 * n // 5) - 1]) // HOUR_US * HOUR_US
    side = np.full(n, EMBARGO, dtype=np.int8)
    is_test = samples.as_of_us >= split_at
    is_train = samples.label_time_us < split_at - embargo_s * 1_000_000
    side[is_train] = TRAIN
    side[is_test] = TEST  # a label known before its own features would be both: it is no training sample
    in_test = np.zeros(int(samples.operation.max()) + 1, dtype=bool)
    in_test[samples.operation[is_test]] = True
    side[(side == TRAIN) & in_test[samples.operation]] = OPERATION_STRADDLE
    for number, name in ((TRAIN, "train"), (TEST, "test")):
        if not (side == number).any():
            raise EmptySide(
                f"{name} had no sample of {n} eligible ones, cut at {iso(split_at)} with an embargo of {embargo_s} s, "
                "expected some; build the candidates of more dates"
            )
    train = np.sort(samples.as_of_us[side == TRAIN])
    return Cut(split_at, side, tail_start(train), folds(train, split_at - embargo_s * 1_000_000, embargo_s))


def tail_start(as_of_us: np.ndarray) -> int:
    """Where the last tenth of sorted times (n,), n ≥ 1, begins; it has ⌈n/10⌉ of them, and those that tie."""
    n = len(as_of_us)
    return int(as_of_us[n - -(-n // 10)])


def folds(as_of_us: np.ndarray, end_us: int, embargo_s: int = EMBARGO_S, k: int = FOLDS) -> tuple[Fold, ...]:
    """Bounds of ``k`` expanding folds over the sorted ``as_of_us`` of train (n,), the last one ending at ``end_us``.

    The tests are ``k`` blocks of ⌊n/(k + 1)⌋ samples at the end, each beginning on the hour. A fold is left out where
    its test is empty or no sample of train lies before its embargo: a short range of time has fewer folds than ``k``.
    """
    n, size = len(as_of_us), len(as_of_us) // (k + 1)
    if size == 0:
        return ()
    starts = [int(as_of_us[n - (k - i) * size]) // HOUR_US * HOUR_US for i in range(k)]
    found = []
    for start, end in zip(starts, [*starts[1:], end_us], strict=True):
        train_end = start - embargo_s * 1_000_000
        if start < end and as_of_us[0] < train_end:
            found.append(Fold(train_end, start, end))
    return tuple(found)


def fold_rows(fold: Fold, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a fold's train and test, ascending; an operation of test loses its samples in train."""
    test = np.flatnonzero((samples.as_of_us >= fold.test_start_us) & (samples.as_of_us < fold.test_end_us))
    train = np.flatnonzero(
        (samples.label_time_us < fold.train_end_us) & (samples.as_of_us < fold.test_start_us)
    )
    return train[~np.isin(samples.operation[train], samples.operation[test])], test


def iso(time_us: int) -> str:
    """``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""
    return np.datetime_as_string(np.datetime64(time_us, "us"), unit="us") + "Z"


def from_iso(text: str) -> int:
    """Microseconds of what `iso` wrote."""
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))
