"""Accepted rows to bronze files: sorted by (key, ``ts_event_ns``, ``ordinal``) in bounded memory.

A flat file is grouped by ticker, so nothing can be written before all of it is read. Rows collect in arrays
of fixed size; a file that fits is sorted there, a larger one leaves sorted runs in the stage that are merged.
Whatever the sizes, the files are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from ingest.bronze_schema import ROW_GROUP_ROWS
from ingest.bronze_writer import BronzeFile, Partition, PartitionWriter
from ingest.polygon import occ_ticker
from ingest.polygon.layout import Kind
from ingest.polygon.line_kernel import ABSENT, MAX_LINE_BYTES, Columns
from ingest.polygon.trade_quality import TradeQuality

HOUR_NS = 3_600_000_000_000
RUN_ROWS = 1 << 20  # about 100 MB in memory
MERGE_ROWS = 1 << 14  # of a run that are in memory while runs are merged
MERGE_RUNS = 64  # merged at once; more are merged in rounds
EXTRA_BYTES = 64 << 20  # of `_extra` texts in memory

_RUN_SCHEMA = pa.schema(
    [
        ("ts_event_ns", pa.int64()),
        ("ordinal", pa.int64()),
        ("root", pa.int16()),
        ("ts_recv_ns", pa.int64()),
        ("_extra", pa.string()),
        ("expiry", pa.int32()),
        ("strike", pa.int32()),
        ("right", pa.uint8()),
        ("price", pa.int64()),
        ("bid", pa.int64()),
        ("ask", pa.int64()),
        ("size", pa.int64()),
        ("exchange", pa.int16()),
        ("conditions", pa.list_(pa.field("element", pa.int16(), nullable=False))),
        ("sequence", pa.int64()),
        ("trade_id", pa.string()),
        ("correction", pa.int8()),
    ]
)


class SortedRows:
    """Takes parsed rows (``columns``, filled by the kernel up to ``rows``) and gives the delivery's files.

    ``roots`` are the wanted keys. ``run_rows`` is how many rows memory holds.
    """

    def __init__(
        self,
        kind: Kind,
        roots: list[str],
        *,
        source: str,
        delivery_id: str,
        stage: Path,
        run_rows: int = RUN_ROWS,
        merge_rows: int = MERGE_ROWS,
        row_group_rows: int = ROW_GROUP_ROWS,
    ) -> None:
        self.kind, self.roots = kind, roots
        self.source, self.delivery_id, self.stage = source, delivery_id, stage
        self.run_rows, self.merge_rows, self.row_group_rows = run_rows, merge_rows, row_group_rows
        self.columns = empty_columns(run_rows)
        self.rows = 0  # in memory
        self.extra: list[str] = []  # of these rows, when the file has unknown columns
        self.extra_bytes = 0
        self.quality = TradeQuality(kind.key, is_option=kind.is_option)
        self.ts_min_ns: int | None = None
        self.ts_max_ns: int | None = None
        self._runs: list[Path] = []
        self._run_number = itertools.count()
        self._names: dict[int, str] = {}
        self._writer: PartitionWriter | None = None

    def spill(self) -> None:
        """Sort what is in memory into a run on disk."""
        self._runs.append(self._write_run(self.sorted_batches(self.merge_rows)))
        self._forget()

    def finish(self) -> list[BronzeFile]:
        """Write the bronze files, by (key, date, hour)."""
        if not self._runs:
            return list(self._write(self.sorted_batches(self.row_group_rows) if self.rows else iter(())))
        if self.rows:
            self.spill()
        self.columns = empty_columns(0)
        while len(self._runs) > MERGE_RUNS:
            first, self._runs = self._runs[:MERGE_RUNS], self._runs[MERGE_RUNS:]
            # First again: runs stay in the order of their lines.
            self._runs.insert(0, self._write_run(_merged(first)))
            for run in first:
                run.unlink()
        files = list(self._write(_merged(self._runs)))
        for run in self._runs:
            run.unlink()
        return files

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.abort()
        for run in self._runs:
            run.unlink(missing_ok=True)

    def _write_run(self, batches: Iterator[pa.RecordBatch]) -> Path:
        path = self.stage / f"run-{next(self._run_number):06d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _RUN_SCHEMA) as writer:
            for batch in batches:
                for at in range(0, batch.num_rows, self.merge_rows):
                    writer.write_batch(batch.slice(at, self.merge_rows))
        return path

    def _forget(self) -> None:
        self.rows, self.extra, self.extra_bytes = 0, [], 0

    def sorted_batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The rows in memory, at least one, by (root, ts_event_ns, ordinal); so many at a time, for a copy of all
        of them would double the memory.
        """
        c, n = self.columns, self.rows
        ts, root = c.ts_event_ns[:n], c.root[:n]
        low, high = int(ts.min()), int(ts.max())
        self.ts_min_ns = low if self.ts_min_ns is None else min(low, self.ts_min_ns)
        self.ts_max_ns = high if self.ts_max_ns is None else max(high, self.ts_max_ns)
        order = _order(root, ts)
        conditions = _conditions(c, n)
        ids = None if self.kind.is_option else _ids(c, n)
        for at in range(0, n, rows):
            part = order[at : at + rows]
            indices, nothing = pa.array(part), pa.nulls(len(part), pa.string())
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(ts[part]),
                    pa.array(c.ordinal[part]),
                    pa.array(root[part]),
                    _nullable(c.ts_recv_ns[part]),
                    pa.array([self.extra[i] for i in part], pa.string()) if self.extra else nothing,
                    pa.array(c.expiry[part]),
                    pa.array(c.strike[part]),
                    pa.array(c.right[part]),
                    pa.array(c.price[part]),
                    _nullable(c.bid[part]),
                    _nullable(c.ask[part]),
                    pa.array(c.size[part]),
                    _nullable(c.exchange[part]),
                    conditions.take(indices),
                    _nullable(c.sequence[part]),
                    nothing if ids is None else ids.take(indices),
                    _nullable(c.correction[part]),
                ],
                schema=_RUN_SCHEMA,
            )

    def _write(self, batches: Iterator[pa.RecordBatch]) -> Iterator[BronzeFile]:
        """One file after the other: in this order no two are open at once."""
        group: list[pa.RecordBatch] = []  # less than a row group of one partition
        key: tuple[int, int] | None = None
        for batch in batches:
            for part_key, part in _by_hour(batch):
                if part_key != key:
                    if key is not None:
                        yield self._close(group)
                    key, group = part_key, []
                    self._writer = PartitionWriter(
                        self.kind.schema, self._partition(key), self.delivery_id, self.stage
                    )
                group = self._full_groups(group, part)
        if key is not None:
            yield self._close(group)

    def _full_groups(self, group: list[pa.RecordBatch], part: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Write what fills row groups; returns the rest."""
        rows = sum(b.num_rows for b in group)
        at = 0
        while rows + part.num_rows - at >= self.row_group_rows:
            take = self.row_group_rows - rows
            self._put([*group, part.slice(at, take)])
            at, group, rows = at + take, [], 0
        return [*group, part.slice(at)] if at < part.num_rows else group

    def _close(self, group: list[pa.RecordBatch]) -> BronzeFile:
        if group:
            self._put(group)
        writer, self._writer = self._writer, None
        return writer.close()

    def _put(self, group: list[pa.RecordBatch]) -> None:
        batch = pa.concat_batches(group) if len(group) > 1 else group[0]
        ts = batch.column(0)
        self.quality.add(self._writer.partition, batch)
        self._writer.write(self.bronze_table(batch), ts[0].as_py(), ts[-1].as_py())

    def _partition(self, key: tuple[int, int]) -> Partition:
        root, hour = key
        moment = datetime.fromtimestamp(hour * (HOUR_NS // 1_000_000_000), UTC)
        return Partition(self.roots[root], moment.date().isoformat(), moment.hour, self.kind.key)

    def bronze_table(self, batch: pa.RecordBatch) -> pa.Table:
        """Sorted rows of one root in the columns of bronze."""
        schema, n = self.kind.schema.arrow, batch.num_rows
        columns = {name: batch.column(name) for name in _RUN_SCHEMA.names}
        columns["source"] = _constant(self.source, n)
        columns["delivery_id"] = _constant(self.delivery_id, n)
        columns["price"] = _decimals(columns["price"], schema.field("price").type)
        if self.kind.is_option:
            columns |= self._contract_columns(batch, schema)
            columns["size"] = columns["size"].cast(pa.int32())
            columns |= {
                "opt_bid": _decimals(columns["bid"], schema.field("opt_bid").type),
                "opt_ask": _decimals(columns["ask"], schema.field("opt_ask").type),
                "aggressor": pa.array(np.zeros(n, dtype=np.int8)),
            }
        else:
            columns["size"] = _decimals(columns["size"], schema.field("size").type)
        return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)

    def _contract_columns(self, batch: pa.RecordBatch, schema: pa.Schema) -> dict[str, pa.Array]:
        """Symbol, expiry, strike and right. A partition holds one root, so the other three make the symbol."""
        root = self.roots[batch.column("root")[0].as_py()]
        expiry, strike, right = (batch.column(c).to_numpy() for c in ("expiry", "strike", "right"))
        keys = (expiry.astype(np.int64) << 40) | (right.astype(np.int64) << 32) | strike
        contracts = pa.array(keys).dictionary_encode()
        if len(self._names) > 100_000:
            self._names.clear()
        names = [self._name(root, key) for key in contracts.dictionary.to_pylist()]
        return {
            "option_symbol": pa.DictionaryArray.from_arrays(contracts.indices, pa.array(names, pa.string())),
            "exp_date": batch.column("expiry").cast(pa.date32()),
            "strike": _decimals(batch.column("strike").cast(pa.int64()), schema.field("strike").type),
            "right": pa.DictionaryArray.from_arrays(pa.array((right == ord("P")).view(np.int8)), ["C", "P"]),
        }

    def _name(self, root: str, key: int) -> str:
        name = self._names.get((root, key))
        if name is None:
            expiry = date.fromordinal(occ_ticker.EPOCH + (key >> 40))
            name = occ_ticker.symbol(root, expiry, chr(key >> 32 & 0xFF), key & 0xFFFF_FFFF)
            self._names[root, key] = name
        return name


def empty_columns(rows: int) -> Columns:
    """Arrays for so many rows; untouched pages of them take no memory."""

    def array(dtype: type, count: int = rows) -> np.ndarray:
        return np.empty(count, dtype=dtype)

    # At least one line of the largest size has to fit into the lists.
    return Columns(
        ts_event_ns=array(np.int64), ts_recv_ns=array(np.int64), ordinal=array(np.int64), root=array(np.int16),
        expiry=array(np.int32), strike=array(np.int32), right=array(np.uint8), price=array(np.int64),
        bid=array(np.int64), ask=array(np.int64), size=array(np.int64), exchange=array(np.int16),
        sequence=array(np.int64), correction=array(np.int8),
        conditions_end=array(np.int32), id_end=array(np.int32),
        conditions=array(np.int16, 4 * rows + MAX_LINE_BYTES), id_bytes=array(np.uint8, 32 * rows + MAX_LINE_BYTES),
        line_start=array(np.int32), line_end=array(np.int32),
    )  # fmt: skip


def _nullable(values: np.ndarray) -> pa.Array:
    missing = values == ABSENT
    if not missing.any():
        return pa.array(values)
    return (
        pa.nulls(len(values), pa.from_numpy_dtype(values.dtype))
        if missing.all()
        else pa.array(values, mask=missing)
    )


def _order(root: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """What sorts rows by (root, ts_event_ns, ordinal) that stand in the order of their ordinals.

    Two stable sorts, which are quick on rows that are sorted piece by piece, as those of tickers and runs are.
    """
    order = np.argsort(ts, kind="stable")
    if root.min() != root.max():
        order = order[np.argsort(root[order], kind="stable")]
    return order


def _offsets(ends: np.ndarray) -> np.ndarray:
    offsets = np.empty(len(ends) + 1, dtype=np.int32)
    offsets[0] = 0
    offsets[1:] = ends
    return offsets


def _validity(present: np.ndarray) -> pa.Buffer | None:
    return None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))


def _conditions(columns: Columns, n: int) -> pa.Array:
    offsets = _offsets(columns.conditions_end[:n])
    values = pa.array(columns.conditions[: offsets[-1]])
    validity = _validity(np.diff(offsets) > 0)
    kind = _RUN_SCHEMA.field("conditions").type
    return pa.Array.from_buffers(kind, n, [validity, pa.py_buffer(offsets)], children=[values])


def _ids(columns: Columns, n: int) -> pa.Array:
    offsets = _offsets(columns.id_end[:n])
    validity = _validity(np.diff(offsets) > 0)
    data = pa.py_buffer(columns.id_bytes[: offsets[-1]])
    return pa.Array.from_buffers(pa.string(), n, [validity, pa.py_buffer(offsets), data])


def _constant(value: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int8)), pa.array([value]))


def _decimals(mantissas: pa.Array, kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(
        kind, len(mantissas), mantissas.buffers(), mantissas.null_count, mantissas.offset
    )


def _by_hour(batch: pa.RecordBatch) -> Iterator[tuple[tuple[int, int], pa.RecordBatch]]:
    """Slices of one (root, hour), in order."""
    root = batch.column("root").to_numpy().astype(np.int64)
    key = root << 32 | batch.column("ts_event_ns").to_numpy() // HOUR_NS
    at = 0
    while at < len(key):
        end = int(np.searchsorted(key, key[at], side="right"))
        yield (int(key[at]) >> 32, int(key[at]) & 0xFFFF_FFFF), batch.slice(at, end - at)
        at = end


class _Run:
    """A sorted run on disk, one batch of it in memory."""

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.OSFile(str(path)))
        self._next = 0
        self.batch: pa.RecordBatch | None = None
        self.advance(0)

    def advance(self, rows: int) -> None:
        """Drop so many rows from the front; the next batch follows the last row."""
        if self.batch is not None:
            self.batch = self.batch.slice(rows)
        while self.batch is None or self.batch.num_rows == 0:
            if self._next == self._reader.num_record_batches:
                self.batch = None
                return
            self.batch = self._reader.get_batch(self._next)
            self._next += 1

    def key(self, row: int) -> tuple[int, int, int]:
        return tuple(self.batch.column(c)[row].as_py() for c in ("root", "ts_event_ns", "ordinal"))

    def rows_up_to(self, cut: tuple[int, int, int]) -> int:
        if self.key(self.batch.num_rows - 1) <= cut:
            return self.batch.num_rows
        low, high = 0, self.batch.num_rows - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.key(middle) <= cut else (low, middle)
        return low


def _merged(paths: list[Path]) -> Iterator[pa.RecordBatch]:
    """The rows of all runs in order: up to where the first batch in memory ends, sorted, and on.

    ``paths`` are in the order of the lines that they hold.
    """
    runs = [_Run(p) for p in paths]
    while runs := [r for r in runs if r.batch is not None]:
        cut = min(r.key(r.batch.num_rows - 1) for r in runs)
        parts = []
        for run in runs:
            if rows := run.rows_up_to(cut):
                parts.append(run.batch.slice(0, rows))
                run.advance(rows)
        batch = pa.concat_batches(parts)
        if len(parts) > 1:
            batch = batch.take(
                pa.array(_order(*(batch.column(c).to_numpy() for c in ("root", "ts_event_ns"))))
            )
        yield batch
