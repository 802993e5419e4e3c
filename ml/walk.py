"""Every test row of every fold with all that would have been said of it then: trees, neighbours, gate, calibration.

The way of spec/market.md 14.2 to 14.7, out of fold: models, comparators, the index of neighbours and the calibrators of
a fold are made of its training sessions alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import datasets, ensemble, heads, retrieval, splits, training
from ml.calibration import Platt
from ml.fitting import Fit, fit_head, why_not
from ml.heads import HeadData

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
class _Said:
    """What one fold's models say of some rows; everything (rows,) or (rows, 3)."""

    trees: np.ndarray
    base: np.ndarray
    knn: np.ndarray
    similarity: np.ndarray
    entropy: np.ndarray
    effective_n: np.ndarray
    neighbours: list
    mix: np.ndarray
    bias: np.ndarray
    p: np.ndarray
    strength: np.ndarray


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
    rows = table.stage(stage)
    plan = splits.plan(table.sessions)
    names = [c.name for c in datasets.feature_columns(table.contract, config.features)]
    level_names = [c.name for c in datasets.level_columns(table.contract)]
    dictionaries = datasets.categories(datasets.feature_columns(table.contract))
    columns = (names, level_names, dictionaries)
    all_rows = heads.head_data(rows, "tradeable_2", *columns)
    moved = heads.head_data(rows, "direction", *columns)
    folds = [*plan.folds, *([plan.final] if plan.holdout else [])]
    parts = []
    for number, fold in enumerate(folds):
        part = _fold(rows, all_rows, moved, fold, table, columns, config, components, num_threads)
        if part is not None:
            parts.append(part)
        on_fold(number + 1, len(folds))
    return pa.concat_tables(parts) if parts else _SCHEMA.empty_table()


def _fold(
    rows: pa.Table,
    all_rows: HeadData,
    moved: HeadData,
    fold: splits.Fold,
    table: datasets.TrainingTable,
    columns: tuple[list[str], list[str], dict[str, list]],
    config: training.Config,
    components: Components,
    num_threads: int,
) -> pa.Table | None:
    """The test rows of one fold, None where a head has too few rows of a class in its training part."""
    parts = heads.rows_of(all_rows, fold)
    moved_parts = heads.rows_of(moved, fold)
    for data, part in ((all_rows, parts), (moved, moved_parts)):
        if why_not(data, part.train, part.inner):
            return None
    if len(parts.test) == 0:
        return None
    tradeable = fit_head(all_rows, parts, config, num_threads)
    direction = fit_head(moved, moved_parts, config, num_threads)
    strength = fit_head(heads.head_data(rows, "strength", *columns), parts, config, num_threads)
    names = retrieval.numeric_features(table.contract, config.features)

    def said(part: np.ndarray, known: np.ndarray) -> _Said:
        index = retrieval.Index.build(rows.take(pa.array(known)), names) if components.use_knn else None
        return _said(rows, all_rows, part, tradeable, direction, strength, index, components)

    inner, test = said(parts.inner, parts.train), said(parts.test, parts.training)
    y, weight = all_rows.y, all_rows.weight
    outcome = np.array(rows["outcome"].to_pylist())
    of_tradeable = Platt.fit(1 - inner.p[:, 2], y[parts.inner], weight[parts.inner])
    went = outcome[parts.inner] != "CHOP"
    of_direction = (
        Platt.fit(
            _direction(inner.p[went]),
            (outcome[parts.inner][went] == "BREAK").astype(int),
            weight[parts.inner][went],
        )
        if went.any()
        else Platt()
    )
    p_tradeable, p_direction = of_tradeable.apply(1 - test.p[:, 2]), of_direction.apply(_direction(test.p))
    final = ensemble.three_classes(p_tradeable, p_direction)
    return _table(rows.take(pa.array(parts.test)), fold, test, final, p_tradeable, p_direction)


def _direction(p: np.ndarray) -> np.ndarray:
    """Chance of a break given that it goes either way; 0.5 where it goes nowhere."""
    moves = p[:, 0] + p[:, 1]
    return np.divide(p[:, 0], moves, out=np.full(len(p), 0.5), where=moves > 0)


def _said(
    rows: pa.Table,
    data: HeadData,
    part: np.ndarray,
    tradeable: Fit,
    direction: Fit,
    strength: Fit,
    index: retrieval.Index | None,
    components: Components,
) -> _Said:
    taken = rows.take(pa.array(part))
    of_tradeable, of_direction = tradeable.predict(data, part), direction.predict(data, part)
    trees = ensemble.three_classes(of_tradeable["model"], of_direction["model"])
    base = ensemble.three_classes(of_tradeable["base_rate"], of_direction["base_rate"])
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
    p = ensemble.ensemble(trees, knn, similarity, entropy, base)
    bias = ensemble.gate_bias(gate_state(taken)) if components.use_gate else np.zeros(len(part))
    return _Said(
        trees=trees,
        base=base,
        knn=knn,
        similarity=similarity,
        entropy=entropy,
        effective_n=effective_n,
        neighbours=found,
        mix=ensemble.mix_weight(similarity, entropy),
        bias=bias,
        p=ensemble.gated(p, bias) if components.use_gate else p,
        strength=strength.predict(data, part)["model"],
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
    taken: pa.Table,
    fold: splits.Fold,
    test: _Said,
    p: np.ndarray,
    p_tradeable: np.ndarray,
    p_direction: np.ndarray,
) -> pa.Table:
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
        "mix_weight": test.mix,
        "gate_bias": test.bias,
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
