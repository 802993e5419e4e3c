"""LightGBM heads under the walk-forward of `ml.splits`, each number beside what it must beat.

`train` is the whole way from the committed gold table to the experiment on disk; `evaluate` is the part
between, a pure function of a table and a configuration. Source: spec/market.md 14.1 to 14.4.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import runs
from lake.commits import now_utc
from ml import (
    ablations,
    components,
    datasets,
    experiments,
    metrics,
    registry,
    scoring,
    splits,
    training_rows,
)
from ml.calibration import Platt
from ml.datasets import DatasetError, TrainingTable
from ml.fitting import Fit, boost, fit_head, kept, predict_with, state, why_not
from ml.heads import ALL_HEADS, HeadData, head_data, rows_of

__all__ = ["Fit", "HeadData", "boost", "fit_head", "head_data", "rows_of", "why_not"]

log = logging.getLogger(__name__)

HEADS = ("tradeable_2", "direction")
STAGES = ("touch", "confirm_240")
ALL_STAGES = ("touch", "confirm_120", "confirm_240", "confirm_480")
MAX_ROUNDS = 300
STOPPING_ROUNDS = 30
SEED = 42
TOP_FEATURES = 10
MIN_TEST_SESSIONS_FOR_A_CLAIM = 10
BOOSTING = {
    "objective": "binary",
    "metric": "binary_logloss",
    "num_leaves": 31,
    "max_depth": 6,
    "learning_rate": 0.05,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.8,
    "scale_pos_weight": 1.0,
    "deterministic": True,
    "force_row_wise": True,
}
# Everything that enters a result; an edit of one of these makes an experiment out of date.
CODE = (
    *(
        "baselines.py",
        "calibration.py",
        "challenge.py",
        "comparators.py",
        "components.py",
        "datasets.py",
        "deflation.py",
        "ensemble.py",
        "fitting.py",
        "heads.py",
    ),
    *("metrics.py", "retrieval.py", "scoring.py", "splits.py", "training.py", "walk.py"),
)

Progress = Callable[[int, int, str], None]  # steps done, steps in all, what was done


@dataclass(frozen=True)
class Config:
    """What, with the data, determines every byte of a result.

    ``features`` narrows the version's own; `of_ablation` names those of an ablation. ``ablation`` is what they are
    called, by default what the version's are.
    """

    version: str = "v1.0_mechanics_only"
    heads: tuple[str, ...] = HEADS
    stages: tuple[str, ...] = STAGES
    features: tuple[str, ...] | None = None
    seed: int = SEED
    bootstrap_draws: int = metrics.DRAWS
    max_rounds: int = MAX_ROUNDS
    stopping_rounds: int = STOPPING_ROUNDS
    boosting: dict[str, object] = field(default_factory=lambda: dict(BOOSTING))
    ablation: str = ""

    def __post_init__(self) -> None:
        if not self.ablation:
            object.__setattr__(self, "ablation", ablations.of_version(self.version))
        if unknown := sorted(set(self.heads) - set(ALL_HEADS)):
            raise DatasetError(
                f"head was {unknown[0]!r}, expected one of {', '.join(ALL_HEADS)}; name a known head"
            )
        if unknown := sorted(set(self.stages) - set(ALL_STAGES)):
            raise DatasetError(
                f"stage was {unknown[0]!r}, expected one of {', '.join(ALL_STAGES)}; name a known stage"
            )
        if not self.heads or not self.stages:
            raise DatasetError("heads or stages were empty, expected at least one of each; name them")

    @classmethod
    def from_dict(cls, plain: dict) -> "Config":
        """Back from `as_dict`, as ``config.yaml`` keeps it."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})

    @classmethod
    def of_ablation(cls, contract: datasets.Contract, ablation: str, **more: object) -> "Config":
        """With the features that ``ablation`` leaves of a version: mechanics, ta, full or level_only."""
        names = ablations.features(contract, ablation)
        features = None if names is None else tuple(names)
        named = ablations.of_version(contract.version) if names is None else ablation
        return cls(version=contract.version, features=features, ablation=named, **more)

    def as_dict(self) -> dict:
        """As builtins, for ``config.yaml``."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` becomes ``metrics.json``; ``models`` are the final fits, builtins only, by stage and head.

    ``oof`` holds the out-of-fold rows by (stage, head): arrays session_date, stratum, y, weight, fold and
    one of probabilities for each predictor. ``trials`` are those of the components, by stage.
    """

    metrics: dict
    models: dict
    oof: dict[tuple[str, str], dict[str, np.ndarray]]
    trials: dict[str, components.Trial]


