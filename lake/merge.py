"""Several sorted Parquet files of one partition into one: the same rows, in one order, in bounded memory.

What is written is read again before anybody may use it: each part's rows, picked out of the new file, must have the
content digest that the part's record states.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import atomic
from lake.digest import ContentDigest, logical_type

ROW_GROUP_ROWS = 122_880
BATCH_ROWS = 4_096
READ_BUFFER_BYTES = 1 << 16  # of each column of each file
_OWN = (b"schema_name", b"schema_version", b"dataset", b"environment", b"source_kind")
MAX_FAN_IN = 16  # open files at once, each about 9 MB of the widest schema


class MergeError(ValueError):
    """The files can't become one: other columns, rows out of order, rows that their record doesn't describe."""


@dataclass(frozen=True)
class Part:
    """One file to merge: ``rows`` and ``content_digest`` as its record states them.

    ``owner`` is the value of the owner column in all of its rows (``delivery_id`` of a bronze file).
    """

    path: Path
    owner: str
    rows: int
    content_digest: str


@dataclass(frozen=True)
class Slice:
    """``rows`` rows of a file from row ``start`` on. Slices of one file come in the order of their starts."""

    path: Path
    start: int
    rows: int


@dataclass(frozen=True)
class Merged:
    """A finished file, read back and found to hold its parts."""

    bytes: int
    sha256: str
    rows: int
    content_digest: str


def merge(
    sources: Sequence[Path], parts: Sequence[Part], out: Path, order: Sequence[str], owner_column: str
) -> Merged:
    """Write the rows of ``sources`` to ``out`` sorted by ``order``, ties in the order of ``sources``; then verify.

    ``sources`` are the files as they stand, which may be merged ones; each must be sorted already. ``parts`` are the
    original files whose rows they hold, in order for each owner. Encodings are those of the first source. The file is
    synced. Raises MergeError, and leaves nothing, when a source isn't sorted, columns differ, or a part's rows in the
    new file don't have the part's digest.
    """
    if len(sources) > MAX_FAN_IN:
        raise MergeError(f"{len(sources)} files at once, expected at most {MAX_FAN_IN}; merge them in steps")
    return _write(sources, parts, out, lambda schema: _sorted(sources, schema, order), owner_column, ())


def concat(slices: Sequence[Slice], parts: Sequence[Part], out: Path, exclude: Collection[str]) -> Merged:
    """Write slices of files one behind the other to ``out``; then verify that they are ``parts``, in their order.

    ``exclude`` names the columns that the digests of the parts leave out. Else as `merge`.
    """
    sources = [*dict.fromkeys(s.path for s in slices)]
    return _write(sources, parts, out, lambda schema: _sliced(slices, schema), None, exclude)


def _write(
    sources: Sequence[Path],
    parts: Sequence[Part],
    out: Path,
    rows: Callable[[pa.Schema], Iterator[pa.Table]],
    owner_column: str | None,
    exclude: Collection[str],
) -> Merged:
    try:
        schema = _common_schema(sources)
        with pq.ParquetWriter(out, schema, **options_like(sources[0])) as writer:
            for table in row_groups(rows(schema)):
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
                del table  # before the next one fills
            writer.add_key_value_metadata({**_own_metadata(sources[0]), "merged_parts": str(len(parts))})
        count, digest = verify(out, parts, owner_column, exclude)
        atomic.fsync_file(out)
    except BaseException as error:
        out.unlink(missing_ok=True)
        if isinstance(error, pa.ArrowException):
            raise MergeError(
                f"{str(error).splitlines()[0]}; expected Parquet files as they were landed"
            ) from error
        raise
    return Merged(out.stat().st_size, atomic.sha256_file(out), count, digest)


def verify(
    file: Path, parts: Sequence[Part], owner_column: str | None, exclude: Collection[str] = ()
) -> tuple[int, str]:
    """(rows, content digest) of a merged file, after each part's rows in it were found to have the part's digest.

    Without an owner column the parts follow each other in the file. Raises MergeError naming the first part that isn't
    there as its record says, or the file when it can't be read.
    """
    wanted: dict[str, list[Part]] = {}
    for part in parts:
        wanted.setdefault(part.owner if owner_column else "", []).append(part)
    try:
        with open_paged(file) as parquet:
            schema = parquet.schema_arrow
            whole, rows = ContentDigest(schema, exclude), 0
            readers = {owner: _PartDigests(schema, listed, exclude) for owner, listed in wanted.items()}
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                whole.update(batch)
                rows += batch.num_rows
                if owner_column is None:
                    readers[""].update(batch)
                    continue
                owners = batch.column(owner_column)
                for owner in pc.unique(owners).to_pylist():
                    if owner not in readers:
                        raise MergeError(
                            f"{file} holds rows of {owner_column} {owner}, which no record names"
                        )
                    mine = (
                        batch
                        if len(wanted) == 1
                        else batch.filter(pc.equal(owners, pa.scalar(owner, owners.type)))
                    )
                    readers[owner].update(mine)
    except (pa.ArrowException, OSError) as error:
        raise MergeError(
            f"{file} can't be read ({str(error).splitlines()[0]}), expected a Parquet file; make it again"
        ) from error
    for reader in readers.values():
        reader.check(file)
    return rows, whole.hexdigest()


class _PartDigests:
    """Digests of one owner's parts, whose rows follow each other."""

    def __init__(self, schema: pa.Schema, parts: Sequence[Part], exclude: Collection[str]) -> None:
        self.parts = parts
        self.digests = [ContentDigest(schema, exclude) for _ in parts]
        self.found = [0] * len(parts)
        self.surplus = 0

    def update(self, batch: pa.RecordBatch) -> None:
        done = 0
        for i, part in enumerate(self.parts):
            take = min(part.rows - self.found[i], batch.num_rows - done)
            if take > 0:
                self.digests[i].update(batch.slice(done, take))
                self.found[i] += take
                done += take
        self.surplus += batch.num_rows - done

    def check(self, file: Path) -> None:
        for part, digest, found in zip(self.parts, self.digests, self.found, strict=True):
            if found != part.rows or digest.hexdigest() != part.content_digest:
                raise MergeError(
                    f"{file}: rows of {part.path.name} were {found} of another content, expected the {part.rows} of "
                    "its record; nothing may be deleted that it stands for"
                )
        if self.surplus:
            raise MergeError(f"{file} held {self.surplus} rows more than the records of its parts say")


