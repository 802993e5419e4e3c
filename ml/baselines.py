"""Baselines that know something of a row: the rate of its cell, a logistic regression. Fitted on training rows only.

`ml.comparators` has those of spec/market.md 14.4 that are named there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml.calibration import sigmoid

MIN_ROWS = 20
LAPLACE = 1.0
# Strength of the ridge on the weights of z-scored inputs, as of scikit-learn's C = 1.
RIDGE = 1.0
STEPS = 50
BLOCK_ROWS = 4_096
TOLERANCE = 1e-10


@dataclass(frozen=True)
class CellRate:
    """Share of class 1 in each cell, (Σ w·y + 1)/(Σ w + 2); a cell of fewer than 20 training rows, or of none, answers
    with ``prior``."""

    prior: float
    cells: dict[tuple, float]

    @classmethod
    def fit(cls, cells: Sequence[tuple], y: np.ndarray, weight: np.ndarray) -> "CellRate":
        """``cells``: one hashable key for each row (n,), such as (symbol, hour of the day)."""
        names, at = _numbered(cells)
        n, w, wy = (np.bincount(at, x, len(names)) for x in (np.ones(len(y)), weight, weight * y))
        share = (wy + LAPLACE) / (w + 2 * LAPLACE)
        kept = {name: float(s) for name, s, rows in zip(names, share, n, strict=True) if rows >= MIN_ROWS}
        return cls(float(np.average(y, weights=weight)), kept)

    def predict(self, cells: Sequence[tuple]) -> np.ndarray:
        """Probability of class 1 for each row, (n,)."""
        return np.array([self.cells.get(cell, self.prior) for cell in cells], dtype=float)

    def state(self) -> dict[str, object]:
        return {"prior": self.prior, "cells": [[*key, share] for key, share in sorted(self.cells.items())]}


def _numbered(cells: Sequence[tuple]) -> tuple[list[tuple], np.ndarray]:
    index: dict[tuple, int] = {}
    at = np.array([index.setdefault(cell, len(index)) for cell in cells], dtype=np.int64)
    return [*index], at


@dataclass(frozen=True)
class Design:
    """How encoded inputs become columns of a linear model: NULL as the median, z-scored, beside it a column that says
    NULL; a category as one column for each of its values but those never seen."""

    columns: tuple[tuple[str, float, float, float, bool], ...]  # name, median, mean, deviation, has NULLs
    categories: tuple[tuple[str, int], ...]  # name, code

    @classmethod
    def fit(cls, inputs: pa.Table, categorical: Sequence[str]) -> "Design":
        """``inputs`` as `ml.datasets.encode` gives them. Columns that never vary are left out."""
        columns, categories = [], []
        for name in inputs.column_names:
            values = _values(inputs, name)
            known = ~np.isnan(values)
            if name in categorical:
                categories += [(name, int(code)) for code in np.unique(values[known])]
            elif known.any():
                median = float(np.median(values[known]))
                filled = np.where(known, values, median)
                deviation = float(filled.std())
                if deviation > 0 or not known.all():
                    columns.append((name, median, float(filled.mean()), deviation, not known.all()))
        return cls(tuple(columns), tuple(categories))

    def matrix(self, inputs: pa.Table) -> np.ndarray:
        """(rows, dims + 1) float64, the last column is 1."""
        found = []
        for name, median, mean, deviation, has_nulls in self.columns:
            values = _values(inputs, name)
            known = ~np.isnan(values)
            if deviation > 0:
                found.append((np.where(known, values, median) - mean) / deviation)
            if has_nulls:
                found.append(np.where(known, 0.0, 1.0))
        found += [np.where(_values(inputs, name) == code, 1.0, 0.0) for name, code in self.categories]
        return np.column_stack([*found, np.ones(inputs.num_rows)])


def _values(inputs: pa.Table, name: str) -> np.ndarray:
    return inputs[name].combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class Logistic:
    """Logistic regression with a ridge, by Newton's method: no seed, no thread enters it."""

    design: Design
    weights: np.ndarray

    @classmethod
    def fit(
        cls, inputs: pa.Table, categorical: Sequence[str], y: np.ndarray, weight: np.ndarray
    ) -> "Logistic":
        """Minimises Σ w·cross entropy + ½·RIDGE·|β|², the intercept free; ``y`` in {0, 1}, (n,), n ≥ 1."""
        design = Design.fit(inputs, categorical)
        x = design.matrix(inputs)
        ridge = np.full(x.shape[1], RIDGE)
        ridge[-1] = 1e-9
        beta = np.zeros(x.shape[1])
        loss = _loss(x, beta, y, weight, ridge)
        for _ in range(STEPS):
            p = sigmoid(_product(x, beta))
            gradient = _transposed(x, weight * (p - y)) + ridge * beta
            step = np.linalg.solve(_gram(x, weight * p * (1 - p)) + np.diag(ridge), gradient)
            size = 1.0
            while size > TOLERANCE and _loss(x, beta - size * step, y, weight, ridge) >= loss:
                size /= 2
            if size <= TOLERANCE:
                break
            beta = beta - size * step
            before, loss = loss, _loss(x, beta, y, weight, ridge)
            if before - loss < TOLERANCE * (1 + abs(loss)):
                break
        return cls(design, beta)

    def predict(self, inputs: pa.Table) -> np.ndarray:
        """Probability of class 1, (rows,)."""
        return sigmoid(_product(self.design.matrix(inputs), self.weights))

    def state(self) -> dict[str, object]:
        """As builtins: what an artifact stores."""
        columns, categories = ([[*c] for c in part] for part in (self.design.columns, self.design.categories))
        return {"columns": columns, "categories": categories, "weights": self.weights.tolist()}

    @classmethod
    def from_state(cls, state: dict) -> "Logistic":
        columns, categories = (tuple(tuple(c) for c in state[part]) for part in ("columns", "categories"))
        return cls(Design(columns, categories), np.array(state["weights"]))


def _loss(x: np.ndarray, beta: np.ndarray, y: np.ndarray, weight: np.ndarray, ridge: np.ndarray) -> float:
    z = _product(x, beta)
    return float((weight * (np.logaddexp(0, z) - y * z)).sum() + 0.5 * (ridge * beta * beta).sum())


# Sums by einsum, not by BLAS: its last bits hang on how many threads it takes.
def _product(x: np.ndarray, beta: np.ndarray) -> np.ndarray:
    return np.einsum("ij,j->i", x, beta)


def _transposed(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.einsum("ij,i->j", x, values)


def _gram(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """xᵀ·diag(weight)·x, (dims, dims), by blocks of rows that stay in the cache."""
    found = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), BLOCK_ROWS):
        block, by = x[start : start + BLOCK_ROWS], weight[start : start + BLOCK_ROWS]
        found += np.einsum("ij,ik->jk", block, block * by[:, None])
    return found
