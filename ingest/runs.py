"""The run record of a call: what ran, on which code, with which outcome. One JSON under ``_meta/runs/``."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from ingest.bronze_writer import TICKHOUSE_VERSION
from ingest.landing import now_utc
from lake import atomic
from lake.paths import PROJECT_DIR, runs_dir


def new_run_id(mode: str) -> str:
    """``YYYYMMDDTHHMMSSZ_<mode>_<6 hex>``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}_{mode}_{secrets.token_hex(3)}"


def write_run(
    root: Path, run_id: str, *, config: dict, counts: dict, status: str, started_at: str, **more: object
) -> None:
    """Write ``_meta/runs/<run_id>.json``; ``config`` enters by its digest too, so that equal calls can be
    found.
    """
    canonical = json.dumps(config, sort_keys=True)
    record = {
        "run_id": run_id,
        "mode": run_id.split("_")[1],
        "started_at": started_at,
        "finished_at": now_utc(),
        "tickhouse_version": TICKHOUSE_VERSION,
        "git_commit": _git_commit(),
        "config": config,
        "config_digest": hashlib.sha256(canonical.encode()).hexdigest(),
        "counts": counts,
        "status": status,
    }
    atomic.write_json(runs_dir(root) / f"{run_id}.json", record | more)


def _git_commit() -> str | None:
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
