"""The run record of a call: what ran, on which code, with which outcome. One JSON under ``_meta/runs/``."""

import hashlib
import importlib.metadata
import json
import secrets
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from lake import atomic
from lake.commits import now_utc
from lake.paths import PROJECT_DIR, runs_dir

try:
    TICKHOUSE_VERSION = importlib.metadata.version("tickhouse")
except importlib.metadata.PackageNotFoundError:  # a checkout on the path, not installed
    TICKHOUSE_VERSION = "0.1.0"


def new_run_id(mode: str) -> str:
    """``YYYYMMDDTHHMMSSZ_<mode>_<6 hex>``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}_{mode}_{secrets.token_hex(3)}"


def write_run(
    root: Path, run_id: str, *, config: dict, counts: dict[str, int], status: str, started_at: str
) -> None:
    """Write ``_meta/runs/<run_id>.json``; ``config`` enters by its digest too, so that equal calls can be found."""
    canonical = json.dumps(config, sort_keys=True)
    record = {
        "run_id": run_id,
        "mode": run_id.split("_")[1],
        "started_at": started_at,
        "finished_at": now_utc(),
        "tickhouse_version": TICKHOUSE_VERSION,
        "git_commit": git_commit(),
        "config": config,
        "config_digest": hashlib.sha256(canonical.encode()).hexdigest(),
        "counts": counts,
        "status": status,
    }
    atomic.write_json(runs_dir(root) / f"{run_id}.json", record)


def git_commit() -> str | None:
    """Commit of the checkout that runs, None where it isn't one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT_DIR), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