def options_like(file: Path) -> dict:
    """Arguments of ``pq.ParquetWriter`` that encode each column as ``file`` has it."""
    dictionary, delta, statistics, as_integer = [], {}, [], False
    with pq.ParquetFile(file) as parquet:
        if parquet.metadata.num_row_groups:
            group = parquet.metadata.row_group(0)
            for i in range(group.num_columns):
                column = group.column(i)
                if "DELTA_BINARY_PACKED" in column.encodings:
                    delta[column.path_in_schema] = "DELTA_BINARY_PACKED"
                elif column.has_dictionary_page or "RLE_DICTIONARY" in column.encodings:
                    dictionary.append(column.path_in_schema)
                if column.is_stats_set:
                    statistics.append(column.path_in_schema)
        for i in range(len(parquet.schema)):
            column = parquet.schema.column(i)
            if column.logical_type.type == "DECIMAL" and column.physical_type in ("INT32", "INT64"):
                as_integer = True
    return {
        "version": "2.6",
        "data_page_version": "2.0",
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": dictionary,
        "column_encoding": delta or None,
        "write_statistics": statistics,
        "store_decimal_as_integer": as_integer,
        "store_schema": False,
    }


def open_paged(file: Path) -> pq.ParquetFile:
    """Read page by page: by default a whole row group is held as it is compressed, of each file."""
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BUFFER_BYTES)


def _own_metadata(file: Path) -> dict[str, str]:
    """Key-value metadata that stays true of a merged file: its schema's name and version."""
    with pq.ParquetFile(file) as parquet:
        found = parquet.metadata.metadata or {}
    return {k.decode(): v.decode() for k, v in found.items() if k in _OWN}


def _common_schema(sources: Sequence[Path]) -> pa.Schema:
    schemas = [pq.read_schema(path).remove_metadata() for path in sources]
    first = [(f.name, logical_type(f.type)) for f in schemas[0]]
    for path, schema in zip(sources, schemas, strict=True):
        other = [(f.name, logical_type(f.type)) for f in schema]
        if other != first:
            differing = sorted({name for name, _ in set(first) ^ set(other)}) or ["their order"]
            raise MergeError(
                f"{path.name} and {sources[0].name} differ in {', '.join(differing)}, expected equal columns; "
                "they stay apart"
            )
    # Optional where one of them is: a file that says NOT NULL can't take a row of one that doesn't.
    return pa.schema(
        [
            pa.field(f.name, f.type, nullable=any(s.field(i).nullable for s in schemas))
            for i, f in enumerate(schemas[0])
        ]
    )


