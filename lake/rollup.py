"""The readable roll-ups `raw/manifest.json` and `lake/bronze/manifest.json`, made of receipts and commit records.

They are for people and tools; what is visible is said by the records alone (architecture D6). Their cost grows with
the lake, so no ingest writes them: `tickhouse manifest`, `ingest --recover` and the end of a `dbt build` do.
"""

import json
import os
from pathlib import Path

from lake import atomic, datasets, feature_tables, replaced
from lake.bronze import VISIBLE_STATUS
from lake.commits import now_utc
from lake.locks import NameLock
from lake.paths import bronze_dir, receipts_dir, stage_dir

FRONT_MONTH = "silver/datasets/dim_front_month"
# Keys of the raw manifest's file entries, in their order; receipts hold some more.
FILE_KEYS = (
    "path", "provider", "dataset", "schema", "date", "bytes", "sha256",
    "record_count", "ts_first_ns", "ts_last_ns",
    "format_version", "downloaded_at", "request_id", "status", "reason", "archived_uri", "symbols",
)  # fmt: skip


def write_rollups(root: Path) -> list[Path]:
    """Bring both manifests up to date and return their paths.

    One that already says the same is left alone, its time included. A second call waits for the first, so that the
    last one to start is the last one to write.
    """
    raw, bronze = root / "raw" / "manifest.json", bronze_dir(root) / "manifest.json"
    atomic.make_dirs(stage_dir(root))
    lock = NameLock(stage_dir(root) / "manifest.lock")
    lock.take(what="the manifests")
    try:
        receipts = [atomic.read_json(p) for p in sorted(receipts_dir(root).glob("receipt-*.json"))]
        entries = [{k: r.get(k) for k in FILE_KEYS} for r in receipts]
        entries.sort(key=lambda e: (str(e["path"]), e["sha256"]))
        _write_if_changed(root, raw, {"files": entries})
        _write_if_changed(root, bronze, _bronze(root, {r["delivery_id"]: r for r in receipts}))
        feature_tables.write_metadata(root)
    finally:
        lock.release()
    return [raw, bronze]


def _bronze(root: Path, receipts: dict[str, dict]) -> dict:
    schemas: dict[str, dict] = {}
    partitions: dict[tuple, dict] = {}
    gaps, quality = [], []
    for path in bronze_dir(root).glob("*/*/_metadata/date=*/commit-*.json"):
        record = atomic.read_json(path)
        receipt = receipts.get(record.get("delivery_id", ""))
        if receipt is None or receipt["status"] not in VISIBLE_STATUS:
            continue
        if "schema_hash" in record:
            schemas[record["schema"]] = {
                "version": record["schema_version"],
                "schema_hash": record["schema_hash"],
            }
        where = {"schema": record["schema"], "date": record["date"]}
        gaps += [where | gap for gap in record["gaps"]]
        quality += [
            {"schema": record["schema"], "key": v["key"], "date": record["date"]} | v
            for v in record.get("quality", [])
        ]
        for file in record["files"]:
            _add(partitions, record, file, receipt["path"])
    standing = replaced.standing(root, {f["path"] for p in partitions.values() for f in p["files"]})
    for partition in partitions.values():
        for file in partition["files"]:
            # A merged file or a copy in the archive, which others may share.
            if now := standing.get(file["path"]):
                path = os.path.relpath(now.file(root), bronze_dir(root))
                file |= {"path": path, "bytes": now.bytes, "sha256": now.sha256}
        partition["files"].sort(key=lambda f: (f["path"], f["delivery_id"]))
        partition["source_files"] = sorted(set(partition["source_files"]))
    return {
        "schemas": dict(sorted(schemas.items())),
        "partitions": [partitions[k] for k in sorted(partitions)],
        "contracts": _front_months(root),
        "gaps": sorted(gaps, key=_sorted_by),
        "quality": sorted(quality, key=_sorted_by),
    }


def _add(partitions: dict[tuple, dict], record: dict, file: dict, raw_path: str) -> None:
    """One file of a commit record to the partition that it belongs to."""
    key = (record["schema"], json.dumps(file["key"], sort_keys=True), record["date"], file["hour"])
    partition = partitions.setdefault(
        key,
        {
            "schema": record["schema"], "key": file["key"], "date": record["date"], "hour": file["hour"],
            "files": [], "rows": 0, "ts_min_ns": file["ts_min_ns"], "ts_max_ns": file["ts_max_ns"],
            "source_files": [], "run_id": record["run_id"], "status": record["status"],
        },
    )  # fmt: skip
    partition["files"].append(
        {k: file[k] for k in ("path", "bytes", "sha256", "rows", "content_digest")}
        | {"delivery_id": record["delivery_id"]}
    )
    partition["rows"] += file["rows"]
    partition["ts_min_ns"] = min(partition["ts_min_ns"], file["ts_min_ns"])
    partition["ts_max_ns"] = max(partition["ts_max_ns"], file["ts_max_ns"])
    partition["source_files"].append(raw_path)
    partition["run_id"] = max(partition["run_id"], record["run_id"])
    if record["status"] == "open":
        partition["status"] = "open"


def _sorted_by(entry: dict) -> tuple:
    return entry["schema"], entry["date"], json.dumps(entry, sort_keys=True)


def _front_months(root: Path) -> list[dict]:
    """Rows of ``dim_front_month`` by session, as far as they are built when the roll-up is written."""
    try:
        rows = datasets.read(root, FRONT_MONTH).to_pylist()
    except datasets.NoSuchDataset:
        return []
    return [row | {"session_date": row["session_date"].isoformat()} for row in rows]


def _write_if_changed(root: Path, path: Path, content: dict) -> None:
    old = _read(path)
    old.pop("generated_at", None)
    content = {"manifest_version": 1} | content
    if old == content:
        return
    # Through the stage and not through a temporary beside it: what a killed call leaves is written over by the next.
    staged = stage_dir(root) / "manifest.json"
    atomic.write_json(staged, {"manifest_version": 1, "generated_at": now_utc()} | content)
    atomic.make_dirs(path.parent)
    atomic.replace(staged, path)


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text())
    except (
        FileNotFoundError,
        ValueError,
    ):  # a roll-up that is no JSON is made anew, as it holds nothing of its own
        return {}
    return found if isinstance(found, dict) else {}
