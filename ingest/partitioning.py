"""Rows in file order to sorted partitions, in bounded memory at any file size and any disorder.

A file is ordered by ``ts_recv``, a partition by (``ts_event_ns``, ``sequence``, ``ordinal``): nearly the
same. So the common way is a stream: each open hour holds back a window of rows, sorts it where needed, and
hands on a part of a row group at a time. An hour that this can't serve (a row older than what is written,
more products at once than memory holds) is given up and built again from a second reading of the file, by an
external sort. The result is the same.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ingest.bronze_schema import ROW_GROUP_ROWS, TS_EVENT_MAX_NS, TS_EVENT_MIN_NS, BronzeSchema
from ingest.bronze_writer import BronzeFile, Partition, PartitionWriter
from ingest.dbn_checks import RecordChecks
from ingest.dbn_definitions import DefinedSymbols
from ingest.dbn_rows import RowBuffer
from ingest.errors import RefusedFile
from ingest.record_rules import RecordRules
from ingest.rejects import RejectWriter
from ingest.symbology import DAY_NS, SymbolMap

if TYPE_CHECKING:
    from ingest.record_quality import RecordQuality

HOUR_NS = 3_600_000_000_000
WINDOW_ROWS = 8_192  # about the busiest second of a book; exchanges' clocks differ by far less
GRACE_NS = 120_000_000_000  # how long after its end, by ``ts_recv``, an hour stays open for late rows
WRITE_ROWS = 61_440  # of a buffer go to the writer at a time: half a row group
BUFFER_BYTES = 64 << 20  # two full buffers of the book and some small ones
_WRITER_BYTES = 1 << 20  # what an open hour takes beside its buffer; also keeps the number of open files low
_SORT_ROWS = 9_000  # of the external sort are in memory at once, a few times over
_FIRST_ROWS = 2048  # a new hour's buffer, before it grows to a window, then to its full size


class _Disordered(Exception):
    """A row belongs before rows that are already written."""


class _CrowdedOut(Exception):
    """Memory has no room for this product beside the others."""


class _OpenPartition:
    """One hour under construction: a buffer of one write and the window, and the file it flows to."""

    def __init__(self, router: PartitionRouter, key: tuple[int, int]) -> None:
        self._router = router
        self.key = key
        self._buffer = router.buffers.take(_FIRST_ROWS)
        self._writer = PartitionWriter(
            router.schema,
            router.partition(key),
            router.delivery_id,
            router.stage,
            row_group_rows=router.row_group_rows,
        )
        self._last_key: tuple[int, int] | None = None
        self.last_seen = 0
        self.rows = 0

    @property
    def memory_bytes(self) -> int:
        return self._buffer.memory_bytes + _WRITER_BYTES

    def append(self, records: np.ndarray, ordinals: np.ndarray | int, contracts: np.ndarray) -> None:
        self.rows += len(records)
        done = 0
        while done < len(records):
            if self._buffer.rows == self._buffer.capacity:
                self._grow_or_write()
            take = min(len(records) - done, self._buffer.capacity - self._buffer.rows)
            part = slice(done, done + take)
            first = ordinals + done if isinstance(ordinals, int) else ordinals[part]
            self._buffer.append(records[part], first, contracts[part])
            done += take

    def _grow_or_write(self) -> None:
        router = self._router
        if self._buffer.capacity < router.buffers.full_rows:
            larger = router.buffers.next_rows(self._buffer)
            router.make_room(self.key, larger * self._buffer.row_bytes)
            self._buffer = router.buffers.grow(self._buffer, larger)
        else:
            self._write(router.write_rows)

    def _write(self, rows: int) -> None:
        buffer, router = self._buffer, self._router
        buffer.sort()
        first, last = buffer.key(0), buffer.key(rows - 1)
        if self._last_key is not None and first < self._last_key:
            raise _Disordered
        self._last_key = last
        table = buffer.table(router.schema, rows, router.symbols.contracts, router.source, router.delivery_id)
        self._writer.write(table, first[0], last[0])
        del table
        buffer.drop(rows)

    def close(self) -> BronzeFile:
        while self._buffer.rows:
            self._write(min(self._buffer.rows, self._router.write_rows))
        self._router.buffers.give_back(self._buffer)
        return self._writer.close()

    def abort(self) -> None:
        self._router.buffers.give_back(self._buffer)
        self._writer.abort()


class _Buffers:
    """Row buffers in a few sizes, one spare of each kept: fresh memory costs as much as the copy into it."""

    def __init__(
        self, schema: BronzeSchema, window_rows: int, full_rows: int, kind: type[RowBuffer] = RowBuffer
    ) -> None:
        self.window_rows, self.full_rows = window_rows, full_rows
        self._schema, self._kind = schema, kind
        self._spare: dict[int, RowBuffer] = {}

    def take(self, rows: int) -> RowBuffer:
        rows = min(rows, self.full_rows)
        buffer = self._spare.pop(rows, None) or self._kind(self._schema, rows)
        buffer.rows = 0
        return buffer

    def next_rows(self, buffer: RowBuffer) -> int:
        return self.window_rows if buffer.capacity < self.window_rows else self.full_rows

    def grow(self, buffer: RowBuffer, rows: int) -> RowBuffer:
        larger = self.take(rows)
        larger.take_over(buffer)  # the smaller one goes: kept, it would add to the peak
        return larger

    def give_back(self, buffer: RowBuffer) -> None:
        self._spare[buffer.capacity] = buffer

    def drop_spares(self) -> None:
        self._spare.clear()

    @property
    def spare_bytes(self) -> int:
        return sum(b.memory_bytes for b in self._spare.values())


class PartitionRouter:
    """Takes the blocks of one delivery in file order (``add``), gives its finished bronze files
    (``finish``).

    Records may carry an ``ordinal`` of their own (the number in the file of what they were made from, else they are
    counted) and a ``contract_code`` (else the instrument id and day are looked up). ``symbols`` may learn contracts
    on the way. ``rules`` and ``buffer`` are of the record's layout, by default trades and books.

    ``reread`` opens the same records once more, for the hours that could not be streamed. ``quality`` sees all
    records that land, in file order. Buffers take at most ``buffer_bytes``, or one full buffer where that is more.
    Files stand in ``stage`` until the delivery places them.
    """

    def __init__(
        self,
        schema: BronzeSchema,
        symbols: SymbolMap | DefinedSymbols,
        *,
        source: str,
        delivery_id: str,
        stage: Path,
        reread: Callable[[], Iterator[np.ndarray]],
        rejects: RejectWriter | None = None,
        rules: RecordRules | None = None,
        buffer: type[RowBuffer] = RowBuffer,
        quality: RecordQuality | None = None,
        row_group_rows: int = ROW_GROUP_ROWS,
        write_rows: int = WRITE_ROWS,
        window_rows: int = WINDOW_ROWS,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self.schema, self.symbols = schema, symbols
        self.rejects, self.quality = rejects, quality
        self._checks: RecordChecks | RecordRules | None = rules
        self.source, self.delivery_id, self.stage = source, delivery_id, stage
        self.row_group_rows, self.write_rows = row_group_rows, min(write_rows, row_group_rows)
        self.window_rows, self.buffer_bytes = window_rows, buffer_bytes
        self.roots: list[str] = []
        self._root_of_code = np.zeros(0, dtype=np.int64)
        self._rows_of_root = np.zeros(0, dtype=np.int64)
        self._reread = reread
        self.buffers = _Buffers(schema, window_rows, self.write_rows + window_rows, buffer)
        self._open: dict[tuple[int, int], _OpenPartition] = {}
        self._files: dict[tuple[int, int], BronzeFile] = {}
        self._given_up: set[tuple[int, int]] = set()
        self._crowded_out: set[int] = set()  # roots that memory has no room for beside the others
        self.read = 0  # records seen
        self.rows = 0  # of them, those that land
        self.rejected = 0  # and those that don't
        self.ts_min_ns: int | None = None
        self.ts_max_ns: int | None = None

    def add(self, records: np.ndarray) -> None:
        """Route one block. Records that break the schema go to ``rejects``; raises RefusedFile for one without a
        contract on its day.
        """
        count, bad = len(records), self._bad(records)
        good = None
        if bad is not None:
            self._reject(records, np.flatnonzero(bad))
            self.rejected += int(np.count_nonzero(bad))
            good = np.flatnonzero(~bad)
            records = records[good]
        if len(records):
            self._route(records, good)
        self.read += count

    def _route(self, records: np.ndarray, numbers: np.ndarray | None) -> None:
        """``numbers`` (n,) are those of the records in their block, None where nothing of it was rejected."""
        ts_event, ts_recv = (
            np.ascontiguousarray(records["ts_event"]),
            np.ascontiguousarray(records["ts_recv"]),
        )
        low, high = int(ts_event.min()), int(ts_event.max())
        if "ordinal" in records.dtype.names:
            numbers = records["ordinal"] - self.read
        ordinals = self.read if numbers is None else numbers + self.read
        contracts = self._contracts(records, ts_event, ts_recv, ordinals)
        self.ts_min_ns = low if self.ts_min_ns is None else min(low, self.ts_min_ns)
        self.ts_max_ns = high if self.ts_max_ns is None else max(high, self.ts_max_ns)
        if "ordinal" in records.dtype.names:
            numbers = records["ordinal"] - self.read
        if self.quality is not None:
            self.quality.add(records, contracts, low, high)
        ordinals = self.read if numbers is None else numbers + self.read
        for key, rows in self._split(ts_event, contracts, low, high):
            if rows is None:
                self._append(key, records, ordinals, contracts)
            else:
                self._append(
                    key,
                    records[rows],
                    rows + self.read if numbers is None else ordinals[rows],
                    contracts[rows],
                )
        self.rows += len(records)
        if len(self._open) > 1:
            self._close_past(max(int(ts_recv[0]), low))

    def finish(self) -> list[BronzeFile]:
        """Close what is open, build what was given up, and return all files by (date, hour, symbol)."""
        for key in list(self._open):
            self._close(key)
        if self._given_up:
            self._build_given_up()
        written = sum(f.rows for f in self._files.values())
        if written != self.rows or written + self.rejected != self.read:
            raise AssertionError(
                f"rows written were {written} and rejected {self.rejected}, expected the {self.read} read"
            )
        return sorted(
            self._files.values(), key=lambda f: (f.partition.date, f.partition.hour, f.partition.symbol)
        )

    def abort(self) -> None:
        for partition in self._open.values():
            partition.abort()
        self._open.clear()

    def _bad(self, records: np.ndarray) -> np.ndarray | None:
        if self._checks is None:
            self._checks = RecordChecks(records.dtype, is_book="action" in self.schema.arrow.names)
        return self._checks.bad(records)

    def _reject(self, records: np.ndarray, rows: np.ndarray) -> None:
        """Keep rows aside under the date they would have landed on, or their delivery's."""
        for row in rows.tolist():
            record = records[row]
            rule, reason = self._checks.reason(record)
            if self.rejects is None:
                raise RefusedFile(f"record {self.read + row}: {reason}")
            ts = next(
                (t for t in (record["ts_event"], record["ts_recv"]) if TS_EVENT_MIN_NS < t < TS_EVENT_MAX_NS),
                None,
            )
            date = _date(int(ts)) if ts is not None else self.symbols.first_day() or "1970-01-01"
            number = int(record["ordinal"]) if "ordinal" in record.dtype.names else self.read + row
            self.rejects.add(number, rule, reason, self._checks.raw(record), date=date)

    def _contracts(
        self, records: np.ndarray, ts_event: np.ndarray, ts_recv: np.ndarray, ordinals: np.ndarray | int
    ) -> np.ndarray:
        """Codes (n,) of the records' contracts; what is new among them gets its product."""
        codes = self._codes(records, ts_event, ts_recv, ordinals)
        known = len(self._root_of_code)
        if known < len(self.symbols.contracts):
            number_of = {root: number for number, root in enumerate(self.roots)}
            new = [
                number_of.setdefault(self.symbols.root(code), len(number_of))
                for code in range(known, len(self.symbols.contracts))
            ]
            self.roots = list(number_of)
            self._root_of_code = np.concatenate([self._root_of_code, np.array(new, dtype=np.int64)])
            more = np.zeros(len(self.roots) - len(self._rows_of_root), dtype=np.int64)
            self._rows_of_root = np.concatenate([self._rows_of_root, more])
        return codes

    def _codes(
        self, records: np.ndarray, ts_event: np.ndarray, ts_recv: np.ndarray, ordinals: np.ndarray | int
    ) -> np.ndarray:
        if "contract_code" in records.dtype.names:
            return records["contract_code"]
        first, last = int(ts_recv.min()), int(ts_recv.max())
        if first < 0:  # undefined: the event's own day decides
            ts_recv = np.where(ts_recv < 0, ts_event, ts_recv)
            first, last = int(ts_recv.min()), int(ts_recv.max())
        day = first // DAY_NS
        days = np.full(len(ts_recv), day) if day == last // DAY_NS else ts_recv // DAY_NS
        return self.symbols.codes(np.ascontiguousarray(records["instrument_id"]), days, ordinals)

    def _split(
        self, ts_event: np.ndarray, contracts: np.ndarray, low: int, high: int
    ) -> Iterator[tuple[tuple[int, int], np.ndarray | None]]:
        """Rows of the block by (root, hour); None for all of them, the usual block."""
        first, last = low // HOUR_NS, high // HOUR_NS
        roots = self._root_of_code[contracts] if len(self.roots) > 1 else None
        if first == last and (roots is None or (roots == roots[0]).all()):
            yield (0 if roots is None else int(roots[0]), first), None
            return
        hours = ts_event // HOUR_NS
        combined = hours if roots is None else roots * (last + 1) + hours
        for value in np.unique(combined):
            root, hour = (0, value) if roots is None else divmod(value, last + 1)
            yield (int(root), int(hour)), np.flatnonzero(combined == value)

    def _append(
        self, key: tuple[int, int], records: np.ndarray, ordinals: np.ndarray | int, contracts: np.ndarray
    ) -> None:
        if key in self._given_up:
            return
        if key in self._files:  # came back after its hour was closed
            self._files.pop(key).staged.unlink()
            self._given_up.add(key)
            return
        self._rows_of_root[key[0]] += len(records)
        try:
            partition = self._open.get(key)
            if partition is None:
                if key[0] in self._crowded_out:
                    raise _CrowdedOut
                self.make_room(key, _WRITER_BYTES)
                partition = self._open[key] = _OpenPartition(self, key)
            partition.last_seen = self.rows + len(records)
            if partition.rows + len(records) > self.window_rows:
                # A window's worth of rows has come since: the hours before this one are over. Now, not later:
                # their buffer is the one that this hour grows into.
                self._close_before(key)
            partition.append(records, ordinals, contracts)
        except (_Disordered, _CrowdedOut):
            self._give_up(key)

    def make_room(self, key: tuple[int, int], wanted_bytes: int) -> None:
        """Free memory for one more buffer of partition ``key``: spares go first, then earlier hours, then
        the product with the fewest rows. Raises _CrowdedOut when that is the product of ``key`` itself.
        """
        while True:
            others = {k: p for k, p in self._open.items() if k != key}
            taken = sum(p.memory_bytes for p in self._open.values()) + wanted_bytes
            if not others or taken <= self.buffer_bytes:
                break
            past = [k for k in others if any(o[0] == k[0] and o[1] > k[1] for o in (key, *others))]
            if past:  # an hour of a product that has moved on: nothing or little will come for it
                self._close(min(past, key=lambda k: self._open[k].last_seen))
                continue
            smallest = min((key, *others), key=lambda k: (self._rows_of_root[k[0]], k))
            self._crowded_out.add(smallest[0])
            if smallest == key:
                raise _CrowdedOut
            self._give_up(smallest)
        if taken + self.buffers.spare_bytes > self.buffer_bytes + wanted_bytes:
            self.buffers.drop_spares()

    def _close_past(self, now_ns: int) -> None:
        for key in [k for k in self._open if (k[1] + 1) * HOUR_NS + GRACE_NS < now_ns]:
            self._close(key)

    def _close_before(self, key: tuple[int, int]) -> None:
        """Close the hours of the same product before that of ``key``."""
        for past in [k for k in self._open if k[0] == key[0] and k[1] < key[1]]:
            self._close(past)

    def _close(self, key: tuple[int, int]) -> None:
        partition = self._open[key]
        try:
            self._files[key] = partition.close()
        except _Disordered:
            self._give_up(key)
            return
        del self._open[key]

    def _give_up(self, key: tuple[int, int]) -> None:
        partition = self._open.pop(key, None)
        if partition is not None:
            partition.abort()
        self._given_up.add(key)

    def partition(self, key: tuple[int, int]) -> Partition:
        start = datetime.fromtimestamp(key[1] * 3600, UTC)
        return Partition(self.roots[key[0]], start.date().isoformat(), start.hour)

    def _build_given_up(self) -> None:
        sorter = _ExternalSort(
            self.stage / "spill", chunk_rows=max(2, min(_SORT_ROWS, self.buffer_bytes // 18 // 400))
        )
        self.buffers.drop_spares()
        seen = 0
        for block in self._reread():
            bad = self._bad(block)
            at = np.arange(len(block)) if bad is None else np.flatnonzero(~bad)
            records = block if bad is None else block[at]
            if len(records):
                ts_event = records["ts_event"]
                ordinals = records["ordinal"] if "ordinal" in records.dtype.names else at + seen
                contracts = self._contracts(records, ts_event, records["ts_recv"], ordinals)
                low, high = int(ts_event.min()), int(ts_event.max())
                for key, part in self._split(ts_event, contracts, low, high):
                    if key in self._given_up:
                        rows = np.arange(len(records)) if part is None else part
                        sorter.add(records[rows], ordinals[rows], contracts[rows], key[0])
            seen += len(block)
        if seen != self.read:
            raise RefusedFile(
                f"second reading gave {seen} records, expected {self.read}; the file changed meanwhile"
            )
        current: tuple[int, int] | None = None
        partition: _OpenPartition | None = None
        for rows in sorter.sorted_blocks():
            hours = rows["record"]["ts_event"] // HOUR_NS
            cuts = np.flatnonzero((np.diff(hours) != 0) | (np.diff(rows["root"]) != 0)) + 1
            for part in np.split(rows, cuts):
                key = int(part["root"][0]), int(part["record"]["ts_event"][0]) // HOUR_NS
                if key != current:
                    if partition is not None:
                        self._files[current] = partition.close()
                    current, partition = key, _OpenPartition(self, key)
                    self._open = {key: partition}
                partition.append(part["record"], part["ordinal"], part["contract"])
        if partition is not None:
            self._files[current] = partition.close()
            self._open = {}


class _ExternalSort:
    """Rows sorted by (root, ts_event, sequence, ordinal) with a bounded number of them in memory.

    Sorted runs of ``chunk_rows`` go to files of fixed records. Merging always reads on in the run whose
    next row is the smallest: what is not yet safe to give out is then at most one slice of each run, so a
    pool of two chunks gives out a whole one each time it is sorted.
    """

    def __init__(self, folder: Path, *, chunk_rows: int) -> None:
        self._folder, self._chunk_rows = folder, chunk_rows
        self._dtype: np.dtype | None = None
        self._pending: list[np.ndarray] = []
        self._pending_rows = 0
        self._runs: list[tuple[Path, int]] = []

    def add(self, records: np.ndarray, ordinals: np.ndarray, contracts: np.ndarray, root: int) -> None:
        if self._dtype is None:
            self._folder.mkdir(exist_ok=True)
            fields = [("root", "<i4"), ("contract", "<i4"), ("ordinal", "<i8"), ("record", records.dtype)]
            self._dtype = np.dtype(fields)
        for start in range(0, len(records), self._chunk_rows):
            part = slice(start, start + self._chunk_rows)
            rows = np.empty(len(records[part]), self._dtype)
            rows["root"], rows["contract"], rows["ordinal"] = root, contracts[part], ordinals[part]
            rows["record"] = records[part]
            if self._pending_rows + len(rows) > self._chunk_rows:
                self._spill()
            self._pending.append(rows)
            self._pending_rows += len(rows)

    def _spill(self) -> None:
        if self._pending_rows:
            rows = np.concatenate(self._pending)
            self._pending, self._pending_rows = [], 0
            path = self._folder / f"run-{len(self._runs):06d}"
            rows = rows[_order(rows)]
            with open(path, "wb") as f:  # not tofile: its error for a full disk carries no errno
                f.write(rows.view(np.uint8).data)
            self._runs.append((path, len(rows)))

    def sorted_blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows in order, in blocks; run files go as they are used up."""
        self._spill()
        slice_rows = max(1, self._chunk_rows // max(1, len(self._runs)))
        unread = [(_key(self._rows(path, 0, 1)[0]), run, 0) for run, (path, _) in enumerate(self._runs)]
        heapq.heapify(unread)
        pool: list[np.ndarray] = []
        while unread or pool:
            while unread and sum(map(len, pool)) < 2 * self._chunk_rows:
                _, run, at = heapq.heappop(unread)
                path, rows = self._runs[run]
                end = min(at + slice_rows, rows)
                loaded = self._rows(path, at, min(end + 1, rows) - at)
                pool.append(loaded[: end - at])
                if end < rows:
                    heapq.heappush(unread, (_key(loaded[-1]), run, end))
                else:
                    path.unlink()
            together = np.concatenate(pool)
            together = together[_order(together)]
            safe = len(together)
            if unread:
                safe = bisect.bisect_left(range(safe), unread[0][0], key=lambda i, t=together: _key(t[i]))
            yield together[:safe]
            pool = [together[safe:]] if safe < len(together) else []

    def _rows(self, path: Path, at: int, count: int) -> np.ndarray:
        return np.fromfile(path, self._dtype, count, offset=at * self._dtype.itemsize)


def _key(row: np.void) -> tuple[int, int, int, int]:
    record = row["record"]
    return int(row["root"]), int(record["ts_event"]), int(record["sequence"]), int(row["ordinal"])


def _order(rows: np.ndarray) -> np.ndarray:
    record = rows["record"]
    return np.lexsort((rows["ordinal"], record["sequence"], record["ts_event"], rows["root"]))


def _date(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).date().isoformat()
