"""dbt inside this process: importing and parsing it is what a dbt call costs, so both happen once."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lake.paths import PROJECT_DIR

UNTOLD = "no reason given; run dbt itself"


def invoke(
    args: Sequence[str],
    *,
    root: Path,
    project_dir: Path = PROJECT_DIR,
    target: str = "dev",
    target_path: Path | None = None,
    variables: Mapping[str, Any] | None = None,
    on_event: Callable[[Any], None] | None = None,
) -> Any:
    """Run one dbt command on the lake under ``root``; return the result's payload (manifest, run results, …).

    ``args`` is the command with its own options, e.g. ``["build", "--select", "+touch_features.v1_0"]``.
    ``target_path`` defaults to ``target/<target>`` beside the project: partial parsing is lost when targets
    share one. dbt itself prints nothing; ``on_event`` receives its structured events.

    Raises RuntimeError that names each node that failed and why. A lake that another process holds open is
    such a failure: DuckDB takes one writer, and its message names the process.
    """
    # Imported here: it takes seconds, which no other command should pay.
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager  # noqa: PLC0415
    from dbt.cli.main import dbtRunner  # noqa: PLC0415

    full = [
        "--no-use-colors", "--log-level", "none", "--log-path", str(project_dir / "logs"), *args,
        "--project-dir", str(project_dir), "--profiles-dir", str(project_dir), "--target", target,
        "--target-path", str(target_path or project_dir / "target" / target),
    ]  # fmt: skip
    if variables:
        full += ["--vars", json.dumps(dict(variables))]

    root.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("LAKE_ROOT")
    os.environ["LAKE_ROOT"] = str(root)
    os.environ.setdefault("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
    try:
        outcome = dbtRunner(callbacks=[on_event] if on_event else []).invoke(full)
    finally:
        # The adapter keeps the database file open, and locked, until the next call.
        if DuckDBConnectionManager._ENV is not None:
            DuckDBConnectionManager._ENV.close()
            DuckDBConnectionManager.close_all_connections()
        if before is None:
            del os.environ["LAKE_ROOT"]
        else:
            os.environ["LAKE_ROOT"] = before
    if outcome.success:
        return outcome.result
    raise RuntimeError(f"dbt {args[0]} failed: {_reasons(outcome)}") from outcome.exception


def _reasons(outcome: Any) -> str:
    """Say which nodes failed and why, in the order they ran; the nodes skipped after them are counted."""
    results = getattr(outcome.result, "results", None) or []
    failed = [result for result in results if str(result.status) in ("error", "fail", "runtime error")]
    if not failed:
        told = " ".join(str(outcome.exception or UNTOLD).split())
        held = "Could not set lock on file" in told
        return f"{told}; leave that shell or wait for that process, then run again" if held else told
    skipped = sum(str(result.status) == "skipped" for result in results)
    told = "; ".join(f"{_name(result)}: {_cause(result.message or UNTOLD)}" for result in failed)
    return told + (f" ({skipped} nodes after them were skipped)" if skipped else "")


def _name(result: Any) -> str:
    """What failed: a node, or a macro that ran as an operation, of which dbt tells only its id."""
    node = getattr(result, "node", None)
    return result.unique_id.rpartition(".")[2] if node is None else node.name


def _cause(message: str) -> str:
    """A failure in one line; of a Python model's traceback only the exception itself."""
    if "Traceback (most recent call last)" in message:
        raised = [line for line in message.splitlines() if re.match(r"\s*[\w.]*(Error|Exception)\b.*:", line)]
        message = raised[-1] if raised else message
    return " ".join(message.split())
