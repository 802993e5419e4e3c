"""Decimals as integers that add up exactly: DECIMAL(20,8) holds more than 64 bits, a sum of many more still.

A value is kept in two parts, ``scaled >> 32`` and ``scaled & LOW_BITS``: 64-bit sums of both are exact for more rows
than a machine holds, and give the 128-bit sum when they are put together.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit, types

LOW_BITS = (1 << 32) - 1

HALVES = types.Array(types.int64, 2, "C", readonly=True)


def decimal_halves(column: pa.ChunkedArray) -> np.ndarray:
    """DECIMAL(20,8) without nulls as (n, 2) int64, the low and the high half of the scaled integer; no copy."""
    if column.null_count:
        raise ValueError(f"{column.null_count} decimals were null, expected a value in every row")
    array = pc.cast(column, pa.decimal128(20, 8)).combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # as older releases give it
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if len(array) == 0:
        return np.empty((0, 2), np.int64)
    halves = np.frombuffer(array.buffers()[1], np.int64).reshape(-1, 2)
    return halves[array.offset : array.offset + len(array)]


@njit(inline="always")
def split(low, high):
    """The two parts of a value that add up: its bits from 32 up, and the 32 below."""
    return (high << 32) | ((low >> 32) & LOW_BITS), low & LOW_BITS


@njit(inline="always")
def joined(above, below):
    """The low and the high half of the sum that two sums of parts make."""
    above += below >> 32
    return (above << 32) | (below & LOW_BITS), above >> 32


def decimals(halves: np.ndarray, kind: pa.DataType) -> pa.Array:
    """128-bit integers, (n, 2) int64 of low and high halves, as decimals of their scale; no copy."""
    return pa.Array.from_buffers(kind, len(halves), [None, pa.py_buffer(halves)])
