"""The rows of one window to part files in the stage, one for each partition key, with their content hashes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.window_runs import SortedRuns
from ingest.window_schema import LINEAGE, TIME, WindowSchema
from lake.atomic import fsync_file, sha256_file
from lake.digest import ContentDigest
from lake.runs import TICKHOUSE_VERSION
from lake.windows import WindowPart

ROW_GROUP_ROWS = 122_880
PENDING_ROWS = 32_768  # of all keys of a window together, in memory
PENDING_BYTES = 8 << 20  # the same, where rows are wide
LINEAGE_NAMES = tuple(LINEAGE.names)
# Values that differ from row to row gain nothing from a dictionary.
_UNIQUE = {"event_id", "row_hash", "payload_json", "execution_token", "transaction_id", "raw_response", "balances",
           "_extra", "agg_id", "trade_id", "first_trade_id", "last_trade_id", "event_seq"}  # fmt: skip


@dataclass(frozen=True)
class Lineage:
    """What all rows of a window share."""

    loaded_at: datetime
    environment: str
    ingest_batch_id: str
    source_kind: str
    files: Sequence[str]


@dataclass
class StagedPart:
    """A finished file in the stage; ``folder`` is where it will stand, below the dataset's folder."""

    staged: Path
    folder: str
    rows: int
    bytes: int
    sha256: str
    content_hash: str

    def named(self, number: int) -> WindowPart:
        name = f"{self.folder}/part-{number:04d}.parquet"
        return WindowPart(name, self.rows, self.bytes, self.sha256, self.content_hash)


@dataclass(frozen=True)
class Summary:
    """What a marker says of its rows. ``low`` and ``high`` bound the row time; None without rows."""

    rows: int
    low: datetime | None
    high: datetime | None
    content_hash: str


