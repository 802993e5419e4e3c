"""Where everything stands under one root (architecture, section 3)."""

import os
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent


def lake_root() -> Path:
    """Absolute root of all data: the environment's ``LAKE_ROOT``, or ``data/`` beside dbt_project.yml.

    Raises NotADirectoryError when that is a file.
    """
    root = Path(os.environ.get("LAKE_ROOT") or PROJECT_DIR / "data").expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"LAKE_ROOT was {root}, a file; expected a folder, name another")
    return root


def lake_dir(root: Path) -> Path:
    return root / "lake"


def bronze_dir(root: Path) -> Path:
    return root / "lake" / "bronze"


def archive_dir(root: Path) -> Path:
    return root / "lake" / "archive"


def stage_dir(root: Path) -> Path:
    """Files under construction; on the same file system as every dataset, outside all of them, never data."""
    return root / "lake" / "_stage"


def receipts_dir(root: Path) -> Path:
    return root / "raw" / "_metadata"


def runs_dir(root: Path) -> Path:
    return root / "_meta" / "runs"
