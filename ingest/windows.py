"""Landing of execution bronze: rows of any order become parts of hour windows, each window with its marker last.

A `WindowLoad` takes rows and rejects from a parser, spools them to disk, and publishes window by window: parts and
rejects first, the marker last, so that a reader never sees half a window. What a killed load left is removed by the
next load of the dataset. Source: spec/execution.md 2.4, 3.1, 8.4; architecture D2, D6.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.environment import require_environment
from ingest.errors import FailedFile, RefusedFile
from ingest.redaction import redaction
from ingest.row_hash import row_hashes
from ingest.window_parts import sort_order
from ingest.window_publish import LoadReport, Publisher
from ingest.window_rejects import REJECTS
from ingest.window_runs import SortedRuns, numbers
from ingest.window_schema import LINEAGE, TIME, WindowSchema
from ingest.window_spool import Spool, connect
from lake.paths import stage_dir
from lake.windows import dataset_lock, remove_orphans

HOUR_US = 3_600_000_000
MAX_BAD = 0.01
# What every load brings beside the business columns.
_EXTRA = LINEAGE.field("_extra")
_REJECT_BLOCK, _REJECT_BLOCK_CHARS = 1024, 1 << 20  # rejects that wait to be spooled


class WindowLoad:
    """One call of a loader for one dataset under one root: a context manager that holds the dataset's lock.

    Without a call of ``publish`` nothing stays. ``source_kind`` names the reader (``ndjson``, ``postgres``, …).
    ``whole_files`` says that a source file's name stands for its content and that a load brings all its rows: then a
    window that already holds rows of a file takes none of it again, whatever else is loaded with it.

    Raises RefusedFile when the root belongs to another environment, `lake.locks.LockTimeout` when another load holds
    the dataset for ten minutes.
    """

    def __init__(
        self,
        root: Path,
        schema: WindowSchema,
        environment: str,
        *,
        source_kind: str,
        max_bad: float = MAX_BAD,
        whole_files: bool = False,
    ) -> None:
        if not 0 <= max_bad <= 1:
            raise ValueError(f"max_bad was {max_bad}, expected a share of 0 to 1")
        self.root, self.schema, self.environment = root, schema, environment
        self.source_kind, self.max_bad, self.whole_files = source_kind, max_bad, whole_files
        self.stage = stage_dir(root) / f"windows-{schema.name}"
        self.by_rule: Counter[str] = Counter()
        self._files: dict[str, int] = {}
        self._accepted: Counter[int] = Counter()
        self._rejected: Counter[int] = Counter()
        self._read: Counter[int] = Counter()
        self._discarded: set[int] = set()
        self._counts: Counter[tuple[int, int]] = Counter()
        # Of each file: the window of its first row, and lines and windows of the rows that came last.
        self._first: dict[int, int] = {}
        self._latest: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._before: dict[int, int] = {}
        self._pending_rejects: list[tuple] = []
        self._pending_chars = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        require_environment(self.root, self.environment)
        with contextlib.ExitStack() as stack:
            stack.enter_context(dataset_lock(self.root, self.schema.name))
            clean_up(self.root, self.schema.name)
            self.stage.mkdir()
            self._connection = stack.enter_context(connect(self.stage))
            self._stack = stack.pop_all()
        self._rows = SortedRuns(self.stage, "rows", _spooled(self.schema), sort_order(self.schema))
        self._rejects = Spool(self.stage, "rejects", REJECTS)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
                self._rows.close()
                self._rejects.close()
                self._connection.close()
            # The error that brought us here matters more than one of cleaning up; the next load cleans what is left.
            with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
                if kind is None:
                    _remove_stage(self.stage)
                else:
                    clean_up(self.root, self.schema.name)

    def add(self, table: pa.Table, source_file: str, line_no: np.ndarray | Sequence[int]) -> None:
        """Take rows of the schema's business columns, in any order, with ``line_no`` (n,) int64 of each.

        ``ingested_at`` and ``_extra`` (canonical JSON) may stand beside them, null or absent. Types are the schema's,
        or cast to them without loss. Free text is redacted, then rows are hashed. Raises ValueError when a column is
        missing or a required value null: that is the parser's to reject.
        """
        if not table.num_rows:
            return
        schema, n = self.schema, table.num_rows
        try:
            rows = pa.Table.from_arrays(
                [table.column(f.name).cast(f.type) for f in schema.columns], schema=schema.columns
            )
        except (KeyError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"rows of {schema.name} were other than its columns ({error}); correct the parser"
            ) from error
        for name in schema.required:
            if rows.column(name).null_count:
                raise ValueError(
                    f"{schema.name}.{name} was null, expected a value; the parser rejects such rows"
                )
        extra = _column(table, "_extra", pa.string(), n)
        rows = redaction().table(rows.append_column(_EXTRA, extra))
        times = rows.column(schema.window_column if not schema.by_ingested_at else schema.row_time)
        if schema.by_ingested_at:
            times = pc.coalesce(_column(table, "ingested_at", TIME, n), times)
        hours = np.floor_divide(numbers(times), HOUR_US)
        file_no = self._file_no(source_file)
        windows, counts = np.unique(hours, return_counts=True)
        for window, count in zip(windows.tolist(), counts.tolist(), strict=True):
            self._counts[window, file_no] += count
        lines = np.asarray(line_no, dtype=np.int64)
        by_line = np.argsort(lines, kind="stable")
        if file_no in self._latest:
            self._before[file_no] = int(self._latest[file_no][1][-1])
        self._latest[file_no] = lines[by_line], hours[by_line]
        self._first.setdefault(file_no, int(hours[by_line[0]]))
        business = rows.select(schema.columns.names)
        columns = [
            pa.array(hours, pa.int64()),
            pa.repeat(pa.scalar(file_no, pa.int32()), n),
            pa.array(lines),
            *business.columns,
            times,
            row_hashes(business, schema, self._connection),
            rows.column("_extra"),
        ]
        self._rows.add(pa.Table.from_arrays(columns, schema=self._rows.schema))
        self._accepted[file_no] += n

    def reject(
        self,
        line_no: int,
        rule: str,
        reason: str,
        raw: str,
        *,
        source_file: str,
        window_start: datetime | None = None,
    ) -> None:
        """Keep a line that can't land; ``raw`` is redacted here.

        ``window_start`` is any instant in its hour where the line tells it. Otherwise it goes to the window of the
        nearest earlier row of its file that was added before this call, else of the file's first.
        """
        file_no = self._file_no(source_file)
        window = self._window_before(file_no, line_no)
        if window_start is not None:
            window = int(window_start.timestamp()) // 3600
        text = redaction().raw(raw.encode(errors="backslashreplace").decode())
        self._pending_rejects.append((window, file_no, line_no, rule, redaction().text(reason), text))
        self._rejected[file_no] += 1
        self.by_rule[rule] += 1
        self._pending_chars += len(text)
        if len(self._pending_rejects) >= _REJECT_BLOCK or self._pending_chars >= _REJECT_BLOCK_CHARS:
            self._spool_rejects()

    def _window_before(self, file_no: int, line_no: int) -> int | None:
        if file_no not in self._latest:
            return None
        lines, windows = self._latest[file_no]
        place = int(np.searchsorted(lines, line_no, side="right")) - 1
        if place < 0:  # before the block's first row: the last row of the block before it is the nearest
            return self._before.get(file_no)
        return int(windows[place])

    def count_read(self, rows: int, source_file: str) -> None:
        """Say how many rows were read, told apart from those handed over: ``publish`` holds one against the other."""
        self._read[self._file_no(source_file)] += rows

    def counts(self, source_file: str) -> tuple[int, int]:
        """Rows accepted and rejected of one file so far."""
        file_no = self._file_no(source_file)
        return self._accepted[file_no], self._rejected[file_no]

    def discard(self, source_file: str) -> None:
        """Take nothing of this file, neither rows nor rejects."""
        self._discarded.add(self._file_no(source_file))

    def publish(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        replace: bool = False,
        sealed: bool = False,
        sealed_through: datetime | None = None,
    ) -> LoadReport:
        """Publish every window with rows or rejects, and rows:0 markers for the other hours of [start, end).

        Without bounds the hours between the windows of this load count as read too. Rows outside the bounds, which
        are full hours, are left out and counted. ``replace``: what this load brings is all that its source kind holds
        of the windows in the bounds, so that earlier provisional parts of the kind go; otherwise rows are added. A
        part whose rows (by content hash) a window already has is not added again. Rows for a sealed window become
        a supplement, ``late_rows``; one that lost rows in a replace, or that stands in the archive with other rows,
        is a conflict in the report, and stays as it was. ``sealed`` seals the windows, ``sealed_through`` those that
        end at or before it.

        Raises RefusedFile when the share of rejects is above ``max_bad``, FailedFile when rows don't add up; then
        nothing is published.
        """
        self._spool_rejects()
        self._require_sums()
        # All rows are hashed: what that took is free for the merge.
        self._connection.close()
        pa.default_memory_pool().release_unused()
        publisher = Publisher(
            root=self.root,
            schema=self.schema,
            environment=self.environment,
            source_kind=self.source_kind,
            stage=self.stage,
            rows=self._rows,
            counts=self._counts,
            first_windows=self._first,
            rejects=self._rejects,
            files=list(self._files),
            discarded=self._discarded,
            whole_files=self.whole_files,
            loaded_at=datetime.now(UTC),
        )
        report = publisher.publish(
            start=start, end=end, replace=replace, sealed=sealed, sealed_through=sealed_through
        )
        report.by_rule = dict(self.by_rule)
        return report

    def _require_sums(self) -> None:
        kept = set(self._files.values()) - self._discarded
        accepted = sum(self._accepted[f] for f in kept)
        rejected = sum(self._rejected[f] for f in kept)
        names = list(self._files)
        for file_no in kept & set(self._read):
            found = self._accepted[file_no] + self._rejected[file_no]
            if found != self._read[file_no]:
                raise FailedFile(
                    f"{names[file_no]} had {self._read[file_no]:,} rows, but {found:,} were accepted or rejected; "
                    "nothing was landed, report this as a fault of the loader"
                )
        if rejected > self.max_bad * (accepted + rejected):
            raise RefusedFile(
                f"{rejected:,} of {accepted + rejected:,} rows were bad ({told_rules(self.by_rule)}), expected a share "
                f"of at most {self.max_bad:g}; mend the source, or raise --max-bad"
            )

    def _file_no(self, source_file: str) -> int:
        return self._files.setdefault(source_file, len(self._files))

    def _spool_rejects(self) -> None:
        if self._pending_rejects:
            columns = zip(*self._pending_rejects, strict=True)
            arrays = [pa.array(values, f.type) for values, f in zip(columns, REJECTS, strict=True)]
            self._rejects.add(pa.Table.from_arrays(arrays, schema=REJECTS))
            self._pending_rejects, self._pending_chars = [], 0


def told_rules(by_rule: Counter[str]) -> str:
    return ", ".join(f"{rule} {count:,}" for rule, count in sorted(by_rule.items()))


def clean_up(root: Path, dataset: str) -> None:
    """Remove what an earlier load left: its stage, and parts that no marker names. Call under the dataset's lock."""
    stage = stage_dir(root) / f"windows-{dataset}"
    if not stage.is_dir():
        return
    for plan in stage.glob("plan-*.json"):
        remove_orphans(root, dataset, plan.stem.removeprefix("plan-"))
    shutil.rmtree(stage)


def _remove_stage(stage: Path) -> None:
    """All but the plans of dates whose replaced parts readers may still hold open; the next load removes them."""
    for path in stage.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith("plan-"):
            path.unlink()
    with contextlib.suppress(OSError):
        stage.rmdir()


def _column(table: pa.Table, name: str, kind: pa.DataType, n: int) -> pa.ChunkedArray:
    if name in table.schema.names:
        return table.column(name).cast(kind)
    return pa.chunked_array([pa.nulls(n, kind)])


def _spooled(schema: WindowSchema) -> pa.Schema:
    window_fields = [
        pa.field("_window", pa.int64(), nullable=False),
        pa.field("_file_no", pa.int32(), nullable=False),
        pa.field("_line_no", pa.int64(), nullable=False),
    ]
    lineage = [LINEAGE.field("ingested_at"), LINEAGE.field("row_hash"), _EXTRA]
    return pa.schema([*window_fields, *schema.columns, *lineage])
