"""An external sort of Arrow rows in bounded memory: sorted runs in one file, merged by slices.

Buckets of time, which did this before, can't split an instant that many rows share: 576 MB for a million trades of
one file, 630 MB for 1.2 million events of an hour; these runs take 270 MB for the same, all of the process.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

RUN_BYTES = 12 << 20  # of rows that are sorted at once
BATCH_BYTES = 1 << 17  # what is read of a run at once
BATCH_ROWS = 256
POOL_BYTES = 6 << 20  # of rows that join the merge at once, beside what is left of a batch of each run
FAN_IN = 64  # runs that overlap and are merged at once

Mask = Callable[[pa.RecordBatch], pa.Array | None]


@dataclass(frozen=True)
class _Batch:
    """One batch of the file by its number; ``first`` and ``last`` are the keys of its outer rows."""

    number: int
    first: tuple
    last: tuple


class SortedRuns:
    """Rows of one schema, added in any order and given back sorted by ``order``, whose columns are never null.

    At most ``RUN_BYTES`` of rows wait in memory; of what is merged, ``POOL_BYTES`` and a batch of each run.
    """

    def __init__(self, stage: Path, name: str, schema: pa.Schema, order: Sequence[str]) -> None:
        self.schema, self.order, self.rows = schema, tuple(order), 0
        self._stage, self._name = stage, name
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._file = _RunFile(stage / f"{name}.arrow", schema)
        self._runs: list[list[_Batch]] = []

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        for piece in _pieces(table):
            self._pending.append(piece)
            self._pending_bytes += piece.nbytes
            if self._pending_bytes >= RUN_BYTES:
                self._spill()

    def tables(self, mask: Mask | None = None) -> Iterator[pa.Table]:
        """All rows that ``mask`` keeps, sorted, in tables of some MB; nothing can be added afterwards."""
        if not self._runs:  # never was too much
            rows, self._pending = self._pending, []
            kept = [b if mask is None else _filtered(b, mask) for t in rows for b in t.to_batches()]
            if kept:
                yield from _nonempty(_sorted(pa.Table.from_batches(kept), self.order))
            return
        self._spill()
        self._file.finish()
        self._join_runs()
        yield from self._merged(self._file, self._runs, mask)
        self.close()

    def close(self) -> None:
        """Give the rows up."""
        self._pending = []
        self._file.remove()

    def _spill(self) -> None:
        if self._pending:
            rows = pa.concat_tables(self._pending)
            self._pending, self._pending_bytes = [], 0
            rows = _sorted(rows, self.order)
            self._runs.append(self._file.write([rows], self.order))

    def _join_runs(self) -> None:
        """Merge groups of runs to longer ones until no more than FAN_IN overlap anywhere."""
        passes = 0
        while _overlap(self._runs) > FAN_IN:
            passes += 1
            longer = _RunFile(self._stage / f"{self._name}-{passes}.arrow", self.schema)
            runs = [
                longer.write(self._merged(self._file, self._runs[i : i + FAN_IN], None), self.order)
                for i in range(0, len(self._runs), FAN_IN)
            ]
            longer.finish()
            self._file.remove()
            self._file, self._runs = longer, runs

    def _merged(self, file: _RunFile, runs: list[list[_Batch]], mask: Mask | None) -> Iterator[pa.Table]:
        # Batches of a run ascend, so that reading all of them in the order of their first rows is reading each run
        # on; a row before the first row of the next batch can be given out.
        unread = sorted((batch for run in runs for batch in run), key=lambda batch: batch.first, reverse=True)
        pool: list[pa.Table] = []
        while unread or pool:
            room = POOL_BYTES
            while unread and room > 0:
                batch = file.read(unread.pop().number)
                room -= batch.nbytes
                kept = batch if mask is None else _filtered(batch, mask)
                if kept.num_rows:
                    pool.append(pa.Table.from_batches([kept]))
            if not pool:
                continue
            together, pool = pa.concat_tables(pool), []
            together = _sorted(together, self.order)
            safe = together.num_rows
            if unread:
                bound = unread[-1].first
                safe = bisect.bisect_left(
                    range(safe), bound, key=lambda row, rows=together: _key(rows, row, self.order)
                )
                if safe < together.num_rows:
                    # a copy: a slice would keep the rows given out alive
                    rest = together.slice(safe).take(pa.array(np.arange(together.num_rows - safe)))
                    pool = [rest]
            yield from _nonempty(together.slice(0, safe))
            del together


class _RunFile:
    """An Arrow file of batches, each found by its number."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._writer: pa.RecordBatchFileWriter | None = None
        self._sink: pa.NativeFile | None = None
        self._reader: pa.RecordBatchFileReader | None = None
        self._count = 0

    def write(self, tables: Iterator[pa.Table] | list[pa.Table], order: Sequence[str]) -> list[_Batch]:
        if self._writer is None:
            self._sink = pa.OSFile(str(self._path), "wb")
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writer = pa.ipc.new_file(self._sink, self._schema, options=options)
        made = []
        for table in tables:
            rows = max(1, min(BATCH_ROWS, int(BATCH_BYTES * table.num_rows / max(table.nbytes, 1))))
            for batch in table.combine_chunks().to_batches(max_chunksize=rows):
                self._writer.write_batch(batch)
                first, last = _key(batch, 0, order), _key(batch, batch.num_rows - 1, order)
                made.append(_Batch(self._count, first, last))
                self._count += 1
        return made

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None
            self._sink = pa.OSFile(str(self._path))
            self._reader = pa.ipc.open_file(self._sink)

    def read(self, number: int) -> pa.RecordBatch:
        return self._reader.get_batch(number)

    def remove(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._sink is not None:
            self._sink.close()
        self._writer = self._sink = self._reader = None
        self._path.unlink(missing_ok=True)


def _overlap(runs: list[list[_Batch]]) -> int:
    """The most runs that hold rows around one key."""
    firsts = sorted(run[0].first for run in runs)
    lasts = sorted(run[-1].last for run in runs)
    most = ended = 0
    for begun, first in enumerate(firsts, start=1):
        while lasts[ended] < first:
            ended += 1
        most = max(most, begun - ended)
    return most


def _sorted(table: pa.Table, order: Sequence[str]) -> pa.Table:
    time = table.column(order[0])
    if _ascending(time):
        return table
    keys = table.select(list(dict.fromkeys(order))).combine_chunks()
    return table.take(pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in order]))


def _ascending(column: pa.ChunkedArray) -> bool:
    """Whether each value is above the one before it: nothing is left to sort by."""
    if pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type):
        values = numbers(column)
        return bool((values[1:] > values[:-1]).all())
    return False


def numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(n,) int64 of a column without nulls. Not its own to_numpy: that imports pandas, 40 MB."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array.cast(pa.int64())
    return np.frombuffer(array.buffers()[1], np.int64, len(array), array.offset * 8)


def _key(rows: pa.Table | pa.RecordBatch, row: int, order: Sequence[str]) -> tuple:
    return tuple(rows.column(name)[row].as_py() for name in order)


def _filtered(batch: pa.RecordBatch, mask: Mask) -> pa.RecordBatch:
    keep = mask(batch)
    return batch if keep is None else batch.filter(keep)


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """The table, in slices where it alone is more than a run."""
    rows = max(1, int(table.num_rows * RUN_BYTES / max(table.nbytes, 1)))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _nonempty(table: pa.Table) -> Iterator[pa.Table]:
    if table.num_rows:
        yield table
