"""DBN files to bronze: `trades` and `mbp-10`, versions 1 to 3, plain or zstd.

A file lands whole or not at all, once, whatever the order of the files and wherever a run was killed. One that can't
be landed goes to ``raw/_quarantine/`` with the reason in its receipt, and the other files of the call land.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from ingest.bronze_schema import FUTURES_MBP10, FUTURES_TRADES
from ingest.dbn_format import DbnHeader, open_dbn
from ingest.errors import FailedFile, IngestError, RefusedFile
from ingest.landing import (
    Delivery,
    hash_source,
    ingest_lock,
    now_utc,
    read_receipt,
    recover_interrupted,
    sweep_orphans,
)
from ingest.partitioning import PartitionRouter
from ingest.rollup import write_rollups
from ingest.runs import new_run_id, write_run
from ingest.symbology import SymbolMap
from lake.bronze import VISIBLE_STATUS

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

    ``paths`` are files or folders (all ``*.dbn`` and ``*.dbn.zst`` below them, hidden ones and ``_…`` folders left
    out). A file whose sha256 has landed before is a no-op. ``recover`` also walks all of bronze for files that no
    commit lists, deletes them, and lands what stands in ``raw/dbn`` without a receipt. ``progress`` is called with
    (file, bytes done, bytes of the file).

    Bronze rows are in the order (``ts_event_ns``, ``sequence``, ``ordinal``), times in ns UTC, prices exact. Files
    that can't land are in the report, not raised. One ingest at a time works on a lake; a second one waits.

    Raises FileNotFoundError for a path that doesn't exist and ValueError for a folder without DBN files.
    Source: spec/market.md 3.1, 3.3, 4.1, 4.2.
    """
    root = root.resolve()
    files = find_files(paths)
    run_id, started_at = new_run_id("ingest"), now_utc()
    with ingest_lock(root):
        recovered = recover_interrupted(root)
        removed = sweep_orphans(root) if recover else []
        if recover and (root / "raw" / "dbn").is_dir():
            known = {f.resolve() for f in files}
            files += [f for f in _dbn_files(root / "raw" / "dbn") if f.resolve() not in known]
        simulated = _simulated(root)
        reports = [_ingest_file(root, path, run_id, simulated, progress) for path in files]
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


def find_files(paths: list[Path]) -> list[Path]:
    """The files that ``paths`` name, folders searched, each once, in order. Raises as `ingest` does."""
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = _dbn_files(path)
            if not inside:
                raise ValueError(
                    f"{path} had no .dbn or .dbn.zst file, expected at least one; name the right folder"
                )
        elif os.path.lexists(path):
            inside = [path]
        else:
            raise FileNotFoundError(f"{path} was not there, expected a DBN file or a folder of them")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


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


def _ingest_file(
    root: Path, path: Path, run_id: str, simulated: set[str], progress: Progress | None
) -> FileReport:
    try:
        size = path.stat().st_size
        sha256 = hash_source(path)
    except OSError as error:
        return FileReport(path, "failed", _told(error, "read the file"))
    told = None if progress is None else lambda done: progress(path, done, size)
    receipt = read_receipt(root, sha256[:16])
    if receipt is not None and receipt["sha256"] != sha256:
        reason = f"first 16 digits of its sha256 were those of {receipt['path']}, expected another id for other bytes"
        return FileReport(path, "failed", reason)
    if receipt is not None and receipt["status"] in VISIBLE_STATUS:
        if told is not None:
            told(size)
        return _report(path, "already_landed", receipt)
    try:
        try:
            return _land(root, path, sha256, size, run_id, simulated, told)
        except RefusedFile as error:
            return _quarantine(root, path, sha256, size, receipt, str(error))
    except IngestError as error:
        return FileReport(path, "failed", str(error))
    except OSError as error:
        return FileReport(path, "failed", _told(error, "write the lake"))


def _land(
    root: Path,
    path: Path,
    sha256: str,
    size: int,
    run_id: str,
    simulated: set[str],
    progress: Callable[[int], None] | None,
) -> FileReport:
    source = "sim" if sha256 in simulated else "databento_dbn"
    with Delivery(root, path, sha256, bronze_source=source) as delivery:
        with open_dbn(path) as stream:  # first, so that a file we refuse isn't copied here
            schema, folder = _SCHEMAS[stream.header.schema]
        before = path.stat()
        readable = delivery.copy_raw(root / "raw" / "dbn" / folder, path.name)
        reread = partial(_blocks, readable)
        with open_dbn(readable, frames_checked=True) as stream:
            header = stream.header
            symbols = SymbolMap(header.metadata)
            router = PartitionRouter(
                schema, symbols, source=source, delivery_id=delivery.id, stage=delivery.stage, reread=reread
            )
            try:
                for records in stream.blocks(progress):
                    router.add(records)
                files = router.finish()
            except BaseException:
                router.abort()
                raise
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise FailedFile(
                "file changed while it was read, expected it to be complete; run again when it is"
            )
        receipt = _receipt(header, sha256, size) | {
            "record_count": router.rows,
            "ts_first_ns": router.ts_min_ns,
            "ts_last_ns": router.ts_max_ns,
            "symbols": symbols.seen_symbols(),
            "date": symbols.first_day() or _day(header.metadata.start),
            "status": "landed",
        }
        old = read_receipt(root, delivery.id)
        obsolete = [root / old["path"]] if old is not None else []
        delivery.publish(receipt, schema, files, run_id=run_id, obsolete=obsolete)
        log.info("landed path=%s rows=%d files=%d run_id=%s", path, router.rows, len(files), run_id)
        receipt |= {"path": str(delivery.raw_path.relative_to(root)), "delivery_id": delivery.id}
        return _report(path, "landed", receipt, partitions=len(files), bytes_out=sum(f.bytes for f in files))


def _quarantine(root: Path, path: Path, sha256: str, size: int, old: dict | None, reason: str) -> FileReport:
    """Keep a copy of what can't land, with the reason in its receipt. Raises OSError when even that can't be written."""
    if old is None or old["reason"] != reason:
        with Delivery(root, path, sha256) as delivery:
            delivery.copy_raw(root / "raw" / "_quarantine", path.name)
            receipt = _receipt(None, sha256, size) | {"status": "quarantined", "reason": reason}
            delivery.publish(receipt)
    log.info("quarantined path=%s", path)
    return FileReport(path, "quarantined", reason, delivery_id=sha256[:16], bytes_in=size)


def _receipt(header: DbnHeader | None, sha256: str, size: int) -> dict:
    """An entry of the raw manifest without its path, as far as the header says it."""
    return {
        "provider": "databento",
        "dataset": header and header.dataset,
        "schema": header and header.schema,
        "date": None,
        "bytes": size,
        "sha256": sha256,
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
