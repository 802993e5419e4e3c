"""Predicting with a promoted model, one row at a time in microseconds, to the last bit what LightGBM predicts.

A model's text is read once into flat arrays, over which a compiled loop walks the trees. Rows are float64 in the order
of the model's features, categories as codes of their dictionary, NaN for NULL. Source: spec/market.md 14.8 ("batch and
single-row predictions MUST be equal"); the text format is LightGBM's own ``model_to_string``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types

from ml import datasets, registry

ZERO = 1e-35  # what LightGBM calls zero, where zero means missing
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2
IDENTITY, SIGMOID = 0, 1


class UnreadableModel(ValueError):
    """A model's text isn't one that can be walked; the message says what is in it."""


@dataclass(frozen=True)
class Trees:
    """All trees of a booster, one after the other. Children below 0 are leaves, ``~child`` their place in ``leaf``.

    Everything with axis 0 over nodes but ``roots`` (trees,), ``leaf`` (leaves,), ``bitset`` and its ``bounds``.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    decision: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaf: np.ndarray
    bounds: np.ndarray
    bitset: np.ndarray
    link: int
    sigmoid: float
    features: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Trees":
        """Of ``Booster.model_to_string()``. Raises UnreadableModel for several classes, linear trees or averaging."""
        head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
        stated = dict(line.partition("=")[::2] for line in head.splitlines())
        if stated.get("num_class") != "1" or "average_output" in head.splitlines():
            raise UnreadableModel(
                f"model had {stated.get('num_class')} classes{' and averages' if 'average_output' in head else ''}, "
                "expected one boosted output; train a binary or a regression head"
            )
        link, sigmoid = _link(stated.get("objective", ""))
        parts = [_tree(dict(line.partition("=")[::2] for line in block.splitlines())) for block in blocks]
        return cls(
            **_joined(parts), link=link, sigmoid=sigmoid, features=tuple(stated["feature_names"].split(" "))
        )

    def predict_one(self, row: np.ndarray) -> float:
        """Of one row, (features,) float64 and contiguous."""
        return _walk(
            row, self.roots, self.feature, self.threshold, self.decision, self.left, self.right, self.leaf,
            self.bounds, self.bitset, self.link, self.sigmoid,
        )  # fmt: skip

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Of (rows, features) float64; each as `predict_one` has it."""
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        return np.array([self.predict_one(row) for row in rows], dtype=np.float64)


def _link(objective: str) -> tuple[int, float]:
    kind, _, options = objective.partition(" ")
    if kind == "binary":
        return SIGMOID, float(dict(o.partition(":")[::2] for o in options.split())["sigmoid"])
    if kind in ("regression", "regression_l1", "huber", "fair", "quantile", "mape") and "sqrt" not in options:
        return IDENTITY, 1.0
    raise UnreadableModel(
        f"objective was {objective!r}, expected binary or a plain regression; train such a head"
    )


def _tree(stated: dict[str, str]) -> dict[str, np.ndarray]:
    if stated.get("is_linear", "0") != "0":
        raise UnreadableModel("model had linear trees, expected constant leaves; train without linear_tree")

    def values(name: str, dtype: type) -> np.ndarray:
        return np.array(stated.get(name, "").split(), dtype=dtype)

    return {
        "feature": values("split_feature", np.int32),
        "threshold": values("threshold", np.float64),
        "decision": values("decision_type", np.int32),
        "left": values("left_child", np.int32),
        "right": values("right_child", np.int32),
        "leaf": values("leaf_value", np.float64),
        "bounds": values("cat_boundaries", np.int32)
        if stated.get("num_cat", "0") != "0"
        else np.zeros(1, np.int32),
        "bitset": values("cat_threshold", np.uint32),
    }


def _joined(trees: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One set of arrays: children, leaves and bitsets count on from tree to tree."""
    roots, parts = (
        [],
        {name: [] for name in ("feature", "threshold", "decision", "left", "right", "leaf", "bitset")},
    )
    bounds = [np.zeros(1, np.int32)]
    n_nodes = n_leaves = n_words = n_categories = 0
    for tree in trees:
        roots.append(n_nodes if len(tree["feature"]) else ~n_leaves)  # a stump is its only leaf
        is_categorical = (tree["decision"] & _CATEGORICAL).astype(bool)
        threshold = tree["threshold"].copy()
        threshold[is_categorical] += n_categories
        for name in ("left", "right"):
            child = tree[name]
            parts[name].append(np.where(child >= 0, child + n_nodes, child - n_leaves).astype(np.int32))
        parts["threshold"].append(threshold)
        for name in ("feature", "decision", "leaf", "bitset"):
            parts[name].append(tree[name])
        bounds.append((tree["bounds"][1:] + n_words).astype(np.int32))
        n_nodes += len(tree["feature"])
        n_leaves += len(tree["leaf"])
        n_words += len(tree["bitset"])
        n_categories += len(tree["bounds"]) - 1
    kinds = {"feature": np.int32, "threshold": np.float64, "leaf": np.float64, "bitset": np.uint32}
    joined = {n: np.concatenate(a) if a else np.zeros(0, kinds.get(n, np.int32)) for n, a in parts.items()}
    return {"roots": np.array(roots, dtype=np.int32), "bounds": np.concatenate(bounds), **joined}


