"""The compiled project, for the laws about models."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli import dbt


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """manifest.json of the whole project, every SQL model compiled, over an empty lake."""
    folder: Path = tmp_path_factory.mktemp("compiled")
    dbt.invoke(["compile"], root=folder / "lake_root", target="lint", target_path=folder / "target")
    return json.loads((folder / "target" / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Models of this project by unique id."""
    return {
        unique_id: node for unique_id, node in manifest["nodes"].items() if node["resource_type"] == "model"
    }
