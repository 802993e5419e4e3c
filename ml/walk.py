"""Every test row of every fold with all that would have been said of it then: trees, neighbours, gate, calibration.

The way of spec/market.md 14.2 to 14.7, out of fold: models, comparators, the index of neighbours and the calibrators of
a fold are made of its training sessions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import datasets, ensemble, heads, retrieval, splits
from ml.calibration import Platt
from ml.fitting import Fit, fit_head, why_not
from ml.heads import HeadData

if TYPE_CHECKING:
    from ml import training

NEIGHBOUR = pa.struct(
    [
        ("event_id", pa.string()),
        ("distance", pa.float64()),
        ("weight", pa.float64()),
        ("outcome", pa.string()),
    ]
)


@dataclass(frozen=True)
class Components:
    """What is mixed in. Retrieval and gate are on for evaluation; production uses one only if it wins without."""

    use_knn: bool = True
    use_gate: bool = True


BOTH = Components()


@dataclass(frozen=True)
class Said:
    """What one fold's models say of some rows; everything (rows,) or (rows, 3). ``bias`` is the gate's, used or not."""

    trees: np.ndarray
    base: np.ndarray
    knn: np.ndarray
    similarity: np.ndarray
    entropy: np.ndarray
    effective_n: np.ndarray
    neighbours: list
    bias: np.ndarray
    strength: np.ndarray | None

    def mixed(self, components: Components) -> np.ndarray:
        """(rows, 3), not calibrated: trees, with neighbours and moved by the gate where these are asked for."""
        p = self.trees
        if components.use_knn:
            p = ensemble.ensemble(p, self.knn, self.similarity, self.entropy, self.base)
        return ensemble.gated(p, self.bias) if components.use_gate else p


@dataclass(frozen=True)
class Forecast:
    """One fold: its test rows and what was said of them, beside its inner validation, which calibrates."""

    fold: splits.Fold
    rows: pa.Table
    inner_outcome: np.ndarray
    inner_weight: np.ndarray
    inner: Said
    test: Said

    def calibrated(self, components: Components) -> tuple[np.ndarray, np.ndarray]:
        """(p_tradeable, p_direction) of the test rows, scaled as the same components ask for on the inner rows."""
        inner, test = self.inner.mixed(components), self.test.mixed(components)
        scalers = scalers_of(inner, self.inner_outcome, self.inner_weight)
        return apply(scalers, test)


Scalers = tuple[Platt, Platt]


def scalers_of(p: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> Scalers:
    """Of p_tradeable over all rows and of p_direction over those that moved. ``p`` (rows, 3), ``outcome`` texts."""
    went = outcome != "CHOP"
    of_tradeable = Platt.fit(1 - p[:, 2], went.astype(int), weight)
    if not went.any():
        return of_tradeable, Platt()
    broke = (outcome[went] == "BREAK").astype(int)
    return of_tradeable, Platt.fit(direction_of(p[went]), broke, weight[went])


def apply(scalers: Scalers, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p_tradeable, p_direction), (rows,) each, of (rows, 3)."""
    return scalers[0].apply(1 - p[:, 2]), scalers[1].apply(direction_of(p))


