"""`tickhouse experiments compare` over a hundred experiments against `tickhouse --help` and reading their file."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

EXPERIMENTS = 100


def make(root: Path, count: int) -> Path:
    """``experiments.json`` with every head of the specification in each entry."""
    names = [
        "roc_auc",
        "base_rate_roc_auc",
        "pr_auc",
        "brier",
        "base_rate_brier",
        "brier_skill",
        "ci_low",
        "ci_high",
    ]
    scores = dict.fromkeys([*names, "n_folds"], 0.123456789)
    heads = {f"head{i}_{stage}": scores for i in range(8) for stage in ("touch", "confirm_240")}
    entries = [
        {
            "id": f"exp{i:03d}", "version": "v1.0_mechanics_only", "status": "completed", "model_metrics": heads,
            "metrics": {"signal_count": 1000, "feature_count": 40, **scores}, "notes": "n" * 80,
        }
        for i in range(1, count + 1)
    ]  # fmt: skip
    path = root / "lake" / "silver" / "features" / "experiments.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"experiments": entries}, indent=1))
    return path


def bench(scratch: Path, *, count: int = EXPERIMENTS, runs: int = 15) -> dict[str, float]:
    """Median CPU seconds of fresh processes, in turn; ``ratio`` is ours / (--help + reading)."""
    root = scratch / "compare"
    path = make(root, count)
    ours, helped, reading = [], [], []
    for _ in range(runs + 1):
        helped.append(_cpu_s(["--help"], root))
        ours.append(_cpu_s(["experiments", "compare"], root))
        started = time.process_time()
        json.loads(path.read_text())
        reading.append(time.process_time() - started)
    middle = [statistics.median(x[1:]) for x in (ours, helped, reading)]
    return {
        "ratio": middle[0] / (middle[1] + middle[2]),
        "ours_s": middle[0],
        "help_s": middle[1],
        "read_s": middle[2],
    }


def _cpu_s(args: list[str], root: Path) -> float:
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    subprocess.run(
        [sys.executable, "-m", "cli.main", *args], env={**os.environ, "LAKE_ROOT": str(root)}, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return spent() - before
