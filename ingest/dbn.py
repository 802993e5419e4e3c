"""DBN files to bronze, of every schema in `ingest.dbn_kinds`, versions 1 to 3, plain or zstd.

A file lands whole or not at all, once, whatever the order of the files and wherever a run was killed. One
that can't be landed goes to ``raw/_quarantine/`` with the reason in its receipt, and the other files of the
call land.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from ingest.bronze_schema import TS_EVENT_MAX_NS, TS_EVENT_MIN_NS
from ingest.dbn_format import DbnHeader, open_dbn
from ingest.dbn_kinds import KINDS, Reading
from ingest.errors import FailedFile, RefusedFile
from ingest.expected import Expected
from ingest.file_report import FileReport, IngestReport, Source, is_inside, receipt_of, report_of, told
from ingest.landing import (
    MAX_BAD,
    Delivery,
    hash_source,
    read_receipt,
    recover_interrupted,
    refuse_too_many_rejects,
)
from ingest.orphans import sweep_orphans
from ingest.partitioning import PartitionRouter
from ingest.rejects import RejectWriter
from ingest.symbology import DAY_NS
from lake.bronze import VISIBLE_STATUS
from lake.commits import now_utc
from lake.rollup import write_rollups
from lake.runs import new_run_id, write_run

log = logging.getLogger(__name__)

Progress = Callable[[Path, int, int], None]


PROVIDER = "databento"
MAX_MARKED_DAYS = 400  # of a file's window: each gets a commit record, also a date without rows
_HEX64 = re.compile(r"\b[0-9a-f]{64}\b")


def ingest(
    root: Path,
    paths: list[Path],
    *,
    recover: bool = False,
    max_bad: float = MAX_BAD,
    expected: Mapping[Path, Expected] | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Land DBN files as bronze under ``root``; returns what became of each.

    ``paths`` are files or folders (all ``*.dbn`` and ``*.dbn.zst`` below them, hidden ones and ``_…``
    folders left out). A file whose sha256 has landed before is a no-op. ``recover`` also walks all of
    bronze for files that no commit lists, deletes them, lands what stands in ``raw/dbn`` without a
    receipt, and writes the roll-ups. A file with a larger share of bad rows than ``max_bad``, or other than
    the vendor's list ``expected`` says, is quarantined. ``progress`` is called with (file, bytes done,
    bytes of the file).

    Bronze rows are in the order (``ts_event_ns``, ``sequence``, ``ordinal``), times in ns UTC, prices
    exact. Rows that break the schema are kept aside. Files that can't land are in the report, not raised.
    Any number of calls may work on a lake at once; only for the same file one waits for the other.

    Source: spec/market.md 3.1, 3.3, 4.1, 4.2.
    """
    if not 0 <= max_bad <= 1:
        raise ValueError(f"max_bad was {max_bad}, expected a share of 0 to 1")
    root = root.resolve()
    files, missing = find_files(paths)
    run_id, started_at = new_run_id("ingest"), now_utc()
    recovered = recover_interrupted(root)
    removed = sweep_orphans(root) if recover else []
    if recover and (root / "raw" / "dbn").is_dir():
        known = {f.resolve() for f in files}
        files += [f for f in _dbn_files(root / "raw" / "dbn") if f.resolve() not in known]
    call = _Call(root, run_id, *_simulated(root), max_bad, expected or {}, progress)
    reports = missing + [call.ingest_file(path) for path in files]
    report = IngestReport(run_id, reports, recovered, removed)
    if recover:
        write_rollups(root)
    write_run(
        root,
        run_id,
        config={
            "command": "ingest dbn",
            "recover": recover,
            "max_bad": max_bad,
            "files": [f.name for f in files],
        },
        counts={
            s: sum(r.status == s for r in reports)
            for s in ("landed", "already_landed", "quarantined", "failed")
        }
        | {
            "rows": sum(r.rows for r in reports if r.status == "landed"),
            "rejected": sum(r.rejected for r in reports if r.status == "landed"),
        },
        status="ok" if report.ok else "failed",
        started_at=started_at,
    )
    return report


