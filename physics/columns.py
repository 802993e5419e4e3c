"""Arrow columns as NumPy arrays for kernels: no copy where Arrow allows it, and never a silent null.

Arrow hands out read-only arrays, so kernels declare the read-only types of this module, which take both
kinds.
"""

from collections.abc import Iterable, Iterator

import numba as nb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Batches = pa.Table | pa.RecordBatch | pa.RecordBatchReader | Iterable[pa.RecordBatch]


def read_only(dtype: nb.types.Type) -> nb.types.Array:
    """Contiguous one-dimensional numba array type that takes read-only and writable arrays alike."""
    return nb.types.Array(dtype, 1, "C", readonly=True)


I64 = read_only(nb.int64)
I32 = read_only(nb.int32)
I8 = read_only(nb.int8)
U8 = read_only(nb.uint8)

_ARROW = {
    np.dtype(np.int64): pa.int64(),
    np.dtype(np.int32): pa.int32(),
    np.dtype(np.int8): pa.int8(),
    np.dtype(np.uint8): pa.uint8(),
    np.dtype(np.float64): pa.float64(),
}


def batches(source: Batches) -> Iterator[pa.RecordBatch]:
    """Record batches of ``source`` in order: a table, one batch, a reader, or any iterable of batches."""
    if isinstance(source, pa.RecordBatch):
        yield source
    elif isinstance(source, pa.Table):
        yield from source.to_batches()
    else:
        for batch in source:
            if not isinstance(batch, pa.RecordBatch):
                raise TypeError(f"item was a {type(batch).__name__}, expected a pyarrow.RecordBatch")
            yield batch


def column(source: pa.Table | pa.RecordBatch, name: str, dtype: type) -> np.ndarray:
    """Column ``name`` as a contiguous (n,) array of ``dtype``; zero-copy when type and layout already fit.

    Errors: KeyError when the column is missing, ValueError when it holds a null or a value that ``dtype``
    can't hold. Integers only widen or narrow exactly; nothing passes through a float.
    """
    if name not in source.schema.names:
        raise KeyError(f"column {name!r} is missing, expected it beside {source.schema.names}")
    values = source.column(name)
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise ValueError(f"{name} was null in row {row}, expected a value in every row")
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # a table without rows has no chunk to combine
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    wanted = _ARROW[np.dtype(dtype)]
    if values.type != wanted:
        values = values.cast(wanted)
    return values.to_numpy(zero_copy_only=True)


def nullable_column(source: pa.Table | pa.RecordBatch, name: str, dtype: type, null: int) -> np.ndarray:
    """Column ``name`` like `column`, with ``null`` in the place of nulls."""
    if name not in source.schema.names:
        raise KeyError(f"column {name!r} is missing, expected it beside {source.schema.names}")
    if not source.column(name).null_count:
        return column(source, name, dtype)
    wanted = _ARROW[np.dtype(dtype)]
    filled = pc.fill_null(source.column(name).cast(wanted), pa.scalar(null, wanted))
    return column(pa.table({name: filled}), name, dtype)


def nulled(values: np.ndarray, is_null: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
    """``values`` as an Arrow array that is null where ``is_null``; what stands there never shows, not even
    NaN.
    """
    if values.dtype.kind == "f":
        values = np.where(is_null, 0.0, values)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"value was {values[row]} in row {row}, expected a finite number or null")
    return pa.array(values, arrow_type, mask=np.ascontiguousarray(is_null))
