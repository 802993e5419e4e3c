"""What ``features.json`` says of a version: its columns, cut, rows, statistics of train, and what it was made from.

Source: spec/execution.md 5.5, 5.6.
"""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import runs
from lake.training_sets import Column, Definition
from ml.training_sets.split import EMBARGO_S, Cut, iso

PATCH, MINOR, MAJOR = range(3)
CHANGES = ("patch", "minor", "major")
BREACH_THRESHOLD_PCT = 10
LABEL_HORIZON_S = 86_400
GRAIN = "one row per eligible execution"
ENTITY_KEYS = ["client_id", "symbol", "operation_id"]
KEYS = (
    *(
        "dataset",
        "version",
        "parent_version",
        "change_note",
        "grain",
        "target",
        "labels",
        "features",
        "entity_keys",
    ),
    *("event_time_column", "split", "rows", "label_rate", "train_stats", "excluded", "parameters", "inputs"),
    *("code_commit", "engine", "parts", "dataset_hash", "created_at"),
)
"""Keys of the record in their order."""
QUANTILES = {"p1": 0.01, "p50": 0.5, "p99": 0.99}
# What a class counts by: the target itself, or of a set of numbers the breach of the limit.
CLASSES = {"stop_outcome": "execution_success", "slippage_prediction": "slippage_breach"}


def columns(definition: Definition) -> dict[str, object]:
    """``target``, ``labels`` and ``features`` of the record."""
    return {
        "target": definition.targets[0],
        "labels": [
            {"name": c.name, "type": c.dtype, "definition": c.description, "threshold": c.threshold}
            for c in definition.label
        ],
        "features": [_feature(c) for c in definition.features],
    }


def _feature(column: Column) -> dict[str, object]:
    return {
        "name": column.name,
        "dtype": column.dtype,
        "unit": column.unit,
        "nullable": column.nullable,
        "description": column.description,
        "formula_id": column.formula_id,
        "lookback_sec": column.lookback_sec,
        "source_tables": [*column.source_tables],
        "imputation": column.imputation,
        "valid_range": None if column.valid_range is None else [*column.valid_range],
    }


def change(before: dict, definition: Definition) -> int:
    """Least step of the version number from the record ``before`` to what the project defines now.

    A feature or label that went, or whose type, formula or threshold is another, is major; one that came is minor.
    """
    now = columns(definition)
    pairs = [("features", ("dtype", "formula_id")), ("labels", ("type", "threshold"))]
    step = PATCH
    for kind, meaning in pairs:
        old, new = ({c["name"]: [c[k] for k in meaning] for c in r[kind]} for r in (before, now))
        if any(new.get(name) != value for name, value in old.items()):
            return MAJOR
        if new.keys() - old.keys():
            step = MINOR
    return step


def split(cut: Cut) -> dict[str, object]:
    return {
        "policy": "temporal",
        "split_at": iso(cut.split_at_us),
        "embargo_sec": EMBARGO_S,
        "validation_from": iso(cut.validation_from_us),
        "folds": [
            {
                "train_end": iso(f.train_end_us),
                "test_start": iso(f.test_start_us),
                "test_end": iso(f.test_end_us),
            }
            for f in cut.folds
        ],
    }


def counts(name: str, files: dict[str, Sequence[Path]]) -> dict[str, object]:
    """``rows`` and ``label_rate`` of the record; ``files`` are the parts by split."""
    column = f"label.{CLASSES[name]}"
    rows: dict[str, object] = {}
    by_label: dict[str, dict[str, int]] = {}
    for side, parts in files.items():
        found = {"true": 0, "false": 0, "null": 0}
        for part in parts:
            values = pq.ParquetFile(part).read([column])["label"].combine_chunks().field(CLASSES[name])
            found["null"] += values.null_count
            true = pc.sum(values.cast(pa.int64())).as_py() or 0
            found["true"] += true
            found["false"] += len(values) - values.null_count - true
        rows[side], by_label[side] = sum(found.values()), found
    rate = {
        side: n["true"] / known if (known := n["true"] + n["false"]) else None for side, n in by_label.items()
    }
    return {"rows": {**rows, "by_label": by_label}, "label_rate": rate}


def train_stats(definition: Definition, parts: Sequence[Path]) -> dict[str, dict[str, float | int | None]]:
    """By feature: ``count`` of values, share of NULLs and the distribution, None for text; one feature at a time.

    ``std`` is the sample's; quantiles are interpolated.
    """
    return {c.name: _stats(numbers(parts, f"features.{c.name}")) for c in definition.features}


def numbers(parts: Sequence[Path], path: str) -> tuple[np.ndarray | None, int, int]:
    """One child of a struct over all parts: its values as doubles without the NULLs (None for text), how many these
    are, and the rows."""
    struct, name = path.split(".")
    found: list[np.ndarray] = []
    held = rows = 0
    is_text = False
    for part in parts:
        values = pq.ParquetFile(part).read([path])[struct].combine_chunks().field(name)
        rows, held = rows + len(values), held + len(values) - values.null_count
        is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        if not is_text:
            found.append(as_doubles(values.drop_null()))
    return (None if is_text else np.concatenate([np.empty(0), *found])), held, rows


def as_doubles(values: pa.Array) -> np.ndarray:
    """Numbers, decimals or booleans as float64, NaN for NULL.

    A decimal is its digits divided by its power of ten, once, as DuckDB does it: Arrow multiplies by the inverse, and
    0.000353 comes out below itself.
    """
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if pa.types.is_decimal(values.type):
        scale = values.type.scale
        raw = values.cast(pa.decimal128(38, scale))
        halves = np.frombuffer(raw.buffers()[1], dtype="<i8").reshape(-1, 2)[
            raw.offset : raw.offset + len(raw)
        ]
        low, high = halves[:, 0], halves[:, 1]
        whole = np.where(high == low >> 63, low.astype(float), high * 2.0**64 + low.view("<u8").astype(float))
        return np.where(np.asarray(raw.is_valid()), whole / 10.0**scale, np.nan)
    return values.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _stats(found: tuple[np.ndarray | None, int, int]) -> dict[str, float | int | None]:
    values, held, rows = found
    base = {"count": held, "null_share": 1 - held / rows if rows else 0.0}
    if values is None or not len(values):
        return base | dict.fromkeys(("mean", "std", "min", *QUANTILES, "max"))
    quantiles = np.quantile(values, [*QUANTILES.values()])
    return base | {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else None,
        "min": float(values.min()),
        **{name: float(q) for name, q in zip(QUANTILES, quantiles, strict=True)},
        "max": float(values.max()),
    }


def maker() -> dict[str, object]:
    """``code_commit`` and ``engine`` of the record."""
    return {
        "code_commit": runs.git_commit(),
        "engine": {"name": "duckdb", "version": importlib.metadata.version("duckdb")},
    }
