"""Files of option and stock trades to bronze, each whole or not at all: `csv.gz` flat files and saved API answers.

One that can't be landed goes to ``raw/_quarantine/`` with the reason in its receipt, and the others land.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ingest.errors import FailedFile, RefusedFile
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
from ingest.polygon.api_file import API_SUFFIX, ApiFile
from ingest.polygon.flat_file import FlatFile, utc_date
from ingest.polygon.gzip_lines import MAX_RATIO, MAX_TEXT_BYTES, LongLine, text_blocks
from ingest.polygon.layout import KINDS, Kind
from lake.bronze import VISIBLE_STATUS
from lake.commits import now_utc
from lake.locks import NameLock
from lake.paths import stage_dir
from lake.rollup import write_rollups
from lake.runs import new_run_id, write_run

log = logging.getLogger(__name__)

Progress = Callable[[Path, int, int], None]

PROVIDER = "polygon"
FLAT_SUFFIX = ".csv.gz"
WANTED = ("SPY",)
STAGES = S3_STAGE, API_STAGE = ("s3-", "api-")  # folders in the stage of what is on its way here
_HEX64 = re.compile(r"\b[0-9a-f]{64}\b")
_SCALE = re.compile(r'"scale": *([0-9.e-]+)')
_DAY = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)")


@dataclass(frozen=True)
class Settings:
    """What all files of one call share.

    ``kind`` is that of every file, or None to take it from path and header. ``wanted`` are option roots and
    stock symbols; rows of others are counted as filtered. ``max_bad`` is the share of bad lines above which a
    file is refused, ``max_bytes`` and ``max_ratio`` what a packed file may unpack to.
    """

    kind: Kind | None = None
    wanted: tuple[str, ...] = WANTED
    max_bad: float = MAX_BAD
    max_bytes: int = MAX_TEXT_BYTES
    max_ratio: float = MAX_RATIO

    def __post_init__(self) -> None:
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"max_bad was {self.max_bad}, expected a share of 0 to 1")
        if not self.wanted or not all(
            w.isascii() and w.isprintable() and w.strip() == w for w in self.wanted
        ):
            raise ValueError(
                f"wanted was {self.wanted!r}, expected option roots or stock symbols such as SPY"
            )


def ingest(
    root: Path,
    paths: list[Path],
    settings: Settings | None = None,
    *,
    recover: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Land flat files as bronze under ``root``; returns what became of each.

    ``paths`` are files or folders (all ``*.csv.gz`` and ``*.json.zst`` below them, hidden ones and ``_…``
    folders left out). A file whose sha256 has landed before is a no-op. ``recover`` also walks all of bronze
    for files that no commit lists, deletes them, lands what stands in ``raw/polygon`` without a receipt, and
    writes the roll-ups. ``progress`` is called with (file, bytes done, bytes of the file).

    Bronze rows are in the order (``ts_event_ns``, ``ordinal``): ``ts_event_ns`` is the SIP's time, which every
    file has and which orders prints of all venues; ``ts_recv_ns`` the venue's own report where it is given.
    Files that can't land are in the report, not raised.

    Source: spec/market.md 1.3, 3.2, 3.3, 4.1, 4.2.
    """
    root, run = root.resolve(), Call(root, settings, progress=progress)
    files, missing = find_files(paths)
    recovered = recover_interrupted(root)
    removed = sweep_orphans(root) + _sweep_downloads(root) if recover else []
    if recover and (root / "raw" / "polygon").is_dir():
        known = {f.resolve() for f in files}
        files += [f for f in _files_below(root / "raw" / "polygon") if f.resolve() not in known]
    reports = missing + [run.ingest_file(path) for path in files]
    if recover:
        write_rollups(root)
    return run.close(reports, recovered=recovered, removed=removed, recover=recover)


def find_files(paths: list[Path]) -> tuple[list[Path], list[FileReport]]:
    """The files that ``paths`` name, folders searched, each once and in order; and a failure for what holds none."""
    found: dict[Path, Path] = {}
    missing = []
    for path in paths:
        inside = _files_below(path) if path.is_dir() else [path] if path.exists() else []
        if not inside:
            was = f"folder had no {FLAT_SUFFIX} file in it" if path.is_dir() else "path was not there"
            reason = f"{was}, expected a flat file or a folder of them; check the name"
            missing.append(FileReport(path, "failed", reason))
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values()), missing