@dataclass(frozen=True)
class Report:
    """What `train` did. ``state`` is ``trained`` or ``up_to_date``; ``path`` is the experiment's folder."""

    experiment: str
    state: str
    path: Path
    metrics: dict

    def rows(self) -> list[dict]:
        """One flat row for each stage, head and fold, then their mean, their pool and the holdout: the
        printed table.
        """
        return list(training_rows.rows(self.metrics))

    def remarks(self) -> list[str]:
        """What a reader of the rows has to know beside them, one line each."""
        m = self.metrics
        done = "was up to date, nothing was trained" if self.state == "up_to_date" else "was trained"
        lines = [
            f"{self.experiment} {done}: {self.path}",
            f"dataset {m['dataset_digest'][:8]}: {m['rows']} rows of {m['signal_count']} touches in "
            f"{m['sessions']} sessions from {m['first_session']} to {m['last_session']}; "
            f"{m['n_folds']} folds, {m['test_sessions']} test sessions, holdout of {len(m['holdout'])}",
        ]
        if m["insufficient_folds"]:
            lines.append(
                f"insufficient folds: {m['n_folds']} fit, at least {splits.MIN_FOLDS} are needed to "
                "promote a model; land more sessions"
            )
        if m["test_sessions"] < MIN_TEST_SESSIONS_FOR_A_CLAIM:
            # Measured on 48 null worlds of 6 test sessions: about one interval in five missed the truth.
            lines.append(
                f"no claim of skill: {m['test_sessions']} test sessions, expected at least "
                f"{MIN_TEST_SESSIONS_FOR_A_CLAIM}; intervals over so few sessions are too narrow"
            )
        for r in m["results"]:
            if r["skipped"]:
                lines.append(f"skipped: {r['head']} at {r['stage']}, {r['skipped']}")
            elif r["final_skipped"]:
                lines.append(f"no final model: {r['head']} at {r['stage']}, {r['final_skipped']}")
        return lines


def train(
    root: Path,
    version: str = "v1.0_mechanics_only",
    experiment: str = "exp001_mechanics_only",
    *,
    config: Config | None = None,
    contract: datasets.Contract | None = None,
    num_threads: int = 1,
    replace: bool = False,
    notes: str = "",
    on_progress: Progress | None = None,
) -> Report:
    """Train and evaluate on the committed gold table of ``version`` and write
    ``<root>/ml/experiments/<experiment>/``.

    Nothing is done when the experiment is complete and neither the table's digest, nor the configuration,
    nor the code of training changed since: the report then says ``up_to_date``. A completed experiment that
    would change is refused with ExperimentIsFinal, unless ``replace`` gives its old result up. Equal data
    and configuration give equal ``metrics.json`` and ``model.joblib``, byte for byte, at any
    ``num_threads``.

    Raises NoTrainingTable, TooFewSessions, LeakError and DatasetError (all ValueError), each naming what to
    do.
    """
    config = config or Config(version=version)
    contract = contract or datasets.load_contract(version)
    inputs = _inputs(root, version, experiment, config, contract)
    dataset_digest = inputs["dataset_digest"]
    asked = {
        "command": "train",
        "version": version,
        "experiment": experiment,
        "dataset_digest": dataset_digest,
    }
    run = partial(runs.write_run, root, runs.new_run_id("train"), config=asked, started_at=now_utc())
    with experiments.locked(root, experiment):
        stored = experiments.find(root, experiment)
        if stored is not None and stored.config["inputs"] == inputs:
            experiments.record_completed(root, stored)
            log.info("experiment=%s state=up_to_date dataset_digest=%s", experiment, dataset_digest[:8])
            return Report(experiment, "up_to_date", stored.path, stored.metrics)
        if stored is not None and not replace:
            raise experiments.ExperimentIsFinal(experiments.what_changed(stored, inputs))
        if stored is not None and registry.was_promoted(root, experiment):
            raise experiments.ExperimentIsFinal(
                f"{experiment} was promoted, and a rollback needs its model as it is; give the new run its own name"
            )
        if stored is None:
            experiments.record_running(root, experiment, version, config.stages, notes)
        try:
            table = datasets.load(root, version, contract)
            evaluation = evaluate(table, config, num_threads=num_threads, on_progress=on_progress)
            stored = experiments.write(
                root,
                experiment,
                config={"inputs": inputs, **_resolved(table, config, root)},
                metrics={"experiment": experiment, "dataset_digest": dataset_digest, **evaluation.metrics},
                model={"experiment": experiment, "dataset_digest": dataset_digest, **evaluation.models},
                notes=notes,
            )
        except BaseException as e:
            experiments.record_failed(root, experiment, str(e) or type(e).__name__)
            run(status="failed", counts={"rows": 0})
            raise
        experiments.record_completed(root, stored)
        run(status="ok", counts={"rows": stored.metrics["rows"]})
    log.info("experiment=%s state=trained dataset_digest=%s", experiment, dataset_digest[:8])
    return Report(experiment, "trained", stored.path, stored.metrics)


