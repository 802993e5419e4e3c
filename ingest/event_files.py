"""A source file of the execution domain on its way in: its copy in ``raw/events/<dataset>``, and its receipt, last.

Whoever stages files of a dataset holds the dataset's lock, so that no two of them take one name.

Source: spec/execution.md 3.1; architecture section 3.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ingest.errors import FailedFile
from ingest.landing import hash_source
from lake import atomic
from lake.commits import now_utc
from lake.paths import receipts_dir

_COPY_BYTES = 1 << 20


def load_id(sha256: str, dataset: str, start: datetime | None, end: datetime | None) -> str:
    """16 hex digits: the same bytes for another dataset or other windows are another load."""
    facts = [sha256, dataset, *(None if at is None else at.isoformat() for at in (start, end))]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def receipt_path(root: Path, load: str) -> Path:
    return receipts_dir(root) / f"events-{load}.json"


def read_receipt(root: Path, load: str) -> dict | None:
    path = receipt_path(root, load)
    return atomic.read_json(path) if path.is_file() else None


@dataclass
class EventFile:
    """One file: ``readable`` is what to parse, ``path`` where it will stand, ``load`` the id of its receipt."""

    root: Path
    source: Path
    sha256: str
    bytes: int
    load: str
    readable: Path
    path: Path

    @classmethod
    def stage(
        cls,
        root: Path,
        dataset: str,
        source: Path,
        sha256: str,
        load: str,
        stage: Path,
        reserved: Collection[Path],
    ) -> EventFile:
        """Copy ``source`` into ``stage``, unless it stands in ``raw/events`` already.

        A name with other bytes, or ``reserved`` by another file of the call, gives the copy the first 8 digits of its
        sha256. Raises FailedFile when the file changes while it is copied.
        """
        size, folder = source.stat().st_size, root / "raw" / "events"
        if source.resolve().is_relative_to(folder.resolve()):
            path = folder / source.resolve().relative_to(folder.resolve())
            return cls(root, source, sha256, size, load, path, path)
        path = _free_name(folder / dataset, source.name, sha256, reserved)
        if path.exists():
            return cls(root, source, sha256, size, load, path, path)
        staged = stage / f"raw-{load}"
        digest = hashlib.sha256()
        with source.open("rb") as file, staged.open("wb") as copy:
            while part := file.read(_COPY_BYTES):
                digest.update(part)
                copy.write(part)
            copy.flush()
            # As it came, secrets of a careless producer included: redaction is of what is landed.
            os.fchmod(copy.fileno(), 0o600)
            os.fsync(copy.fileno())
        if digest.hexdigest() != sha256:
            raise FailedFile("file changed while it was read, expected it complete; run again when it is")
        return cls(root, source, sha256, size, load, staged, path)

    @property
    def name(self) -> str:
        """Path below the lake's root, as rows and receipts say it."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def source_file(self) -> str:
        """What rows say of where they came from: the path, and 8 digits that tell it from another file of the name."""
        return f"{self.name}#{self.sha256[:8]}"

    def keep(self) -> None:
        """Put the copy in its place."""
        self._move(self.path)

    def quarantine(self) -> None:
        """Put it into ``raw/_quarantine``, and out of ``raw/events`` if it stood there and nothing was made of it."""
        # by its own name: the one in raw/events hangs on what landed before it
        target = _free_name(self.root / "raw" / "_quarantine", self.source.name, self.sha256)
        if self.readable == self.path and self._landed():
            atomic.make_dirs(target.parent)
            if not target.exists():
                os.link(self.path, target)
                atomic.fsync_dir(target.parent)
            self.readable = self.path = target
        else:
            atomic.make_dirs(target.parent)
            try:  # claimed by a link: another refused file of the name may be on its way there too
                os.link(self.readable, target)
            except FileExistsError:
                target = _free_name(target.parent, self.source.name, self.sha256)
            self._move(target)

    def _landed(self) -> bool:
        """Whether bronze holds rows of these bytes, of any dataset and windows."""
        receipts = (atomic.read_json(path) for path in receipts_dir(self.root).glob("events-*.json"))
        return any(r["sha256"] == self.sha256 and r["status"] == "landed" for r in receipts)

    def write_receipt(self, facts: dict) -> None:
        """Say what became of it; ``facts`` are the receipt's keys but for those of the file itself."""
        receipt = {"receipt_version": 1, "load_id": self.load, "provider": "ndjson", "path": self.name,
                   "bytes": self.bytes, "sha256": self.sha256, **facts, "loaded_at": now_utc()}  # fmt: skip
        atomic.write_json(receipt_path(self.root, self.load), receipt)

    def _move(self, target: Path) -> None:
        if self.readable != target:
            atomic.make_dirs(target.parent)
            atomic.replace(self.readable, target)
            self.readable.unlink(missing_ok=True)  # a rename between two names of one file leaves both
        self.readable = self.path = target


def _free_name(folder: Path, name: str, sha256: str, reserved: Collection[Path] = ()) -> Path:
    path = folder / name
    if path not in reserved and (not path.exists() or hash_source(path) == sha256):
        return path
    stem, dot, suffix = name.partition(".")
    return folder / f"{stem}.{sha256[:8]}{dot}{suffix}"
