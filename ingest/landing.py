"""One delivery as a transaction on the file system, for all loaders of the market domain.

Everything is built in ``lake/_stage/ingest-<delivery_id>/``. Before the first file leaves it, ``plan.json``
there names every path that will appear; then raw file, data files, rejects and commit records are renamed
into place, and the receipt is written last. A reader believes the receipt only, so the delivery appears
whole or not at all. Whoever finds a stage folder that nobody holds takes back what its plan names.

A delivery holds a lock of its own and no other: any number of ingests run beside each other, and two that
are given the same file land it once. No step lists or reads what earlier deliveries left, so that a commit
costs the same however large the lake is. Nothing here looks at a clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ingest.bronze_schema import BronzeSchema
from ingest.bronze_writer import BronzeFile
from ingest.errors import FailedFile, RefusedFile
from ingest.rejects import RejectFile, RejectWriter
from lake import atomic
from lake.bronze import VISIBLE_STATUS
from lake.locks import NameLock
from lake.paths import bronze_dir, receipts_dir, stage_dir

log = logging.getLogger(__name__)

PREFIX = "ingest-"
MAX_BAD = 0.01  # share of rejected rows above which a file is refused
_COPY_BYTES = 1 << 20
_TRIES = 100


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


def refuse_too_many_rejects(rejects: RejectWriter, read: int, max_bad: float) -> None:
    """Raise RefusedFile, with the counts by rule, when more than the share ``max_bad`` of ``read`` rows is bad."""
    if rejects.rows > max_bad * read:
        rules = ", ".join(f"{rule} {count:,}" for rule, count in sorted(rejects.by_rule.items()))
        raise RefusedFile(
            f"{rejects.rows:,} of {read:,} rows were bad ({rules}; the first: {rejects.first_reason}), expected "
            f"at most {max_bad:.2%}; fetch the file again, or allow more with --max-bad"
        )


class Delivery:
    """One source file on its way in. ``stage`` is its own folder; leave the ``with`` block and it is gone.

    To enter the block is to hold the delivery: a second call with the same bytes waits there. ``receipt`` is
    then what an earlier one left (None when nothing), and ``landed`` says whether there is anything to do.
    Without a call of ``publish`` nothing stays. With one, everything stays, or, after an exception inside
    it, nothing.
    """

    def __init__(self, root: Path, source: Path, sha256: str, *, bronze_source: str = "") -> None:
        self.root, self.source, self.sha256 = root, source, sha256
        self.bronze_source = bronze_source  # the rows' `source`
        self.id = sha256[:16]
        self.raw_path = source
        self.stage = stage_dir(root) / f"{PREFIX}{self.id}"
        self.receipt: dict | None = None
        self._raw: tuple[Path, Path] | None = None  # staged copy, final path
        # Eight digits, as in the names of its files: two deliveries that share them can't land at once.
        self._lock = NameLock(_lock_path(root, self.id[:8]))
        self._name_lock: NameLock | None = None

    def __enter__(self) -> Delivery:
        atomic.make_dirs(self.stage.parent)
        self._lock.take(what=f"the delivery of {self.source.name}")
        try:
            _take_back(self.root, self.stage)  # of a killed call with the same bytes
            self.receipt = read_receipt(self.root, self.id)
            if self.receipt is not None and self.receipt["sha256"] != self.sha256:
                raise FailedFile(
                    f"first 16 digits of its sha256 were those of {self.receipt['path']}, expected no two files "
                    "to share them; land this one in a lake of its own"
                )
            self.stage.mkdir()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                _remove_stage(self.stage)
                return
            # The error that brought us here matters more than one of cleaning up; the next ingest cleans
            # what is left.
            with contextlib.suppress(OSError):
                _take_back(self.root, self.stage)
        finally:
            if self._name_lock is not None:
                self._name_lock.release()
            self._lock.release()

    @property
    def landed(self) -> bool:
        return self.receipt is not None and self.receipt["status"] in VISIBLE_STATUS

    def copy_raw(self, folder: Path, name: str) -> Path:
        """Bring the source into ``folder`` under ``name`` and return the path to read it from.

        A file already inside ``folder`` stays where it is. A taken name with the same bytes is used as it
        is; with other bytes, or while another delivery is about to take it, the copy gets the first 8 digits
        of its sha256 before its suffix. The copy appears only with ``publish``. Raises FailedFile when the
        source changes while it is copied.
        """
        resolved = self.source.resolve()
        if resolved.is_relative_to(folder.resolve()):
            self._raw = None
            self.raw_path = folder / resolved.relative_to(folder.resolve())
            return self.source
        final = folder / name
        if not self._reserve(final) or (final.exists() and hash_source(final) != self.sha256):
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
        rejects: Sequence[RejectFile] = (),
        run_id: str = "",
        obsolete: Sequence[Path] = (),
        dates: Iterable[str] = (),
        gaps: Mapping[str, list[dict]] | None = None,
        quality: Mapping[str, list[dict]] | None = None,
    ) -> dict:
        """Put everything in place and write the receipt last; ``obsolete`` files go after it.

        ``receipt`` is the entry of the raw manifest without its path; what was written is returned. It may
        state ``filtered_count`` (rows that are none of ours) and, where bronze rows aren't the source's rows
        one to one, ``accepted_count``; the rest of the accounting is filled in. ``dates`` get a commit
        record even without a file: the marker of a window that was read and is empty. ``gaps`` and
        ``quality`` are entries of the commit record by date; one of verdict ``error`` makes it ``open``.

        Raises FailedFile when the counts don't add up to ``record_count``, and OSError when a write fails;
        then leaving the ``with`` block takes all of it back.
        """
        if self.landed:
            raise FailedFile("file had been landed by another call, expected none; run again, it is a no-op")
        counts = _accounting(receipt, files, rejects)
        records = {} if schema is None else self._records(schema, files, run_id, dates, gaps, quality)
        bronze = bronze_dir(self.root)
        moves = [(f.staged, bronze / f.path) for f in [*files, *rejects]]
        if self._raw is not None:
            moves.insert(0, self._raw)
        for path in records:
            if path.exists():
                raise FailedFile(
                    f"{path.name} was already there from another delivery, expected 8 digits to tell them "
                    "apart; land one of the two files in a lake of its own"
                )
        entry = (
            {"path": self._relative(self.raw_path)}
            | receipt
            | counts
            | {"rejects": [f.record() for f in rejects], "delivery_id": self.id}
        )
        plan = {
            "receipt": entry,
            "raw": self._raw and self._relative(self._raw[1]),
            "targets": [
                self._relative(path) for path in [*(bronze / f.path for f in [*files, *rejects]), *records]
            ],
            "obsolete": [self._relative(path) for path in obsolete],
        }
        atomic.write_json(self.stage / "plan.json", plan)
        atomic.fsync_dir(self.stage.parent)
        made = {self.root}
        for src, dst in moves:
            _in_folder(dst.parent, made, lambda src=src, dst=dst: os.replace(src, dst))
        for path, record in records.items():
            _in_folder(path.parent, made, lambda path=path, record=record: self._put_json(path, record))
        path = _receipt_path(self.root, self.id)
        _make_folder(path.parent, made)
        for folder in sorted(made, reverse=True):
            atomic.fsync_dir(folder)
        self._put_json(path, entry)
        atomic.fsync_dir(path.parent)
        for old in obsolete:
            old.unlink(missing_ok=True)
        return entry

    def _reserve(self, final: Path) -> bool:
        """Hold a raw name until the end, so that no two deliveries of one name write over each other."""
        digest = hashlib.sha256(self._relative(final).encode()).hexdigest()
        lock = NameLock(_lock_path(self.root, f"raw-{digest[:16]}"))
        if not lock.take(wait=False):
            return False
        self._name_lock = lock
        return True

    def _records(
        self,
        schema: BronzeSchema,
        files: Sequence[BronzeFile],
        run_id: str,
        dates: Iterable[str],
        gaps: Mapping[str, list[dict]] | None,
        quality: Mapping[str, list[dict]] | None,
    ) -> dict[Path, dict]:
        metadata = bronze_dir(self.root) / schema.folder / "_metadata"
        gaps, quality = gaps or {}, quality or {}
        records = {}
        for date in sorted({f.partition.date for f in files} | set(dates)):
            verdicts = quality.get(date, [])
            records[metadata / f"date={date}" / f"commit-{self.id[:8]}.json"] = {
                "record_version": 1,
                "schema": schema.name,
                "schema_version": schema.version,
                "schema_hash": schema.schema_hash,
                "date": date,
                "delivery_id": self.id,
                "source": self.bronze_source,
                "run_id": run_id,
                "status": "open" if any(v["verdict"] == "error" for v in verdicts) else "complete",
                "gaps": gaps.get(date, []),
                "quality": verdicts,
                "files": [f.record() for f in files if f.partition.date == date],
            }
        return records

    def _put_json(self, path: Path, content: dict) -> None:
        """Write a file whole or not at all, under a temporary name that a take-back knows."""
        temporary = _temporary(path, self.id)
        with open(temporary, "w", encoding="utf-8") as f:
            f.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.root))


def _accounting(receipt: dict, files: Sequence[BronzeFile], rejects: Sequence[RejectFile]) -> dict:
    """The counts of a receipt, checked: every row read is accepted, rejected or none of ours."""
    read = receipt["record_count"]
    if read is None:  # a file that wasn't read to its end
        return {"accepted_count": None, "rejected_count": None, "filtered_count": None}
    accepted = receipt.get("accepted_count", sum(f.rows for f in files))
    rejected, filtered = sum(f.rows for f in rejects), receipt.get("filtered_count", 0)
    if accepted + rejected + filtered != read:
        raise FailedFile(
            f"rows read were {read}, expected the {accepted} accepted, {rejected} rejected and {filtered} filtered "
            "ones to make them up; nothing was landed, report this with the file's name"
        )
    return {"accepted_count": accepted, "rejected_count": rejected, "filtered_count": filtered}


def split_suffix(name: str) -> tuple[str, str]:
    """``glbx-20251215.trades.dbn.zst`` → its stem and ``.dbn.zst``."""
    for suffix in (".dbn.zst", ".dbn"):
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix
    stem, suffix = os.path.splitext(name)
    return stem, suffix


def recover_interrupted(root: Path) -> int:
    """Take back or finish what killed ingests left; returns how many deliveries that were.

    A delivery that somebody is working on is left alone.
    """
    count = 0
    for stage in sorted(stage_dir(root).glob(f"{PREFIX}*")):
        delivery_id = stage.name.removeprefix(PREFIX)
        if stage.suffix == ".lock" or not stage.is_dir():
            continue
        lock = NameLock(_lock_path(root, delivery_id[:8]))
        if not lock.take(wait=False):
            continue
        try:
            if stage.is_dir():
                log.info("cleaning up after an interrupted ingest delivery=%s", delivery_id)
                _take_back(root, stage)
                count += 1
        finally:
            lock.release()
    for path in stage_dir(root).glob(f"{PREFIX}*.lock"):
        lock = NameLock(path)
        if lock.take(wait=False):
            lock.release()
    return count


def _take_back(root: Path, stage: Path) -> None:
    """Finish a delivery that has its receipt; undo one that doesn't. The stage goes last, so this can be
    repeated.
    """
    plan_path = stage / "plan.json"
    if plan_path.is_file():
        plan = atomic.read_json(plan_path)
        delivery_id = stage.name.removeprefix(PREFIX)
        _temporary(_receipt_path(root, delivery_id), delivery_id).unlink(missing_ok=True)
        # The receipt of an earlier call, such as one that quarantined the file, is not the end of this one.
        done = read_receipt(root, delivery_id) == plan["receipt"]
        for relative in plan["obsolete" if done else "targets"]:
            path = root / relative
            _temporary(path, delivery_id).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            _prune(path.parent, root)
        if not done and plan["raw"]:
            _take_back_raw(root / plan["raw"], plan["receipt"]["sha256"])
    _remove_stage(stage)


def _take_back_raw(path: Path, sha256: str) -> None:
    """Unless the name belongs to another delivery meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        if hash_source(path) == sha256:
            path.unlink()


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


def _in_folder(folder: Path, made: set[Path], do: Callable[[], None]) -> None:
    """Make ``folder`` and ``do``; again when another ingest took the folder away, empty, in between."""
    for attempt in range(_TRIES):
        try:
            _make_folder(folder, made)
            do()
            return
        except FileNotFoundError:
            if attempt == _TRIES - 1:
                raise
            made.intersection_update({p for p in made if p.is_dir()})


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


def _lock_path(root: Path, name: str) -> Path:
    return stage_dir(root) / f"{PREFIX}{name}.lock"


def _temporary(path: Path, delivery_id: str) -> Path:
    return path.with_name(f"._tmp-{delivery_id}-{path.name}")
