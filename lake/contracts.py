"""Writes ``contracts/features.json`` from the model YAML: the contract of each feature version, labels included.

Run as ``python -m lake.contracts`` (``make contracts``); a test holds that the checked-in file is current.
"""

import json
from pathlib import Path

import yaml

from lake import atomic
from lake.paths import PROJECT_DIR

FEATURES_JSON = PROJECT_DIR / "contracts" / "features.json"
TRAINING_FOLDER = "gold/training/candidates/"


class ContractError(ValueError):
    """A column of a version's YAML lacks what its contract needs."""


def features(models_dir: Path = PROJECT_DIR / "models") -> dict[str, object]:
    """``{version: {version, columns: [{name, dtype, unit, nullable, domain, role, group}, …]}}`` in stored order."""
    contracts: dict[str, object] = {}
    for path in sorted(models_dir.rglob("*.yml")):
        for model in (yaml.safe_load(path.read_text()) or {}).get("models", []):
            meta = model.get("config", {}).get("meta", {})
            folder = meta.get("folder", "")
            if not folder.startswith(TRAINING_FOLDER):
                continue
            columns = [_column(model["name"], column) for column in model["columns"]]
            contracts[folder.removeprefix(TRAINING_FOLDER)] = {
                "version": meta["semantic_version"],
                "columns": columns,
            }
    return dict(sorted(contracts.items()))


def _column(model: str, column: dict) -> dict[str, object]:
    meta = column.get("config", {}).get("meta", {})
    if missing := [key for key in ("role", "group") if key not in meta]:
        raise ContractError(
            f"{model}.{column['name']} has no {' and no '.join(missing)}; add it under config.meta"
        )
    return {
        "name": column["name"],
        "dtype": column["data_type"],
        "unit": meta.get("unit"),
        "nullable": "null_when" in meta,
        "domain": meta.get("domain"),
        "role": meta["role"],
        "group": meta["group"],
    }


def main() -> None:
    text = json.dumps(features(), indent=1, ensure_ascii=False) + "\n"
    atomic.write_text(FEATURES_JSON, text)


if __name__ == "__main__":
    main()
