"""Tables kept on disk until they are asked for again, and the DuckDB of a load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

BUFFER_BYTES = 4 << 20  # of rows in memory before they go to disk
BATCH_ROWS = 32_768
DUCKDB_MEMORY = "128MB"  # for the hashes of a block of rows


def connect(stage: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB of one load: one thread, bounded memory, spilling into ``stage``, times in UTC."""
    connection = duckdb.connect(
        config={"threads": 1, "memory_limit": DUCKDB_MEMORY, "temp_directory": str(stage / "sort")}
    )
    connection.execute("set TimeZone = 'UTC'; set preserve_insertion_order = true")
    return connection


class Spool:
    """Tables of one schema, appended in any number of calls and read any number of times."""

    def __init__(self, stage: Path, name: str, schema: pa.Schema, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.schema = schema
        self.rows = 0
        self._path = stage / f"{name}.arrow"
        self.buffer_bytes = buffer_bytes
        self._buffer: list[pa.Table] = []
        self._buffered = 0
        self._writer: pa.RecordBatchFileWriter | None = None
        self._sink: pa.NativeFile | None = None

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        self._buffer.append(table)
        self._buffered += table.nbytes
        if self._buffered > self.buffer_bytes:
            self._flush()

    def reader(self) -> pa.RecordBatchReader:
        """All rows as they came; may be asked for again once it has been read."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None

    def remove(self) -> None:
        """Give the rows up."""
        self.close()
        self._path.unlink(missing_ok=True)
        self._buffer = []

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
