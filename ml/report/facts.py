"""What a report shows, gathered from experiments, their tables and their backtests; no number is made up here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import backtest, calibration, datasets, drift, experiments, metrics, splits, training
from ml.datasets import DatasetError

BASELINES = ("base_rate", "class_prior", "logistic", "level_only")
"""What stands beside a model, the one that decides first."""
SHOWN_FEATURES = 15
DRIFT_SESSIONS = 5
"""The last sessions whose distributions are held against all before them."""


@dataclass(frozen=True)
class Head:
    """One head at one stage: the pooled out-of-fold scores with their intervals, or why there are none."""

    stage: str
    head: str
    pooled: dict[str, Any] | None
    skipped: str | None
    importance: list[dict[str, Any]]
    contributions: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return f"{self.head} at {self.stage}"

    @property
    def kind(self) -> str:
        """Name of the skill that its loss has: of a class or of a number."""
        return "mae_skill" if self.pooled and "mae_skill" in self.pooled else "brier_skill"

    def skill(self, against: str) -> tuple[float | None, float | None, float | None]:
        """Skill against a baseline, and its interval; None where there is none."""
        if not self.pooled:
            return None, None, None
        low, high = ((self.pooled.get("ci") or {}).get(self.kind) or {}).get(against) or (None, None)
        return self.pooled[self.kind].get(against), low, high


@dataclass(frozen=True)
class Curve:
    """Backtested probabilities of ``tradeable_2`` at one stage: reliability bins, and precision by recall."""

    stage: str
    bins: list[dict[str, float | int]]
    ece: float | None
    precision_recall: list[tuple[float, float]]
    base_precision_recall: list[tuple[float, float]]
    prevalence: float
    rows: int


@dataclass(frozen=True)
class Equity:
    """Backtested points of one stage in order of time: (session date, points so far)."""

    stage: str
    path: list[tuple[str, float]]
    trades: int
    points: float
    cost_points: float
    drawdown_points: float
    hit_rate: float | None
    interval: tuple[float | None, float | None]
    """Of the mean points a session, 95 % over draws of sessions."""


@dataclass(frozen=True)
class Experiment:
    """One experiment with all of its figures."""

    name: str
    version: str
    ablation: str
    dataset_digest: str
    rows: int
    events: int
    sessions: int
    test_sessions: int
    first: str
    last: str
    folds: int
    insufficient_folds: bool
    holdout: list[str]
    heads: list[Head]
    notes: str
    is_current: bool
    nulls: list[tuple[str, float]] = field(default_factory=list)
    labels: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    drifts: list[tuple[str, float]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    equities: list[Equity] = field(default_factory=list)

    @property
    def may_claim(self) -> bool:
        return self.test_sessions >= training.MIN_TEST_SESSIONS_FOR_A_CLAIM

    def verdict(self, head: Head) -> str:
        """What the figures allow to be said of one head, in words."""
        if head.pooled is None:
            return f"not scored: {head.skipped}"
        if not self.may_claim:
            return (
                f"no claim: {self.test_sessions} test sessions, at least "
                f"{training.MIN_TEST_SESSIONS_FOR_A_CLAIM} are needed"
            )
        against = [head.skill(name) for name in BASELINES[:2]]
        if all(low is not None and low > 0 for _, low, _ in against):
            left = head.pooled.get("deflated")
            if left and left["deflated"] <= 0:
                return (
                    f"better than its baselines, but not more than the best of {left['tries']} tries by luck"
                )
            return "better than its baselines"
        if any(high is not None and high < 0 for _, _, high in against):
            return "worse than a baseline"
        return "no skill shown"


def gather(
    root: Path, names: Sequence[str] = (), contracts: dict[str, datasets.Contract] | None = None
) -> list[Experiment]:
    """Every completed experiment (or those of ``names``) in order of id. Raises ExperimentError when there is none."""
    wanted = {experiments.entry_of(root, name)["id"] for name in names}
    entries = [e for e in experiments.read_index(root) if not wanted or e["id"] in wanted]
    found = []
    tables: dict[str, pa.Table | None] = {}
    for entry in entries:
        stored = experiments.stored_of(root, entry["id"])
        if stored is not None and entry["status"] in ("completed", "archived"):
            version = stored.config["inputs"]["silver_version"]
            if version not in tables:
                tables[version] = _table(root, version, (contracts or {}).get(version))
            found.append(_experiment(root, stored, tables[version]))
    if not found:
        raise experiments.ExperimentError(
            "no experiment is completed, expected one; run `tickhouse train` first"
        )
    return found


def _table(root: Path, version: str, contract: datasets.Contract | None) -> pa.Table | None:
    try:
        return datasets.load(root, version, contract or datasets.load_contract(version)).table
    except DatasetError:
        return None  # its table was dropped or rebuilt otherwise: the figures of then still stand


def _experiment(root: Path, stored: experiments.Stored, table: pa.Table | None) -> Experiment:
    metrics, inputs = stored.metrics, stored.config["inputs"]
    is_current = (
        table is not None and datasets.digest(root, inputs["silver_version"]) == inputs["dataset_digest"]
    )
    heads = [
        Head(
            r["stage"],
            r["head"],
            r["pooled"],
            r["skipped"],
            r["importance_gain"][:SHOWN_FEATURES],
            (r.get("contributions") or [])[:SHOWN_FEATURES],
        )
        for r in metrics["results"]
    ]
    shown = table if is_current else None
    rows = _backtest(root, stored.path.name)
    stages = sorted(set(rows["stage"].to_pylist())) if rows is not None else []
    return Experiment(
        name=stored.path.name,
        version=inputs["silver_version"],
        ablation=metrics["ablation"],
        dataset_digest=inputs["dataset_digest"],
        rows=metrics["rows"],
        events=metrics["signal_count"],
        sessions=metrics["sessions"],
        test_sessions=metrics["test_sessions"],
        first=metrics["first_session"],
        last=metrics["last_session"],
        folds=metrics["n_folds"],
        insufficient_folds=metrics["insufficient_folds"],
        holdout=metrics["holdout"],
        heads=heads,
        notes=stored.config["notes"],
        is_current=is_current,
        nulls=[] if shown is None else _nulls(shown, inputs["features"]),
        labels=[] if shown is None else _labels(shown),
        drifts=[] if shown is None else _drifts(shown, inputs["features"]),
        curves=[_curve(_of(rows, stage)) for stage in stages],
        equities=[_equity(_of(rows, stage)) for stage in stages],
    )


def _nulls(table: pa.Table, features: Sequence[str]) -> list[tuple[str, float]]:
    rates = [(name, table[name].null_count / table.num_rows) for name in features]
    return sorted(((n, r) for n, r in rates if r > 0), key=lambda pair: (-pair[1], pair[0]))[:SHOWN_FEATURES]


def _labels(table: pa.Table) -> list[tuple[str, dict[str, float]]]:
    rates = drift.rates_by_stage(table)
    stages = dict.fromkeys(stage for stage, _ in rates)
    return [(s, {o: rates[s, o] or 0.0 for o in ("BREAK", "BOUNCE", "CHOP")}) for s in stages]


def _drifts(table: pa.Table, features: Sequence[str]) -> list[tuple[str, float]]:
    """PSI of each feature in the last sessions against all before; most moved first."""
    dates = datasets.session_dates(table)
    sessions = sorted(set(dates.tolist()))
    if len(sessions) <= 2 * DRIFT_SESSIONS:
        return []
    is_late = pa.array(dates >= sessions[-DRIFT_SESSIONS])
    late, early = table.filter(is_late), table.filter(pc.invert(is_late))
    moved = [(name, drift.psi(early[name], late[name])) for name in features]
    return sorted(((n, v) for n, v in moved if v is not None), key=lambda p: (-p[1], p[0]))[:SHOWN_FEATURES]


# -- of the backtest ---------------------------------------------------------------------------------------------------


def _backtest(root: Path, experiment: str) -> pa.Table | None:
    try:
        rows = backtest.read(root, experiments.parse_name(experiment))
    except experiments.ExperimentError:
        return None
    return rows if rows.num_rows else None


def _of(rows: pa.Table, stage: str) -> pa.Table:
    return rows.filter(pc.and_(pc.equal(rows["stage"], stage), pc.equal(rows["split"], "oof")))


def _curve(rows: pa.Table) -> Curve:
    y, weight = rows["y_tradeable_2"].to_numpy().astype(int), rows["sample_weight"].to_numpy()
    p = rows["p_tradeable_2"].to_numpy()
    base = 1 - rows["base_p_chop"].to_numpy()
    bins = calibration.reliability(y, p, weight)
    return Curve(
        stage=rows["stage"][0].as_py(),
        bins=bins,
        ece=calibration.expected_error(bins),
        precision_recall=precision_recall(y, p, weight),
        base_precision_recall=precision_recall(y, base, weight),
        prevalence=float(np.average(y, weights=weight)),
        rows=len(y),
    )


def precision_recall(
    y: np.ndarray, p: np.ndarray, weight: np.ndarray, points: int = 60
) -> list[tuple[float, float]]:
    """(recall, precision) by falling threshold, thinned to about ``points``; empty without a positive row."""
    order = np.argsort(-p, kind="stable")
    positive, total = np.cumsum((weight * (y == 1))[order]), np.cumsum(weight[order])
    if len(y) == 0 or positive[-1] == 0:
        return []
    ends = np.flatnonzero(np.r_[np.diff(p[order]) != 0, True])
    kept = ends[np.unique(np.linspace(0, len(ends) - 1, min(points, len(ends))).astype(int))]
    return [(float(positive[i] / positive[-1]), float(positive[i] / total[i])) for i in kept]


def _equity(rows: pa.Table) -> Equity:
    rows = rows.sort_by([("asof_ns", "ascending"), ("observation_id", "ascending")])
    pnl, dates = rows["pnl_points"].to_numpy(), datasets.session_dates(rows)
    traded = pc.is_valid(rows["entry_price"]).to_numpy(zero_copy_only=False)
    path = np.cumsum(pnl)
    peak = np.maximum.accumulate(np.r_[0.0, path])[1:]
    sessions = sorted(set(dates.tolist()))
    daily = np.array([pnl[dates == d].sum() for d in sessions])
    interval: tuple[float | None, float | None] = (None, None)
    if len(sessions) >= 2:
        boot = metrics.SessionBootstrap.of(np.array(sessions), seed=training.SEED)
        interval = boot.interval(boot.ratio(daily, np.ones(len(daily))))
    ends = [int(np.flatnonzero(dates == d)[-1]) for d in sessions]
    return Equity(
        stage=rows["stage"][0].as_py(),
        path=[(d, float(path[i])) for d, i in zip(sessions, ends, strict=True)],
        trades=int(traded.sum()),
        points=float(pnl.sum()),
        cost_points=float(rows["cost_points"].to_numpy().sum()),
        drawdown_points=float((peak - path).max()) if len(path) else 0.0,
        hit_rate=float((pnl[traded] > 0).mean()) if traded.any() else None,
        interval=interval,
    )


def least_folds() -> int:
    """Folds that a model needs to be promoted."""
    return splits.MIN_FOLDS
