"""Constants and copies among features, over several files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lake.variance import LEAST_ROWS, silent


def written(folder: Path, rows: int, **columns: list) -> list[Path]:
    """The columns cut into two files."""
    table = pa.table({name: values[:rows] for name, values in columns.items()})
    files = [folder / "a.parquet", folder / "b.parquet"]
    pq.write_table(table.slice(0, rows // 3), files[0])
    pq.write_table(table.slice(rows // 3), files[1])
    return files


def test_constants_and_copies_are_named_and_nothing_else(tmp_path: Path) -> None:
    n = LEAST_ROWS
    varies = [i % 7 for i in range(n)]
    columns = {
        "varies": varies,
        "copy": varies,
        "late": [0] * (n - 1) + [1],
        "constant": [1.5] * n,
        "nothing": pa.nulls(n, pa.float64()),
        "flag": [True] * n,
        "sometimes": [None] + [2] * (n - 1),  # NULL is a value
        "shifted": [*varies[1:], 99],
        "as_double": pa.array(varies, pa.float64()),
    }
    files = written(tmp_path, n, **columns)
    assert silent(files, list(columns)) == [
        "copy repeats varies",
        "constant is the same in every row",
        "nothing is the same in every row",
        "flag is the same in every row",
    ]
    assert silent(files, ["varies", "late"]) == []


def test_a_few_rows_prove_nothing(tmp_path: Path) -> None:
    files = written(tmp_path, LEAST_ROWS - 1, constant=[1] * LEAST_ROWS)
    assert silent(files, ["constant"]) == []
