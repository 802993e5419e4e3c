"""From a step's query to its stage files, in one pass: rows stream out of DuckDB as Arrow, and on their way they are
held to the laws of a partition, digested, indexed, encoded and, by their path keys, shared out among files.

DuckDB's own COPY would write files that had to be read again for all of this; docs/adr/0018.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import encodings
from lake.digest import ContentDigest, booleans
from lake.row_laws import IndexPairs, RowLaws, StageError, check_columns

BATCH_ROWS = 30_720  # a quarter of a row group: its columns stay in the buffers of the batch before
ROW_GROUP_ROWS = 122_880
ROW_GROUP_BYTES = 128 << 20  # of decoded rows, where they are wide


@dataclass(frozen=True)
class Target:
    """What the rows of one step have to be, and where they go.

    ``sql`` gives them in key order, of a Python model from the relation ``model__df``. ``columns`` are the declared
    ones, (name, DuckDB type), of which the partition column stands in the path only. ``key`` is the order of rows; a
    ``unique`` key is one that this order doesn't show to be unique. ``path_keys`` are a part of ``key``'s beginning.
    """

    where: str
    file: Path
    sql: str
    columns: list[tuple[str, str]]
    key: list[str]
    date: str
    partition_column: str = "session_date"
    unique: Sequence[str] = ()
    lineage: Sequence[str] = ()
    path_keys: Sequence[str] = ()
    indexes: dict[str, tuple[str, str]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageFile:
    """One stage file: all rows, or those of one key, whose folders below the dataset are ``folder``."""

    path: Path
    folder: str
    rows: int
    content_digest: str


@dataclass(frozen=True)
class Staged:
    """What a step gave: its rows, their digest over all files, and the pairs of its indexes."""

    files: list[StageFile]
    rows: int
    content_digest: str
    indexes: dict[str, dict[str, list[str]]] | None


# What became of a Python model's rows, by stage file: dbt calls the model, and an exception from within its Python job
# would reach people as a traceback.
_targets: dict[Path, Target] = {}
_outcomes: dict[Path, Staged | StageError] = {}


def expect(target: Target) -> None:
    """A Python model is about to hand its rows to `stage_python`, by the path of its stage file."""
    _targets[target.file] = target


def outcome(target: Target) -> Staged:
    """What `stage_python` made of the rows that were expected; raises StageError where it refused them."""
    found = _outcomes.pop(target.file)
    if isinstance(found, StageError):
        raise found
    return found


def stage_python(df: object, con: duckdb.DuckDBPyConnection, path: str) -> None:
    """Stage what a Python model returned. A broken contract leaves no file, and `outcome` tells of it."""
    target = _targets.pop(Path(path))
    con.register("model__df", df)
    try:
        found = [(row[0], row[1]) for row in con.execute("describe select * from model__df").fetchall()]
        check_columns(found, target.columns, target.where, exact=False)
        _outcomes[target.file] = stage(con, target)
    except StageError as error:
        _outcomes[target.file] = error
    except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
        line = str(error).splitlines()[0].partition("Error: ")[2]
        if isinstance(error, duckdb.InvalidInputException) and not line.startswith(target.where):
            raise  # the model's own code failed while it streamed: its traceback is of use
        told = line if line.startswith(target.where) else f"{target.where}: {line}; nothing was published"
        _outcomes[target.file] = StageError(told)
    finally:
        con.unregister("model__df")


def stage(con: duckdb.DuckDBPyConnection, target: Target) -> Staged:
    """Write the rows of ``target.sql`` to stage files. Raises StageError, or DuckDB's error, and leaves no file."""
    held = [c for c in target.columns if c[0] != target.partition_column]
    reader = con.execute(_exported(target.sql, held)).to_arrow_reader(BATCH_ROWS)
    try:
        return stage_batches(_read(reader, held), _stored_schema(reader.schema, held), target)
    finally:
        reader.close()