def outlook(
    root: Path,
    version: str,
    experiment: str,
    *,
    config: Config | None = None,
    contract: datasets.Contract | None = None,
) -> str:
    """What `train` would find: ``new``, ``up_to_date``, or ``final``: completed with other inputs. Writes
    nothing.
    """
    contract = contract or datasets.load_contract(version)
    inputs = _inputs(root, version, experiment, config or Config(version=version), contract)
    stored = experiments.find(root, experiment)
    if stored is None:
        return "new"
    return "up_to_date" if stored.config["inputs"] == inputs else "final"


def evaluate(
    table: TrainingTable, config: Config, *, num_threads: int = 1, on_progress: Progress | None = None
) -> Evaluation:
    """Walk forward over the table, score each fold with its comparators, fit the final models, score the
    holdout once.

    A head with fewer than 30 rows of either class in a training part is skipped there, with the reason.
    Scores that need two classes are None where the test part has one. Intervals are of the pooled
    out-of-fold rows, over 1,000 draws of sessions; with fewer than two test sessions there are none.
    """
    columns = datasets.feature_columns(table.contract, config.features)
    names = [c.name for c in columns]
    level_names = [c.name for c in datasets.level_columns(table.contract)]
    dictionaries = datasets.categories(datasets.feature_columns(table.contract))
    plan = splits.plan(table.sessions)
    n_steps = len(config.stages) * len(config.heads) * (len(plan.folds) + 1)
    step = 0
    results, models, oof = [], {}, {}
    trials: dict[str, components.Trial] = {}
    chosen = []
    for stage in config.stages:
        stage_table = table.stage(stage)
        models[stage] = {}
        fits: dict[tuple[str, int], Fit] = {}
        for head in config.heads:
            data = head_data(stage_table, head, names, level_names, dictionaries)
            positives = 0 if data.is_regression else int(data.y.sum())
            result: dict = {"stage": stage, "head": head, "rows": len(data.y), "positives": positives}
            result["folds"], parts = [], []
            gains: list[np.ndarray] = []
            contributions: list[np.ndarray] = []
            for fold in plan.folds:
                scored, part, weights, fit = _run_fold(data, fold, config, num_threads)
                result["folds"].append(scored)
                if part is not None and weights is not None and fit is not None:
                    fits[head, fold.number] = fit
                    parts.append(part)
                    gains.append(weights[0])
                    contributions.append(weights[1])
                step += 1
                if on_progress:
                    on_progress(step, n_steps, f"{stage} {head} fold {fold.number}")
            result["skipped"] = None if parts else "every fold was skipped: " + _reasons(result["folds"])
            result["importance_gain"] = scoring.ranked(names, gains, "share")
            result["contributions"] = scoring.ranked(names, contributions, "share")
            if parts:
                oof[stage, head] = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
            result["mean"] = scoring.mean_scores(result["folds"])
            result["pooled"] = (
                _pooled(oof[stage, head], config, is_regression=data.is_regression) if parts else None
            )
            scaler = _scaler(oof.get((stage, head)), is_regression=data.is_regression)
            result["calibration"] = None if scaler is None else scaler.state()
            final = _run_final(data, plan.final, config, num_threads, scaler)
            result["holdout"] = final["holdout"]
            result["final_skipped"] = final["skipped"]
            if final["model"] is not None:
                models[stage][head] = final["model"]
            results.append(result)
            step += 1
            if on_progress:
                on_progress(step, n_steps, f"{stage} {head} final")
        whole = components.trial(table, config, stage, fits, num_threads=num_threads)
        chosen.append(components.record(whole, stage))
        if whole is not None:
            trials[stage] = whole
    summary = {
        "silver_version": config.version,
        "ablation": config.ablation,
        "sessions": len(table.sessions),
        "first_session": table.sessions[0],
        "last_session": table.sessions[-1],
        "n_folds": len(plan.folds),
        "insufficient_folds": plan.insufficient_folds,
        "test_sessions": sum(len(f.test) for f in plan.folds),
        "holdout": list(plan.holdout),
        "rows": table.table.num_rows,
        "signal_count": pc.count_distinct(table.table["event_id"]).as_py(),
        "feature_count": len(names),
        "null_rate_avg": _null_rate(table.table, names),
        "skipped": _skipped(results),
        "results": results,
        "components": chosen,
    }
    artifact = {
        "format_version": 1,
        "silver_version": config.version,
        "ablation": config.ablation,
        "feature_schema_hash": table.contract.schema_hash,
        "features": names,
        "level_features": level_names,
        "categories": dictionaries,
        "models": models,
    }
    return Evaluation(summary, artifact, oof, trials)