def walk(
    table: datasets.TrainingTable,
    config: training.Config,
    stage: str,
    components: Components = BOTH,
    *,
    num_threads: int = 1,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> pa.Table:
    """One row per test row of a fold that could be fitted, holdout last, in the order of the table.

    Columns are those of spec/market.md 13.2 up to ``sample_weight``, but ``run_id``, ``model_id`` and ``rank``. A table
    whose folds are all too thin gives no row. Source: spec/market.md 14.3.
    """
    parts = []
    plan = splits.plan(table.sessions)
    folds = [*plan.folds, *([plan.final] if plan.holdout else [])]
    said = forecasts(
        table, config, stage, folds, use_knn=components.use_knn, num_threads=num_threads, on_fold=on_fold
    )
    for forecast in said:
        p_tradeable, p_direction = forecast.calibrated(components)
        parts.append(_table(forecast, components, p_tradeable, p_direction))
    return pa.concat_tables(parts) if parts else _SCHEMA.empty_table()


def forecasts(
    table: datasets.TrainingTable,
    config: training.Config,
    stage: str,
    folds: Sequence[splits.Fold],
    *,
    use_knn: bool = True,
    fits: Mapping[tuple[str, int], Fit] | None = None,
    with_strength: bool = True,
    most_rows: int | None = None,
    num_threads: int = 1,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Forecast]:
    """What was said in each fold that could be fitted, in order; a fold with too few rows of a class is left out.

    ``fits``, by (head, number of the fold), are used in place of new ones. With ``most_rows`` a test or an inner part
    that is longer is thinned to about so many rows, evenly.
    """
    rows = table.stage(stage)
    names = [c.name for c in datasets.feature_columns(table.contract, config.features)]
    level_names = [c.name for c in datasets.level_columns(table.contract)]
    dictionaries = datasets.categories(datasets.feature_columns(table.contract))
    data = {
        head: heads.head_data(rows, head, names, level_names, dictionaries)
        for head in ("tradeable_2", "direction", *(("strength",) if with_strength else ()))
    }
    known = retrieval.numeric_features(table.contract, config.features) if use_knn else None
    for done, fold in enumerate(folds, start=1):
        found = _forecast(rows, data, fold, known, config, fits, most_rows, num_threads)
        if found is not None:
            yield found
        on_fold(done, len(folds))


def _forecast(
    rows: pa.Table,
    data: Mapping[str, HeadData],
    fold: splits.Fold,
    known: Sequence[str] | None,
    config: training.Config,
    fits: Mapping[tuple[str, int], Fit] | None,
    most_rows: int | None,
    num_threads: int,
) -> Forecast | None:
    """One fold, None where a head has too few rows of a class in its training part."""
    parts = heads.rows_of(data["tradeable_2"], fold)
    moved = heads.rows_of(data["direction"], fold)
    for head, part in (("tradeable_2", parts), ("direction", moved)):
        if why_not(data[head], part.train, part.inner):
            return None
    if len(parts.test) == 0:
        return None
    if fits is not None:
        of_head = {head: fits[head, fold.number] for head in data if (head, fold.number) in fits}
        if len(of_head) < len(data):
            return None
    else:
        of_head = {
            head: fit_head(data[head], moved if head == "direction" else parts, config, num_threads)
            for head in data
        }

    def said(part: np.ndarray, trained: np.ndarray) -> Said:
        index = None if known is None else retrieval.Index.build(rows.take(pa.array(trained)), known)
        return _said(rows, data["tradeable_2"], part, of_head, index)

    inner, test = _thinned(parts.inner, most_rows), _thinned(parts.test, most_rows)
    outcome = np.array(rows["outcome"].to_pylist())
    return Forecast(
        fold=fold,
        rows=rows.take(pa.array(test)),
        inner_outcome=outcome[inner],
        inner_weight=data["tradeable_2"].weight[inner],
        inner=said(inner, parts.train),
        test=said(test, parts.training),
    )


def _thinned(part: np.ndarray, most_rows: int | None) -> np.ndarray:
    return part if most_rows is None else part[:: max(1, -(-len(part) // most_rows))]


def direction_of(p: np.ndarray) -> np.ndarray:
    """Chance of a break given that it goes either way; 0.5 where it goes nowhere. ``p``: (rows, 3)."""
    moves = p[:, 0] + p[:, 1]
    return np.divide(p[:, 0], moves, out=np.full(len(p), 0.5), where=moves > 0)


def _said(
    rows: pa.Table,
    data: HeadData,
    part: np.ndarray,
    fits: Mapping[str, Fit],
    index: retrieval.Index | None,
) -> Said:
    taken = rows.take(pa.array(part))
    of_tradeable, of_direction = (fits[head].predict(data, part) for head in ("tradeable_2", "direction"))
    found = _neighbours(taken, index)
    nothing = np.full(len(part), np.nan)
    similarity, entropy, effective_n = (
        (np.array([np.nan if f is None else getattr(f, name) for f in found]) if found else nothing)
        for name in ("similarity", "entropy", "effective_n")
    )
    knn = (
        np.array([[np.nan] * 3 if f is None else f.p for f in found])
        if found
        else np.full((len(part), 3), np.nan)
    )
    return Said(
        trees=ensemble.three_classes(of_tradeable["model"], of_direction["model"]),
        base=ensemble.three_classes(of_tradeable["base_rate"], of_direction["base_rate"]),
        knn=knn,
        similarity=similarity,
        entropy=entropy,
        effective_n=effective_n,
        neighbours=found,
        bias=ensemble.gate_bias(gate_state(taken)),
        strength=fits["strength"].predict(data, part)["model"] if "strength" in fits else None,
    )


def gate_state(table: pa.Table) -> ensemble.State:
    """What the gate looks at; a version that lacks a column has nothing to say there."""

    def text(name: str) -> np.ndarray:
        known = (
            table[name].cast(pa.string()).to_pylist()
            if name in table.column_names
            else [None] * table.num_rows
        )
        return np.array([v or "" for v in known])

    def number(name: str) -> np.ndarray:
        if name not in table.column_names:
            return np.full(table.num_rows, np.nan)
        return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)

    return ensemble.State(
        barrier_state=text("barrier_state"),
        fuel_effect=text("fuel_effect"),
        tape_imbalance=number("tape_imbalance"),
        gamma_exposure=number("gamma_exposure"),
        sign=np.where(text("direction") == "UP", 1, -1),
    )


def _neighbours(taken: pa.Table, index: retrieval.Index | None) -> list[dict | None]:
    """What `ml.retrieval` finds for each row, with the event ids; empty without an index."""
    if index is None:
        return []
    values = retrieval.numbers(taken, index.scaling.columns)
    filters = [dict(zip(retrieval.FILTERS, row, strict=True)) for row in _tuples(taken, retrieval.FILTERS)]
    sessions = datasets.session_dates(taken)
    return [index.query(v, f, s) for v, f, s in zip(values, filters, sessions, strict=True)]


def _tuples(table: pa.Table, names: Sequence[str]) -> list[tuple]:
    return list(zip(*(table[n].to_pylist() for n in names), strict=True))


_SCHEMA = pa.schema(
    [
        *((n, pa.string()) for n in ("observation_id", "event_id")),
        ("session_date", pa.date32()),
        ("stage", pa.string()),
        ("asof_ns", pa.int64()),
        *((n, pa.string()) for n in ("level_kind_name", "direction")),
        ("fold", pa.int32()),
        ("split", pa.string()),
        *(
            (n, pa.float64())
            for n in (
                *("p_break", "p_bounce", "p_chop", "p_tradeable_2", "p_dir", "strength_hat"),
                *("tree_p_break", "tree_p_bounce", "tree_p_chop"),
                *(
                    "base_p_break",
                    "base_p_bounce",
                    "base_p_chop",
                    "knn_p_break",
                    "knn_p_bounce",
                    "knn_p_chop",
                ),
                *("knn_similarity", "knn_entropy", "knn_effective_n"),
            )
        ),
        ("neighbors", pa.list_(NEIGHBOUR)),
        ("mix_weight", pa.float64()),
        ("gate_bias", pa.float64()),
        ("calibrated", pa.bool_()),
        ("utility_score", pa.float64()),
        ("decision", pa.string()),
        ("y_outcome", pa.string()),
        ("y_tradeable_2", pa.int8()),
        ("y_strength_signed", pa.float64()),
        ("sample_weight", pa.float64()),
        ("label_start_ns", pa.int64()),
        ("label_end_ns", pa.int64()),
        ("theta_2", pa.float64()),
    ]
)


def _table(
    forecast: Forecast, components: Components, p_tradeable: np.ndarray, p_direction: np.ndarray
) -> pa.Table:
    taken, fold, test = forecast.rows, forecast.fold, forecast.test
    p = ensemble.three_classes(p_tradeable, p_direction)
    n = taken.num_rows
    columns: dict[str, object] = {name: taken[name] for name in _SCHEMA.names if name in taken.column_names}
    columns |= {
        "fold": np.full(n, fold.number),
        "split": ["oof" if fold.number else "holdout"] * n,
        "p_tradeable_2": p_tradeable,
        "p_dir": p_direction,
        "strength_hat": test.strength,
        "knn_similarity": pa.array(test.similarity, from_pandas=True),
        "knn_entropy": pa.array(test.entropy, from_pandas=True),
        "knn_effective_n": pa.array(test.effective_n, from_pandas=True),
        "neighbors": pa.nulls(n, pa.list_(NEIGHBOUR)) if not test.neighbours else _shown(test.neighbours),
        "mix_weight": ensemble.mix_weight(test.similarity, test.entropy),
        "gate_bias": test.bias if components.use_gate else np.zeros(n),
        "calibrated": [True] * n,
        "utility_score": ensemble.utility_score(p_tradeable, test.strength),
        "decision": ensemble.decision(p, p_tradeable),
        "y_outcome": taken["outcome"],
        "y_tradeable_2": taken["tradeable_2"],
        "y_strength_signed": taken["strength_signed"],
    }
    for prefix, classes in (("", p), ("tree_", test.trees), ("base_", test.base), ("knn_", test.knn)):
        for i, name in enumerate(("break", "bounce", "chop")):
            columns[f"{prefix}p_{name}"] = pa.array(classes[:, i], from_pandas=True)
    return pa.table(
        {f.name: pc.cast(pa.chunked_array([_array(columns[f.name])]), f.type) for f in _SCHEMA}, _SCHEMA
    )


def _array(values: object) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.array(values)


def _shown(found: Sequence[retrieval.Found | None]) -> pa.Array:
    rows = [
        None
        if f is None
        else [
            {"event_id": e, "distance": float(d), "weight": float(w), "outcome": retrieval.OUTCOMES[o]}
            for e, d, w, o in zip(f.events, f.distances, f.weights, f.outcomes, strict=True)
        ]
        for f in found
    ]
    return pa.array(rows, pa.list_(NEIGHBOUR))