def stage_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, target: Target) -> Staged:
    """As `stage`, of record batches with this schema: no partition column, every path key."""
    laws = RowLaws(schema, target.key, target.where)
    pairs = IndexPairs(target.indexes, target.partition_column, target.date, target.where)
    unique = _Unique(target.unique, target.where)
    files = _Files(schema, target)
    try:
        for batch in batches:
            laws.update(batch)
            pairs.update(batch)
            unique.update(batch)
            files.add(batch)
        unique.check()
        return Staged(*files.close(), pairs.found())
    except BaseException as error:
        files.discard()
        if isinstance(error, OSError):
            told = f"{target.where}: {target.file.parent} can't be written ({error}); mend that, or let LAKE_ROOT name"
            raise StageError(f"{told} a folder with room; nothing was published") from error
        raise


# -- out of DuckDB -----------------------------------------------------------------------------------------------------


def _exported(sql: str, columns: list[tuple[str, str]]) -> str:
    """UUIDs would come as text, or, by a setting of the whole instance, with booleans in a form of DuckDB's own."""
    types = {name: duckdb.sqltype(t) for name, t in columns}
    blobs = [f'cast("{n}" as {blob}) as "{n}"' for n, t in types.items() if (blob := _as_blobs(t)) != str(t)]
    return f"select * replace ({', '.join(blobs)}) from ({sql}\n)" if blobs else sql


def _as_blobs(t: duckdb.sqltypes.DuckDBPyType) -> str:
    """A type with a blob for each UUID in it."""
    if t.id == "uuid":
        return "BLOB"
    if t.id == "list":
        return f"{_as_blobs(dict(t.children)['child'])}[]"
    if t.id == "struct":
        fields = [(name, child, _as_blobs(child)) for name, child in t.children]
        if any(blob != str(child) for _, child, blob in fields):
            return "STRUCT(" + ", ".join(f'"{name}" {blob}' for name, _, blob in fields) + ")"
    return str(t)


def _stored_schema(schema: pa.Schema, columns: list[tuple[str, str]]) -> pa.Schema:
    declared = dict(columns)
    return pa.schema([pa.field(f.name, _stored(duckdb.sqltype(declared[f.name]), f.type)) for f in schema])


def _stored(declared: duckdb.sqltypes.DuckDBPyType, t: pa.DataType) -> pa.DataType:
    if declared.id == "uuid":
        return pa.uuid()
    if declared.id == "list":
        return pa.list_(_stored(dict(declared.children)["child"], t.value_type))
    if declared.id == "struct":
        return pa.struct([pa.field(n, _stored(c, t.field(n).type)) for n, c in declared.children])
    return pa.string() if pa.types.is_string_view(t) else t