def predict(artifact: dict, stage: str, head: str, table: pa.Table) -> np.ndarray:
    """What a stored head says of rows that have its input columns, (rows,), not calibrated; the artifact is
    `load_model`'s.
    """
    model = artifact["models"][stage][head]
    inputs = datasets.encode(table, artifact["features"], artifact["categories"])
    return predict_with(lgb.Booster(model_str=model["booster"]), inputs)


def code_digest() -> str:
    """sha256 over the sources that a result depends on."""
    h = hashlib.sha256()
    for name in CODE:
        h.update(name.encode() + b"\0" + Path(__file__).with_name(name).read_bytes() + b"\0")
    return h.hexdigest()


def _inputs(root: Path, version: str, experiment: str, config: Config, contract: datasets.Contract) -> dict:
    """What a result depends on, without reading a row of the table."""
    if config.version != version:
        raise DatasetError(f"config was for {config.version}, expected {version}; give one version")
    experiments.parse_name(experiment)
    columns = datasets.feature_columns(contract, config.features)
    return {
        "experiment": experiment,
        "silver_version": version,
        "dataset": datasets.folder(version),
        "dataset_digest": datasets.digest(root, version),
        "feature_schema_hash": contract.schema_hash,
        "features": [c.name for c in columns],
        "categories": datasets.categories(columns),
        "training": config.as_dict(),
        "code_digest": code_digest(),
        "engines": {name: metadata.version(name) for name in ("lightgbm", "numpy", "pandas", "scikit-learn")},
    }


def _resolved(table: TrainingTable, config: Config, root: Path) -> dict:
    """What followed from the inputs: the folds by date, the features by name, and the silver version's
    digests.
    """
    plan = splits.plan(table.sessions)
    params = sorted(set(table.table["params_digest"].to_pylist()))
    if len(params) != 1:
        raise DatasetError(
            f"params_digest had {len(params)} values, expected one param set in a training table; "
            "build it again"
        )
    return {
        "param_set": experiments.silver_manifest(root, config.version).get("param_set"),
        "params_digest": params[0],
        "build_digest": (experiments.silver_manifest(root, config.version).get("digests") or {}).get("build"),
        "folds": [
            {"fold": f.number, "train": list(f.train), "inner": list(f.inner), "test": list(f.test)}
            for f in plan.folds
        ],
        "final": {
            "train": list(plan.final.train),
            "inner": list(plan.final.inner),
            "holdout": list(plan.holdout),
        },
    }


