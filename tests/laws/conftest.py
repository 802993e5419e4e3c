"""The compiled project, for the laws about models; quiet runs of every loader, for those about ingest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli import dbt

if TYPE_CHECKING:
    from tests.fixtures.loaders import Loader
    from tests.fixtures.quiet import Quiet


@pytest.fixture(scope="session")
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """manifest.json of the whole project, every SQL model compiled, over an empty lake; or another one, where a law is
    tried on it (`test_mutants`)."""
    if given := getattr(request.config, "given_manifest", None):
        return given
    folder: Path = tmp_path_factory.mktemp("compiled")
    dbt.invoke(["compile"], root=folder / "lake_root", target="lint", target_path=folder / "target")
    return json.loads((folder / "target" / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Models of this project by unique id."""
    return {
        unique_id: node for unique_id, node in manifest["nodes"].items() if node["resource_type"] == "model"
    }


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Loader], Quiet]]:
    """By loader: its sources and what a run that nobody disturbs makes of them, made once."""
    # Every source and its client: no other law should wait for their imports.
    from tests.fixtures.loaders import s3_serving  # noqa: PLC0415
    from tests.fixtures.quiet import Quiet  # noqa: PLC0415

    made: dict[str, Quiet] = {}

    def of(loader: Loader) -> Quiet:
        if loader.name not in made:
            made[loader.name] = Quiet(loader, tmp_path_factory.mktemp("quiet"))
        return made[loader.name]

    yield of
    s3_serving.close()
