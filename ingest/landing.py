"""One delivery as a transaction on the file system, for all loaders.

Everything is built in ``lake/_stage/ingest-<delivery_id>/``. Before the first file leaves it, ``plan.json``
there names every path that will appear; then raw file, data files and commit records are renamed into
place, and the receipt is written last. A reader believes the receipt only, so the delivery appears whole or
not at all. Whoever finds a stage folder without its receipt takes back what the plan names.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from ingest.bronze_schema import BronzeSchema
from ingest.bronze_writer import BronzeFile
from ingest.errors import FailedFile
from lake import atomic
from lake.bronze import VISIBLE_STATUS
from lake.paths import bronze_dir, receipts_dir, stage_dir

log = logging.getLogger(__name__)

_PREFIX = "ingest-"
_COPY_BYTES = 1 << 20


@contextlib.contextmanager
def ingest_lock(root: Path) -> Iterator[None]:
    """Hold the lake's one ingest lock; says once who holds it when it has to wait. A killed holder frees
    it.
    """
    stage_dir(root).mkdir(parents=True, exist_ok=True)
    path = stage_dir(root) / "ingest.lock"
    holder = path.with_suffix(".pid")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with contextlib.suppress(OSError):
            log.warning(
                "another ingest (process %s) holds %s; waiting for it", holder.read_text().strip(), path
            )
        lock.acquire()
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def read_receipt(root: Path, delivery_id: str) -> dict | None:
    path = _receipt_path(root, delivery_id)
    return atomic.read_json(path) if path.is_file() else None


def hash_source(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """sha256 of a file, hex; ``progress`` gets the bytes read so far. Raises OSError if it can't be read."""
    digest, done = hashlib.sha256(), 0
    with open(path, "rb") as f:
        while part := f.read(_COPY_BYTES):
            digest.update(part)
            done += len(part)
            if progress is not None:
                progress(done)
    return digest.hexdigest()


class Delivery:
    """One source file on its way in. ``stage`` is its own folder; leave the ``with`` block and it is gone.

    Without a call of ``publish`` nothing stays. With one, everything stays, or, after an exception inside
    it, nothing.
    """

    def __init__(self, root: Path, source: Path, sha256: str, *, bronze_source: str = "") -> None:
        self.root, self.source, self.sha256 = root, source, sha256
        self.bronze_source = bronze_source  # the rows' `source`
        self.id = sha256[:16]
        self.raw_path = source
        self.stage = stage_dir(root) / f"{_PREFIX}{self.id}"
        self._raw: tuple[Path, Path] | None = None  # staged copy, final path

    def __enter__(self) -> Delivery:
        self.stage.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            _remove_stage(self.stage)
            return
        # The error that brought us here matters more than one of cleaning up; the next ingest cleans what
        # is left.
        with contextlib.suppress(OSError):
            _take_back(self.root, self.stage)

    def copy_raw(self, folder: Path, name: str) -> Path:
        """Bring the source into ``folder`` under ``name`` and return the path to read it from.

        A file already inside ``folder`` stays where it is. A taken name with the same bytes is used as it
        is; with other bytes the copy gets the first 8 digits of its sha256 before its suffix. The copy
        appears only with ``publish``. Raises FailedFile when the source changes while it is copied.
        """
        resolved = self.source.resolve()
        if resolved.is_relative_to(folder.resolve()):
            self._raw = None
            self.raw_path = folder / resolved.relative_to(folder.resolve())
            return self.source
        final = folder / name
        if final.exists() and hash_source(final) != self.sha256:
            stem, suffix = split_suffix(name)
            final = folder / f"{stem}.{self.sha256[:8]}{suffix}"
        self.raw_path = final
        if final.exists() and hash_source(final) == self.sha256:
            self._raw = None
            return final
        staged = self.stage / "raw"
        digest = hashlib.sha256()
        with open(self.source, "rb") as src, open(staged, "wb") as dst:
            while part := src.read(_COPY_BYTES):
                digest.update(part)
                dst.write(part)
            dst.flush()
            os.fsync(dst.fileno())
        if digest.hexdigest() != self.sha256:
            raise FailedFile(
                "file changed while it was read, expected it to be complete; run again when it is"
            )
        self._raw = staged, final
        return staged

    def publish(
        self,
        receipt: dict,
        schema: BronzeSchema | None = None,
        files: Sequence[BronzeFile] = (),
        *,
        run_id: str = "",
        obsolete: Sequence[Path] = (),
    ) -> dict:
        """Put everything in place and write the receipt last; ``obsolete`` files go after it.

        ``receipt`` is the entry of the raw manifest without its path; what was written is returned. Raises
        OSError when a write fails; then leaving the ``with`` block takes all of it back.
        """
        records = {} if schema is None else self._records(schema, files, run_id)
        bronze = bronze_dir(self.root)
        moves = [(f.staged, bronze / f.path) for f in files]
        if self._raw is not None:
            moves.insert(0, self._raw)
        for path in records:
            if path.exists():
                raise FailedFile(
                    f"{path.name} was already there from another delivery, expected 8 digits to tell them "
                    "apart; land one of the two files in a lake of its own"
                )
        plan = {
            "targets": [self._relative(path) for path in [*(dst for _, dst in moves), *records]],
            "obsolete": [self._relative(path) for path in obsolete],
        }
        atomic.write_json(self.stage / "plan.json", plan)
        atomic.fsync_dir(self.stage.parent)
        made = {self.root}
        for src, dst in moves:
            _make_folder(dst.parent, made)
            os.replace(src, dst)
        for path, record in records.items():
            _make_folder(path.parent, made)
            atomic.write_json(path, record)
        for folder in sorted(made, reverse=True):
            atomic.fsync_dir(folder)
        entry = {"path": self._relative(self.raw_path)} | receipt | {"delivery_id": self.id}
        atomic.write_json(_receipt_path(self.root, self.id), entry)
        for path in obsolete:
            path.unlink(missing_ok=True)
        return entry

    def _records(self, schema: BronzeSchema, files: Sequence[BronzeFile], run_id: str) -> dict[Path, dict]:
        metadata = bronze_dir(self.root) / schema.folder / "_metadata"
        records = {}
        for date in sorted({f.partition.date for f in files}):
            records[metadata / f"date={date}" / f"commit-{self.id[:8]}.json"] = {
                "record_version": 1,
                "schema": schema.name,
                "date": date,
                "delivery_id": self.id,
                "source": self.bronze_source,
                "run_id": run_id,
                "status": "complete",
                "gaps": [],
                "files": [f.record() for f in files if f.partition.date == date],
            }
        return records

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.root))


