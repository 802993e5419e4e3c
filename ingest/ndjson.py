"""NDJSON files to execution bronze: events, orders, operations, balance snapshots.

Each file lands once (its sha256 tells), all files of a call in one pass over the windows. Order of writes: raw copies,
windows with their markers last, receipts. A kill in between leaves windows that the next call completes.
Source: spec/execution.md 3.1.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ingest.errors import FailedFile, RefusedFile
from ingest.event_files import EventFile, load_id, read_receipt
from ingest.landing import hash_source
from ingest.named_files import named_files
from ingest.ndjson_rows import Drift, NdjsonParser
from ingest.text_lines import read_lines
from ingest.window_publish import LoadReport
from ingest.window_schema import WINDOW_SCHEMAS
from ingest.window_seal import seal_aged
from ingest.windows import MAX_BAD, WindowLoad, told_rules
from lake.commits import now_utc
from lake.runs import new_run_id, write_run

log = logging.getLogger(__name__)

SOURCE_KIND = "ndjson"
Progress = Callable[[Path, int], None]
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass
class FileReport:
    """Outcome of one file. ``status``: ``landed``, ``already_landed``, ``quarantined``, ``failed``, ``conflict``."""

    path: Path
    dataset: str
    status: str
    reason: str | None = None
    rows: int = 0
    rejected: int = 0
    filtered: int = 0  # good rows of hours that weren't asked for
    by_rule: dict[str, int] = field(default_factory=dict)
    unknown_columns: dict[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    raw_path: str | None = None

    @property
    def ok(self) -> bool:
        return self.status in ("landed", "already_landed")

    def line(self) -> str:
        """One line for people."""
        if not self.ok:
            return f"{self.path}: {self.status}: {self.reason}"
        aside = f", {self.rejected:,} bad lines kept aside" if self.rejected else ""
        aside += f", {self.filtered:,} outside the hours asked for" if self.filtered else ""
        return f"{self.path}: {self.status.replace('_', ' ')}, {self.rows:,} rows of {self.dataset}{aside}"


@dataclass
class NdjsonReport:
    """Outcome of a call: its files in order, and what became of the windows."""

    run_id: str
    files: list[FileReport]
    load: LoadReport
    sealed: int = 0

    @property
    def exit_code(self) -> int:
        """0 published, 1 a file was refused or failed (the others landed), 2 incomplete windows, 3 conflict."""
        if self.load.conflicts:
            return 3
        return 1 if not all(f.ok for f in self.files) else self.load.exit_code


def ingest_ndjson(
    root: Path,
    dataset: str,
    pattern: str,
    *,
    environment: str = "prod",
    start: datetime | None = None,
    end: datetime | None = None,
    max_bad: float = MAX_BAD,
    progress: Progress | None = None,
) -> NdjsonReport:
    """Land the files that ``pattern`` names as ``dataset`` (a name of WINDOW_SCHEMAS).

    Rows outside [start, end), full hours of UTC, are left out. A file with a larger share of bad lines than
    ``max_bad``, or whose rows lack a required column, goes to ``raw/_quarantine``; the others land. Windows that ended
    24 h before the dataset's newest are sealed. Writes one run record.

    Raises SourceUnreachable when no file matches, RefusedFile when the lake holds another environment, ValueError for
    bounds that are no full hours or not in order.
    """
    if start is not None and end is not None and start >= end:
        raise ValueError(
            f"start was {start.isoformat()}, expected it before the end; correct --start or --end"
        )
    run_id, started_at = new_run_id("ingest"), now_utc()
    files = named_files([pattern])
    call = _Call(root.resolve(), dataset, environment, start, end, max_bad, progress)
    report = NdjsonReport(run_id, *call.land(files))
    report.sealed = seal_aged(root, dataset).sealed
    statuses = Counter(f.status for f in report.files)
    write_run(
        root,
        run_id,
        config={
            "command": f"ingest {dataset}",
            "environment": environment,
            "start": None if start is None else start.isoformat(),
            "end": None if end is None else end.isoformat(),
            "max_bad": max_bad,
            "files": [f.name for f in files],
        },
        counts={
            **{status: statuses[status] for status in ("landed", "already_landed", "quarantined", "failed")},
            "rows": report.load.rows,
            "late_rows": report.load.late_rows,
            "rejected": report.load.rejected,
            "windows": report.load.windows,
            "incomplete": len(report.load.incomplete),
            "conflicts": len(report.load.conflicts),
            "sealed": report.sealed,
        },
        status="ok" if report.exit_code in (0, 2) else "failed",
        started_at=started_at,
    )
    return report


@dataclass
class _Call:
    root: Path
    dataset: str
    environment: str
    start: datetime | None
    end: datetime | None
    max_bad: float
    progress: Progress | None

    def land(self, files: list[Path]) -> tuple[list[FileReport], LoadReport]:
        schema = WINDOW_SCHEMAS[self.dataset]
        with WindowLoad(
            self.root,
            schema,
            self.environment,
            source_kind=SOURCE_KIND,
            max_bad=self.max_bad,
            whole_files=True,
        ) as load:
            reports, staged = [], []
            taken: dict[str, Path] = {}
            for path in files:
                report, file = self._read(path, load, taken)
                reports.append(report)
                if file is not None:
                    staged.append((report, file))
            if not staged and self.start is None and self.end is None:
                return reports, LoadReport(self.dataset)
            for _, file in staged:
                file.keep()
            result = load.publish(start=self.start, end=self.end)
            for report, file in staged:
                if result.conflicts:
                    report.status, report.reason = "conflict", result.conflicts[0]
                else:
                    file.write_receipt(self._facts(report))
        return reports, result

    def _read(
        self, path: Path, load: WindowLoad, taken: dict[str, Path]
    ) -> tuple[FileReport, EventFile | None]:
        """Parse one file into the load; ``taken`` are the raw paths of the files before it, by load id.

        What can't land is told in the report, not raised.
        """
        report = FileReport(path, self.dataset, "landed")
        file = None
        try:
            sha256 = hash_source(path)
            identity = load_id(sha256, self.dataset, self.start, self.end)
            receipt = read_receipt(self.root, identity)
            if identity in taken or (receipt is not None and receipt["status"] == "landed"):
                return self._already(report, receipt), None
            file = EventFile.stage(
                self.root, self.dataset, path, sha256, identity, load.stage, taken.values()
            )
            report.bytes_in, report.raw_path = file.bytes, file.name
            self._parse(file, report, load)
        except RefusedFile as error:
            load.discard(file.source_file)
            report.status, report.reason = "quarantined", str(error)
            file.quarantine()
            report.raw_path = file.name
            file.write_receipt(self._facts(report))
            return report, None
        except (FailedFile, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FULL_DISK:
                raise
            if file is not None:
                load.discard(file.source_file)
            report.status, report.reason = "failed", str(error)
            if isinstance(error, OSError):
                report.reason = f"could not be read ({error.strerror or error}); mend that and run again"
            return report, None
        taken[identity] = file.path
        return report, file

    def _parse(self, file: EventFile, report: FileReport, load: WindowLoad) -> None:
        parser = NdjsonParser(WINDOW_SCHEMAS[self.dataset], self.environment)
        by_rule: Counter[str] = Counter()
        tell = None if self.progress is None else (lambda done: self.progress(file.source, done))
        for lines in read_lines(file.readable, tell):
            block = parser.parse(lines)
            load.add(block.table, file.source_file, block.line_no)
            report.filtered += self._outside(block.table)
            for line_no, rule, reason, raw, at in block.rejects:
                load.reject(line_no, rule, reason, raw, source_file=file.source_file, window_start=at)
                by_rule[rule] += 1
        load.count_read(parser.read, file.source_file)
        report.rows, report.rejected = load.counts(file.source_file)
        report.rows -= report.filtered
        report.by_rule = dict(sorted(by_rule.items()))
        report.unknown_columns = dict(sorted(parser.drift.unknown.items()))
        self._judge(report, parser.drift, by_rule)

    def _judge(self, report: FileReport, drift: Drift, by_rule: Counter[str]) -> None:
        """Refuse a file of another shape, or with too many bad lines; warn of columns that are new."""
        read = report.rows + report.rejected + report.filtered
        difference = drift.told() if report.rejected > self.max_bad * read else None
        if difference is not None:
            raise RefusedFile(
                f"rows came {difference}, expected the columns of {self.dataset}; the source has changed, adapt the "
                "loader or the export"
            )
        if report.rejected > self.max_bad * read:
            raise RefusedFile(
                f"{report.rejected:,} of {read:,} lines were bad ({told_rules(by_rule)}), expected a share of at most "
                f"{self.max_bad:g}; mend the file, or allow more with --max-bad"
            )
        if report.unknown_columns:
            log.warning(
                "schema drift dataset=%s file=%s: unknown columns went to _extra: %s",
                self.dataset, report.path.name, ", ".join(report.unknown_columns),
            )  # fmt: skip

    def _outside(self, rows: pa.Table) -> int:
        """How many rows belong to hours outside the bounds of the call."""
        schema = WINDOW_SCHEMAS[self.dataset]
        times = rows.column(schema.row_time)
        if "ingested_at" in rows.column_names:
            times = pc.coalesce(rows.column("ingested_at"), times)
        early = 0 if self.start is None else pc.sum(pc.less(times, self.start)).as_py() or 0
        late = 0 if self.end is None else pc.sum(pc.greater_equal(times, self.end)).as_py() or 0
        return early + late

    def _already(self, report: FileReport, receipt: dict | None) -> FileReport:
        report.status = "already_landed"
        if receipt is not None:
            report.rows, report.rejected = receipt["accepted_count"], receipt["rejected_count"]
            report.filtered = receipt["filtered_count"]
            report.bytes_in, report.raw_path = receipt["bytes"], receipt["path"]
        return report

    def _facts(self, report: FileReport) -> dict:
        return {
            "dataset": self.dataset,
            "environment": self.environment,
            "start": None if self.start is None else self.start.isoformat(),
            "end": None if self.end is None else self.end.isoformat(),
            "status": report.status,
            "reason": report.reason,
            "record_count": report.rows + report.rejected + report.filtered,
            "accepted_count": report.rows,
            "rejected_count": report.rejected,
            "filtered_count": report.filtered,
            "by_rule": report.by_rule,
            "unknown_columns": report.unknown_columns,
        }
