"""Rows of one symbol after the other."""

import numpy as np
import pyarrow as pa


def symbol_slices(table: pa.Table, times: np.ndarray, *, unique: bool = False) -> dict[str, slice]:
    """Rows of each value of ``symbol``, in order.

    ``times`` (n,) are the rows' instants. Raises ValueError unless rows are by (symbol, time), with ``unique`` one row
    for each of them.
    """
    names = table["symbol"].to_numpy(zero_copy_only=False)
    if not len(names):
        return {}
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    found = {names[s]: slice(s, e) for s, e in zip(starts, [*starts[1:], len(names)], strict=True)}
    steps = np.delete(np.diff(times), starts[1:] - 1)
    if list(found) != sorted(found) or len(found) != len(starts) or (steps < int(unique)).any():
        each = ", one for each" if unique else ""
        raise ValueError(f"rows were not in the order of (symbol, time){each}; sort them")
    return found
