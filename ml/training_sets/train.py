"""Training on a published version: gradient boosting, what it must beat, and files that say which data it was.

`train` reads ``train/`` and ``test/``, and writes ``lake/gold/models/<set>/<version>/{model.json, dataset_hash,
metrics.json}``. How many rounds are boosted is found inside train, on its last tenth; probabilities are calibrated on
predictions out of fold; ``test`` is looked at once, at the end. Equal samples and configuration give equal files, byte
for byte, at any number of threads.

Source: spec/execution.md 5.4, 5.6; spec/market.md 14.2 for the booster's defaults.
"""

import importlib.metadata
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa

from lake import atomic, contracts, training_sets
from lake.training_sets import Published
from ml.baselines import CellRate, Logistic
from ml.calibration import Platt
from ml.training_sets import evaluation, inputs
from ml.training_sets.inputs import Rows
from ml.training_sets.report import Report
from ml.training_sets.split import EMBARGO_S, Fold, Samples, fold_rows, from_iso, tail_start

log = logging.getLogger(__name__)

MIN_OF_EACH_CLASS = 30
MIN_ROWS = 60
BOOSTING: dict[str, object] = {
    "num_leaves": 31,
    "max_depth": 6,
    "learning_rate": 0.05,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.8,
    "deterministic": True,
    "force_row_wise": True,
}
MODEL_FILE, HASH_FILE, METRICS_FILE = "model.json", "dataset_hash", "metrics.json"


class NotTrainable(ValueError):
    """A version holds too little to train on; the message says what."""


class AlteredModel(ValueError):
    """A model file isn't the one that its metrics were computed from."""


@dataclass(frozen=True)
class Config:
    """What, with the samples, determines every byte of a result. ``tries`` is how many configurations were looked at to
    arrive at this one, itself included."""

    seed: int = 42
    max_rounds: int = 300
    stopping_rounds: int = 30
    bootstrap_draws: int = 1_000
    tries: int = 1
    boosting: dict[str, object] = field(default_factory=lambda: dict(BOOSTING))


# -- the whole way ---------------------------------------------------------------------------------------------------


def train(
    root: Path, name: str, version: str | None = None, *, config: Config | None = None, num_threads: int = 1
) -> Report:
    """Train on a published version (default the newest), score it on its test, and write the model's folder.

    Raises NoSuchSet when the version isn't published, NotTrainable when it holds too little.
    """
    config = config or Config()
    found = training_sets.version(root, name, version)
    rows = {split: inputs.read(found, split) for split in training_sets.SPLITS}
    fit = _classifier if name == "stop_outcome" else _numbers
    model, told = fit(found, rows["train"], rows["test"], config, num_threads)
    features = [f["name"] for f in found.record["features"]]
    artifact = {
        "format_version": 1,
        "name": name,
        "version": found.version,
        "dataset_hash": found.record["dataset_hash"],
        "features": features,
        **model,
    }
    days = len(np.unique(rows["test"].day))
    content = {
        "name": name,
        "version": found.version,
        "dataset_hash": found.record["dataset_hash"],
        "config": asdict(config),
        "engines": {n: importlib.metadata.version(n) for n in ("lightgbm", "numpy", "scikit-learn")},
        "rows": {"train": len(rows["train"]), "test": len(rows["test"]), "test_days": days},
        **told,
    }
    return Report(*_write(root, name, found.version, artifact, content))


def folder(root: Path, name: str, version: str) -> Path:
    return root / "lake" / "gold" / "models" / name / version


def load(root: Path, name: str, version: str) -> dict:
    """The model of a version, its bytes compared with the hash in ``metrics.json`` first. Raises AlteredModel."""
    place = folder(root, name, version)
    if not (place / METRICS_FILE).is_file():
        raise AlteredModel(
            f"{place} had no {METRICS_FILE}, expected a trained model; run `tickhouse train {name}`"
        )
    expected = atomic.read_json(place / METRICS_FILE)["model"]["sha256"]
    if (found := atomic.sha256_file(place / MODEL_FILE)) != expected:
        raise AlteredModel(f"{place / MODEL_FILE} had sha256 {found}, expected {expected}; train it again")
    return atomic.read_json(place / MODEL_FILE)


def predict(model: Mapping[str, object], target: str, features: pa.Table) -> np.ndarray:
    """What a loaded model says of rows that have its features as columns, (rows,): a calibrated probability of
    ``execution_success``, or the quantile ``slippage_pct_0.5`` and so on."""
    encoded = inputs.encode(features, model["features"], model["categories"])
    raw = _predict(lgb.Booster(model_str=model["boosters"][target]), encoded)
    scaler = model["calibration"].get(target)
    return Platt(**scaler).apply(raw) if scaler else raw