def split_suffix(name: str) -> tuple[str, str]:
    """``glbx-20251215.trades.dbn.zst`` → its stem and ``.dbn.zst``."""
    for suffix in (".dbn.zst", ".dbn"):
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix
    stem, suffix = os.path.splitext(name)
    return stem, suffix


def recover_interrupted(root: Path) -> int:
    """Take back or finish what killed ingests left; returns how many deliveries that were. Call under the
    lock.
    """
    count = 0
    for stage in sorted(stage_dir(root).glob(f"{_PREFIX}*")):
        if not stage.is_dir():
            continue
        count += 1
        log.info("cleaning up after an interrupted ingest delivery=%s", stage.name.removeprefix(_PREFIX))
        _take_back(root, stage)
    for folder in (root / "raw", receipts_dir(root), bronze_dir(root)):
        for leftover in folder.glob("._tmp-*"):
            leftover.unlink()
    return count


def sweep_orphans(root: Path) -> list[str]:
    """Delete every bronze file and commit record that no reader sees; returns their paths relative to
    ``root``.

    The thorough form of ``recover_interrupted``, for a lake whose stage was lost: it walks all of bronze.
    """
    bronze = bronze_dir(root)
    visible, removed = set(), []
    for record_path in sorted(bronze.glob("*/*/_metadata/date=*/commit-*.json")):
        record = atomic.read_json(record_path)
        receipt = read_receipt(root, record["delivery_id"])
        if receipt is not None and receipt["status"] in VISIBLE_STATUS:
            visible.update(f["path"] for f in record["files"])
        else:
            removed.append(record_path)
    removed += [
        p for p in bronze.glob("*/*/*=*/**/*") if p.is_file() and str(p.relative_to(bronze)) not in visible
    ]
    removed += bronze.glob("*/*/_metadata/date=*/._tmp-*")
    for path in removed:
        path.unlink()
        _prune(path.parent, bronze)
    return [str(p.relative_to(root)) for p in removed]


def _take_back(root: Path, stage: Path) -> None:
    """Finish a delivery that has its receipt; undo one that doesn't. The stage goes last, so this can be
    repeated.
    """
    plan_path = stage / "plan.json"
    if plan_path.is_file():
        plan = atomic.read_json(plan_path)
        delivery_id = stage.name.removeprefix(_PREFIX)
        receipt = read_receipt(root, delivery_id)
        done = receipt is not None and _is_receipt_of(receipt, plan)
        for relative in plan["obsolete" if done else "targets"]:
            path = root / relative
            for leftover in path.parent.glob("._tmp-*"):
                leftover.unlink()
            path.unlink(missing_ok=True)
            _prune(path.parent, root)
    _remove_stage(stage)


def _is_receipt_of(receipt: dict, plan: dict) -> bool:
    """A quarantine receipt of an earlier call is not the end of a later, successful landing."""
    lands = any(t.startswith("lake/") for t in plan["targets"])
    return (receipt["status"] in VISIBLE_STATUS) or not lands


def _remove_stage(stage: Path) -> None:
    # plan.json goes last: while anything is left, what to take back is known.
    for path in stage.iterdir() if stage.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "plan.json":
            path.unlink()
    (stage / "plan.json").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        stage.rmdir()


def _make_folder(folder: Path, made: set[Path]) -> None:
    missing = []
    while folder not in made:
        made.add(folder)
        if not folder.is_dir():
            missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)


def _prune(folder: Path, top: Path) -> None:
    """Remove ``folder`` and its parents as far as they are empty, staying below the dataset's own folder."""
    while folder != top and ("=" in folder.name):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _receipt_path(root: Path, delivery_id: str) -> Path:
    return receipts_dir(root) / f"receipt-{delivery_id}.json"
