"""Rows on their way to their windows: kept on disk, given back in window order, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

BUFFER_BYTES = 16 << 20  # of rows in memory before they go to disk
BATCH_ROWS = 32_768
SORT_MEMORY = "96MB"  # of DuckDB; what is more is sorted on disk


def connect(stage: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB of one load: one thread, bounded memory, spilling into ``stage``, times in UTC."""
    connection = duckdb.connect(
        config={"threads": 1, "memory_limit": SORT_MEMORY, "temp_directory": str(stage / "sort")}
    )
    connection.execute("set TimeZone = 'UTC'; set preserve_insertion_order = true")
    return connection


class Spool:
    """Tables of one schema, appended in any number of calls and read any number of times."""

    def __init__(self, stage: Path, name: str, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = 0
        self._path = stage / f"{name}.arrow"
        self._buffer: list[pa.Table] = []
        self._buffered = 0
        self._writer: pa.RecordBatchFileWriter | None = None
        self._sink: pa.NativeFile | None = None

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        self._buffer.append(table)
        self._buffered += table.nbytes
        if self._buffered > BUFFER_BYTES:
            self._flush()

    def reader(self) -> pa.RecordBatchReader:
        """All rows as they came; may be asked for again once it has been read."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._writer is not None:
            self._flush()
            self.close()
        if self._path.is_file():
            with pa.OSFile(str(self._path)) as source, pa.ipc.open_stream(source) as stream:
                yield from stream
        for table in self._buffer:
            yield from table.to_batches(max_chunksize=BATCH_ROWS)

    def _flush(self) -> None:
        if self._writer is None:
            self._sink = pa.OSFile(str(self._path), "wb")
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writer = pa.ipc.new_stream(self._sink, self.schema, options=options)
        for table in self._buffer:
            self._writer.write_table(table, max_chunksize=BATCH_ROWS)
        self._buffer, self._buffered = [], 0


def query(connection: duckdb.DuckDBPyConnection, sql: str, spools: dict[str, Spool]) -> pa.RecordBatchReader:
    """Run ``sql`` over spools by their names; the result streams."""
    for name, spool in spools.items():
        connection.register(name, spool.reader())
    return connection.execute(sql).to_arrow_reader(BATCH_ROWS)
