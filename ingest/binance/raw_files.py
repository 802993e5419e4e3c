"""Where a source file is kept: a copy in ``raw/binance``, or in ``raw/_quarantine`` when it can't be landed; and the
receipt that says what became of it, written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from ingest.errors import FailedFile
from ingest.landing import hash_source
from lake import atomic
from lake.locks import NameLock
from lake.paths import receipts_dir, stage_dir

_COPY_BYTES = 1 << 20


def raw_dir(root: Path) -> Path:
    return root / "raw" / "binance"


def receipt_path(root: Path, load_id: str) -> Path:
    return receipts_dir(root) / f"load-{load_id}.json"


def read_load_receipt(root: Path, load_id: str) -> dict | None:
    path = receipt_path(root, load_id)
    return atomic.read_json(path) if path.is_file() else None


def write_staged(root: Path, name: str, path: Path, content: dict) -> None:
    """Write a small JSON whole or not at all, by way of ``lake/_stage/binance-<name>.json``: a killed writer leaves its
    piece where `sweep` finds it. The caller holds the lock of that name.
    """
    staged = stage_dir(root) / f"binance-{name}.json"
    with open(staged, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    atomic.make_dirs(path.parent)
    atomic.replace(staged, path)


def sweep(root: Path) -> None:
    """Remove what killed calls left in the stage; what another call is writing stays."""
    for path in stage_dir(root).glob("binance-*"):
        lock = NameLock(stage_dir(root) / f"{path.stem}.lock")
        if path.suffix != ".lock" and lock.take(wait=False):
            path.unlink(missing_ok=True)
            lock.release()


class RawFile:
    """One source file on its way into ``raw``: ``readable`` is what to parse, ``path`` where it will stand.

    Leaving the ``with`` block without `keep` or `quarantine` leaves nothing. A file that is in ``raw/binance``
    already stays where it is.
    """

    def __init__(self, root: Path, source: Path, sha256: str) -> None:
        self.root, self.source, self.sha256 = root, source, sha256
        self._staged = stage_dir(root) / f"binance-{sha256[:16]}"
        self._lock = NameLock(stage_dir(root) / f"binance-{sha256[:16]}.lock")
        # Held until the end: another file of the same name, landing at the same time, must not take this one's place.
        name = hashlib.sha256(source.name.encode()).hexdigest()[:16]
        self._name_lock = NameLock(stage_dir(root) / f"binance-name-{name}.lock")
        self.readable = self.path = source

    def __enter__(self) -> RawFile:
        atomic.make_dirs(stage_dir(self.root))
        self._lock.take(what=f"the load of {self.source.name}")
        try:
            self._find()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._staged.unlink(missing_ok=True)
        self._name_lock.release()
        self._lock.release()

    @property
    def name(self) -> str:
        """The path below the lake's root, as rows and receipts say it."""
        return self.path.relative_to(self.root).as_posix()

    def write_receipt(self, load_id: str, receipt: dict) -> None:
        write_staged(self.root, self.sha256[:16], receipt_path(self.root, load_id), receipt)

    def keep(self) -> None:
        """Put the copy in its place; nothing to do for what stands there."""
        if self.readable != self.path:
            atomic.make_dirs(self.path.parent)
            atomic.replace(self.readable, self.path)
            self.readable = self.path

    def quarantine(self) -> None:
        """Move the copy to ``raw/_quarantine``. What stands in ``raw/binance`` stays: another dataset may be made
        of it.
        """
        if self.readable == self.path:
            return
        folder = self.root / "raw" / "_quarantine"
        # by its own name: the one in raw/binance hangs on what landed before it
        atomic.make_dirs(folder)
        target = quarantine_name(folder, self.source.name, self.sha256, self.readable)
        atomic.replace(self.readable, target)
        self.readable = self.path = target

    def _find(self) -> None:
        folder = raw_dir(self.root)
        if _is_in(self.source, folder):
            self.path = folder / self.source.resolve().relative_to(folder.resolve())
            self.readable = self.path
            return
        self.path = _named_by_bytes(folder, self.source.name, self.sha256)
        if self._name_lock.take(wait=False):
            self.path = _free_name(folder, self.source.name, self.sha256)
        if self.path.exists():
            self.readable = self.path
            return
        digest = hashlib.sha256()
        with open(self.source, "rb") as source, open(self._staged, "wb") as copy:
            while part := source.read(_COPY_BYTES):
                digest.update(part)
                copy.write(part)
            copy.flush()
            os.fsync(copy.fileno())
        if digest.hexdigest() != self.sha256:
            raise FailedFile(
                "file changed while it was read, expected it to be complete; run again when it is"
            )
        self.readable = self._staged


def quarantine_name(folder: Path, name: str, sha256: str, copy: Path) -> Path:
    """The name in ``folder`` that is this file's alone, claimed by a link to ``copy``, whoever else asks for it now."""
    target = folder / name
    try:
        os.link(copy, target)
    except FileExistsError:
        target = _free_name(folder, name, sha256)
    return target


def _free_name(folder: Path, name: str, sha256: str) -> Path:
    """``name`` in ``folder``, or with 8 digits of the sha256 before its suffix where other bytes have it."""
    path = folder / name
    if not path.exists() or hash_source(path) == sha256:
        return path
    return _named_by_bytes(folder, name, sha256)


def _named_by_bytes(folder: Path, name: str, sha256: str) -> Path:
    stem, dot, suffix = name.partition(".")
    return folder / f"{stem}.{sha256[:8]}{dot}{suffix}"


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