_I32, _F64 = types.Array(types.int32, 1, "C"), types.Array(types.float64, 1, "C")


@njit(
    [
        types.float64(
            *(_F64, _I32, _I32, _F64, _I32, _I32, _I32, _F64, _I32, types.Array(types.uint32, 1, "C")),
            *(types.int64, types.float64),
        )
    ],
    cache=True,
)
def _walk(row, roots, feature, threshold, decision, left, right, leaf, bounds, bitset, link, sigmoid):
    """Leaf values added in order of the trees, as LightGBM adds them, then the link."""
    total = 0.0
    for root in roots:
        node = root
        while node >= 0:
            value = row[feature[node]]
            kind = decision[node]
            if kind & _CATEGORICAL:
                goes_left = False
                if not math.isnan(value):
                    code = np.int64(value)
                    category = np.int64(threshold[node])
                    word = code // 32
                    if code >= 0 and word < bounds[category + 1] - bounds[category]:
                        goes_left = (bitset[bounds[category] + word] >> np.uint32(code % 32)) & np.uint32(
                            1
                        ) != 0
            else:
                missing = (kind >> 2) & 3
                is_nan = math.isnan(value)
                if is_nan and missing != _MISSING_NAN:
                    value = 0.0
                    is_nan = False
                if (missing == _MISSING_ZERO and -ZERO <= value <= ZERO) or (
                    missing == _MISSING_NAN and is_nan
                ):
                    goes_left = kind & _DEFAULT_LEFT != 0
                else:
                    goes_left = value <= threshold[node]
            node = left[node] if goes_left else right[node]
        total += leaf[~node]
    if link == SIGMOID:
        return 1.0 / (1.0 + np.exp(-sigmoid * total))
    return total


@dataclass(frozen=True)
class Predictor:
    """A promoted head, ready to be asked. ``features`` are its inputs in order."""

    model_id: str
    features: tuple[str, ...]
    dictionaries: dict[str, list]
    trees: Trees

    @classmethod
    def load(cls, root: Path, head_set: str, feature_schema_hash: str | None = None) -> "Predictor":
        """The champion of a head set, such as ``tradeable_2_touch``. Raises what `ml.registry.load` raises."""
        entry = registry.champion(root, head_set)
        return cls.of(entry["model_id"], registry.load(root, entry, feature_schema_hash))

    @classmethod
    def of(cls, model_id: str, model: Mapping[str, Any]) -> "Predictor":
        """Of one head's model as promotion stores it."""
        trees = Trees.parse(model["model"]["booster"])
        return cls(model_id, tuple(model["features"]), dict(model["categories"]), trees)

    def row(self, values: Mapping[str, object]) -> np.ndarray:
        """One event's raw values by name as the model takes them; NULL and unknown categories are missing."""
        encoded = np.empty(len(self.features))
        for i, name in enumerate(self.features):
            value = values[name]
            if name in self.dictionaries:
                known = self.dictionaries[name]
                encoded[i] = known.index(value) if value in known else np.nan
            else:
                encoded[i] = np.nan if value is None else float(value)
        return encoded

    def predict_one(self, row: np.ndarray) -> float:
        """Probability (of a binary head) or points (of a regression) of one `row`."""
        return self.trees.predict_one(row)

    def predict(self, table: pa.Table) -> np.ndarray:
        """Of every row of a gold table, (rows,)."""
        encoded = datasets.encode(table, self.features, self.dictionaries)
        columns = [encoded[n].cast(pa.float64()).to_numpy(zero_copy_only=False) for n in self.features]
        return self.trees.predict(np.column_stack(columns))
