"""Sorted rows of one bronze partition to one Parquet file with its content digest. Shared by all loaders."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pyarrow as pa

from ingest.bronze_schema import ROW_GROUP_ROWS, BronzeSchema
from ingest.parquet_footer import serves
from lake.atomic import fsync_file, sha256_file
from lake.digest import ContentDigest

if TYPE_CHECKING:
    from ingest.parquet_encoder import ParquetEncoder

try:
    TICKHOUSE_VERSION = version("tickhouse")
except PackageNotFoundError:  # run from a checkout that isn't installed
    TICKHOUSE_VERSION = "0.1.0"


@dataclass(frozen=True)
class Partition:
    """One hour of one product: the key of a bronze folder. ``date`` is ISO, both are UTC of
    ``ts_event_ns``. ``key`` is the folder key that the product stands under.
    """

    symbol: str
    date: str
    hour: int
    key: str = "symbol"

    def folder(self) -> str:
        """Path below the dataset's folder; a symbol that isn't plain is percent-encoded as Hive readers
        expect.
        """
        return f"{self.key}={quote(self.symbol, safe=' ')}/date={self.date}/hour={self.hour:02d}"


@dataclass(frozen=True)
class BronzeFile:
    """A finished file in the stage, with what its commit record will say about it."""

    staged: Path
    partition: Partition
    path: str  # relative to lake/bronze, where it will stand
    bytes: int
    sha256: str
    rows: int
    ts_min_ns: int
    ts_max_ns: int
    content_digest: str

    def record(self) -> dict:
        return {
            "path": self.path,
            "key": {self.partition.key: self.partition.symbol},
            "hour": self.partition.hour,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "rows": self.rows,
            "ts_min_ns": self.ts_min_ns,
            "ts_max_ns": self.ts_max_ns,
            "content_digest": self.content_digest,
        }


def _short(name: str) -> str:
    """A symbol of 71 letters that all are written in three fits into a folder's name, not into one with all of it."""
    return name if len(name) <= 200 else hashlib.sha256(name.encode()).hexdigest()


class PartitionWriter:
    """Writes row groups, in the order of the rows, to a file in the stage.

    The caller hands over tables of the schema whose rows are already sorted by the schema's order, across
    calls too. Several calls fill one row group of ``row_group_rows``; a schema with lists gets one of each call. The
    file is synced on ``close``; before that it is nothing.
    """

    def __init__(
        self,
        schema: BronzeSchema,
        partition: Partition,
        delivery_id: str,
        stage: Path,
        number: int = 0,
        *,
        row_group_rows: int = ROW_GROUP_ROWS,
    ) -> None:
        name = f"part-{delivery_id[:8]}-{number:03d}.parquet"
        self.partition = partition
        self.rows = 0
        self._row_group_rows = row_group_rows
        self._path = f"{schema.folder}/{partition.folder()}/{name}"
        self._staged = stage / f"{_short(partition.folder().replace('/', ','))},{name}"
        self._first = self._last = 0
        self._digest = ContentDigest(schema.arrow)
        metadata = {
            "schema_name": schema.name,
            "schema_version": str(schema.version),
            "delivery_id": delivery_id,
            "tickhouse_version": TICKHOUSE_VERSION,
        }
        self._writer = _open(self._staged, schema, metadata)

    def write(self, table: pa.Table, ts_first_ns: int, ts_last_ns: int) -> None:
        """Append rows; ``ts_*_ns`` are ``ts_event_ns`` of the table's first and last row."""
        if not self.rows:
            self._first = ts_first_ns
        self._last = ts_last_ns
        done = 0
        while done < table.num_rows:
            part = table.slice(done, self._row_group_rows - self.rows % self._row_group_rows)
            self._writer.write(part)
            self._digest.update(part)
            done += part.num_rows
            self.rows += part.num_rows
            if self.rows % self._row_group_rows == 0:
                self._writer.end_group()

    def close(self) -> BronzeFile:
        self._writer.close()
        fsync_file(self._staged)
        return BronzeFile(
            staged=self._staged,
            partition=self.partition,
            path=self._path,
            bytes=self._writer.bytes,
            sha256=self._writer.sha256,
            rows=self.rows,
            ts_min_ns=self._first,
            ts_max_ns=self._last,
            content_digest=self._digest.hexdigest(),
        )

    def abort(self) -> None:
        """Give the file up. Errors of closing it don't matter any more."""
        with contextlib.suppress(Exception):
            self._writer.abort()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._staged)


def _open(path: Path, schema: BronzeSchema, metadata: dict[str, str]) -> ParquetEncoder | _ArrowWriter:
    """The writer for a schema: our encoder where it knows all types, pyarrow's for schemas with lists."""
    if not serves(schema.arrow):
        return _ArrowWriter(path, schema, metadata)
    # Only here: numba takes its time and memory to import, and most commands write no bronze.
    from ingest.parquet_encoder import ParquetEncoder  # noqa: PLC0415

    return ParquetEncoder(
        path,
        schema.arrow,
        delta=schema.DELTA,
        statistics=schema.STATISTICS,
        metadata=metadata,
        created_by=f"tickhouse version {TICKHOUSE_VERSION}",
    )


class _ArrowWriter:
    """pyarrow's writer behind the encoder's few methods."""

    def __init__(self, path: Path, schema: BronzeSchema, metadata: dict[str, str]) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415  # 9 MB, of which the encoder needs none

        self._path = path
        self._writer = pq.ParquetWriter(str(path), schema.arrow, **schema.parquet_options())
        self._writer.add_key_value_metadata(metadata)

    @property
    def bytes(self) -> int:
        return os.path.getsize(self._path)

    @property
    def sha256(self) -> str:
        return sha256_file(self._path)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def end_group(self) -> None:
        """Nothing: each call of ``write`` was a row group."""

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.close()
