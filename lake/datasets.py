"""Reading datasets by their commit records: for training, serving and tests, without the database file."""

import hashlib
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from lake.commits import Partition, read_partitions


class NoSuchDataset(LookupError):
    """Nothing is committed under the folder asked for."""


def partitions(root: Path, folder: str, params_digest: str | None = None) -> list[Partition]:
    """Committed partitions of ``lake/<folder>`` in order of date, of one param set where the dataset has several."""
    wanted = params_digest[:8] if params_digest else None
    found = read_partitions(root / "lake" / folder)
    return [p for (params, _), p in found.items() if wanted is None or params == wanted]


def read(
    root: Path,
    folder: str,
    columns: Collection[str] | None = None,
    dates: Collection[str] | None = None,
    params_digest: str | None = None,
) -> pa.Table:
    """Rows of the committed partitions, in order of date and key, with ``session_date`` as the first column.

    ``folder`` is relative to ``lake/``, such as ``gold/training/candidates/v1.0_mechanics_only``. Raises NoSuchDataset.
    """
    found = [p for p in partitions(root, folder, params_digest) if dates is None or p.commit.date in dates]
    if not found:
        raise NoSuchDataset(f"lake/{folder} has no committed partition under {root}; run `dbt build` first")
    wanted = None if columns is None else [c for c in columns if c != "session_date"]
    import pyarrow.parquet as pq  # noqa: PLC0415  # 9 MB, which who lists partitions doesn't need

    tables = []
    for partition in found:
        # Not `pq.read_table`, which imports pandas.
        table = pq.ParquetFile(partition.file).read(wanted)
        table = table if wanted is None else table.select(wanted)
        date = pa.array([partition.commit.date] * table.num_rows, pa.string()).cast(pa.date32())
        tables.append(table.add_column(0, pa.field("session_date", pa.date32()), date))
    return pa.concat_tables(tables)


def dataset_digest(root: Path, folder: str, params_digest: str | None = None) -> str:
    """One digest of a dataset's content: sha256 over the sorted (params, date, content digest) of its partitions."""
    h = hashlib.sha256()
    for p in partitions(root, folder, params_digest):
        h.update(f"{(p.commit.params_digest or '')[:8]}|{p.commit.date}|{p.commit.content_digest}\n".encode())
    return h.hexdigest()
