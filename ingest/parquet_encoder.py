"""Sorted market rows to a Parquet file, by an encoder that knows them: nearly every value repeats the row before.

What a general writer spends on a book is looking up each of its sixty prices, sizes and counts in a hash table
or compressing it in full. Here one pass finds the runs of equal values, a dictionary is asked once a run, and
the runs themselves are the page. Rows may come in many parts: what is held of a row group until it is written are
its runs (`parquet_column`). See docs/adr/0006-own-parquet-encoder.md.

The files are plain Parquet: data pages of version 2, one a column chunk, ZSTD level 3; RLE_DICTIONARY,
DELTA_BINARY_PACKED for times and sequences, PLAIN where a dictionary doesn't pay. Equal rows give equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from ingest.parquet_column import ColumnChunk, workspace
from ingest.parquet_footer import MAGIC, Chunk, RowGroup, footer


class ParquetEncoder:
    """One Parquet file under construction at ``path``: ``write`` adds rows to the open row group, ``end_group`` ends
    it, ``close`` ends the file.

    ``delta`` and ``statistics`` name columns, as far as the schema has them. ``bytes`` and ``sha256`` are of
    what has been written. Nothing is synced.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        *,
        delta: Collection[str],
        statistics: Collection[str],
        metadata: dict[str, str],
        created_by: str,
    ) -> None:
        self._schema, self._metadata, self._created_by = schema, metadata, created_by
        self._statistics = frozenset(statistics)
        self._columns = [ColumnChunk(field, delta=field.name in delta) for field in schema]
        self._groups: list[RowGroup] = []
        self._rows: int | None = None  # of the open row group, None: none is open
        self._hash = hashlib.sha256()
        self.bytes = 0
        self._file = open(path, "wb")  # noqa: SIM115  # closed by close() or abort()
        self._put(MAGIC)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, table: pa.Table) -> None:
        """Append ``table``, of the schema's columns in order, to the open row group. Its memory may be used again."""
        workspace.ready(table.num_rows)
        for column, values in zip(self._columns, table.columns, strict=True):
            column.add(values.chunk(0) if values.num_chunks == 1 else values.combine_chunks())
        self._rows = (self._rows or 0) + table.num_rows

    def end_group(self) -> None:
        """Write the open row group, if there is one."""
        if self._rows is None:
            return
        workspace.ready(self._rows)
        group = RowGroup(self._rows, self.bytes)
        group.chunks += [self._put_chunk(f, c) for f, c in zip(self._schema, self._columns, strict=True)]
        self._groups.append(group)
        self._rows = None

    def close(self) -> None:
        self.end_group()
        self._put(footer(self._schema, self._groups, self._metadata, self._created_by))
        self._file.close()

    def abort(self) -> None:
        self._columns.clear()
        self._file.close()

    def _put(self, *parts: bytes) -> None:
        data = b"".join(parts)
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def _put_chunk(self, field: pa.Field, column: ColumnChunk) -> Chunk:
        rows, start = column.rows, self.bytes
        made = column.encoded(statistics=field.name in self._statistics)
        self._put(*made.parts)
        return Chunk(
            field=field,
            encodings=made.encodings,
            values=rows,
            raw_bytes=made.raw_bytes,
            bytes_out=self.bytes - start,
            data_offset=start + made.dictionary_bytes,
            dictionary_offset=start if made.dictionary_bytes else None,
            statistics=made.statistics,
        )