def _files_below(folder: Path) -> list[Path]:
    return sorted(
        p
        for p in folder.rglob("*")
        if p.name.endswith((FLAT_SUFFIX, API_SUFFIX))
        and p.is_file()
        and not any(part[0] in "._" for part in p.relative_to(folder).parts)
    )


class Call:
    """One call of the loader: any number of files (``ingest_file``), one run record (``close``)."""

    def __init__(
        self,
        root: Path,
        settings: Settings | None = None,
        *,
        command: str = "ingest polygon",
        progress: Progress | None = None,
    ) -> None:
        self.root, self.settings = root.resolve(), settings or Settings()
        self.run_id, self._started_at = new_run_id("ingest"), now_utc()
        self._command, self._progress = command, progress
        simulation = self.root / "raw" / "simulation.json"
        text = simulation.read_text() if simulation.is_file() else ""
        # sha256 of every file that the simulator says it wrote, and its share of a day's rows
        self._simulated, scale = set(_HEX64.findall(text)), _SCALE.search(text)
        self._scale = float(scale[1]) if scale else 1.0

    def close(
        self,
        reports: list[FileReport],
        *,
        recovered: int = 0,
        removed: list[str] | None = None,
        recover: bool = False,
    ) -> IngestReport:
        report = IngestReport(self.run_id, reports, recovered, removed or [])
        landed = [r for r in reports if r.status == "landed"]
        statuses = ("landed", "already_landed", "quarantined", "failed")
        write_run(
            self.root,
            self.run_id,
            config={
                "command": self._command,
                "recover": recover,
                "max_bad": self.settings.max_bad,
                "wanted": list(self.settings.wanted),
                "files": [r.path.name for r in reports],
            },
            counts={s: sum(r.status == s for r in reports) for s in statuses}
            | {"rows": sum(r.rows for r in landed), "rejected": sum(r.rejected for r in landed)},
            status="ok" if report.ok else "failed",
            started_at=self._started_at,
        )
        return report

    def ingest_file(
        self, path: Path, kind: Kind | None = None, *, request_id: str | None = None
    ) -> FileReport:
        """Land one file, or say why not; ``kind`` as in the settings, for this file alone. ``request_id`` is the
        vendor's, for the receipt.
        """
        try:
            source = Source(path, path.stat().st_size, hash_source(path))
        except OSError as error:
            return FileReport(path, "failed", told(error, "read the file"))
        try:
            # Nothing is opened for a file that has landed, not even its own lock.
            receipt = read_receipt(self.root, source.delivery_id)
            if receipt and receipt["status"] in VISIBLE_STATUS and receipt["sha256"] == source.sha256:
                self._tell(source)(source.bytes)
                return report_of(path, "already_landed", receipt)
            try:
                return self._land(source, kind or self.settings.kind, request_id)
            except RefusedFile as error:
                return self._quarantine(source, str(error))
        except FailedFile as error:
            return FileReport(path, "failed", str(error))
        except OSError as error:
            return FileReport(path, "failed", told(error, "write the lake"))

    def _land(self, source: Source, kind: Kind | None, request_id: str | None) -> FileReport:
        path, root = source.path, self.root
        kind = kind or _kind_of(path)
        is_api = path.name.endswith(API_SUFFIX)
        origin = "massive_rest" if is_api else "polygon_flatfile"
        if source.sha256 in self._simulated:
            origin = "sim"
        with Delivery(root, path, source.sha256, bronze_source=origin) as delivery:
            if delivery.landed:  # while this call waited for another
                self._tell(source)(source.bytes)
                return report_of(path, "already_landed", delivery.receipt)
            before = path.stat()
            api = ApiFile(path) if is_api else None
            kind = api.kind if api else kind or self._kind_in(path)
            folder = root / "raw" / "polygon" / ("api" if is_api else kind.name)
            readable = delivery.copy_raw(folder, path.name)
            file = FlatFile(
                [api.ticker_key] if api else list(self.settings.wanted),
                source=origin,
                delivery_id=delivery.id,
                stage=delivery.stage,
                source_file=str(delivery.raw_path.relative_to(root)),
                kind=kind,
                date=api.date if api else _date_of(path.name),
                raw_line=api.raw_line if api else None,
            )
            try:
                file.parse(api.blocks() if api else self._blocks(readable, source))
                refuse_too_many_rejects(file.rejects, file.lines, self.settings.max_bad)
                files, rejected = file.finish()
            except BaseException:
                file.abort()
                raise
            after = path.stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise FailedFile("file changed while it was read, expected it complete; run again when it is")
            first, last = file.ts_span
            day = file.date or (first and utc_date(first))
            if day is None:
                raise RefusedFile(
                    f"date was neither in the name {path.name} nor in a row, expected YYYY-MM-DD in the name"
                )
            receipt = receipt_of(source, PROVIDER, kind and kind.dataset, kind and "trades") | {
                "date": day,
                "record_count": file.lines,
                "filtered_count": file.filtered,
                "ts_first_ns": first,
                "ts_last_ns": last,
                "request_id": request_id,
                "status": "landed",
                "symbols": {},
            }
            earlier = delivery.receipt
            entry = delivery.publish(
                receipt,
                kind.schema,
                files,
                rejects=rejected,
                run_id=self.run_id,
                # where an earlier refusal of the same bytes left them
                obsolete=[root / earlier["path"]] if earlier else [],
                dates=() if files else (day,),
                quality=file.rows.quality.checks(self._scale if origin == "sim" else 1.0),
            )
        log.info(
            "landed path=%s rows=%d rejected=%d filtered=%d files=%d run_id=%s",
            path, file.accepted, file.rejected, file.filtered, len(files), self.run_id,
        )  # fmt: skip
        return report_of(path, "landed", entry, partitions=len(files), bytes_out=sum(f.bytes for f in files))

    def _blocks(self, path: Path, source: Source) -> Iterator[bytes | LongLine]:
        return text_blocks(
            path,
            max_bytes=self.settings.max_bytes,
            max_ratio=self.settings.max_ratio,
            progress=self._tell(source),
        )

    def _kind_in(self, path: Path) -> Kind:
        """The kind that the header says, read before the file is copied to that kind's folder."""
        blocks = text_blocks(path, block_bytes=1 << 16)
        try:
            return FlatFile.kind_of(next(blocks, None))
        finally:
            blocks.close()

    def _quarantine(self, source: Source, reason: str) -> FileReport:
        """Keep what can't land, with the reason in its receipt. Raises OSError as any landing.

        A file of somebody else is copied; one that stood in raw is moved, so that it isn't met again.
        """
        path, folder = source.path, self.root / "raw" / "_quarantine"
        with Delivery(self.root, path, source.sha256) as delivery:
            if delivery.landed:
                return report_of(path, "already_landed", delivery.receipt)
            stood_in_raw = is_inside(path, self.root / "raw") and not is_inside(path, folder)
            if delivery.receipt is None or delivery.receipt["reason"] != reason or stood_in_raw:
                delivery.copy_raw(folder, path.name)
                delivery.publish(
                    receipt_of(source, PROVIDER) | {"status": "quarantined", "reason": reason},
                    obsolete=[path] if stood_in_raw else [],
                )
        log.info("quarantined path=%s run_id=%s", path, self.run_id)
        return FileReport(path, "quarantined", reason, delivery_id=source.delivery_id, bytes_in=source.bytes)

    def _tell(self, source: Source) -> Callable[[int], None]:
        if self._progress is None:
            return lambda done: None
        return lambda done: self._progress(source.path, done, source.bytes)


def _sweep_downloads(root: Path) -> list[str]:
    """Delete what killed downloads and API calls left in the stage, as far as nobody is at it."""
    removed = []
    for folder in sorted(f for prefix in STAGES for f in stage_dir(root).glob(f"{prefix}*") if f.is_dir()):
        lock = NameLock(folder.with_suffix(".lock"))
        if lock.take(wait=False):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(str(folder.relative_to(root)))
            lock.release()
    return removed


def _kind_of(path: Path) -> Kind | None:
    """What the folders say: the vendor's data set, or our own name of it."""
    folders = set(path.resolve().parts[:-1])
    for kind in KINDS.values():
        if kind.dataset.split("/")[0] in folders or (kind.name in folders and "polygon" in folders):
            return kind
    return None


def _date_of(name: str) -> str | None:
    found = _DAY.search(name)
    try:
        return date(*map(int, found.groups())).isoformat() if found else None
    except ValueError:
        return None
