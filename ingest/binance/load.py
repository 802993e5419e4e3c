"""Binance files to execution bronze: each file lands whole or not at all, once, whatever else the call holds.

Order of writes: the raw copy, the hour windows (each with its marker last), the receipt. A kill between them leaves
windows that the next call finds again by the content of their parts.
Source: spec/execution.md 3.1, 3.4, 3.6.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.binance.archive import read_archive
from ingest.binance.elements import Known
from ingest.binance.gaps import MOST_TOLD, Gaps
from ingest.binance.kinds import KINDS, TIME, Kind
from ingest.binance.opened import Opened, check_sum_file, open_recorded
from ingest.binance.raw_files import RawFile, read_load_receipt, sweep
from ingest.binance.recorded import read_recorded
from ingest.binance.report import FileReport, Options, Report, count_statuses, require_options
from ingest.binance.tally import Batch, Tally
from ingest.environment import require_environment
from ingest.errors import FailedFile, RefusedFile
from ingest.landing import hash_source
from ingest.named_files import named_files
from ingest.window_schema import WINDOW_SCHEMAS
from ingest.windows import WindowLoad
from lake.commits import now_utc
from lake.runs import new_run_id, write_run

log = logging.getLogger(__name__)

SOURCE_KIND = "binance"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def load_file(root: Path, dataset: str, path: Path, options: Options, *, run_id: str = "") -> FileReport:
    """Land one file as ``dataset``; what becomes of it is in the report, nothing of it is raised."""
    try:
        sha256, size = hash_source(path), path.stat().st_size
    except OSError as error:
        return FileReport(str(path), dataset, "failed", _told(error))
    load_id = options.load_id(sha256, dataset)
    try:
        with RawFile(root, path, sha256) as raw:
            receipt = read_load_receipt(root, load_id)
            if receipt is not None and receipt["status"] == "landed":
                return _already(path, receipt)
            try:
                check_sum_file(path, sha256)
                return _Load(root, dataset, path, raw, options, load_id, size, run_id).land()
            except RefusedFile as error:
                raw.quarantine()
                facts = {"status": "quarantined", "reason": str(error)}
                _write_receipt(load_id, raw, dataset, options, size, run_id, facts)
                return FileReport(
                    str(path), dataset, "quarantined", str(error), bytes_in=size, raw_path=raw.name
                )
    except FailedFile as error:
        return FileReport(str(path), dataset, "failed", str(error), bytes_in=size)
    except OSError as error:
        return FileReport(str(path), dataset, "failed", _told(error), bytes_in=size)


@dataclass
class _Load:
    """One file on its way into the windows of one dataset."""

    root: Path
    dataset: str
    path: Path
    raw: RawFile
    options: Options
    load_id: str
    bytes_in: int
    run_id: str
    accepted: int = 0
    bounds: list[datetime] = field(default_factory=list)

    def land(self) -> FileReport:
        kind, options = KINDS[self.dataset], self.options
        gaps = Gaps(kind)
        with (
            open_recorded(self.raw.readable, self.path.name) as opened,
            # The share of bad rows is held against all that was read, as most lines of a capture are filtered.
            WindowLoad(
                self.root,
                WINDOW_SCHEMAS[self.dataset],
                options.environment,
                source_kind=SOURCE_KIND,
                max_bad=1.0,
            ) as load,
        ):
            source_file = self.raw.name
            place = self._place_of_rejects(opened)

            def on_reject(line_no: int, rule: str, reason: str, raw: str, at: datetime | None) -> None:
                load.reject(line_no, rule, reason, raw, source_file=source_file, window_start=place(at))

            tally = Tally(on_reject)
            for batch in self._batches(opened, tally):
                table, line_no = self._ours(batch, tally)
                if table.num_rows:
                    load.add(table, source_file, line_no)
                    gaps.add(table)
                    self._count(table, kind)
            self._require_sums(tally)
            self.raw.keep()
            start, end = self._range(opened)
            report = load.publish(start=start, end=end)
        found = gaps.found()
        if found:
            log.warning(
                "holes path=%s gaps=%d missing=%d", self.path, len(found), sum(g.missing for g in found)
            )
        facts = {
            "status": "conflict" if report.conflicts else "landed",
            "reason": "; ".join(report.conflicts[:3]) or None,
            "market": options.market or opened.named.market,
            "record_count": tally.records,
            "accepted_count": self.accepted,
            "rejected_count": tally.rejected,
            "filtered_count": sum(tally.filtered.values()),
            "filtered": dict(sorted(tally.filtered.items())),
            "by_rule": dict(sorted(tally.by_rule.items())),
            "first_at": self._bound(min),
            "last_at": self._bound(max),
            "gap_count": len(found),
            "missing_count": sum(gap.missing for gap in found),
            "gaps": [gap.record() for gap in found[:MOST_TOLD]],
        }
        if not report.conflicts:
            _write_receipt(self.load_id, self.raw, self.dataset, options, self.bytes_in, self.run_id, facts)
        log.info(
            "landed path=%s rows=%d rejected=%d run_id=%s",
            self.path,
            self.accepted,
            tally.rejected,
            self.run_id,
        )
        return FileReport(
            str(self.path),
            self.dataset,
            facts["status"],
            facts["reason"],
            rows=self.accepted,
            rejected=tally.rejected,
            filtered=facts["filtered_count"],
            gaps=len(found),
            windows=report.windows,
            late_rows=report.late_rows,
            incomplete=tally.rejected > 0,
            bytes_in=self.bytes_in,
            raw_path=self.raw.name,
        )

    def _batches(self, opened: Opened, tally: Tally) -> Iterator[Batch]:
        options, named = self.options, opened.named
        one_symbol = options.symbols[0] if len(options.symbols) == 1 else None
        known = Known(
            symbol=named.symbol or one_symbol,
            interval=named.interval,
            market=options.market or named.market,
            client_id=options.client_id,
            account_type=options.account_type,
        )
        if opened.layout is None:
            as_of_us = None if options.as_of is None else _micros(options.as_of)
            yield from read_recorded(opened.stream, known, tally, wanted=self.dataset, as_of_us=as_of_us)
            return
        kind = opened.layout.kind
        if kind.landed not in (None, self.dataset):
            raise RefusedFile(
                f"file held {kind.name}, expected {self.dataset}; land it by `tickhouse ingest binance {kind.name}`"
            )
        if known.symbol is None:
            raise RefusedFile("name said no symbol, expected SYMBOL-…; rename it or name it by --symbols")
        if known.market == "usdm" and "is_best_match" in opened.layout.places:
            raise RefusedFile(
                "file told the best match, which futures don't have; expected none, or --market spot"
            )
        yield from read_archive(opened.stream, opened.layout, known, tally, span=named.span_us)

    def _ours(self, batch: Batch, tally: Tally) -> tuple[pa.Table, np.ndarray]:
        """The rows to land; the others are counted."""
        table, line_no, options = batch.table, batch.line_no, self.options
        if batch.kind.landed is None:
            tally.filtered["single trade"] += table.num_rows
            return table.slice(0, 0), line_no[:0]
        if options.symbols:
            mask = pc.is_in(table["symbol"], pa.array(options.symbols))
            table, line_no = _keep(table, line_no, mask, tally, "other symbol")
        for bound, compare in ((options.start, pc.greater_equal), (options.end, pc.less)):
            if bound is not None:
                mask = compare(table[batch.kind.time], pa.scalar(bound, TIME))
                table, line_no = _keep(table, line_no, mask, tally, "outside of the range")
        return table, line_no

    def _count(self, table: pa.Table, kind: Kind) -> None:
        self.accepted += table.num_rows
        bounds = pc.min_max(table[kind.time])
        self.bounds = [
            min([bounds["min"].as_py(), *self.bounds]),
            max([bounds["max"].as_py(), *self.bounds]),
        ]

    def _bound(self, pick: Callable[[list[datetime]], datetime]) -> str | None:
        return f"{pick(self.bounds):%Y-%m-%dT%H:%M:%S.%fZ}" if self.bounds else None

    def _require_sums(self, tally: Tally) -> None:
        filtered = sum(tally.filtered.values())
        if self.accepted + tally.rejected + filtered != tally.records:
            raise FailedFile(
                f"{tally.records:,} records were read, but {self.accepted:,} accepted, {tally.rejected:,} rejected and "
                f"{filtered:,} filtered; nothing was landed, report this as a fault of the loader"
            )
        if tally.rejected > self.options.max_bad * tally.records:
            rules = ", ".join(f"{rule} {count:,}" for rule, count in sorted(tally.by_rule.items()))
            raise RefusedFile(
                f"{tally.rejected:,} of {tally.records:,} records were bad ({rules}; the first: "
                f"{tally.first_reason}), expected at most {self.options.max_bad:.2%}; mend that, or allow "
                "more with --max-bad"
            )

    def _range(self, opened: Opened) -> tuple[datetime | None, datetime | None]:
        """Hours that the file speaks for, also where it has no rows: the call's bounds, or the date in its name."""
        if self.options.start or self.options.end:
            return self.options.start, self.options.end
        if opened.layout is None or opened.named.span_us is None:
            return None, None
        if opened.layout.kind.landed is None:
            return None, None
        start, end = opened.named.span_us
        return EPOCH + timedelta(microseconds=start), EPOCH + timedelta(microseconds=end)

    def _place_of_rejects(self, opened: Opened) -> Callable[[datetime | None], datetime | None]:
        """The window of a reject: that of its own time, within the hours that the file speaks for. Without a time it
        is the first of them, or, where the file names none, the loader's choice.
        """
        start, end = self._range(opened)
        if start is None or end is None:
            return lambda at: at
        return lambda at: at if at is not None and start <= at < end else start


