"""Features of a version that say nothing: constant, or another's copy (spec/market.md 8)."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.digest import table_digest

LEAST_ROWS = 1_000  # fewer prove nothing


def silent(files: Sequence[Path], features: Sequence[str]) -> list[str]:
    """What is wrong with the ``features`` of all rows in ``files`` together, one line each; nothing below `LEAST_ROWS`.

    NULL is a value; two columns are copies when they are of one type and equal in every row. One column is in memory
    at a time.
    """
    if sum(pq.read_metadata(file).num_rows for file in files) < LEAST_ROWS:
        return []
    faults: list[str] = []
    seen: dict[str, str] = {}
    for name in features:
        parts = [pq.ParquetFile(file).read([name]).column(0) for file in files]
        column = pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
        if pc.count_distinct(column, mode="all").as_py() == 1:
            faults.append(f"{name} is the same in every row")
        else:
            first = seen.setdefault(table_digest(pa.table({"value": column})), name)
            faults += [f"{name} repeats {first}"] if first != name else []
    return faults