def _write(root: Path, name: str, version: str, artifact: dict, content: dict) -> tuple[Path, dict]:
    """The three files, ``metrics.json`` last: it names the model's hash, so that a kill between them is noticed."""
    place = folder(root, name, version)
    atomic.make_dirs(place)
    atomic.write_json(place / MODEL_FILE, artifact)
    atomic.write_text(place / HASH_FILE, content["dataset_hash"] + "\n")
    stored = place / MODEL_FILE
    content["model"] = {
        "path": str(stored.relative_to(root)),
        "sha256": atomic.sha256_file(stored),
        "bytes": stored.stat().st_size,
    }
    content = json.loads(json.dumps(content))
    contracts.check(content, "training_set_metrics", f"{name} {version}, {METRICS_FILE}")
    atomic.write_json(place / METRICS_FILE, content)
    log.info("model=%s version=%s dataset_hash=%s", name, version, content["dataset_hash"][:8])
    return place, content


# -- stop_outcome ----------------------------------------------------------------------------------------------------


def _classifier(
    found: Published, train_rows: Rows, test: Rows, config: Config, num_threads: int
) -> tuple[dict, dict]:
    target = found.record["target"]
    boost = _Boost("binary", found, inputs.categories(train_rows.features), config, num_threads)
    y = train_rows.target(target)
    if why := _too_few(y):
        raise NotTrainable(
            f"train of {found.record['dataset']} {found.version} had {why}; publish more dates"
        )
    fitted = boost.fit(train_rows, y, from_iso(found.record["split"]["validation_from"]))
    forward, skipped = [], []
    for number, (fold_train, fold_test) in enumerate(_folds(found, train_rows), start=1):
        if why := _too_few(y[fold_train]):
            skipped.append(f"fold {number}: {why}")
            continue
        part, held = train_rows.take(fold_train), train_rows.take(fold_test)
        booster = boost.fit(part, y[fold_train], _tail(part))
        predictions = {
            evaluation.MODEL: _predict(booster, boost.encode(held)),
            **_baselines(boost, part, y[fold_train], held),
        }
        forward.append((y[fold_test], held.day, predictions))
    scaler = Platt()
    if forward:
        out_y = np.concatenate([f[0] for f in forward])
        scaler = Platt.fit(
            np.concatenate([f[2][evaluation.MODEL] for f in forward]), out_y, np.ones(len(out_y))
        )
    encoded = boost.encode(test)
    raw = _predict(fitted, encoded)
    predictions = {
        evaluation.MODEL: raw,
        evaluation.CALIBRATED: scaler.apply(raw),
        **_baselines(boost, train_rows, y, test),
    }
    limits = {
        "against": "base_rate",
        "draws": config.bootstrap_draws,
        "seed": config.seed,
        "tries": config.tries,
    }
    scored = evaluation.binary(test.target(target), predictions, test.day, **limits)
    pooled = None
    if forward:
        joined = {p: np.concatenate([f[2][p] for f in forward]) for p in forward[0][2]}
        pooled = evaluation.binary(out_y, joined, np.concatenate([f[1] for f in forward]), **limits)
    model = {
        "categories": boost.categories,
        "boosters": {target: _text(fitted)},
        "calibration": {target: scaler.state()} if forward else {},
    }
    told = {
        "rounds": {target: fitted.current_iteration()},
        "scores": {target: scored},
        "walk_forward": {target: pooled},
        "calibration": {target: scaler.state() if forward else None},
        "contributions": {target: _contributions(fitted, encoded)},
        "remarks": [
            *evaluation.verdicts(scored),
            *skipped,
            *([] if forward else ["not calibrated: no fold could be trained"]),
        ],
    }
    return model, told


def _baselines(boost: "_Boost", train_rows: Rows, y: np.ndarray, test: Rows) -> dict[str, np.ndarray]:
    """Probabilities of what a model must beat, fitted on the rows that it was fitted on."""
    ones = np.ones(len(y))
    cell = CellRate.fit(train_rows.cells, y, ones)
    logistic = Logistic.fit(boost.encode(train_rows), [*boost.categories], y, ones)
    return {
        "base_rate": np.full(len(test), cell.prior),
        "symbol_hour_rate": cell.predict(test.cells),
        "logistic": logistic.predict(boost.encode(test)),
        "majority": np.full(len(test), float(cell.prior >= 0.5)),
    }


def _too_few(y: np.ndarray) -> str | None:
    positives = int(y.sum())
    for count, what in ((positives, "positives"), (len(y) - positives, "negatives")):
        if count < MIN_OF_EACH_CLASS:
            return f"{count} {what} in {len(y)} rows, expected at least {MIN_OF_EACH_CLASS}"
    return None


# -- slippage_prediction ---------------------------------------------------------------------------------------------


