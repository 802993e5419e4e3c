"""The readable roll-ups `raw/manifest.json` and `lake/bronze/manifest.json`, made of receipts and commit
records.

They are for people and tools; what is visible is said by the records alone (architecture D6).
"""

from __future__ import annotations

import json
from pathlib import Path

from ingest.bronze_schema import FUTURES_MBP10, FUTURES_TRADES, OPTIONS_TRADES, STOCKS_TRADES
from lake import atomic, datasets
from lake.bronze import VISIBLE_STATUS
from lake.commits import now_utc
from lake.paths import bronze_dir, receipts_dir

_SCHEMAS = (FUTURES_MBP10, FUTURES_TRADES, OPTIONS_TRADES, STOCKS_TRADES)
FRONT_MONTH = "silver/datasets/dim_front_month"
# Keys of the raw manifest's file entries, in their order; receipts hold some more.
_FILE_KEYS = (
    "path", "provider", "dataset", "schema", "date", "bytes", "sha256",
    "record_count", "ts_first_ns", "ts_last_ns",
    "format_version", "downloaded_at", "request_id", "status", "reason", "archived_uri", "symbols",
)  # fmt: skip


def write_rollups(root: Path) -> None:
    """Bring both manifests up to date; one that already says the same is left alone, its time included."""
    receipts = [atomic.read_json(p) for p in sorted(receipts_dir(root).glob("receipt-*.json"))]
    entries = [{k: r.get(k) for k in _FILE_KEYS} for r in receipts]
    entries.sort(key=lambda e: (str(e["path"]), e["sha256"]))
    _write_if_changed(root / "raw" / "manifest.json", {"files": entries})
    _write_if_changed(
        bronze_dir(root) / "manifest.json", _bronze(root, {r["delivery_id"]: r for r in receipts})
    )


def _bronze(root: Path, receipts: dict[str, dict]) -> dict:
    partitions: dict[tuple, dict] = {}
    gaps = []
    for path in bronze_dir(root).glob("*/*/_metadata/date=*/commit-*.json"):
        record = atomic.read_json(path)
        receipt = receipts.get(record["delivery_id"])
        if receipt is None or receipt["status"] not in VISIBLE_STATUS:
            continue
        for gap in record["gaps"]:
            gaps.append({"schema": record["schema"], "date": record["date"]} | gap)
        for file in record["files"]:
            key = (record["schema"], json.dumps(file["key"], sort_keys=True), record["date"], file["hour"])
            partition = partitions.setdefault(
                key,
                {
                    "schema": record["schema"], "key": file["key"],
                    "date": record["date"], "hour": file["hour"],
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
            partition["source_files"].append(receipt["path"])
            partition["run_id"] = max(partition["run_id"], record["run_id"])
            if record["status"] == "open":
                partition["status"] = "open"
    for partition in partitions.values():
        partition["files"].sort(key=lambda f: f["path"])
        partition["source_files"] = sorted(set(partition["source_files"]))
    # What another has put there stays until it writes it again.
    old = _read(bronze_dir(root) / "manifest.json")
    return {
        "schemas": {s.name: {"version": s.version, "schema_hash": s.schema_hash} for s in _SCHEMAS},
        "partitions": [partitions[k] for k in sorted(partitions)],
        "contracts": _front_months(root),
        "gaps": sorted(gaps, key=lambda g: (g["schema"], g["date"], g.get("from_ns", 0))),
        "quality": old.get("quality", []),
    }


def _front_months(root: Path) -> list[dict]:
    """Rows of ``dim_front_month`` by session, as far as they are built when the roll-up is written."""
    try:
        rows = datasets.read(root, FRONT_MONTH).to_pylist()
    except datasets.NoSuchDataset:
        return []
    return [row | {"session_date": row["session_date"].isoformat()} for row in rows]


def _write_if_changed(path: Path, content: dict) -> None:
    old = _read(path)
    old.pop("generated_at", None)
    content = {"manifest_version": 1} | content
    if old != content:
        atomic.write_json(path, {"manifest_version": 1, "generated_at": now_utc()} | content)


def _read(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} was not JSON ({error}); move it away and run again: it is made anew from receipts and commits"
        ) from error
