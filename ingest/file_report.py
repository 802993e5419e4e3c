"""What becomes of one file of an ingest call: its report for people, its entry for the raw manifest."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from pathlib import Path

from lake.commits import now_utc

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
    rejected: int = 0
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
            aside = f", {self.rejected:,} bad rows kept aside" if self.rejected else ""
            return f"{self.path}: {what}, {self.rows:,} {self.schema} rows of {self.date}{aside}"
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


@dataclass(frozen=True)
class Source:
    """A file as it was when it was hashed."""

    path: Path
    bytes: int
    sha256: str

    @property
    def delivery_id(self) -> str:
        return self.sha256[:16]


def receipt_of(
    source: Source,
    provider: str,
    dataset: str | None = None,
    schema: str | None = None,
    format_version: int | None = None,
) -> dict:
    """An entry of the raw manifest without its path, as far as the file's head says it."""
    return {
        "provider": provider,
        "dataset": dataset,
        "schema": schema,
        "date": None,
        "bytes": source.bytes,
        "sha256": source.sha256,
        "record_count": None,
        "ts_first_ns": None,
        "ts_last_ns": None,
        "format_version": format_version,
        "downloaded_at": now_utc(),
        "request_id": None,
        "status": None,
        "reason": None,
        "archived_uri": None,
        "symbols": None,
    }


def report_of(
    path: Path, status: str, receipt: dict, *, partitions: int = 0, bytes_out: int = 0
) -> FileReport:
    """What a receipt says of a file that has landed, now or before."""
    return FileReport(
        path,
        status,
        delivery_id=receipt["delivery_id"],
        schema=receipt["schema"],
        date=receipt["date"],
        rows=receipt.get("accepted_count", receipt["record_count"]),  # older receipts have no counts
        rejected=receipt.get("rejected_count", 0),
        partitions=partitions,
        ts_first_ns=receipt["ts_first_ns"],
        ts_last_ns=receipt["ts_last_ns"],
        bytes_in=receipt["bytes"],
        bytes_out=bytes_out,
        raw_path=receipt["path"],
    )


def is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def told(error: OSError, doing: str) -> str:
    """One line about a failed system call: what it was, and what to do."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in _FULL_DISK:
        return f"disk was full{where} ({error.strerror}), expected room to {doing}; free some and run again"
    return f"could not {doing}{where} ({error.strerror or error}); mend that and run again"