def find_files(paths: list[Path]) -> tuple[list[Path], list[FileReport]]:
    """The files that ``paths`` name, folders searched, each once and in order; and a failure for what holds
    none.
    """
    found: dict[Path, Path] = {}
    missing = []
    for path in paths:
        inside = _dbn_files(path) if path.is_dir() else [path] if path.exists() else []
        if not inside:
            was = "folder had no .dbn or .dbn.zst file in it" if path.is_dir() else "path was not there"
            missing.append(
                FileReport(path, "failed", f"{was}, expected a DBN file or a folder of them; check the name")
            )
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values()), missing


def _dbn_files(folder: Path) -> list[Path]:
    return sorted(
        p
        for p in folder.rglob("*")
        if p.name.endswith((".dbn", ".dbn.zst"))
        and p.is_file()
        and not any(part[0] in "._" for part in p.relative_to(folder).parts)
    )


def _simulated(root: Path) -> tuple[set[str], float]:
    """sha256 of every file that the simulator says it wrote, and its scale."""
    path = root / "raw" / "simulation.json"
    if not path.is_file():
        return set(), 1.0
    text = path.read_text()
    scale = re.search(r'"scale": *([0-9.e-]+)', text)
    return set(_HEX64.findall(text)), float(scale[1]) if scale else 1.0


