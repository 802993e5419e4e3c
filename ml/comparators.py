"""What a model must beat, fitted on the training part of a fold (spec/market.md 14.4)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

BUCKET_MINUTES = 30
MIN_ROWS = 20
LAPLACE = 1.0
ZONE = "America/New_York"


def class_prior(y: np.ndarray, weight: np.ndarray) -> float:
    """(a) Weighted share of class 1; ``y`` in {0, 1}, both (n,), n ≥ 1."""
    return float(np.average(y, weights=weight))


def majority_class(y: np.ndarray, weight: np.ndarray) -> int:
    """(c) The class with more weight; 1 on a tie, as a probability of 0.5 is read."""
    return int(class_prior(y, weight) >= 0.5)


def half_hour(asof_ns: np.ndarray) -> np.ndarray:
    """Half hour of the New York wall clock in which each instant lies, 0..47; (n,) ns UTC to (n,) int64.

    The open is 09:30 on every session, so these are also the 30-minute buckets since the open.
    """
    clock = pd.DatetimeIndex(np.asarray(asof_ns, dtype="datetime64[ns]"), tz="UTC").tz_convert(ZONE)
    return ((clock.hour * 60 + clock.minute) // BUCKET_MINUTES).to_numpy().astype(np.int64)


@dataclass(frozen=True)
class BaseRate:
    """(b) Share of class 1 for each level kind × direction × half hour of the day.

    ``cells`` maps (level_kind_name, direction, half hour) to the smoothed share; a cell that had fewer than
    20 training rows is absent and answers with ``prior``.
    """

    prior: float
    cells: dict[tuple[str, str, int], float]

    @classmethod
    def fit(
        cls, kind: np.ndarray, direction: np.ndarray, asof_ns: np.ndarray, y: np.ndarray, weight: np.ndarray
    ) -> "BaseRate":
        """From training rows, all (n,), n ≥ 1. A cell is (Σ w·y + 1)/(Σ w + 2): one row added to each class
        (Laplace).
        """
        frame = pd.DataFrame(
            {
                "kind": kind,
                "direction": direction,
                "bucket": half_hour(asof_ns),
                "w": weight,
                "wy": weight * y,
            }
        )
        cells = {}
        for key, cell in frame.groupby(["kind", "direction", "bucket"], sort=True):
            if len(cell) >= MIN_ROWS:
                share = (cell["wy"].sum() + LAPLACE) / (cell["w"].sum() + 2 * LAPLACE)
                cells[(str(key[0]), str(key[1]), int(key[2]))] = float(share)
        return cls(class_prior(y, weight), cells)

    def predict(self, kind: np.ndarray, direction: np.ndarray, asof_ns: np.ndarray) -> np.ndarray:
        """Probability of class 1 for each row, (n,) float64."""
        keys = zip(kind.tolist(), direction.tolist(), half_hour(asof_ns).tolist(), strict=True)
        return np.array([self.cells.get(key, self.prior) for key in keys], dtype=float)

    def state(self) -> dict:
        """As builtins, cells in key order: what an artifact stores."""
        return {"prior": self.prior, "cells": [[*key, share] for key, share in sorted(self.cells.items())]}

    @classmethod
    def from_state(cls, state: dict) -> "BaseRate":
        return cls(
            state["prior"],
            {(kind, direction, bucket): share for kind, direction, bucket, share in state["cells"]},
        )


def weighted_median(y: np.ndarray, weight: np.ndarray) -> float:
    """The least value that at least half of the weight is not above; both (n,), n ≥ 1, weights positive."""
    order = np.argsort(y, kind="stable")
    below = np.cumsum(weight[order])
    return float(y[order][np.searchsorted(below, below[-1] / 2)])


@dataclass(frozen=True)
class CellMedian:
    """As `BaseRate` for a number: the weighted median of each level kind × direction × half hour of the day, that of
    all rows where a cell had fewer than 20."""

    median: float
    cells: dict[tuple[str, str, int], float]

    @classmethod
    def fit(
        cls, kind: np.ndarray, direction: np.ndarray, asof_ns: np.ndarray, y: np.ndarray, weight: np.ndarray
    ) -> "CellMedian":
        """From training rows, all (n,), n ≥ 1."""
        frame = pd.DataFrame(
            {"kind": kind, "direction": direction, "bucket": half_hour(asof_ns), "y": y, "w": weight}
        )
        cells = {}
        for key, cell in frame.groupby(["kind", "direction", "bucket"], sort=True):
            if len(cell) >= MIN_ROWS:
                name = (str(key[0]), str(key[1]), int(key[2]))
                cells[name] = weighted_median(cell["y"].to_numpy(), cell["w"].to_numpy())
        return cls(weighted_median(y, weight), cells)

    def predict(self, kind: np.ndarray, direction: np.ndarray, asof_ns: np.ndarray) -> np.ndarray:
        """The number of each row's cell, (n,) float64."""
        keys = zip(kind.tolist(), direction.tolist(), half_hour(asof_ns).tolist(), strict=True)
        return np.array([self.cells.get(key, self.median) for key in keys], dtype=float)

    def state(self) -> dict:
        """As builtins, cells in key order: what an artifact stores."""
        return {"prior": self.median, "cells": [[*key, value] for key, value in sorted(self.cells.items())]}

    @classmethod
    def from_state(cls, state: dict) -> "CellMedian":
        return cls(
            state["prior"],
            {(kind, direction, bucket): value for kind, direction, bucket, value in state["cells"]},
        )
