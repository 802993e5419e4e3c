"""Two experiments or versions side by side: features, parameters, null rates, distributions, labels, metrics.

Two experiments that keep out-of-fold predictions can besides be told apart by the paired test of spec/market.md 14.5;
its rows will stand under ``paired_test``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from lake import datasets
from ml import drift, experiments, silver

# What a row is about, in the order of the table.
KINDS = (
    *("features_added", "features_removed", "feature_count", "parameter", "null_rate", "psi"),
    *("label_rate", "metric"),
)


@dataclass(frozen=True)
class Side:
    """One of the two: what it is made of, wherever it was named by an experiment or by its version."""

    name: str
    version: str
    features: list[str]
    metrics: dict[str, float | None]
    model_metrics: dict[str, dict[str, float | None]]


def side(root: Path, name: str) -> Side:
    """An experiment (its id or full name) or a version by its name.

    An experiment's features are those that it was trained on, a version's all that it holds; the metrics of a version
    are those of its newest completed experiment. Raises NoSuchVersion, or ExperimentError for an unknown experiment.
    """
    if not name.startswith("exp"):
        manifest = silver.get_manifest(root, name)
        newest = [
            e for e in experiments.read_index(root) if e["version"] == name and e["status"] == "completed"
        ]
        entry = newest[-1] if newest else {"metrics": {}, "model_metrics": None}
        return Side(name, name, silver.columns_of(manifest), entry["metrics"], entry["model_metrics"] or {})
    entry = experiments.entry_of(root, name)
    manifest = silver.get_manifest(root, entry["version"])
    stored = experiments.stored_of(root, entry["id"])
    features = stored.config["inputs"]["features"] if stored else silver.columns_of(manifest)
    return Side(name, entry["version"], features, entry["metrics"], entry["model_metrics"] or {})


def compare(root: Path, a: str, b: str) -> list[dict[str, Any]]:
    """Flat rows ``{what, name, stage, a, b, difference}`` in the order of `KINDS`; ``difference`` is b − a.

    ``parameter`` and ``null_rate`` are listed where they differ; ``psi`` (its value stands under ``difference``) for
    each feature of both, from the rows of both versions; ``label_rate`` by stage, from their training tables;
    ``metric`` by stage where it is of a head of one.
    """
    one, two = side(root, a), side(root, b)
    rows = [_row("features_added", f, b="yes") for f in two.features if f not in one.features]
    rows += [_row("features_removed", f, a="yes") for f in one.features if f not in two.features]
    rows.append(_row("feature_count", "features", a=len(one.features), b=len(two.features)))
    whole = silver.compare_versions(root, one.version, two.version)
    rows += [_row("parameter", n, **_text(d)) for n, d in whole["parameters_diff"].items()]
    common = [f for f in one.features if f in two.features]
    rows += [_row("null_rate", n, **d) for n, d in whole["null_rate_diff"].items() if n in common]
    rows += _distributions(root, one.version, two.version, common)
    rows += _labels(root, one.version, two.version)
    rows += [
        _row("metric", n, a=d["a"], b=d["b"]) for n, d in silver.metric_diff(one.metrics, two.metrics).items()
    ]
    for head in [*one.model_metrics, *(h for h in two.model_metrics if h not in one.model_metrics)]:
        both = silver.metric_diff(one.model_metrics.get(head, {}), two.model_metrics.get(head, {}))
        rows += [_row("metric", n, stage=head, a=d["a"], b=d["b"]) for n, d in both.items()]
    return rows


def _distributions(root: Path, a: str, b: str, features: list[str]) -> list[dict[str, Any]]:
    if not features:
        return []
    left = silver.load_features(root, a, columns=features)
    right = left if a == b else silver.load_features(root, b, columns=features)
    return [_row("psi", f, difference=drift.psi(left[f], right[f])) for f in features]


def _labels(root: Path, a: str, b: str) -> list[dict[str, Any]]:
    one, two = (drift.rates_by_stage(t) if (t := _training(root, v)) else {} for v in (a, b))
    return [
        _row("label_rate", label, stage=stage, a=one.get((stage, label)), b=two.get((stage, label)))
        for stage, label in sorted(one.keys() | two.keys())
    ]


def _training(root: Path, version: str) -> pa.Table | None:
    """Labels of the version's training table, None where it is not built or empty."""
    try:
        table = datasets.read(
            root, f"gold/training/candidates/{version}", ("stage", "outcome", "tradeable_1", "tradeable_2")
        )
    except datasets.NoSuchDataset:
        return None
    return table if table.num_rows else None


def _row(
    what: str, name: str, *, stage: str | None = None, a: Any = None, b: Any = None, difference: Any = None
) -> dict[str, Any]:
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return {
        "what": what,
        "name": name,
        "stage": stage,
        "a": a,
        "b": b,
        "difference": b - a if difference is None and numbers else difference,
    }


def _text(both: dict[str, Any]) -> dict[str, Any]:
    """Lists in one cell."""
    return {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in both.items()}
