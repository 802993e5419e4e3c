"""DBN files to bronze: `trades` and `mbp-10`, versions 1 to 3, plain or zstd.

A file lands whole or not at all, once, whatever the order of the files and wherever a run was killed. One
that can't be landed goes to ``raw/_quarantine/`` with the reason in its receipt, and the other files of the
call land.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from ingest.bronze_schema import FUTURES_MBP10, FUTURES_TRADES
from ingest.dbn_format import DbnHeader, open_dbn
from ingest.errors import FailedFile, RefusedFile
from ingest.landing import (
    Delivery,
    hash_source,
    ingest_lock,
    read_receipt,
    recover_interrupted,
    sweep_orphans,
)
from ingest.partitioning import PartitionRouter
from ingest.rollup import write_rollups
from ingest.symbology import SymbolMap
from lake.bronze import VISIBLE_STATUS
from lake.commits import now_utc
from lake.runs import new_run_id, write_run

log = logging.getLogger(__name__)

Progress = Callable[[Path, int, int], None]

_SCHEMAS = {"trades": (FUTURES_TRADES, "trades"), "mbp-10": (FUTURES_MBP10, "mbp10")}
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HEX64 = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class FileReport:
    """Outcome of one file. ``status`` is ``landed``, ``already_landed``, ``quarantined`` or ``failed``."""

    path: Path
    status: str
    reason: str | None = None
    delivery_id: str | None = None
    schema: str | None = None
    date: str | None = None
    rows: int = 0
    partitions: int = 0
    ts_first_ns: int | None = None
    ts_last_ns: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    raw_path: str | None = None

    @property
    def ok(self) -> bool:
        return self.status in ("landed", "already_landed")

    def line(self) -> str:
        """One line for people: the file, and what became of it."""
        if self.ok:
            what = "landed" if self.status == "landed" else "already landed"
            return f"{self.path}: {what}, {self.rows:,} {self.schema} rows of {self.date}"
        return f"{self.path}: {self.status}: {self.reason}"


@dataclass(frozen=True)
class IngestReport:
    """Outcome of a call, one entry for each file in the order they were taken."""

    run_id: str
    files: list[FileReport] = field(default_factory=list)
    recovered: int = 0
    removed: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(f.ok for f in self.files)


def ingest(
    root: Path, paths: list[Path], *, recover: bool = False, progress: Progress | None = None
) -> IngestReport:
    """Land DBN files as bronze under ``root``; returns what became of each.

    ``paths`` are files or folders (all ``*.dbn`` and ``*.dbn.zst`` below them, hidden ones and ``_…``
    folders left out). A file whose sha256 has landed before is a no-op. ``recover`` also walks all of
    bronze for files that no commit lists, deletes them, and lands what stands in ``raw/dbn`` without a
    receipt. ``progress`` is called with (file, bytes done, bytes of the file).

    Bronze rows are in the order (``ts_event_ns``, ``sequence``, ``ordinal``), times in ns UTC, prices
    exact. Files that can't land are in the report, not raised. One ingest at a time works on a lake; a
    second one waits.

    Source: spec/market.md 3.1, 3.3, 4.1, 4.2.
    """
    root = root.resolve()
    files, missing = find_files(paths)
    run_id, started_at = new_run_id("ingest"), now_utc()
    with ingest_lock(root):
        recovered = recover_interrupted(root)
        removed = sweep_orphans(root) if recover else []
        if recover and (root / "raw" / "dbn").is_dir():
            known = {f.resolve() for f in files}
            files += [f for f in _dbn_files(root / "raw" / "dbn") if f.resolve() not in known]
        call = _Call(root, run_id, _simulated(root), progress)
        reports = missing + [call.ingest_file(path) for path in files]
        report = IngestReport(run_id, reports, recovered, removed)
        write_rollups(root)
        write_run(
            root,
            run_id,
            config={"command": "ingest dbn", "recover": recover, "files": [f.name for f in files]},
            counts={
                s: sum(r.status == s for r in reports)
                for s in ("landed", "already_landed", "quarantined", "failed")
            }
            | {"rows": sum(r.rows for r in reports if r.status == "landed")},
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


def _simulated(root: Path) -> set[str]:
    """sha256 of every file that the simulator says it wrote."""
    path = root / "raw" / "simulation.json"
    return set(_HEX64.findall(path.read_text())) if path.is_file() else set()


@dataclass(frozen=True)
class _Call:
    """What all files of one call share."""

    root: Path
    run_id: str
    simulated: set[str]
    progress: Progress | None

    def ingest_file(self, path: Path) -> FileReport:
        try:
            source = _Source(path, path.stat().st_size, hash_source(path))
        except OSError as error:
            return FileReport(path, "failed", _told(error, "read the file"))
        try:
            receipt = read_receipt(self.root, source.delivery_id)
            if receipt is not None and receipt["sha256"] != source.sha256:
                raise FailedFile(
                    f"first 16 digits of its sha256 were those of {receipt['path']}, expected no two files "
                    "to share them; land this one in a lake of its own"
                )
            if receipt is not None and receipt["status"] in VISIBLE_STATUS:
                self._tell(source)(source.bytes)
                return _report(path, "already_landed", receipt)
            try:
                return self._land(source, receipt)
            except RefusedFile as error:
                return self._quarantine(source, receipt, str(error))
        except FailedFile as error:
            return FileReport(path, "failed", str(error))
        except OSError as error:
            return FileReport(path, "failed", _told(error, "write the lake"))

    def _land(self, source: _Source, old: dict | None) -> FileReport:
        """Bring one file in; ``old`` is the receipt of an earlier refusal of the same bytes."""
        path, root = source.path, self.root
        with open_dbn(path) as stream:  # first, so that a file we refuse isn't copied here
            schema, folder = _SCHEMAS[stream.header.schema]
        origin = "sim" if source.sha256 in self.simulated else "databento_dbn"
        with Delivery(root, path, source.sha256, bronze_source=origin) as delivery:
            before = path.stat()
            readable = delivery.copy_raw(root / "raw" / "dbn" / folder, path.name)
            with open_dbn(readable, frames_checked=True) as stream:
                header = stream.header
                symbols = SymbolMap(header.metadata)
                router = PartitionRouter(
                    schema,
                    symbols,
                    source=origin,
                    delivery_id=delivery.id,
                    stage=delivery.stage,
                    reread=partial(_blocks, readable),
                )
                try:
                    for records in stream.blocks(self._tell(source)):
                        router.add(records)
                    files = router.finish()
                except BaseException:
                    router.abort()
                    raise
            after = path.stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise FailedFile("file changed while it was read, expected it complete; run again when it is")
            receipt = _receipt(source, header) | {
                "date": symbols.first_day() or _day(header.metadata.start),
                "record_count": router.rows,
                "ts_first_ns": router.ts_min_ns,
                "ts_last_ns": router.ts_max_ns,
                "status": "landed",
                "symbols": symbols.seen_symbols(),
            }
            obsolete = [root / old["path"]] if old is not None else []
            entry = delivery.publish(receipt, schema, files, run_id=self.run_id, obsolete=obsolete)
        log.info("landed path=%s rows=%d files=%d run_id=%s", path, router.rows, len(files), self.run_id)
        return _report(path, "landed", entry, partitions=len(files), bytes_out=sum(f.bytes for f in files))

    def _quarantine(self, source: _Source, old: dict | None, reason: str) -> FileReport:
        """Keep a copy of what can't land, with the reason in its receipt. Raises OSError as any landing."""
        if old is None or old["reason"] != reason:
            with Delivery(self.root, source.path, source.sha256) as delivery:
                delivery.copy_raw(self.root / "raw" / "_quarantine", source.path.name)
                delivery.publish(_receipt(source, None) | {"status": "quarantined", "reason": reason})
        log.info("quarantined path=%s run_id=%s", source.path, self.run_id)
        return FileReport(
            source.path, "quarantined", reason, delivery_id=source.delivery_id, bytes_in=source.bytes
        )

    def _tell(self, source: _Source) -> Callable[[int], None]:
        if self.progress is None:
            return lambda done: None
        return lambda done: self.progress(source.path, done, source.bytes)


