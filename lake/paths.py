"""Where everything stands under one root (architecture, section 3)."""

import os
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent


def lake_root() -> Path:
    """Absolute root of all data: the environment's ``LAKE_ROOT``, or ``data/`` beside dbt_project.yml."""
    return Path(os.environ.get("LAKE_ROOT") or PROJECT_DIR / "data").expanduser().resolve()


def lake_dir(root: Path) -> Path:
    return root / "lake"


def bronze_dir(root: Path) -> Path:
    return root / "lake" / "bronze"


def stage_dir(root: Path) -> Path:
    """Files under construction; on the same file system as every dataset, outside all of them, never data."""
    return root / "lake" / "_stage"


def receipts_dir(root: Path) -> Path:
    return root / "raw" / "_metadata"


def runs_dir(root: Path) -> Path:
    return root / "_meta" / "runs"


def partition_dir(dataset: Path, date: str, params_digest: str | None = None) -> Path:
    """Folder of one partition of a silver or gold dataset; ``date`` is ISO, ``params_digest`` any length ≥ 8."""
    if params_digest is not None:
        dataset = dataset / f"params={params_digest[:8]}"
    return dataset / f"date={date}"
