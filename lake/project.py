"""The dbt project as it is on disk: its graph and macros, for whom has no dbt run around it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lake import dbt
from lake.paths import PROJECT_DIR


def load(
    root: Path,
    *,
    project_dir: Path = PROJECT_DIR,
    target_path: Path | None = None,
    variables: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse the project and return (graph, macros) as the materialization sees them: the graph has ``nodes`` and
    ``sources`` as dicts by unique id. Takes some seconds, half a one when nothing changed since.
    """
    manifest = dbt.invoke(
        ["parse"], root=root, project_dir=project_dir, target_path=target_path, variables=variables
    )
    manifest.build_flat_graph()
    return {name: manifest.flat_graph[name] for name in ("nodes", "sources")}, dict(manifest.macros)