class Summarizer:
    """Counts, bounds and hashes the rows of a window, which come in (window column, primary key) order."""

    def __init__(self, schema: WindowSchema) -> None:
        self.schema = schema
        self.rows = 0
        self.low: datetime | None = None
        self.high: datetime | None = None
        self._digest = ContentDigest(schema.columns)

    def update(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        bounds = pc.min_max(table.column(self.schema.row_time)).as_py()
        lows, highs = [self.low, bounds["min"]], [self.high, bounds["max"]]
        self.low = min((x for x in lows if x is not None), default=None)
        self.high = max((x for x in highs if x is not None), default=None)
        self._digest.update(table)

    def summary(self) -> Summary:
        return Summary(self.rows, self.low, self.high, self._digest.hexdigest())


def sort_order(schema: WindowSchema) -> list[str]:
    """Order of rows inside a window; the row hash only settles which of two copies of a key comes first."""
    return list(dict.fromkeys([schema.window_column, *schema.primary_key, "row_hash"]))


class WindowWriter:
    """Writes one window's rows, handed over in sort order, to a part for each key."""

    def __init__(self, schema: WindowSchema, stage: Path, date: str, lineage: Lineage) -> None:
        self.schema, self.stage, self.date, self.lineage = schema, stage, date, lineage
        self.summarizer = Summarizer(schema)
        self._parts: dict[str, _PartWriter] = {}
        self._pending = self._pending_bytes = 0

    def add(self, rows: pa.Table) -> None:
        """``rows`` has the business columns, ``ingested_at``, ``row_hash``, ``_extra`` and ``_file_no``."""
        if not rows.num_rows:
            return
        self.summarizer.update(rows)
        for folder, group in self._by_folder(rows):
            part = self._parts.get(folder)
            if part is None:
                part = self._parts[folder] = _PartWriter(self, folder, len(self._parts))
            part.pending.append(group)
        self._pending += rows.num_rows
        self._pending_bytes += rows.nbytes
        if self._pending >= PENDING_ROWS or self._pending_bytes >= PENDING_BYTES:
            self._flush()

    def close(self) -> list[StagedPart]:
        self._flush()
        return [part.close() for _, part in sorted(self._parts.items())]

    def abort(self) -> None:
        for part in self._parts.values():
            part.abort()

    def _by_folder(self, rows: pa.Table) -> list[tuple[str, pa.Table]]:
        keys = self.schema.keys
        if not keys:
            return [(f"date={self.date}", rows)]
        text = pc.binary_join_element_wise(*[rows.column(key).cast(pa.string()) for key in keys], "\0")
        encoded = text.combine_chunks().dictionary_encode()
        groups = []
        for code, value in enumerate(encoded.dictionary.to_pylist()):
            path = "/".join(
                f"{key}={quote(part, safe='')}" for key, part in zip(keys, value.split("\0"), strict=True)
            )
            chosen = rows if len(encoded.dictionary) == 1 else rows.filter(pc.equal(encoded.indices, code))
            groups.append((f"{path}/date={self.date}", chosen))
        return groups

    def _flush(self) -> None:
        for part in self._parts.values():
            part.flush()
        self._pending = self._pending_bytes = 0


class _PartWriter:
    def __init__(self, window: WindowWriter, folder: str, number: int) -> None:
        schema = window.schema
        self.folder, self.pending, self.rows = folder, [], 0
        self._path = window.stage / f"window-{number:05d}.parquet"
        self._lineage = window.lineage
        self._schema = schema
        self._written = _written(schema)
        own = [f for f in schema.columns if f.name not in schema.keys]
        # Without keys the part is the window, and so is its hash.
        self._digest = ContentDigest(pa.schema(own))
        self._writer = pq.ParquetWriter(
            str(self._path),
            self._written,
            compression="zstd",
            compression_level=3,
            store_schema=False,
            use_dictionary=[f.name for f in self._written if f.name not in _UNIQUE],
            write_statistics=[*schema.primary_key, schema.window_column, "ingested_at", schema.row_time],
        )
        self._writer.add_key_value_metadata(
            {
                "dataset": schema.name,
                "schema_version": str(schema.version),
                "environment": window.lineage.environment,
                "source_kind": window.lineage.source_kind,
                "ingest_batch_id": window.lineage.ingest_batch_id,
                "tickhouse_version": TICKHOUSE_VERSION,
            }
        )

    def flush(self) -> None:
        if not self.pending:
            return
        rows = pa.concat_tables(self.pending).combine_chunks()
        self.pending = []
        self.rows += rows.num_rows
        self._digest.update(rows)
        self._writer.write_table(self._with_lineage(rows), row_group_size=ROW_GROUP_ROWS)

    def close(self) -> StagedPart:
        self._writer.close()
        fsync_file(self._path)
        return StagedPart(
            staged=self._path,
            folder=self.folder,
            rows=self.rows,
            bytes=self._path.stat().st_size,
            sha256=sha256_file(self._path),
            content_hash=self._digest.hexdigest(),
        )

    def abort(self) -> None:
        with contextlib.suppress(Exception):
            self._writer.close()
        self._path.unlink(missing_ok=True)

    def _with_lineage(self, rows: pa.Table) -> pa.Table:
        n, lineage = rows.num_rows, self._lineage
        files = pa.DictionaryArray.from_arrays(
            rows.column("_file_no").combine_chunks(), pa.array(lineage.files)
        )
        made = {
            "loaded_at": pa.repeat(pa.scalar(lineage.loaded_at, TIME), n),
            "ingest_batch_id": _constant(lineage.ingest_batch_id, n),
            "source_file": files,
            "schema_version": pa.repeat(pa.scalar(self._schema.version, pa.int32()), n),
            "environment": _constant(lineage.environment, n),
        }
        columns = [made[f.name] if f.name in made else rows.column(f.name) for f in self._written]
        return pa.Table.from_arrays(columns, schema=self._written)


def _constant(value: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n), pa.array([value]))


def _written(schema: WindowSchema) -> pa.Schema:
    repeated = {"ingest_batch_id", "source_file", "environment"}
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [pa.field(f.name, text, nullable=False) if f.name in repeated else f for f in schema.file_columns]
    )


def source_kind(path: Path) -> str:
    """What wrote a part: ``ndjson``, ``postgres``, …"""
    return (pq.read_metadata(path).metadata or {}).get(b"source_kind", b"").decode()


def summarize(parts: Sequence[tuple[Path, dict[str, str]]], schema: WindowSchema, stage: Path) -> Summary:
    """Summary of a window over its parts, given as (file, key of its path), in sort order across them."""
    summarizer = Summarizer(schema)
    hashed = LINEAGE.field("row_hash")
    times = [LINEAGE.field("ingested_at")] if schema.by_ingested_at else []
    rows = SortedRuns(stage, "summary", pa.schema([*schema.columns, *times, hashed]), sort_order(schema))
    for path, key in parts:
        with pq.ParquetFile(path) as file:
            read = [name for name in rows.schema.names if name not in schema.keys]
            for batch in file.iter_batches(PENDING_ROWS, columns=read, use_threads=False):
                n = batch.num_rows
                columns = [
                    pa.repeat(pa.scalar(key[f.name]).cast(f.type), n)
                    if f.name in schema.keys
                    else batch.column(f.name).cast(f.type)
                    for f in rows.schema
                ]
                rows.add(pa.Table.from_arrays(columns, schema=rows.schema))
    for table in rows.tables():
        summarizer.update(table.select(schema.columns.names))
    return summarizer.summary()
