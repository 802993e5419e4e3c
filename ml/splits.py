"""Purged rolling-origin walk-forward over whole sessions (spec/market.md 14.3; López de Prado 2018, ch. 7).

One fold, in sessions, oldest first::

    train … train │ embargo │ inner … inner │ embargo │ test … test

The training sessions are ``train`` and ``inner`` together; ``inner``, their last fifth, only stops the
boosting.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_TRAIN_SESSIONS = 10
EMBARGO_SESSIONS = 1
MIN_FOLDS = 5
HOLDOUT_SESSIONS = 2
MIN_SESSIONS_FOR_HOLDOUT = 20
# Of one fold: the training sessions, an embargo on each side of the inner validation, and one test session.
MIN_SESSIONS = MIN_TRAIN_SESSIONS + 2 * EMBARGO_SESSIONS + 1


class TooFewSessions(ValueError):
    """Not even one fold fits."""


class SplitViolation(ValueError):
    """Rows of one cluster would stand on two sides of a split; sessions of the table are broken."""


@dataclass(frozen=True)
class Fold:
    """Session dates (ISO) of one fold, in order. ``number`` counts from 1; the final fit has number 0."""

    number: int
    train: tuple[str, ...]
    inner: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def training(self) -> tuple[str, ...]:
        """All training sessions: what comparators are fitted on."""
        return self.train + self.inner


@dataclass(frozen=True)
class Plan:
    """``final`` fits the model that is kept: on everything before the holdout, with the holdout as its
    test.
    """

    folds: tuple[Fold, ...]
    final: Fold
    holdout: tuple[str, ...]
    insufficient_folds: bool


@dataclass(frozen=True)
class Rows:
    """Row indices of one fold, ascending. ``purged`` counts training rows removed for overlapping a later
    part.
    """

    train: np.ndarray
    inner: np.ndarray
    test: np.ndarray
    purged: int

    @property
    def training(self) -> np.ndarray:
        return np.concatenate([self.train, self.inner])


def plan(sessions: Sequence[str]) -> Plan:
    """Folds of the distinct, ascending session dates ``sessions``.

    The last two sessions are the holdout when there are at least 20. Of the n that remain, a test block has
    max(1, ⌊(n − 10 − 2)/5⌋) sessions; blocks follow each other and the last ends with session n, so a
    remainder only makes the first training longer. Fewer than 5 folds set ``insufficient_folds``.

    Raises TooFewSessions below 13 sessions, ValueError when ``sessions`` is not strictly ascending.
    """
    days = tuple(sessions)
    if any(a >= b for a, b in itertools.pairwise(days)):
        raise ValueError(
            "sessions were not strictly ascending, expected distinct ISO dates in order; sort them"
        )
    if len(days) < MIN_SESSIONS:
        raise TooFewSessions(
            f"training table had {len(days)} sessions, expected at least {MIN_SESSIONS} "
            f"({MIN_TRAIN_SESSIONS} to train, {2 * EMBARGO_SESSIONS} embargoed, 1 to test); "
            "land more sessions and run `dbt build`"
        )
    n_holdout = HOLDOUT_SESSIONS if len(days) >= MIN_SESSIONS_FOR_HOLDOUT else 0
    holdout = days[len(days) - n_holdout :]
    days = days[: len(days) - n_holdout]

    lead = MIN_TRAIN_SESSIONS + 2 * EMBARGO_SESSIONS
    block = max(1, (len(days) - lead) // 5)
    n_folds = (len(days) - lead) // block
    first_test = len(days) - n_folds * block
    folds = []
    for i in range(n_folds):
        start = first_test + i * block
        train, inner = _train_and_inner(days[: start - EMBARGO_SESSIONS])
        folds.append(Fold(i + 1, train, inner, days[start : start + block]))
    # Without a holdout nothing is scored after the final fit, so there is nothing to keep a distance from.
    train, inner = _train_and_inner(days[:-EMBARGO_SESSIONS] if holdout else days)
    return Plan(tuple(folds), Fold(0, train, inner, holdout), holdout, n_folds < MIN_FOLDS)


def _train_and_inner(days: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    n_inner = max(1, (len(days) - EMBARGO_SESSIONS) // 5)
    return days[: len(days) - n_inner - EMBARGO_SESSIONS], days[len(days) - n_inner :]


def rows(
    fold: Fold, session_date: np.ndarray, asof_ns: np.ndarray, label_end_ns: np.ndarray, cluster: np.ndarray
) -> Rows:
    """Rows of each part of ``fold`` after the purge.

    Shapes: all inputs (rows,); ``session_date`` is ISO text or datetime64[D], ``cluster`` any key of the attempt
            cluster.
    Purge:  a training row whose [asof_ns, label_end_ns] meets the interval of any test row is removed, and
            one of ``train`` that meets an ``inner`` row; both ends count. Whole sessions make this empty;
            it is checked anyway.
    Raises: SplitViolation when rows of one cluster stand in two parts.
    """
    train, inner, test = (
        np.flatnonzero(np.isin(session_date, np.array(part, session_date.dtype)))
        for part in (fold.train, fold.inner, fold.test)
    )
    for one, other in itertools.combinations((cluster[train], cluster[inner], cluster[test]), 2):
        if len(both := _common(one, other)):
            raise SplitViolation(
                f"cluster {both[0]} stood on two sides of fold {fold.number}, expected whole clusters; "
                "check session_date"
            )

    def clear_of(part: np.ndarray, other: np.ndarray) -> np.ndarray:
        hit = overlaps(asof_ns[part], label_end_ns[part], asof_ns[other], label_end_ns[other])
        return part[~hit]

    kept_inner = clear_of(inner, test)
    kept_train = clear_of(clear_of(train, test), kept_inner)
    return Rows(kept_train, kept_inner, test, len(train) + len(inner) - len(kept_train) - len(kept_inner))


def _common(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What stands in both, ascending; numbers given in order of session lie apart."""
    nothing = len(one) == 0 or len(other) == 0
    if nothing or (one.dtype.kind == "i" and (one.max() < other.min() or other.max() < one.min())):
        return one[:0]
    return np.intersect1d(one, other)


def overlaps(
    start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray
) -> np.ndarray:
    """Whether each closed [start, end] meets any closed [other_start, other_end]; (n,) bool. O((n + m) log
    m).
    """
    if len(start) == 0 or len(other_start) == 0:
        return np.zeros(len(start), dtype=bool)
    if end.max() < other_start.min() or other_end.max() < start.min():  # as whole sessions mostly are
        return np.zeros(len(start), dtype=bool)
    order = np.argsort(other_start, kind="stable")
    latest_end = np.maximum.accumulate(other_end[order])
    n_begun = np.searchsorted(other_start[order], end, side="right")
    return (n_begun > 0) & (latest_end[np.maximum(n_begun, 1) - 1] >= start)
