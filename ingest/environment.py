"""One lake root holds one environment of the execution domain, ``prod`` or ``testnet``.

Source: spec/execution.md 3.1.
"""

from __future__ import annotations

import os
from pathlib import Path

from ingest.errors import RefusedFile
from lake import atomic

ENVIRONMENTS = ("prod", "testnet")


def environment_path(root: Path) -> Path:
    return root / "_meta" / "environment.json"


def read_environment(root: Path) -> str | None:
    """What the root holds; None while it holds nothing of the execution domain."""
    path = environment_path(root)
    return atomic.read_json(path)["environment"] if path.is_file() else None


def require_environment(root: Path, environment: str) -> None:
    """Give the root its environment, for good, on the first call. Raises RefusedFile when it has another one."""
    if environment not in ENVIRONMENTS:
        raise ValueError(f"environment was {environment}, expected one of {', '.join(ENVIRONMENTS)}")
    held = read_environment(root)
    if held is None:
        path = environment_path(root)
        mine = path.with_name(f"._tmp-environment-{os.getpid()}.json")
        atomic.write_json(mine, {"environment": environment})
        try:
            os.link(mine, path)
        except FileExistsError:  # another loader was first
            held = read_environment(root)
        else:
            held = environment
            atomic.fsync_dir(path.parent)
        finally:
            mine.unlink(missing_ok=True)
    if held != environment:
        raise RefusedFile(
            f"rows were of environment {environment}, but the lake holds {held}; "
            "set LAKE_ROOT to a lake of their own"
        )