def _run_fold(
    data: HeadData, fold: splits.Fold, config: Config, num_threads: int
) -> tuple[dict, dict[str, np.ndarray] | None, tuple[np.ndarray, np.ndarray] | None, Fit | None]:
    """Scores of a fold, its out-of-fold rows, the weight of each input by gain and by contribution, and the fit."""
    rows = rows_of(data, fold)
    report = _fold_head(fold, rows, data)
    reason = why_not(data, rows.train, rows.inner) or ("no test row" if len(rows.test) == 0 else None)
    if reason:
        return report | {"skipped": reason}, None, None, None
    fit = fit_head(data, rows, config, num_threads)
    predictions = fit.predict(data, rows.test)
    report |= {"skipped": None, "rounds": fit.booster.current_iteration()}
    report |= _scores(data, rows.test, predictions)
    session = data.session[rows.test].astype("U10")
    part = {
        "session_date": session,
        "stratum": np.char.add(np.char.add(session, "|"), data.kind[rows.test]),
        "y": data.y[rows.test],
        "weight": data.weight[rows.test],
        "fold": np.full(len(rows.test), fold.number),
        **predictions,
    }
    return report, part, (fit.booster.feature_importance("gain"), fit.contributions(data, rows.test)), fit


def _run_final(
    data: HeadData, fold: splits.Fold, config: Config, num_threads: int, scaler: Platt | None
) -> dict:
    """The model that is kept, scored on the holdout from its stored form: what is kept is what was scored.

    Its ``calibration`` is of all out-of-fold predictions. Source: spec/market.md 14.4.
    """
    rows = rows_of(data, fold)
    if reason := why_not(data, rows.train, rows.inner):
        return {"model": None, "holdout": None, "skipped": reason}
    model = state(fit_head(data, rows, config, num_threads), scaler)
    holdout = None
    if len(rows.test):
        holdout = _fold_head(fold, rows, data)
        holdout |= _scores(data, rows.test, kept(model, data).predict(data, rows.test))
    return {"model": model, "holdout": holdout, "skipped": None}


def _scores(data: HeadData, part: np.ndarray, predictions: dict[str, np.ndarray]) -> dict:
    return scoring.scores(data.y[part], data.weight[part], predictions, is_regression=data.is_regression)


def _pooled(oof: dict[str, np.ndarray], config: Config, *, is_regression: bool) -> dict:
    """Tries are the heads at all stages of this experiment: the best of them is what people look at."""
    tries = len(config.heads) * len(config.stages)
    draws, seed = config.bootstrap_draws, config.seed
    return scoring.pooled(oof, is_regression=is_regression, draws=draws, seed=seed, tries=tries)


def _scaler(oof: dict[str, np.ndarray] | None, *, is_regression: bool) -> Platt | None:
    if oof is None or is_regression:
        return None
    return Platt.fit(oof["model"], oof["y"], oof["weight"])


def _fold_head(fold: splits.Fold, rows: splits.Rows, data: HeadData) -> dict:
    test = rows.test
    return {
        "fold": fold.number,
        "test_first": fold.test[0],
        "test_last": fold.test[-1],
        "n_train": len(rows.train),
        "n_inner": len(rows.inner),
        "n_purged": rows.purged,
        "n": len(test),
        "positives": 0 if data.is_regression else int(data.y[test].sum()),
        "weight": float(data.weight[test].sum()),
    }


def _null_rate(table: pa.Table, names: Sequence[str]) -> float:
    return float(np.mean([table[name].null_count / table.num_rows for name in names]))


def _reasons(folds: Sequence[dict]) -> str:
    return "; ".join(f"fold {f['fold']}: {f['skipped']}" for f in folds if f["skipped"])


def _skipped(results: Sequence[dict]) -> list[dict]:
    found = []
    for r in results:
        for f in r["folds"]:
            if f["skipped"]:
                found.append(
                    {"stage": r["stage"], "head": r["head"], "fold": f["fold"], "reason": f["skipped"]}
                )
        if r["final_skipped"]:
            found.append(
                {"stage": r["stage"], "head": r["head"], "fold": "final", "reason": r["final_skipped"]}
            )
    return found
