"""Rows on their way to their windows: kept on disk, given back in window order, in bounded memory.

To be sorted, rows are dealt to buckets, each a span of time that fits in memory; DuckDB's own external sort was
measured to fail at 2.4 M rows under 96 MB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BUFFER_BYTES = 16 << 20  # of rows in memory before they go to disk
BATCH_ROWS = 32_768
MINUTE_US = 60_000_000
BUCKET_BYTES = 32 << 20  # of rows that are sorted at once; one minute's rows are never dealt apart
MOST_BUCKETS = 400  # each is a file that is open
DUCKDB_MEMORY = "512MB"  # for the hashes of rows, and for a window that is put together from several parts


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


class BucketSort:
    """All rows of a spool in an order that begins with time, one bucket of it in memory at a time.

    ``time_column`` decides a row's bucket; ``histogram`` counts the spool's rows by minute of it, ``row_bytes`` is what
    a row takes. ``order`` are the columns of the order, time first.
    """

    def __init__(
        self,
        spool: Spool,
        stage: Path,
        time_column: str,
        order: Sequence[str],
        histogram: Counter[int],
        row_bytes: float,
    ) -> None:
        self.spool, self.stage, self.time_column = spool, stage, time_column
        self.order = [(name, "ascending") for name in order]
        self.edges = _edges(histogram, row_bytes)

    def tables(self, mask: Callable[[pa.RecordBatch], pa.Array | None]) -> Iterator[pa.Table]:
        """Sorted tables, bucket by bucket, of the rows that ``mask`` keeps (None: all)."""
        if not len(self.edges):
            yield from self._sorted([self._kept(batch, mask) for batch in self.spool.reader()])
            return
        count = len(self.edges) + 1
        share = max(1 << 16, BUFFER_BYTES // count)
        buckets = [Spool(self.stage, f"bucket-{i:05d}", self.spool.schema, share) for i in range(count)]
        for batch in self.spool.reader():
            table = self._kept(batch, mask)
            micros = table.column(self.time_column).cast(pa.int64()).to_numpy()
            place = np.searchsorted(self.edges, np.floor_divide(micros, MINUTE_US), side="right")
            for i in np.unique(place).tolist():
                inside = place == i
                buckets[i].add(table if inside.all() else table.filter(pa.array(inside)))
        for bucket in buckets:
            rows = list(bucket.reader())
            bucket.remove()
            yield from self._sorted([pa.Table.from_batches([batch]) for batch in rows])

    def _kept(self, batch: pa.RecordBatch, mask: Callable[[pa.RecordBatch], pa.Array | None]) -> pa.Table:
        keep = mask(batch)
        return pa.Table.from_batches([batch if keep is None else batch.filter(keep)])

    def _sorted(self, tables: list[pa.Table]) -> Iterator[pa.Table]:
        if tables:
            rows = pa.concat_tables(tables)
            if rows.num_rows:
                yield rows.take(pc.sort_indices(rows, sort_keys=self.order))


def _edges(histogram: Counter[int], row_bytes: float) -> np.ndarray:
    """First minutes of the buckets after the first: each holds about BUCKET_BYTES, and they are not too many."""
    edges, held = [], 0.0
    most = max(BUCKET_BYTES, sum(histogram.values()) * row_bytes / MOST_BUCKETS)
    for minute, rows in sorted(histogram.items()):
        if held and held + rows * row_bytes > most:
            edges.append(minute)
            held = 0.0
        held += rows * row_bytes
    return np.array(edges, dtype=np.int64)


def query(connection: duckdb.DuckDBPyConnection, sql: str, spools: dict[str, Spool]) -> pa.RecordBatchReader:
    """Run ``sql`` over spools by their names; the result streams."""
    for name, spool in spools.items():
        connection.register(name, spool.reader())
    return connection.execute(sql).to_arrow_reader(BATCH_ROWS)