@dataclass(frozen=True)
class _Call:
    """What all files of one call share."""

    root: Path
    run_id: str
    simulated: set[str]
    scale: float  # of the simulated files
    max_bad: float
    expected: Mapping[Path, Expected]
    progress: Progress | None

    def ingest_file(self, path: Path) -> FileReport:
        try:
            source = Source(path, path.stat().st_size, hash_source(path))
        except OSError as error:
            return FileReport(path, "failed", told(error, "read the file"))
        try:
            # Nothing is opened for a file that has landed, not even its own lock.
            receipt = read_receipt(self.root, source.delivery_id)
            if (
                receipt is not None
                and receipt["status"] in VISIBLE_STATUS
                and receipt["sha256"] == source.sha256
            ):
                self._tell(source)(source.bytes)
                return report_of(path, "already_landed", receipt)
            try:
                self._expected(path).check_file(source.bytes, source.sha256)
                return self._land(source)
            except RefusedFile as error:
                return self._quarantine(source, str(error))
        except FailedFile as error:
            return FileReport(path, "failed", str(error))
        except OSError as error:
            return FileReport(path, "failed", told(error, "write the lake"))

    def _land(self, source: Source) -> FileReport:
        path, root, expected = source.path, self.root, self._expected(source.path)
        with open_dbn(path) as stream:  # first, so that a file we refuse isn't copied here
            kind = KINDS[stream.header.schema]
        origin, scale = ("sim", self.scale) if source.sha256 in self.simulated else ("databento_dbn", 1.0)
        with Delivery(root, path, source.sha256, bronze_source=origin) as delivery:
            if delivery.landed:  # while this call waited for another
                self._tell(source)(source.bytes)
                return report_of(path, "already_landed", delivery.receipt)
            before = path.stat()
            readable = delivery.copy_raw(root / "raw" / "dbn" / kind.folder, path.name)
            rejects = RejectWriter(
                delivery.stage,
                kind.rejects,
                delivery.id,
                source_file=str(delivery.raw_path.relative_to(root)),
            )
            with open_dbn(readable, frames_checked=True) as stream:
                header = stream.header
                reading = kind.reading(header, root)
                symbols = reading.symbols
                quality = reading.record_quality()
                router = PartitionRouter(
                    kind.schema,
                    symbols,
                    source=origin,
                    delivery_id=delivery.id,
                    stage=delivery.stage,
                    reread=partial(_rows_again, readable, reading),
                    rejects=rejects,
                    rules=reading.rules,
                    buffer=reading.buffer,
                    quality=quality,
                )
                try:
                    for records in reading.rows(stream.blocks(self._tell(source)), rejects):
                        router.add(records)
                    files = router.finish()
                    record_count = reading.records_read(router.read)
                    expected.check_records(record_count)
                    refuse_too_many_rejects(rejects, record_count, self.max_bad)
                    rejected = rejects.close()
                except BaseException:
                    router.abort()
                    rejects.abort()
                    raise
            after = path.stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise FailedFile("file changed while it was read, expected it complete; run again when it is")
            day = symbols.first_day() or _day(header.metadata.start)
            receipt = receipt_of(source, PROVIDER, header.dataset, header.schema, header.version) | {
                "date": day,
                "record_count": record_count,
                "filtered_count": record_count - router.rows - rejects.rows,
                "ts_first_ns": router.ts_min_ns,
                "ts_last_ns": router.ts_max_ns,
                "downloaded_at": expected.downloaded_at or now_utc(),
                "request_id": expected.request_id,
                "status": "landed",
                "symbols": symbols.seen_symbols(),
            }
            entry = delivery.publish(
                receipt,
                kind.schema,
                files,
                rejects=rejected,
                run_id=self.run_id,
                obsolete=self._refused_copy(delivery),
                dates=_declared_dates(header) or (() if files else (day,)),
                gaps=quality and quality.gaps(scale),
                quality=reading.checks(quality, scale),
            )
        log.info(
            "landed path=%s rows=%d rejected=%d files=%d run_id=%s",
            path, router.rows, rejects.rows, len(files), self.run_id,
        )  # fmt: skip
        return report_of(path, "landed", entry, partitions=len(files), bytes_out=sum(f.bytes for f in files))

    def _quarantine(self, source: Source, reason: str) -> FileReport:
        """Keep what can't land, with the reason in its receipt. Raises OSError as any landing.

        A file of somebody else is copied; one that stood in raw is moved, so that it isn't met again.
        """
        folder = self.root / "raw" / "_quarantine"
        with Delivery(self.root, source.path, source.sha256) as delivery:
            if delivery.landed:
                return report_of(source.path, "already_landed", delivery.receipt)
            stood_in_raw = is_inside(source.path, self.root / "raw") and not is_inside(source.path, folder)
            if delivery.receipt is None or delivery.receipt["reason"] != reason or stood_in_raw:
                delivery.copy_raw(folder, source.path.name)
                delivery.publish(
                    receipt_of(source, PROVIDER) | {"status": "quarantined", "reason": reason},
                    obsolete=[source.path] if stood_in_raw else [],
                )
        log.info("quarantined path=%s run_id=%s", source.path, self.run_id)
        return FileReport(
            source.path, "quarantined", reason, delivery_id=source.delivery_id, bytes_in=source.bytes
        )

    def _expected(self, path: Path) -> Expected:
        return self.expected.get(path) or Expected()

    def _refused_copy(self, delivery: Delivery) -> list[Path]:
        """Where an earlier refusal of the same bytes left them."""
        return [self.root / delivery.receipt["path"]] if delivery.receipt is not None else []

    def _tell(self, source: Source) -> Callable[[int], None]:
        if self.progress is None:
            return lambda done: None
        return lambda done: self.progress(source.path, done, source.bytes)


def _rows_again(path: Path, reading: Reading) -> Iterator[np.ndarray]:
    with open_dbn(path, frames_checked=True) as stream:
        yield from reading.rows(stream.blocks())


def _declared_dates(header: DbnHeader) -> list[str]:
    """UTC dates of the window that the file says it covers; none where it names no end or spans years."""
    start, end = header.metadata.start, header.metadata.end or 0
    days = range(start // DAY_NS, -(-end // DAY_NS))
    in_bronze = TS_EVENT_MIN_NS < start < end <= TS_EVENT_MAX_NS
    return [_day(day * DAY_NS) for day in days] if in_bronze and len(days) <= MAX_MARKED_DAYS else []


def _day(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).date().isoformat()