@dataclass(frozen=True)
class _Source:
    path: Path
    bytes: int
    sha256: str

    @property
    def delivery_id(self) -> str:
        return self.sha256[:16]


def _receipt(source: _Source, header: DbnHeader | None) -> dict:
    """An entry of the raw manifest without its path, as far as the header says it."""
    return {
        "provider": "databento",
        "dataset": header and header.dataset,
        "schema": header and header.schema,
        "date": None,
        "bytes": source.bytes,
        "sha256": source.sha256,
        "record_count": None,
        "ts_first_ns": None,
        "ts_last_ns": None,
        "format_version": header and header.version,
        "downloaded_at": now_utc(),
        "request_id": None,
        "status": None,
        "reason": None,
        "archived_uri": None,
        "symbols": None,
    }


def _report(path: Path, status: str, receipt: dict, *, partitions: int = 0, bytes_out: int = 0) -> FileReport:
    return FileReport(
        path,
        status,
        delivery_id=receipt["delivery_id"],
        schema=receipt["schema"],
        date=receipt["date"],
        rows=receipt["record_count"],
        partitions=partitions,
        ts_first_ns=receipt["ts_first_ns"],
        ts_last_ns=receipt["ts_last_ns"],
        bytes_in=receipt["bytes"],
        bytes_out=bytes_out,
        raw_path=receipt["path"],
    )


def _blocks(path: Path) -> Iterator[np.ndarray]:
    with open_dbn(path, frames_checked=True) as stream:
        yield from stream.blocks()


def _day(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).date().isoformat()


def _told(error: OSError, doing: str) -> str:
    """One line about a failed system call: what it was, and what to do."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in _FULL_DISK:
        return f"disk was full{where} ({error.strerror}), expected room to {doing}; free some and run again"
    return f"could not {doing}{where} ({error.strerror or error}); mend that and run again"
