"""Retrieval: the exact nearest past events of one event, and what became of them (spec/market.md 14.6).

A vector is the numeric features, NULL as the median, z-scored by the statistics of the rows that the index holds.
These are of training sessions only: a query of a session that the index knows, or of an earlier one, is refused.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numba import njit, types

from ml import datasets
from ml.datasets import DatasetError, LeakError

K = 20
MIN_ROWS = 5
PER_SESSION = 2
NEAREST = 1e-6
# In the order in which rows stand, so that what a filter leaves is one run of rows however much of it is dropped.
FILTERS = ("stage", "direction", "level_kind_name", "gamma_bucket")
OUTCOMES = ("BREAK", "BOUNCE", "CHOP")
# Relative error of a sum of squares in single precision, with room: 2**-24 for each of a few hundred terms.
_SINGLE_ERROR = 1e-4
_FIRST_CANDIDATES = 64


@dataclass(frozen=True)
class Scaling:
    """Statistics of the rows of an index, by the columns that are kept: those that vary. All (dims,)."""

    columns: tuple[str, ...]
    medians: np.ndarray
    means: np.ndarray
    deviations: np.ndarray

    @classmethod
    def fit(cls, names: Sequence[str], values: np.ndarray) -> "Scaling":
        """Of ``values``, (rows, len(names)) with NaN for NULL. Columns that never vary or are all NULL go."""
        known = ~np.isnan(values)
        kept = [i for i in range(len(names)) if known[:, i].any()]
        medians = np.array([np.median(values[known[:, i], i]) for i in kept])
        filled = np.where(known[:, kept], values[:, kept], medians)
        varies = filled.min(axis=0, initial=np.inf) < filled.max(axis=0, initial=-np.inf)
        filled, medians = filled[:, varies], medians[varies]
        columns = tuple(names[i] for i, v in zip(kept, varies, strict=True) if v)
        return cls(columns, medians, filled.mean(axis=0), filled.std(axis=0))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Z-scores, (rows, dims) float64, of ``values`` (rows, dims) in the order of ``columns``."""
        return (np.where(np.isnan(values), self.medians, values) - self.means) / self.deviations