def _keep(
    table: pa.Table, line_no: np.ndarray, mask: pa.ChunkedArray, tally: Tally, what: str
) -> tuple[pa.Table, np.ndarray]:
    kept = mask.to_numpy()
    if kept.all():
        return table, line_no
    tally.filtered[what] += int((~kept).sum())
    return table.filter(mask), line_no[kept]


def _write_receipt(
    load_id: str,
    raw: RawFile,
    dataset: str,
    options: Options,
    size: int,
    run_id: str,
    facts: dict,
) -> None:
    empty = {
        "market": options.market, "record_count": None, "accepted_count": None, "rejected_count": None,
        "filtered_count": None, "filtered": {}, "by_rule": {}, "first_at": None, "last_at": None, "gap_count": 0,
        "missing_count": 0, "gaps": [],
    }  # fmt: skip
    receipt = {
        "load_version": 1,
        "load_id": load_id,
        "provider": "binance",
        "dataset": dataset,
        "environment": options.environment,
        "client_id": options.client_id,
        "account_type": options.account_type,
        "path": raw.name,
        "bytes": size,
        "sha256": raw.sha256,
        **(empty | facts),
        "loaded_at": now_utc(),
        "run_id": run_id,
    }
    raw.write_receipt(load_id, receipt)


def _already(path: Path, receipt: dict) -> FileReport:
    return FileReport(
        str(path),
        receipt["dataset"],
        "already_landed",
        rows=receipt["accepted_count"],
        rejected=receipt["rejected_count"],
        filtered=receipt["filtered_count"],
        gaps=receipt["gap_count"],
        incomplete=receipt["rejected_count"] > 0,
        bytes_in=receipt["bytes"],
        raw_path=receipt["path"],
    )


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _told(error: OSError) -> str:
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in _FULL_DISK:
        return f"disk was full{where} ({error.strerror}), expected room for the load; free some and run again"
    return f"file or lake could not be used{where} ({error.strerror or error}); mend that and run again"


