"""Rows that can't be landed: kept aside with file, line, rule and raw text. Shared by all loaders.

They go to ``lake/bronze/_rejects/dataset=…/date=…/part-<batch8>-nnn.parquet``. One batch (a delivery, or a read of
windows) writes a date's rejects to one file whose name follows from the batch, so that a run again replaces it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lake.atomic import fsync_file, sha256_file
from lake.digest import ContentDigest

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        pa.field("environment", pa.string()),  # prod or testnet; NULL in the market domain
        pa.field("batch_id", pa.string(), nullable=False),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("line_no", pa.int64(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.string()),
        pa.field("loaded_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)
LINEAGE = ("loaded_at",)  # outside the content digest
MAX_RAW_CHARS = 65_536  # of one row's raw text; what is longer is cut and says so
_FLUSH_ROWS = 4096


@dataclass(frozen=True)
class RejectFile:
    """A finished file of rejects in the stage; ``path`` is relative to lake/bronze."""

    staged: Path
    path: str
    date: str
    rows: int
    bytes: int
    sha256: str
    content_digest: str

    def record(self) -> dict:
        return {
            "path": self.path,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "rows": self.rows,
            "content_digest": self.content_digest,
        }


@dataclass
class _Date:
    path: Path
    writer: pq.ParquetWriter
    digest: ContentDigest
    pending: list[tuple] = field(default_factory=list)
    rows: int = 0


class RejectWriter:
    """Collects the rejects of one batch in bounded memory; ``rows`` and ``by_rule`` count them.

    ``source_file`` is the path that a person looks up (relative to the lake's root where the file is in it).
    Rows come in the order of their lines; nothing appears outside ``stage``.
    """

    def __init__(
        self,
        stage: Path,
        dataset: str,
        batch_id: str,
        *,
        source_file: str = "",
        environment: str | None = None,
    ) -> None:
        self.stage, self.dataset, self.batch_id = stage, dataset, batch_id
        self.source_file, self.environment = source_file, environment
        self.rows = 0
        self.by_rule: Counter[str] = Counter()
        self.first_reason: str | None = None
        self._dates: dict[str, _Date] = {}
        self._loaded_at = datetime.now(UTC)

    def add(
        self, line_no: int, rule: str, reason: str, raw: str, *, date: str, source_file: str | None = None
    ) -> None:
        """Keep one row; ``date`` is the ISO UTC date it would have landed on, or its delivery's first date."""
        if len(raw) > MAX_RAW_CHARS:
            raw = f"{raw[:MAX_RAW_CHARS]}… ({len(raw)} characters)"
        # What isn't text of Unicode (a lone surrogate) has no UTF-8.
        raw = raw.encode(errors="backslashreplace").decode()
        part = self._dates.get(date) or self._open(date)
        part.pending.append(
            (
                self.environment,
                self.batch_id,
                source_file or self.source_file,
                line_no,
                rule,
                reason,
                raw,
                self._loaded_at,
            )
        )
        self.rows += 1
        self.by_rule[rule] += 1
        self.first_reason = self.first_reason or reason
        if len(part.pending) >= _FLUSH_ROWS:
            self._flush(part)

    def close(self) -> list[RejectFile]:
        """Finish every date's file, synced; an empty list when nothing was rejected."""
        files = []
        for date, part in sorted(self._dates.items()):
            self._flush(part)
            part.writer.close()
            fsync_file(part.path)
            files.append(
                RejectFile(
                    staged=part.path,
                    path=f"_rejects/dataset={self.dataset}/date={date}/part-{self.batch_id[:8]}-000.parquet",
                    date=date,
                    rows=part.rows,
                    bytes=part.path.stat().st_size,
                    sha256=sha256_file(part.path),
                    content_digest=part.digest.hexdigest(),
                )
            )
        self._dates.clear()
        return files

    def abort(self) -> None:
        for part in self._dates.values():
            part.writer.close()
            part.path.unlink(missing_ok=True)
        self._dates.clear()

    def _open(self, date: str) -> _Date:
        path = self.stage / f"rejects,{self.dataset},date={date},part-{self.batch_id[:8]}-000.parquet"
        import pyarrow.parquet as pq  # noqa: PLC0415  # 9 MB, which a load without a bad row saves

        writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=3, store_schema=False)
        part = self._dates[date] = _Date(path, writer, ContentDigest(SCHEMA, LINEAGE))
        return part

    def _flush(self, part: _Date) -> None:
        if not part.pending:
            return
        columns = zip(*part.pending, strict=True)
        arrays = [pa.array(values, f.type) for values, f in zip(columns, SCHEMA, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=SCHEMA)
        part.writer.write_table(table)
        part.digest.update(table)
        part.rows += len(part.pending)
        part.pending = []
