"""How far the distribution of a feature moved: the population stability index, and shares of a label."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BINS = 10
FLOOR = 1e-4
"""Least share of a bin: an empty one would make the index infinite."""


def psi(a: pa.ChunkedArray | pa.Array, b: pa.ChunkedArray | pa.Array) -> float | None:
    """Population stability index of ``b`` against ``a``: Σ (q − p)·ln(q/p) over bins, 0 for equal shares.

    Numbers fall into the ten quantile bins of ``a`` (fewer where quantiles coincide), the cuts belonging to the bin
    above; text and booleans into one bin for each value of either side. NULLs are a bin of their own. None when one
    side has no row. Below 0.1 is commonly called stable, above 0.25 moved.
    """
    if not len(a) or not len(b):
        return None
    if pa.types.is_integer(a.type) or pa.types.is_floating(a.type):
        left, right = _numbers(a), _numbers(b)
        held = left[~np.isnan(left)]
        cuts = np.unique(np.quantile(held, np.arange(1, BINS) / BINS)) if held.size else np.array([])
        p, q = (
            _shares(np.where(np.isnan(x), -1, np.searchsorted(cuts, x, side="right"))) for x in (left, right)
        )
    else:
        p, q = (_shares(x.to_pylist()) for x in (a, b))
    total = 0.0
    for name in sorted(p.keys() | q.keys(), key=str):
        x, y = max(p.get(name, 0.0), FLOOR), max(q.get(name, 0.0), FLOOR)
        total += (y - x) * math.log(y / x)
    return total


def rates_by_stage(table: pa.Table) -> dict[tuple[str, str], float | None]:
    """Base rates by (stage, label): shares of the outcomes, and of rows with ``tradeable_k`` = 1."""
    found: dict[tuple[str, str], float | None] = {}
    for stage in sorted(set(table["stage"].to_pylist())):
        rows = table.filter(pc.equal(table["stage"], stage))
        outcomes = Counter(rows["outcome"].to_pylist())
        for outcome in ("BREAK", "BOUNCE", "CHOP"):
            found[stage, outcome] = outcomes[outcome] / rows.num_rows
        for k in (1, 2):
            found[stage, f"tradeable_{k}"] = pc.mean(rows[f"tradeable_{k}"]).as_py()
    return found


def _numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """As doubles, NaN for NULL: no stored value is NaN."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _shares(values: object) -> dict[object, float]:
    counts = Counter(values.tolist() if isinstance(values, np.ndarray) else values)
    rows = sum(counts.values())
    return {name: count / rows for name, count in counts.items()}