def ingest_files(
    root: Path,
    dataset: str,
    patterns: Iterable[str],
    options: Options,
    *,
    progress: Callable[[Path, int], None] = lambda *_: None,
) -> Report:
    """Land the files that globs name as ``dataset`` (agg_trades, klines or trades) under ``root``.

    A file whose bytes were landed before with the same options is a no-op. ``progress`` is called with (file, its
    bytes) when it is done. Raises FailedFile for a glob without a file, RefusedFile when the lake holds another
    environment, ValueError for options that don't fit.
    """
    require_options(dataset, options)
    root = root.resolve()
    require_environment(root, options.environment)
    sweep(root)
    run_id, started_at, reports = new_run_id("ingest"), now_utc(), []
    for path in named_files(patterns, beside=(".CHECKSUM",)):
        reports.append(load_file(root, dataset, path, options, run_id=run_id))
        progress(path, reports[-1].bytes_in)
    report = Report(run_id, reports)
    record_run(root, report, dataset, options, started_at, source="files")
    return report


def record_run(
    root: Path, report: Report, dataset: str, options: Options, started_at: str, *, source: str
) -> None:
    """One record of the call under ``_meta/runs``."""
    config = {
        key: str(value) if isinstance(value, datetime) else value for key, value in vars(options).items()
    }
    write_run(
        root,
        report.run_id,
        config={"command": f"ingest binance {dataset}", "from": source}
        | {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
        | {"files": [Path(file.path).name for file in report.files]},
        counts=count_statuses(report.files),
        status="ok" if report.exit_code in (0, 2) else "failed",
        started_at=started_at,
    )
