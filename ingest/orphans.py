"""The thorough form of recovery, for a lake whose stage was lost: files that no reader sees, found and deleted.

It walks all of the market domain's bronze, so only ``--recover`` calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ingest.landing import PREFIX, read_receipt
from lake import atomic
from lake.bronze import VISIBLE_STATUS, visible_files
from lake.locks import Locks, NameLock
from lake.paths import bronze_dir, receipts_dir, stage_dir
from lake.replaced import LOCK, LOCK_TIMEOUT_S

# The market domain's; of the rest the markers of their windows tell.
REJECTS = ("futures_*", "options_*", "stocks_*")
_OWNER = re.compile(r"(?:part|commit)-([0-9a-f]{8})\b|\._tmp-([0-9a-f]{8})")


def sweep_orphans(root: Path) -> list[str]:
    """Delete every file and commit record of market bronze that no reader sees; returns their paths relative to
    ``root``.

    What belongs to a delivery that somebody is landing right now is left alone; a compaction or retention that runs
    is waited for, as its new files aren't listed yet.
    """
    atomic.make_dirs(stage_dir(root))
    locks = Locks(stage_dir(root))
    locks.take(LOCK, [], LOCK_TIMEOUT_S)
    try:
        return _sweep(root)
    finally:
        locks.release()


def _sweep(root: Path) -> list[str]:
    removed = []
    for path in sorted(_candidates(root)):
        match = _OWNER.search(path.name)
        lock = NameLock(stage_dir(root) / f"{PREFIX}{match[1] or match[2]}.lock") if match else None
        if lock is not None and not lock.take(wait=False):
            continue
        try:
            # Seen again under its lock: the delivery may have ended since the walk.
            if not (match and match[1] and _is_seen(root, path)):
                path.unlink(missing_ok=True)
                removed.append(str(path.relative_to(root)))
                _prune(path.parent, bronze_dir(root))
        finally:
            if lock is not None:
                lock.release()
    return removed


def _candidates(root: Path) -> Iterator[Path]:
    """Everything that no receipt stands for; the receipts are read first, so that what lands meanwhile is among it."""
    bronze = bronze_dir(root)
    seen = {f.path for f in visible_files(root)}
    for path in receipts_dir(root).glob("receipt-*.json"):
        receipt = atomic.read_json(path)
        if receipt["status"] in VISIBLE_STATUS:
            seen.update(bronze / f["path"] for f in receipt.get("rejects", []))
    for dataset in _datasets(bronze):
        for path in dataset.glob("_metadata/date=*/commit-*.json"):
            record = atomic.read_json(path)
            if "delivery_id" in record and not _is_visible(root, record["delivery_id"]):
                yield path
        yield from dataset.glob("_metadata/date=*/._tmp-*")
        for path in dataset.glob("*=*/**/*"):
            # A merged file stands before its record does; `tickhouse compact` takes back its own.
            if path.is_file() and path not in seen and not path.name.endswith("-merged.parquet"):
                yield path
    for name in REJECTS:
        yield from (p for p in bronze.glob(f"_rejects/dataset={name}/date=*/*") if p not in seen)


def _datasets(bronze: Path) -> list[Path]:
    """Folders ``<domain>/<dataset>`` of deliveries; datasets of windows stand one level higher."""
    return [
        d for d in bronze.glob("[!_]*/[!_]*") if d.is_dir() and "=" not in d.name and "=" not in d.parent.name
    ]


def _is_seen(root: Path, path: Path) -> bool:
    """Whether a receipt stands for ``path`` by now."""
    digits = _OWNER.search(path.name)[1]
    for receipt_path in receipts_dir(root).glob(f"receipt-{digits}*.json"):
        receipt = atomic.read_json(receipt_path)
        if receipt["status"] not in VISIBLE_STATUS:
            continue
        relative = str(path.relative_to(bronze_dir(root)))
        if path.suffix == ".json" or any(f["path"] == relative for f in receipt.get("rejects", [])):
            return True
        records = bronze_dir(root).glob(f"*/*/_metadata/date=*/commit-{digits}.json")
        if any(f["path"] == relative for r in records for f in atomic.read_json(r)["files"]):
            return True
    return False


def _is_visible(root: Path, delivery_id: str) -> bool:
    receipt = read_receipt(root, delivery_id)
    return receipt is not None and receipt["status"] in VISIBLE_STATUS


def _prune(folder: Path, top: Path) -> None:
    while folder != top and "=" in folder.name:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
