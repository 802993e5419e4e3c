"""LightGBM heads under the walk-forward of `ml.splits`, each number beside what it must beat.

`train` is the whole way from the committed gold table to the experiment on disk; `evaluate` is the part
between, a pure function of a table and a configuration. Source: spec/market.md 14.1 to 14.4.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
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
from ml import datasets, experiments, metrics, splits
from ml.comparators import BaseRate, class_prior, majority_class
from ml.datasets import DatasetError, TrainingTable

log = logging.getLogger(__name__)

HEADS = ("tradeable_2", "direction")
STAGES = ("touch", "confirm_240")
ALL_STAGES = ("touch", "confirm_120", "confirm_240", "confirm_480")
# What a version's own features are called as an ablation (spec/market.md 14.1).
ABLATIONS = {"v1.0_mechanics_only": "mechanics", "v1.1_ta_only": "ta", "v2.0_full_ensemble": "full"}
MIN_OF_EACH_CLASS = 30
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
SCORES = ("roc_auc", "pr_auc", "brier", "log_loss", "accuracy")
# Every predictor that stands in a table, the model first. Majority has no probabilities: accuracy only.
PREDICTORS = ("model", "level_only", "base_rate", "class_prior")
# Everything that enters a result; an edit of one of these makes an experiment out of date.
CODE = ("comparators.py", "datasets.py", "metrics.py", "splits.py", "training.py")

Progress = Callable[[int, int, str], None]  # steps done, steps in all, what was done
_Part = tuple[pa.Table, np.ndarray, np.ndarray]  # inputs, classes, weights of the same rows


@dataclass(frozen=True)
class Config:
    """What, with the data, determines every byte of a result. ``features`` narrows the version's own."""

    version: str = "v1.0_mechanics_only"
    heads: tuple[str, ...] = HEADS
    stages: tuple[str, ...] = STAGES
    features: tuple[str, ...] | None = None
    seed: int = SEED
    bootstrap_draws: int = metrics.DRAWS
    max_rounds: int = MAX_ROUNDS
    stopping_rounds: int = STOPPING_ROUNDS
    boosting: dict[str, object] = field(default_factory=lambda: dict(BOOSTING))

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.heads) - set(HEADS)):
            raise DatasetError(
                f"head was {unknown[0]!r}, expected one of {', '.join(HEADS)}; name a known head"
            )
        if unknown := sorted(set(self.stages) - set(ALL_STAGES)):
            raise DatasetError(
                f"stage was {unknown[0]!r}, expected one of {', '.join(ALL_STAGES)}; name a known stage"
            )
        if not self.heads or not self.stages:
            raise DatasetError("heads or stages were empty, expected at least one of each; name them")

    @property
    def ablation(self) -> str:
        return ABLATIONS.get(self.version, self.version.partition("_")[2] or self.version)

    def as_dict(self) -> dict:
        """As builtins, for ``config.yaml``."""
        plain = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()} | {
            "ablation": self.ablation
        }


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` becomes ``metrics.json``; ``models`` are the final fits, builtins only, by stage and head.

    ``oof`` holds the out-of-fold rows by (stage, head): arrays session_date, stratum, y, weight, fold and
    one of probabilities for each predictor.
    """

    metrics: dict
    models: dict
    oof: dict[tuple[str, str], dict[str, np.ndarray]]


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
        return list(_report_rows(self.metrics))

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


@dataclass(frozen=True)
class _HeadData:
    """Rows of one head at one stage; everything (rows,)."""

    inputs: pa.Table
    level_inputs: pa.Table
    y: np.ndarray
    weight: np.ndarray
    session: np.ndarray
    asof_ns: np.ndarray
    label_end_ns: np.ndarray
    cluster: np.ndarray
    kind: np.ndarray
    direction: np.ndarray

    def take(self, part: np.ndarray) -> tuple[pa.Table, pa.Table, np.ndarray, np.ndarray]:
        index = pa.array(part)
        return self.inputs.take(index), self.level_inputs.take(index), self.y[part], self.weight[part]


@dataclass(frozen=True)
class _Fit:
    """A booster with the comparators of the same training part."""

    booster: lgb.Booster
    level_only: lgb.Booster
    prior: float
    base_rate: BaseRate
    majority: int

    def predict(self, data: _HeadData, part: np.ndarray) -> dict[str, np.ndarray]:
        inputs, level_inputs, _, _ = data.take(part)
        return {
            "model": _predict(self.booster, inputs),
            "level_only": _predict(self.level_only, level_inputs),
            "base_rate": self.base_rate.predict(data.kind[part], data.direction[part], data.asof_ns[part]),
            "class_prior": np.full(len(part), self.prior),
            "majority": np.full(len(part), float(self.majority)),
        }


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
    for stage in config.stages:
        stage_table = table.stage(stage)
        models[stage] = {}
        for head in config.heads:
            data = _head_data(stage_table, head, names, level_names, dictionaries)
            result: dict = {"stage": stage, "head": head, "rows": len(data.y), "positives": int(data.y.sum())}
            result["folds"], parts = [], []
            gains: list[np.ndarray] = []
            for fold in plan.folds:
                scored, part, gain = _run_fold(data, fold, config, num_threads)
                result["folds"].append(scored)
                if part is not None:
                    parts.append(part)
                    gains.append(gain)
                step += 1
                if on_progress:
                    on_progress(step, n_steps, f"{stage} {head} fold {fold.number}")
            result["skipped"] = None if parts else "every fold was skipped: " + _reasons(result["folds"])
            result["importance_gain"] = _importance(names, gains)
            if parts:
                oof[stage, head] = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
            result["mean"] = _mean_scores(result["folds"])
            result["pooled"] = _pooled(oof[stage, head], config) if parts else None
            final = _run_final(data, plan.final, config, num_threads)
            result["holdout"] = final["holdout"]
            result["final_skipped"] = final["skipped"]
            if final["model"] is not None:
                models[stage][head] = final["model"]
            results.append(result)
            step += 1
            if on_progress:
                on_progress(step, n_steps, f"{stage} {head} final")
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
    return Evaluation(summary, artifact, oof)


def predict(artifact: dict, stage: str, head: str, table: pa.Table) -> np.ndarray:
    """Probabilities (rows,) of a stored head for rows that have its input columns; the artifact is
    `load_model`'s.
    """
    model = artifact["models"][stage][head]
    inputs = datasets.encode(table, artifact["features"], artifact["categories"])
    return _predict(lgb.Booster(model_str=model["booster"]), inputs)


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


def _head_data(
    table: pa.Table,
    head: str,
    names: Sequence[str],
    level_names: Sequence[str],
    dictionaries: dict[str, list],
) -> _HeadData:
    if head == "direction":
        table = table.filter(pc.equal(table["tradeable_2"], 1))
        y = pc.equal(table["outcome"], "BREAK").to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        y = table[head].to_numpy().astype(np.int64)
    session = datasets.session_dates(table)
    kind, direction = (np.asarray(table[c].to_pylist(), dtype=str) for c in ("level_kind_name", "direction"))
    attempt = table["attempt_cluster_id"].to_numpy().astype(str)
    cluster = np.array(
        ["|".join(key) for key in zip(session, kind, direction, attempt, strict=True)], dtype=str
    )
    return _HeadData(
        inputs=datasets.encode(table, names, dictionaries),
        level_inputs=datasets.encode(table, level_names, dictionaries),
        y=y,
        weight=table["sample_weight"].to_numpy().astype(float),
        session=session,
        asof_ns=table["asof_ns"].to_numpy(),
        label_end_ns=table["label_end_ns"].to_numpy(),
        cluster=cluster,
        kind=kind,
        direction=direction,
    )


def _run_fold(
    data: _HeadData, fold: splits.Fold, config: Config, num_threads: int
) -> tuple[dict, dict[str, np.ndarray] | None, np.ndarray | None]:
    rows = splits.rows(fold, data.session, data.asof_ns, data.label_end_ns, data.cluster)
    report = _fold_head(fold, rows, data)
    reason = _why_not(data, rows.train, rows.inner) or ("no test row" if len(rows.test) == 0 else None)
    if reason:
        return report | {"skipped": reason}, None, None
    fit = _fit(data, rows, config, num_threads)
    predictions = fit.predict(data, rows.test)
    report |= {"skipped": None, "rounds": fit.booster.current_iteration()}
    report |= _scores(data.y[rows.test], data.weight[rows.test], predictions)
    part = {
        "session_date": data.session[rows.test],
        "stratum": np.char.add(np.char.add(data.session[rows.test], "|"), data.kind[rows.test]),
        "y": data.y[rows.test],
        "weight": data.weight[rows.test],
        "fold": np.full(len(rows.test), fold.number),
        **predictions,
    }
    return report, part, fit.booster.feature_importance("gain")


def _run_final(data: _HeadData, fold: splits.Fold, config: Config, num_threads: int) -> dict:
    """The model that is kept, scored on the holdout from its stored form: what is kept is what was scored."""
    rows = splits.rows(fold, data.session, data.asof_ns, data.label_end_ns, data.cluster)
    if reason := _why_not(data, rows.train, rows.inner):
        return {"model": None, "holdout": None, "skipped": reason}
    fit = _fit(data, rows, config, num_threads)
    model = {
        "booster": _model_text(fit.booster),
        "level_only": _model_text(fit.level_only),
        "rounds": fit.booster.current_iteration(),
        "class_prior": fit.prior,
        "base_rate": fit.base_rate.state(),
        "majority": fit.majority,
        "importance_gain": [float(g) for g in fit.booster.feature_importance("gain")],
    }
    holdout = None
    if len(rows.test):
        kept = _Fit(
            lgb.Booster(model_str=model["booster"]),
            lgb.Booster(model_str=model["level_only"]),
            fit.prior,
            BaseRate.from_state(model["base_rate"]),
            fit.majority,
        )
        holdout = _fold_head(fold, rows, data)
        holdout |= _scores(data.y[rows.test], data.weight[rows.test], kept.predict(data, rows.test))
    return {"model": model, "holdout": holdout, "skipped": None}


def _fold_head(fold: splits.Fold, rows: splits.Rows, data: _HeadData) -> dict:
    test = rows.test
    return {
        "fold": fold.number,
        "test_first": fold.test[0],
        "test_last": fold.test[-1],
        "n_train": len(rows.train),
        "n_inner": len(rows.inner),
        "n_purged": rows.purged,
        "n": len(test),
        "positives": int(data.y[test].sum()),
        "weight": float(data.weight[test].sum()),
    }


def _why_not(data: _HeadData, train: np.ndarray, inner: np.ndarray) -> str | None:
    positives = int(data.y[train].sum())
    for count, what in ((positives, "positives"), (len(train) - positives, "negatives")):
        if count < MIN_OF_EACH_CLASS:
            return f"{count} {what} in {len(train)} training rows, expected at least {MIN_OF_EACH_CLASS}"
    return "no row in the inner validation" if len(inner) == 0 else None


def _fit(data: _HeadData, rows: splits.Rows, config: Config, num_threads: int) -> _Fit:
    train_inputs, train_level, train_y, train_weight = data.take(rows.train)
    inner_inputs, inner_level, inner_y, inner_weight = data.take(rows.inner)
    everything = rows.training
    return _Fit(
        _boost(
            (train_inputs, train_y, train_weight), (inner_inputs, inner_y, inner_weight), config, num_threads
        ),
        _boost(
            (train_level, train_y, train_weight), (inner_level, inner_y, inner_weight), config, num_threads
        ),
        class_prior(data.y[everything], data.weight[everything]),
        BaseRate.fit(
            data.kind[everything],
            data.direction[everything],
            data.asof_ns[everything],
            data.y[everything],
            data.weight[everything],
        ),
        majority_class(data.y[everything], data.weight[everything]),
    )


def _boost(train_part: _Part, inner_part: _Part, config: Config, num_threads: int) -> lgb.Booster:
    inputs, y, weight = train_part
    inner_inputs, inner_y, inner_weight = inner_part
    categorical = [c for c in inputs.column_names if c in datasets.CATEGORICAL_COLUMNS]
    # Explicit threads: with LightGBM's own choice a busy machine takes minutes for what takes a second.
    params = {**config.boosting, "seed": config.seed, "num_threads": num_threads, "verbosity": -1}
    train_set = lgb.Dataset(inputs, label=y, weight=weight, categorical_feature=categorical, params=params)
    inner_set = lgb.Dataset(
        inner_inputs, label=inner_y, weight=inner_weight, reference=train_set, params=params
    )
    booster = lgb.train(
        params,
        train_set,
        num_boost_round=config.max_rounds,
        valid_sets=[inner_set],
        callbacks=[lgb.early_stopping(config.stopping_rounds, verbose=False)],
    )
    # Only the rounds up to the best stay: what is stored, predicted with and weighed by gain is then one
    # model.
    return lgb.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))


def _predict(booster: lgb.Booster, inputs: pa.Table) -> np.ndarray:
    return np.asarray(booster.predict(inputs, num_threads=1), dtype=float)


def _model_text(booster: lgb.Booster) -> str:
    """The booster's text without the thread count, the one setting that enters no tree."""
    return re.sub(r"\[num_threads: \d+\]", "[num_threads: 1]", booster.model_to_string())


def _scores(y: np.ndarray, weight: np.ndarray, predictions: dict[str, np.ndarray]) -> dict:
    scored: dict = {name: metrics.binary_scores(y, predictions[name], weight) for name in PREDICTORS}
    scored["majority"] = {"accuracy": metrics.binary_scores(y, predictions["majority"], weight)["accuracy"]}
    scored["brier_skill"] = {
        name: metrics.brier_skill(scored["model"]["brier"], scored[name]["brier"]) for name in PREDICTORS[1:]
    }
    return scored


def _mean_scores(folds: Sequence[dict]) -> dict | None:
    """Mean of each score over the folds that have it."""
    done = [f for f in folds if f["skipped"] is None]
    if not done:
        return None

    def mean(values: Iterator[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else None

    means: dict = {name: {s: mean(f[name][s] for f in done) for s in SCORES} for name in PREDICTORS}
    means["majority"] = {"accuracy": mean(f["majority"]["accuracy"] for f in done)}
    means["brier_skill"] = {name: mean(f["brier_skill"][name] for f in done) for name in PREDICTORS[1:]}
    return means


def _pooled(oof: dict[str, np.ndarray], config: Config) -> dict:
    """Scores of all out-of-fold rows together, with intervals over draws of whole sessions."""
    y, weight = oof["y"], oof["weight"]
    pooled = _scores(y, weight, oof)
    n_sessions = len(np.unique(oof["session_date"]))
    pooled |= {"n": len(y), "positives": int(y.sum()), "sessions": n_sessions, "ci": None}
    ordered, pairs = metrics.pairs_within(y, oof["model"], weight, oof["stratum"])
    # Only pairs of one session and level kind: a model can't gain here by knowing which of these has more
    # of a class.
    pooled["roc_auc_within"] = float(ordered.sum() / pairs.sum()) if pairs.sum() > 0 else None
    if n_sessions < 2:
        return pooled
    boot = metrics.SessionBootstrap.of(oof["session_date"], draws=config.bootstrap_draws, seed=config.seed)
    intervals: dict = {}
    loss = {name: weight * (oof[name] - y) ** 2 for name in PREDICTORS}
    for name in PREDICTORS:
        auc, ap = boot.ranked(y, oof[name], weight)
        intervals[name] = {
            "roc_auc": metrics.interval(auc),
            "pr_auc": metrics.interval(ap),
            "brier": metrics.interval(boot.ratio(loss[name], weight)),
            "log_loss": metrics.interval(boot.ratio(weight * _log_loss(y, oof[name]), weight)),
        }
    intervals["brier_skill"] = {
        name: metrics.interval(1.0 - boot.ratio(loss["model"], loss[name])) for name in PREDICTORS[1:]
    }
    intervals["roc_auc_within"] = metrics.interval(boot.ratio(ordered, pairs))
    pooled["ci"] = {k: _lists(v) for k, v in intervals.items()}
    return pooled


def _lists(value: object) -> object:
    return {k: list(v) for k, v in value.items()} if isinstance(value, dict) else list(value)


def _log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    p = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    return -np.where(y == 1, np.log(p), np.log1p(-p))


def _importance(names: Sequence[str], gains: Sequence[np.ndarray]) -> list[dict]:
    """Share of each feature in the gain of a fold's booster, averaged over the folds, largest first."""
    if not gains:
        return []
    shares = [g / g.sum() if g.sum() > 0 else g for g in gains]
    mean = np.mean(shares, axis=0)
    ranked = sorted(zip(names, mean, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return [{"feature": name, "share": float(share)} for name, share in ranked]


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


def _report_rows(summary: dict) -> Iterator[dict]:
    for r in summary["results"]:
        key = {"stage": r["stage"], "head": r["head"]}
        for f in r["folds"]:
            yield key | _row(str(f["fold"]), f["test_first"], f["test_last"], f, f["skipped"])
        if r["pooled"] is not None:
            scored = [f for f in r["folds"] if f["skipped"] is None]
            span = (scored[0]["test_first"], scored[-1]["test_last"])
            counts = {k: r["pooled"][k] for k in ("n", "positives")}
            yield key | _row("mean", *span, r["mean"] | counts, None)
            yield key | _row("pooled", *span, r["pooled"], None)
        if r["holdout"] is not None:
            yield key | _row(
                "holdout", r["holdout"]["test_first"], r["holdout"]["test_last"], r["holdout"], None
            )


def _row(fold: str, first: str, last: str, scores: dict, skipped: str | None) -> dict:
    """Flat, with the same keys in every row. ``ci`` columns are of the pooled row only."""
    ci = (scores.get("ci") or {}) if skipped is None else {}
    row: dict = {
        "fold": fold,
        "test_first": first,
        "test_last": last,
        "n": scores["n"],
        "positives": scores["positives"],
    }
    for score in ("roc_auc", "pr_auc", "brier"):
        for name in PREDICTORS:
            row[f"{score}_{name}"] = None if skipped else scores[name][score]
    row["roc_auc_ci_low"], row["roc_auc_ci_high"] = ci["model"]["roc_auc"] if ci else (None, None)
    row["brier_skill_base_rate"] = None if skipped else scores["brier_skill"]["base_rate"]
    row["brier_skill_ci_low"], row["brier_skill_ci_high"] = (
        ci["brier_skill"]["base_rate"] if ci else (None, None)
    )
    row["skipped"] = skipped
    return row
