"""Decimals as integers that add up exactly: DECIMAL(20,8) holds more than 64 bits, a sum of many more still.

A value is kept in two parts, ``scaled >> 32`` and ``scaled & LOW_BITS``: 64-bit sums of both are exact for more rows
than a machine holds, and give the 128-bit sum when they are put together.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LOW_BITS = (1 << 32) - 1


def decimal_words(column: pa.ChunkedArray) -> np.ndarray:
    """DECIMAL(20,8) without nulls, as (n, 2) int64: the scaled integer's bits from 32 up, and the 32 below."""
    if column.null_count:
        raise ValueError(f"{column.null_count} decimals were null, expected a value in every row")
    array = pc.cast(column, pa.decimal128(20, 8)).combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # as older releases give it
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if len(array) == 0:
        return np.empty((0, 2), np.int64)
    halves = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    low, high = halves[0::2], halves[1::2]
    above = (high << 32) | ((low >> 32) & LOW_BITS)
    return np.column_stack([above, low & LOW_BITS])


def decimals(high: np.ndarray, low: np.ndarray, kind: pa.DataType) -> pa.Array:
    """128-bit integers, each half (n,) int64, as decimals of their scale."""
    halves = np.ascontiguousarray(np.column_stack([low, high]))
    return pa.Array.from_buffers(kind, len(high), [None, pa.py_buffer(halves)])
