"""What a table of online features says of itself: ``lake/gold/features/<name>/metadata.json``.

The features of a version, their types, units and times to live stand in the YAML of the dbt model that builds the
table; what is built stands in its commit records. `metadata.json` is the roll-up that a server reads: it may be deleted
and written again, but for ``active_version`` and ``experiment``, which are choices and are kept.

Source: spec/execution.md 6.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from lake import atomic, yaml_files
from lake.commits import read_partitions
from lake.paths import PROJECT_DIR, stage_dir

MODELS_DIR = PROJECT_DIR / "models" / "gold" / "execution"
METADATA_FILE = "metadata.json"
NAMES = ("stop_execution_features",)
VERSION = "1.0.0"
"""As the model writes it into ``feature_version``: formulas of another meaning are another version."""
REFRESHED_BY = ("bronze-ingest", "silver-transform")


def folder(root: Path, name: str) -> Path:
    return root / "lake" / "gold" / "features" / name


def model(name: str) -> dict[str, Any]:
    """The YAML of the table's dbt model."""
    found = yaml_files.read(MODELS_DIR / f"features_{name}.yml")
    return found["models"][0]


def features(name: str) -> list[dict[str, Any]]:
    """Name, type, unit, time to live and default of each feature of a table, in stored order."""
    declared = model(name)
    found = []
    for column in declared["columns"]:
        meta = column.get("config", {}).get("meta", {})
        if meta.get("role") == "feature":
            found.append(
                {
                    "name": column["name"],
                    "dtype": column["data_type"],
                    "unit": meta["unit"],
                    "ttl_sec": meta["ttl_sec"],
                    "default_policy": meta["default_policy"],
                    "owner": declared["config"]["meta"]["owner"],
                    "formula_id": meta["formula_id"],
                }
            )
    return found


def schema_hash(of: list[dict[str, Any]]) -> str:
    """sha256 of the names and types of features, in order: what a packed value is read by."""
    return _sha256(json.dumps([[f["name"], f["dtype"]] for f in of], separators=(",", ":")))


def metadata(root: Path, name: str) -> dict[str, Any]:
    """``metadata.json`` of a table as its commit records have it now."""
    of = features(name)
    partitions = read_partitions(folder(root, name))
    kept = _kept(folder(root, name) / METADATA_FILE)
    digests = "".join(f"{date} {p.commit.content_digest}\n" for (_, date), p in sorted(partitions.items()))
    return {
        "name": name,
        "active_version": kept.get("active_version") or VERSION,
        "versions": [{"version": VERSION, "schema_hash": schema_hash(of), "features": of}],
        "entity_keys": model(name)["config"]["meta"]["entity_keys"],
        "offline_table": f"gold.features_{name}",
        "refresh_schedule": [*REFRESHED_BY],
        "last_refresh": max((p.commit.built_at for p in partitions.values()), default=None),
        "row_count": sum(p.commit.rows for p in partitions.values()),
        "sha256": _sha256(digests),
        "experiment": kept.get("experiment"),
    }


def write_metadata(root: Path) -> list[Path]:
    """Bring ``metadata.json`` of every table that is there up to date; returns those that changed."""
    changed = []
    for name in NAMES:
        path = folder(root, name) / METADATA_FILE
        if not path.parent.exists():
            continue
        content = metadata(root, name)
        if content != _read(path):
            atomic.make_dirs(stage_dir(root))
            staged = stage_dir(root) / f"features_{name}.json"
            atomic.write_json(staged, content)
            atomic.replace(staged, path)
            changed.append(path)
    return changed


def _kept(path: Path) -> dict[str, Any]:
    return {k: v for k, v in _read(path).items() if k in ("active_version", "experiment")}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
