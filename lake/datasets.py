"""Reading datasets by their commit records: for training, serving and tests, without the database file."""

import contextlib
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa

from lake import active
from lake.commits import Partition, read_partitions

READS = 5
ARROW_TYPES = {"bigint": pa.int64(), "integer": pa.int32(), "smallint": pa.int16(), "varchar": pa.string()}


class NoSuchDataset(LookupError):
    """Nothing is committed under the folder asked for."""


def partitions(root: Path, folder: str, params_digest: str | None = None) -> list[Partition]:
    """Committed partitions of ``lake/<folder>``, or of the version that is active in its stead, in order of date; of
    one param set where the dataset has several."""
    wanted = params_digest[:8] if params_digest else None
    found = read_partitions(root / "lake" / active.folder(root, folder))
    return [p for (params, _), p in found.items() if wanted is None or params == wanted]


def read(
    root: Path,
    folder: str,
    columns: Collection[str] | None = None,
    dates: Collection[str] | None = None,
    params_digest: str | None = None,
    date_column: str | None = None,
    memory_pool: pa.MemoryPool | None = None,
) -> pa.Table:
    """Rows of the committed partitions, in order of date and key, with the date as the first column.

    ``folder`` is relative to ``lake/``, such as ``gold/training/candidates/v1.0_mechanics_only``. The date is named
    ``date_column``, by default ``date`` where a dataset has path keys, which follow it, and ``session_date``
    elsewhere. ``memory_pool`` is the process's default while rows are read, and holds them. Raises NoSuchDataset.
    """
    for _ in range(READS):
        found = [
            p for p in partitions(root, folder, params_digest) if dates is None or p.commit.date in dates
        ]
        if not found:
            raise NoSuchDataset(
                f"lake/{folder} has no committed partition under {root}; run `dbt build` first"
            )
        try:
            with _allocating(memory_pool):
                return _rows(found, columns, date_column)
        except FileNotFoundError as error:  # a build has replaced files of a date's record meanwhile
            gone = error
    raise gone


@contextlib.contextmanager
def _allocating(memory_pool: pa.MemoryPool | None) -> Iterator[None]:
    """A Parquet reader takes no pool of its own, only the default at the instant it opens."""
    if memory_pool is None:
        yield
        return
    before = pa.default_memory_pool()
    pa.set_memory_pool(memory_pool)
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def _rows(found: list[Partition], columns: Collection[str] | None, date_column: str | None) -> pa.Table:
    import pyarrow.parquet as pq  # noqa: PLC0415  # 9 MB, which who lists partitions doesn't need

    keys: dict[str, str] = {}
    for partition in found:
        keys |= partition.commit.path_keys or {}
    named = date_column or ("date" if keys else "session_date")
    wanted = None if columns is None else [c for c in columns if c != named]
    shown = keys if wanted is None else {k: t for k, t in keys.items() if k in wanted}
    tables = []
    for partition in found:
        files = (
            [(f.path, f.key) for f in partition.key_files] if partition.is_keyed else [(partition.file, {})]
        )
        for path, key in files:
            # Not `pq.read_table`, which imports pandas.
            held = None if wanted is None else [c for c in wanted if c not in key]
            table = pq.ParquetFile(path).read(held)
            for name in reversed([k for k in shown if k in key]):
                values = _repeated(key[name], ARROW_TYPES[shown[name]], table.num_rows)
                table = table.add_column(0, pa.field(name, values.type), values)
            table = table if wanted is None else table.select(wanted)
            date = _repeated(partition.commit.date, pa.date32(), table.num_rows)
            tables.append(table.add_column(0, pa.field(named, pa.date32()), date))
    if not tables:  # dates without rows of any key hold no file to tell the other columns' types
        types = {name: ARROW_TYPES[t] for name, t in shown.items()}
        names = [*shown] if wanted is None else wanted
        schema = [(named, pa.date32()), *((name, types.get(name, pa.null())) for name in names)]
        return pa.schema(schema).empty_table()
    return pa.concat_tables(tables)


def _repeated(text: str, dtype: pa.DataType, rows: int) -> pa.Array:
    """The value that ``text`` spells, (rows,)."""
    return pa.repeat(pa.scalar(text).cast(dtype), rows)


def dataset_digest(root: Path, folder: str, params_digest: str | None = None) -> str:
    """One digest of a dataset's content: sha256 over the sorted (params, date, content digest) of its partitions."""
    h = hashlib.sha256()
    for p in partitions(root, folder, params_digest):
        h.update(f"{(p.commit.params_digest or '')[:8]}|{p.commit.date}|{p.commit.content_digest}\n".encode())
    return h.hexdigest()