class _Run:
    """One sorted file, read batch by batch."""

    def __init__(self, path: Path, schema: pa.Schema, order: Sequence[str]) -> None:
        self.path, self.order, self.schema = path, order, schema
        self.file = open_paged(path)
        self.batches = self.file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)
        self.table: pa.Table = schema.empty_table()
        self.keys: list[np.ndarray] = _keys(self.table, order)
        self.last: tuple[int, ...] | None = None
        self.ended = False
        self.load()

    def load(self) -> None:
        """Read one more batch behind the rows that are left."""
        batch = next(self.batches, None)
        if batch is None:
            self.ended = True
            self.file.close()
            return
        if batch.num_rows == 0:
            return self.load()
        table = pa.Table.from_batches([batch]).cast(self.schema)
        keys = _keys(table, self.order)
        first = tuple(int(k[0]) for k in keys)
        if (self.last is not None and first < self.last) or not _is_sorted(keys):
            raise MergeError(
                f"{self.path} was not in order of {', '.join(self.order)}; land its source file again"
            )
        self.last = tuple(int(k[-1]) for k in keys)
        self.table = pa.concat_tables([self.table, table])
        self.keys = [np.concatenate([old, new]) for old, new in zip(self.keys, keys, strict=True)]
        return None

    def take(self, rows: int) -> tuple[pa.Table, list[np.ndarray]]:
        taken = self.table.slice(0, rows), [k[:rows] for k in self.keys]
        self.table, self.keys = self.table.slice(rows), [k[rows:] for k in self.keys]
        return taken


def _sorted(sources: Sequence[Path], schema: pa.Schema, order: Sequence[str]) -> Iterator[pa.Table]:
    """Rows of all files in order, in blocks. Of each file at most two batches are held."""
    runs = [_Run(path, schema, order) for path in sources]
    try:
        while True:
            for run in runs:
                if not run.ended and run.table.num_rows == 0:
                    run.load()
            if not (runs := [r for r in runs if r.table.num_rows or not r.ended]):
                return
            # What is not after the last row held of any file that has more: nothing unread can come before it.
            bounds = [r.last for r in runs if not r.ended]
            bound = min(bounds) if bounds else None
            taken = [run.take(_not_after(run.keys, bound)) for run in runs]
            for run in runs:
                if not run.ended and run.last == bound:
                    run.load()
            tables = [table for table, _ in taken if table.num_rows]
            if not tables:
                continue
            keys = [np.concatenate(column) for column in zip(*(k for _, k in taken), strict=True)]
            together = pa.concat_tables(tables)
            if not _is_sorted(keys):
                # lexsort is stable, so equal keys stay in the order of the files
                together = together.combine_chunks().take(np.lexsort(keys[::-1]))
            yield together
    finally:
        for run in runs:
            run.file.close()


def _sliced(slices: Sequence[Slice], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows of the slices in their order; a file is read on where the last slice of it ended."""
    for path, group in itertools.groupby(slices, key=lambda s: s.path):
        position, wanted = 0, [*group]
        with open_paged(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                for piece in wanted:
                    low, high = (
                        max(piece.start, position),
                        min(piece.start + piece.rows, position + batch.num_rows),
                    )
                    if low < high:
                        yield pa.Table.from_batches([batch.slice(low - position, high - low)]).cast(schema)
                position += batch.num_rows


def _keys(table: pa.Table, order: Sequence[str]) -> list[np.ndarray]:
    return [pc.fill_null(table.column(c).cast(pa.int64()), -1).to_numpy() for c in order]


def _is_sorted(keys: Sequence[np.ndarray]) -> bool:
    """Whether the rows are in non-decreasing order of the keys together."""
    if len(keys[0]) < 2:
        return True
    greater, equal = np.zeros(len(keys[0]) - 1, bool), np.ones(len(keys[0]) - 1, bool)
    for key in keys:
        greater |= equal & (key[:-1] > key[1:])
        equal &= key[:-1] == key[1:]
    return not greater.any()


def _not_after(keys: Sequence[np.ndarray], bound: tuple[int, ...] | None) -> int:
    """How many of the sorted rows are at or before ``bound``; all when there is none."""
    if bound is None:
        return len(keys[0])
    low, high = 0, len(keys[0])
    for key, value in zip(keys, bound, strict=True):
        start, stop = (int(np.searchsorted(key[low:high], value, side)) + low for side in ("left", "right"))
        if start == stop:
            return start
        low, high = start, stop
    return high


def row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of a row group each, the last one shorter."""
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        while rows >= ROW_GROUP_ROWS:
            whole = pa.concat_tables(held)
            held, rows = [whole.slice(ROW_GROUP_ROWS)], rows - ROW_GROUP_ROWS
            # handed out without a name of its own, or it would live on while the next one fills
            whole = [whole.slice(0, ROW_GROUP_ROWS)]
            yield whole.pop()
    if rows:
        yield pa.concat_tables(held)
