"""How the columns of a dataset are encoded in Parquet: chosen by their types and by a sample of their values.

A dictionary pays where values are few. Else numbers and times go as packed differences, doubles with their bytes apart
and texts with their lengths apart, all of which the compression then finds shorter.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

SAMPLED_ROWS = 4_096
MOST_DISTINCT = 0.25
"""Share of distinct values in the sample up to which a column gets a dictionary."""


def of(batch: pa.RecordBatch) -> dict[str, object]:
    """Arguments of ``pq.ParquetWriter`` for columns such as these; lists and structs by what they hold."""
    # Neither the first rows, which are alike where rows are sorted, nor every n-th, which may be all of one kind.
    drawn = np.random.default_rng(0).integers(0, max(batch.num_rows, 1), SAMPLED_ROWS)
    numbers = np.unique(drawn)[: batch.num_rows]
    # not by pa.array, which would import pandas: a tenth of a second and 50 MB
    rows = pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
    dictionary, encoding = [], {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for path, values in _leaves(name, column.take(rows)):
            if pa.types.is_boolean(values.type):
                continue
            if _is_of_few(values):
                dictionary.append(path)
            elif chosen := _plain_encoding(values.type):
                encoding[path] = chosen
    return {"use_dictionary": dictionary or False, "column_encoding": encoding or None}


def _leaves(path: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Each column of the file that an array becomes, by its path there."""
    if pa.types.is_list(array.type):
        yield from _leaves(f"{path}.list.element", array.flatten())
    elif pa.types.is_struct(array.type):
        for field, values in zip(array.type, array.flatten(), strict=True):
            yield from _leaves(f"{path}.{field.name}", values)
    else:
        yield path, array


def _is_of_few(values: pa.Array) -> bool:
    if len(values) == values.null_count:
        return True
    if isinstance(values.type, pa.UuidType):
        values = values.storage
    elif pa.types.is_decimal(values.type):
        values = values.view(
            pa.int64() if values.type.bit_width == 64 else pa.binary(values.type.bit_width // 8)
        )
    return len(values.unique()) <= MOST_DISTINCT * (len(values) - values.null_count)


def _plain_encoding(t: pa.DataType) -> str | None:
    # of whole numbers these are written as integers
    is_short_decimal = pa.types.is_decimal(t) and t.precision <= 18
    if pa.types.is_integer(t) or pa.types.is_temporal(t) or is_short_decimal:
        return "DELTA_BINARY_PACKED"
    if pa.types.is_floating(t):
        return "BYTE_STREAM_SPLIT"
    return "DELTA_LENGTH_BYTE_ARRAY" if pa.types.is_string(t) else None
