"""What a report shows of the models of published training sets: stop_outcome and slippage_prediction.

Scores, intervals and contributions are those of training; what is said of the test rows is predicted again by the
stored model, and samples are those of its version. Source: spec/execution.md 5.4, 5.6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lake import atomic, training_sets
from lake.training_sets import Published
from ml import calibration, drift
from ml.training_sets import evaluation, inputs, train
from ml.training_sets.inputs import Rows

SHOWN_FEATURES = 15
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Score:
    """One loss of one predictor, and what the model saves of it: 1 − its loss / that loss, with a 95 % interval over
    draws of days; None of the model itself."""

    loss: str
    predictor: str
    value: float
    saves: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Target:
    """One label. ``bins`` are of a class, calibrated, in test; ``reached`` of a number: (quantile, share of test rows
    at or below it). ``labels``: by split the values of ``label_names``.
    """

    name: str
    scores: list[Score]
    auc: float | None
    auc_interval: tuple[float | None, float | None]
    bins: list[dict[str, float | int]]
    ece: float | None
    reached: list[tuple[float, float]]
    contributions: list[tuple[str, float]]
    label_names: tuple[str, ...]
    labels: list[tuple[str, list[float]]]
    verdict: str


@dataclass(frozen=True)
class SetModel:
    """A model of one version of a training set."""

    name: str
    version: str
    dataset_hash: str
    is_current: bool
    rows_train: int
    rows_test: int
    test_days: int
    first: str
    last: str
    targets: list[Target]
    nulls: list[tuple[str, float]]
    drifts: list[tuple[str, float]]
    remarks: list[str]

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


def gather(root: Path, names: Sequence[str] = ()) -> list[SetModel]:
    """The trained model of every published version (of the sets ``names``), in order of set and version.

    Raises AlteredModel when a model's file isn't the one that was scored.
    """
    return [
        _model(root, name, version)
        for name in (names or training_sets.SETS)
        for version in training_sets.published(root, name)
        if (train.folder(root, name, version.version) / train.METRICS_FILE).is_file()
    ]


def _model(root: Path, name: str, version: Published) -> SetModel:
    told = atomic.read_json(train.folder(root, name, version.version) / train.METRICS_FILE)
    model = train.load(root, name, version.version)
    parts = {split: inputs.read(version, split) for split in training_sets.SPLITS}
    test, known = parts["test"], parts["train"]
    names = known.features.column_names
    whole = pa.concat_tables([known.features, test.features])
    moved = [(n, drift.psi(known.features[n], test.features[n])) for n in names]
    days = np.concatenate([known.day, test.day])
    return SetModel(
        name=name,
        version=version.version,
        dataset_hash=told["dataset_hash"],
        is_current=told["dataset_hash"] == version.record["dataset_hash"],
        rows_train=told["rows"]["train"],
        rows_test=told["rows"]["test"],
        test_days=told["rows"]["test_days"],
        first=min(days.tolist()),
        last=max(days.tolist()),
        targets=[_target(target, scored, told, model, parts) for target, scored in told["scores"].items()],
        nulls=_largest([(n, whole[n].null_count / max(len(whole), 1)) for n in names]),
        drifts=_largest([(n, v) for n, v in moved if v is not None]),
        remarks=told["remarks"],
    )


def _largest(values: list[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(((n, v) for n, v in values if v > 0), key=lambda p: (-p[1], p[0]))[:SHOWN_FEATURES]


def _target(name: str, scored: object, told: dict, model: dict, parts: dict[str, Rows]) -> Target:
    listed = told["contributions"].get(name) or []
    contributions = [(c["feature"], c["mean_abs"]) for c in listed][:SHOWN_FEATURES]
    ys = {split: rows.target(name) for split, rows in parts.items()}
    if isinstance(scored, list):
        reached = []
        for alpha in evaluation.ALPHAS:
            said = train.predict(model, f"{name}_{alpha}", parts["test"].features)
            reached.append((alpha, float(np.mean(ys["test"] <= said))))
        return Target(
            name=name,
            scores=_of_numbers(scored),
            auc=None,
            auc_interval=(None, None),
            bins=[],
            ece=None,
            reached=reached,
            contributions=contributions,
            label_names=tuple(f"{q:.0%}" for q in QUANTILES),
            labels=[(split, np.quantile(y, QUANTILES).tolist()) for split, y in ys.items()],
            verdict=_verdict(told, [s for s in _of_numbers(scored) if s.loss == "mae"]),
        )
    said = train.predict(model, name, parts["test"].features)
    bins = calibration.reliability(ys["test"], said, np.ones(len(said)))
    scores = _of_class(scored)
    low, high = (scored["intervals"] or {}).get("roc_auc") or (None, None)
    return Target(
        name=name,
        scores=scores,
        auc=scored["model"].get("roc_auc"),
        auc_interval=(low, high),
        bins=bins,
        ece=calibration.expected_error(bins),
        reached=[],
        contributions=contributions,
        label_names=("no", "yes"),
        labels=[(split, [float(np.mean(y == 0)), float(np.mean(y == 1))]) for split, y in ys.items()],
        verdict=_verdict(told, scores),
    )


def _of_class(scored: dict) -> list[Score]:
    intervals = (scored["intervals"] or {}).get("brier_skill") or {}
    found = [Score("brier", evaluation.MODEL, scored[evaluation.MODEL]["brier"], None, None, None)]
    for name, skill in scored["brier_skill"].items():
        low, high = intervals.get(name) or (None, None)
        found.append(Score("brier", name, scored[name]["brier"], skill, low, high))
    return found


def _of_numbers(scored: list[dict]) -> list[Score]:
    found = []
    for row in scored:
        for name, value in row["mean"].items():
            less = row["less"].get(name) or {"share": None, "interval": None}
            low, high = less["interval"] or (None, None)
            found.append(Score(row["loss"], name, value, less["share"], low, high))
    return found


def _verdict(told: dict, scores: Sequence[Score]) -> str:
    """What the figures allow to be said; too few days stand in place of it."""
    if why := evaluation.claim(told["rows"]["test_days"]):
        return why
    rivals = [s for s in scores if s.predictor not in (evaluation.MODEL, evaluation.CALIBRATED)]
    unbeaten = [s.predictor for s in rivals if s.low is None or s.low <= 0]
    if any(s.high is not None and s.high < 0 for s in rivals):
        return f"worse than {', '.join(s.predictor for s in rivals if s.high is not None and s.high < 0)}"
    if unbeaten:
        return f"not shown to be better than {', '.join(unbeaten)}"
    return "better than its baselines"