@dataclass(frozen=True)
class Found:
    """The neighbours of one query, nearest first, and what they say. ``rows`` index the table that was indexed;
    ``outcomes`` are places in `OUTCOMES`.

    ``p`` is (break, bounce, chop); ``dropped`` are the filters that had to go.
    """

    rows: np.ndarray
    events: list[str]
    outcomes: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    p: tuple[float, float, float]
    strength: float
    similarity: float
    entropy: float
    effective_n: float
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Index:
    """Rows of training sessions in the order of `FILTERS`, then as they came. Everything of axis 0 is (rows,).

    ``codes``: (rows, 4) int32, the filters' values as codes of ``dictionaries``; ``vectors``: (rows, dims) z-scores.
    """

    scaling: Scaling
    dictionaries: dict[str, list]
    codes: np.ndarray
    vectors: np.ndarray
    rows: np.ndarray
    event: np.ndarray
    session: np.ndarray
    cluster: np.ndarray
    outcome: np.ndarray
    strength: np.ndarray

    @classmethod
    def build(cls, table: pa.Table, names: Sequence[str]) -> "Index":
        """Of a training table's rows and the numeric features ``names``. Raises DatasetError when there is no row."""
        if table.num_rows == 0:
            raise DatasetError("retrieval had no row to index, expected those of the training sessions")
        values = numbers(table, names)
        scaling = Scaling.fit(names, values)
        kept = [list(names).index(c) for c in scaling.columns]
        columns = {f: table[f].to_pylist() for f in FILTERS}
        dictionaries = {f: sorted({v for v in columns[f] if v is not None}) for f in FILTERS}
        numbered = {f: {None: _MISSING, **{v: i for i, v in enumerate(dictionaries[f])}} for f in FILTERS}
        codes = np.array([[numbered[f][v] for v in columns[f]] for f in FILTERS], dtype=np.int32).T
        order = np.lexsort([codes[:, i] for i in reversed(range(len(FILTERS)))])
        session = datasets.session_dates(table)
        cluster = _clusters(table, session)
        outcome = np.array([OUTCOMES.index(o) for o in table["outcome"].to_pylist()])
        strength = table["strength_signed"].to_numpy().astype(float)
        return cls(
            scaling=scaling,
            dictionaries=dictionaries,
            codes=np.ascontiguousarray(codes[order]),
            vectors=np.ascontiguousarray(scaling.apply(values[:, kept])[order]),
            rows=order,
            event=np.array(table["event_id"].to_pylist())[order],
            session=session[order],
            cluster=cluster[order],
            outcome=outcome[order],
            strength=strength[order],
        )

    @cached_property
    def _single(self) -> np.ndarray:
        return np.ascontiguousarray(self.vectors, dtype=np.float32)

    @cached_property
    def _capped(self) -> tuple[np.ndarray, np.ndarray]:
        """Sessions and clusters as numbers: what the caps compare."""
        return tuple(np.unique(keys, return_inverse=True)[1] for keys in (self.session, self.cluster))

    @cached_property
    def last_session(self) -> str:
        return max(self.session.tolist())

    def query(
        self, values: Sequence[float], filters: Mapping[str, object], session_date: str, k: int = K
    ) -> Found | None:
        """The ``k`` nearest rows of one event, None when retrieval is unavailable (fewer than 5 rows are left).

        ``values`` are raw features in the order of ``scaling.columns``, NaN for NULL; ``filters`` the event's values of
        `FILTERS`. Rows must agree with all of them; where that leaves fewer than ``k``, gamma_bucket is dropped, then
        level_kind_name, then direction. At most 2 neighbours are of one session and 1 of one attempt cluster. Distances
        are Euclidean in float64; of equal ones the earlier row of the table is nearer. Raises LeakError when
        ``session_date`` is not after every session of the index.
        """
        if session_date <= self.last_session:
            raise LeakError(
                f"retrieval was asked about {session_date} with an index up to {self.last_session}, expected one of "
                "earlier sessions only; build the index from sessions before the scored one"
            )
        for n_filters in (4, 3, 2, 1):
            first, last = self._runs.get(tuple(filters.get(f) for f in FILTERS[:n_filters]), (0, 0))
            if last - first >= k:
                break
        if last - first < MIN_ROWS:
            return None
        wanted = self.scaling.apply(np.asarray(values, dtype=float)[None, :])[0]
        places, distances = self._nearest(wanted, first, last, k)
        return self._told(places, distances, FILTERS[n_filters:])

    @cached_property
    def _runs(self) -> dict[tuple, tuple[int, int]]:
        """First and one past the last row by the values of the first filters: of one of them, of two, …"""
        runs = {(): (0, len(self.rows))}
        for n_filters in range(1, len(FILTERS) + 1):
            changes = np.flatnonzero((np.diff(self.codes[:, :n_filters], axis=0) != 0).any(axis=1)) + 1
            bounds = [0, *changes.tolist(), len(self.rows)]
            for first, last in itertools.pairwise(bounds):
                codes = self.codes[first, :n_filters].tolist()
                of_run = zip(FILTERS, codes, strict=False)
                runs[tuple(None if c == _MISSING else self.dictionaries[f][c] for f, c in of_run)] = (
                    first,
                    last,
                )
        return runs

    def _nearest(self, wanted: np.ndarray, first: int, last: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and distances of the ``k`` nearest of rows [first, last) under the caps, nearest first.

        Candidates come from single precision, with so many to spare that its error can't hide a neighbour.
        """
        sessions, clusters = self._capped
        n_candidates = max(_FIRST_CANDIDATES, 2 * k)
        single = wanted.astype(np.float32)
        while True:
            n_candidates = min(n_candidates, last - first)
            squares, places = _candidates(self._single[first:last], single, n_candidates)
            places = places + first
            exact = np.sqrt(((self.vectors[places] - wanted) ** 2).sum(axis=1))
            order = np.lexsort([self.rows[places], exact])
            chosen = _capped(sessions[places[order]], clusters[places[order]], k, PER_SESSION)
            found = order[chosen]
            sure = np.sqrt(squares.max() * (1 - _SINGLE_ERROR))
            if n_candidates == last - first or (len(found) == k and exact[found[-1]] < sure):
                return places[found], exact[found]
            n_candidates *= 4

    def _told(self, places: np.ndarray, distances: np.ndarray, dropped: tuple[str, ...]) -> Found:
        weights = 1.0 / (distances + NEAREST)
        weights /= weights.sum()
        p = np.bincount(self.outcome[places], weights, minlength=3)
        p /= p.sum()
        known = p[p > 0]
        dims = max(self.vectors.shape[1], 1)
        return Found(
            rows=self.rows[places],
            events=self.event[places].tolist(),
            outcomes=self.outcome[places],
            distances=distances,
            weights=weights,
            p=tuple(p.tolist()),
            strength=float(weights @ self.strength[places]),
            similarity=float(np.mean(1.0 / (1.0 + distances / np.sqrt(dims)))),
            entropy=float(np.clip(-(known * np.log(known)).sum() / np.log(3.0), 0.0, 1.0)),
            effective_n=float(1.0 / (weights**2).sum()),
            dropped=dropped,
        )

    def state(self) -> dict:
        """As builtins and arrays only: what is stored."""
        return {
            "columns": list(self.scaling.columns),
            "medians": self.scaling.medians,
            "means": self.scaling.means,
            "deviations": self.scaling.deviations,
            "dictionaries": self.dictionaries,
            **{name: getattr(self, name) for name in _ARRAYS},
        }

    @classmethod
    def from_state(cls, state: Mapping) -> "Index":
        scaling = Scaling(tuple(state["columns"]), state["medians"], state["means"], state["deviations"])
        return cls(scaling, state["dictionaries"], **{name: state[name] for name in _ARRAYS})


_ARRAYS = ("codes", "vectors", "rows", "event", "session", "cluster", "outcome", "strength")
_MISSING = -1  # NULL agrees with NULL alone


def numeric_features(contract: datasets.Contract, names: Sequence[str] | None = None) -> list[str]:
    """The inputs of a version that are numbers: what a vector is made of."""
    return [
        c.name
        for c in datasets.feature_columns(contract, names)
        if c.name not in datasets.CATEGORICAL_COLUMNS
    ]


def numbers(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """(rows, len(names)) float64, NaN for NULL."""
    encoded = datasets.encode(table, names, {})
    columns = [encoded[n].to_numpy(zero_copy_only=False) for n in names]
    return np.column_stack(columns).astype(float) if columns else np.zeros((table.num_rows, 0))


def _clusters(table: pa.Table, session: np.ndarray) -> np.ndarray:
    keys = zip(
        session,
        table["level_kind_name"].to_pylist(),
        table["direction"].to_pylist(),
        table["attempt_cluster_id"].to_pylist(),
        strict=True,
    )
    return np.array(["|".join(map(str, key)) for key in keys])


@njit(
    [
        types.Tuple((types.float32[::1], types.int64[::1]))(
            types.float32[:, ::1], types.float32[::1], types.int64
        )
    ],
    fastmath={"reassoc", "contract", "nsz"},
    cache=True,
)
def _candidates(vectors, wanted, count):
    """Squared distances and places of the ``count`` rows that are nearest in single precision, in no order.

    One pass; the best so far stand in a heap with the furthest on top.
    """
    squares = np.full(count, np.inf, dtype=np.float32)
    places = np.zeros(count, dtype=np.int64)
    top = np.float32(np.inf)
    for row in range(vectors.shape[0]):
        total = np.float32(0.0)
        for i in range(wanted.size):
            difference = vectors[row, i] - wanted[i]
            total += difference * difference
        if total < top:
            at = 0
            while True:
                child = 2 * at + 1
                if child >= count:
                    break
                if child + 1 < count and squares[child + 1] > squares[child]:
                    child += 1
                if squares[child] <= total:
                    break
                squares[at], places[at] = squares[child], places[child]
                at = child
            squares[at], places[at] = total, row
            top = squares[0]
    return squares, places


@njit([types.int64[::1](types.int64[::1], types.int64[::1], types.int64, types.int64)], cache=True)
def _capped(sessions, clusters, k, per_session):
    """Places of the first ``k`` of some rows with at most ``per_session`` of one session and one of one cluster."""
    chosen = np.empty(k, dtype=np.int64)
    count = 0
    for i in range(sessions.size):
        if count == k:
            break
        of_session = 0
        is_new = True
        for j in chosen[:count]:
            of_session += sessions[j] == sessions[i]
            is_new &= clusters[j] != clusters[i]
        if is_new and of_session < per_session:
            chosen[count] = i
            count += 1
    return chosen[:count].copy()