def _numbers(
    found: Published, train_rows: Rows, test: Rows, config: Config, num_threads: int
) -> tuple[dict, dict]:
    if len(train_rows) < MIN_ROWS:
        raise NotTrainable(
            f"train of {found.record['dataset']} {found.version} had {len(train_rows)} rows, expected at least "
            f"{MIN_ROWS}; publish more dates"
        )
    boost = _Boost("quantile", found, inputs.categories(train_rows.features), config, num_threads)
    encoded, start = boost.encode(test), from_iso(found.record["split"]["validation_from"])
    boosters: dict[str, str] = {}
    told: dict[str, dict] = {
        "rounds": {},
        "scores": {},
        "walk_forward": {},
        "calibration": {},
        "contributions": {},
    }
    for target in training_sets.definition(found.record["dataset"]).targets:
        y, truth = train_rows.target(target), test.target(target)
        predictions = {}
        for alpha in evaluation.ALPHAS:
            booster = boost.fit(train_rows, y, start, alpha=alpha)
            name = f"{target}_{alpha}"
            boosters[name] = _text(booster)
            told["rounds"][name] = booster.current_iteration()
            predictions[str(alpha)] = {
                evaluation.MODEL: _predict(booster, encoded),
                **_medians(train_rows, y, test),
                "train_quantile": np.full(len(test), np.quantile(y, alpha)),
            }
            if alpha == evaluation.ALPHAS[0]:
                told["contributions"][target] = _contributions(booster, encoded)
        limits = {"draws": config.bootstrap_draws, "seed": config.seed}
        told["scores"][target] = evaluation.numeric(truth, predictions, test.day, **limits)
        told["walk_forward"][target] = told["calibration"][target] = None
    return {"categories": boost.categories, "boosters": boosters, "calibration": {}}, {
        **told,
        "remarks": [why] if (why := evaluation.claim(len(np.unique(test.day)))) else [],
    }


def _medians(train_rows: Rows, y: np.ndarray, test: Rows) -> dict[str, np.ndarray]:
    """The median of train, and that of the symbol in train; a symbol that train lacks has the former."""
    median = float(np.median(y))
    of_symbol = {
        s: float(np.median(y[train_rows.symbol == s])) for s in np.unique(train_rows.symbol).tolist()
    }
    return {
        "train_median": np.full(len(test), median),
        "symbol_median": np.array([of_symbol.get(s, median) for s in test.symbol.tolist()]),
    }


# -- boosting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Boost:
    """One way to fit: objective, inputs, settings."""

    objective: str
    found: Published
    categories: dict[str, list[str]]
    config: Config
    num_threads: int

    def encode(self, rows: Rows) -> pa.Table:
        return inputs.encode(
            rows.features, [f["name"] for f in self.found.record["features"]], self.categories
        )

    def fit(self, rows: Rows, y: np.ndarray, tail_us: int, alpha: float | None = None) -> lgb.Booster:
        """Find the number of rounds on the tail of ``rows``, then fit all of them with as many."""
        params = {
            **self.config.boosting,
            "objective": self.objective,
            "metric": "binary_logloss" if alpha is None else "quantile",
            "seed": self.config.seed,
            "num_threads": self.num_threads,
            "verbosity": -1,
            **({} if alpha is None else {"alpha": alpha}),
        }
        encoded = self.encode(rows)

        def data(part: np.ndarray | None, reference: lgb.Dataset | None = None) -> lgb.Dataset:
            table, target = (encoded, y) if part is None else (encoded.take(pa.array(part)), y[part])
            return lgb.Dataset(
                table,
                label=target,
                categorical_feature=[*self.categories],
                reference=reference,
                params=params,
            )

        head, tail = _inner(rows.samples, tail_us)
        rounds = self.config.max_rounds
        if len(head) and len(tail):
            first = data(head)
            stopping = lgb.early_stopping(self.config.stopping_rounds, verbose=False)
            held = data(tail, first)
            rounds = lgb.train(params, first, rounds, valid_sets=[held], callbacks=[stopping]).best_iteration
        return lgb.Booster(model_str=lgb.train(params, data(None), max(1, rounds)).model_to_string())


def _inner(samples: Samples, tail_us: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and rows to stop by: the embargo, and whole operations, hold inside train as well."""
    return fold_rows(Fold(tail_us - EMBARGO_S * 1_000_000, tail_us, np.iinfo(np.int64).max), samples)


def _tail(rows: Rows) -> int:
    return tail_start(np.sort(rows.samples.as_of_us))


def _folds(found: Published, rows: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
    """Row numbers of train and test of each walk-forward fold of the record."""
    bounds = [
        Fold(*(from_iso(f[k]) for k in ("train_end", "test_start", "test_end")))
        for f in found.record["split"]["folds"]
    ]
    parts = [fold_rows(fold, rows.samples) for fold in bounds]
    return [(train_, test) for train_, test in parts if len(train_) and len(test)]


def _predict(booster: lgb.Booster, encoded: pa.Table) -> np.ndarray:
    return np.asarray(booster.predict(encoded, num_threads=1), dtype=float)


def _text(booster: lgb.Booster) -> str:
    """The booster's text without the thread count, the one setting that enters no tree."""
    return re.sub(r"\[num_threads: \d+\]", "[num_threads: 1]", booster.model_to_string())


def _contributions(booster: lgb.Booster, encoded: pa.Table) -> list[dict[str, object]]:
    """Mean |contribution| of each feature to the raw score (SHAP values, by LightGBM itself), largest first."""
    shares = np.abs(np.asarray(booster.predict(encoded, pred_contrib=True, num_threads=1))[:, :-1]).mean(
        axis=0
    )
    ranked = sorted(
        zip(encoded.column_names, shares.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0])
    )
    return [{"feature": name, "mean_abs": value} for name, value in ranked]
