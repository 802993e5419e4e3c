"""Which version of a dataset is read and built on, where a backfill has made siblings of it (spec/execution.md 8.2).

Version 1 of ``silver/stop_executions`` stands in that folder, version 2 in ``silver/stop_executions_v2``. Models whose
``meta.versioned_with`` names the dataset (its quarantine, the anomalies, the private steps of its code) have siblings
likewise, and one record, ``silver/stop_executions/_metadata/active.json``, switches all of them.
"""

import json
import os
from pathlib import Path

from lake import atomic
from lake.read_once import ReadOnce

DATASETS = {
    "stop_executions": "silver/stop_executions"
}  # what can be backfilled, with its folder below lake/
ACTIVE_FILE = "active.json"
RECORD_VERSION = 1
BUILDING = "TICKHOUSE_SIBLING"
"""Environment of a dbt run that builds siblings: a JSON map from each dataset's folder to its sibling's."""

_read = ReadOnce(lambda path: atomic.read_json(Path(path)))


def record_path(root: Path, dataset: str) -> Path:
    return root / "lake" / DATASETS[dataset] / "_metadata" / ACTIVE_FILE


def record(root: Path, dataset: str) -> dict | None:
    """What ``active.json`` of a dataset says; None while there is but version 1."""
    try:
        return _read(str(record_path(root, dataset)))
    except FileNotFoundError:
        return None


def version(root: Path, dataset: str) -> int:
    """The version that readers see."""
    found = record(root, dataset)
    return found["version"] if found else 1


def sibling(folder: str, number: int) -> str:
    """Folder of a version of a dataset whose first version stands in ``folder``."""
    return folder if number == 1 else f"{folder}_v{number}"


def folder(root: Path, declared: str) -> str:
    """The folder below ``lake/`` where the dataset that a model declares to stand in ``declared`` stands now."""
    if declared in (being_built := building()):
        return being_built[declared]
    for dataset in DATASETS:
        found = record(root, dataset)
        if found and declared in found["members"]:
            return sibling(declared, found["version"])
    return declared


def building() -> dict[str, str]:
    """Siblings that this process builds, by the folder of their first version; {} in every other."""
    return json.loads(os.environ.get(BUILDING) or "{}")