def _read(reader: pa.RecordBatchReader, columns: list[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
    schema = _stored_schema(reader.schema, columns)
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except OSError as error:  # so pyarrow hands on what DuckDB says
            raise duckdb.InvalidInputException(str(error)) from error
        yield pa.RecordBatch.from_arrays(
            [c.cast(f.type) for c, f in zip(batch.columns, schema, strict=True)], schema=schema
        )


# -- into files --------------------------------------------------------------------------------------------------------


class _Files:
    """The stage files of a step: one, or with path keys one for each key, one after the other."""

    def __init__(self, schema: pa.Schema, target: Target) -> None:
        self.target, self.keys = target, list(target.path_keys)
        self.schema = schema
        self.held = pa.schema([f for f in schema if f.name not in target.path_keys])
        self.whole = ContentDigest(schema, target.lineage)
        self.rows = 0
        self.options: dict[str, object] | None = None
        self.open: _File | None = None
        self.key: tuple = ()
        self.folder = ""
        self.done: list[StageFile] = []

    def add(self, batch: pa.RecordBatch) -> None:
        if self.options is None:
            self.options = encodings.of(batch.select(self.held.names))
        self.rows += batch.num_rows
        if not self.keys:
            self._file(()).add(batch)
            return
        self.whole.update(batch)
        for key, rows in _runs(batch, self.keys):
            self._file(key).add(rows.select(self.held.names))

    def _file(self, key: tuple) -> "_File":
        if self.open is None or key != self.key:
            self._close()
            file, where = self.target.file, self.target.where
            named = zip(self.keys, key, strict=True) if key else ()
            self.folder = "/".join(f"{name}={_text(value, name, where)}" for name, value in named)
            self.key = key
            path = file.with_name(f"{file.stem}.{len(self.done)}.parquet") if key else file
            self.open = _File(path, self.held, self.options or {}, self.target)
        return self.open

    def _close(self) -> None:
        if self.open is not None:
            rows, digest = self.open.close()
            self.done.append(StageFile(self.open.path, self.folder, rows, digest))
            self.open = None

    def close(self) -> tuple[list[StageFile], int, str]:
        if not self.keys:
            self._file(())  # also one without rows
        self._close()
        return self.done, self.rows, self.whole.hexdigest() if self.keys else self.done[0].content_digest

    def discard(self) -> None:
        if self.open is not None:
            self.open.discard()
        for file in self.done:
            file.path.unlink(missing_ok=True)


class _File:
    """One file under construction; a row group is held until it is full."""

    def __init__(self, path: Path, schema: pa.Schema, options: dict[str, object], target: Target) -> None:
        self.path, self.schema, self.metadata = path, schema, target.metadata
        self.digest = ContentDigest(schema, target.lineage)
        self.rows = 0
        self.held: list[pa.RecordBatch] = []
        self.held_rows = self.held_bytes = 0
        self.writer = pq.ParquetWriter(
            path,
            schema,
            version="2.6",
            data_page_version="2.0",
            compression="zstd",
            compression_level=3,
            store_decimal_as_integer=True,
            store_schema=False,
            **options,
        )

    def add(self, batch: pa.RecordBatch) -> None:
        self.digest.update(batch)
        self.rows += batch.num_rows
        while batch.num_rows:
            part = batch.slice(0, ROW_GROUP_ROWS - self.held_rows)
            batch = batch.slice(part.num_rows)
            self.held.append(part)
            self.held_rows += part.num_rows
            self.held_bytes += part.nbytes
            if self.held_rows == ROW_GROUP_ROWS or self.held_bytes >= ROW_GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self.held:
            self.writer.write_table(pa.Table.from_batches(self.held), row_group_size=ROW_GROUP_ROWS)
            self.held, self.held_rows, self.held_bytes = [], 0, 0

    def close(self) -> tuple[int, str]:
        self._flush()
        self.writer.add_key_value_metadata(self.metadata)
        self.writer.close()
        return self.rows, self.digest.hexdigest()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk the footer finds no place either
            self.writer.close()
        self.path.unlink(missing_ok=True)


def _runs(batch: pa.RecordBatch, keys: list[str]) -> Iterator[tuple[tuple, pa.RecordBatch]]:
    """Rows of one key that follow each other, with the key."""
    changes = np.zeros(max(batch.num_rows - 1, 0), dtype=bool)
    for name in keys:
        column = batch.column(name)
        changes |= booleans(pc.not_equal(column.slice(1), column.slice(0, batch.num_rows - 1)))
    starts = [0, *(np.flatnonzero(changes) + 1).tolist(), batch.num_rows] if batch.num_rows else []
    for start, end in itertools.pairwise(starts):
        yield tuple(batch.column(k)[start].as_py() for k in keys), batch.slice(start, end - start)


def _text(value: object, name: str, where: str) -> str:
    """A key as a folder's name has it; every reader of Hive paths decodes it."""
    text = quote(str(value), safe="")
    if not text or len(text) > 200:
        raise StageError(
            f"{where}: path key {name} was {str(value)[:40]!r}, expected 1 to 200 characters in a path; nothing was "
            "published"
        )
    return text


class _Unique:
    """That rows repeat no key, where their order doesn't show it: the keys of a step are held."""

    def __init__(self, key: Sequence[str], where: str) -> None:
        self.key, self.where = list(key), where
        self.held: list[pa.RecordBatch] = []

    def update(self, batch: pa.RecordBatch) -> None:
        if self.key:
            columns = [batch.column(k) for k in self.key]
            plain = [c.storage if isinstance(c.type, pa.UuidType) else c for c in columns]
            self.held.append(pa.RecordBatch.from_arrays(plain, names=self.key))

    def check(self) -> None:
        if not self.held:
            return
        counts = pa.Table.from_batches(self.held).group_by(self.key).aggregate([([], "count_all")])
        repeated = counts.filter(pc.greater(counts["count_all"], 1))
        if repeated.num_rows:
            row = {k: repeated[k][0].as_py() for k in self.key}
            raise StageError(
                f"{self.where}: {repeated['count_all'][0]} rows had the key {row}; nothing was published"
            )
