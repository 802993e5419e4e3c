"""Many experiments side by side, out of one small file, and without what training imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ml import index


def put(root: Path, count: int) -> None:
    scores = {"roc_auc": 0.6, "base_rate_roc_auc": 0.5, "pr_auc": 0.4, "brier": 0.2, "base_rate_brier": 0.21}
    scores |= {"brier_skill": 0.05, "ci_low": 0.01, "ci_high": 0.09, "n_folds": 5}
    entries = [
        {
            "id": f"exp{i:03d}", "version": "v1.0_a", "status": "completed" if i % 5 else "failed",
            "metrics": {"signal_count": 100 + i, "feature_count": 40} if i % 5 else {},
            "model_metrics": {"tradeable_2_touch": scores, "direction_touch": scores} if i % 5 else None,
        }
        for i in range(1, count + 1)
    ]  # fmt: skip
    index.path(root).parent.mkdir(parents=True)
    index.path(root).write_text(json.dumps({"experiments": entries}))


def test_every_completed_experiment_has_a_line_for_each_head(tmp_path: Path) -> None:
    put(tmp_path, 100)
    rows = index.side_by_side(tmp_path)
    assert len(rows) == 160
    assert rows[0]["experiment"] == "exp001"
    assert (rows[0]["brier"], rows[0]["base_rate_brier"]) == (0.2, 0.21)


def test_named_ones_are_shown_whatever_became_of_them(tmp_path: Path) -> None:
    put(tmp_path, 10)
    rows = index.side_by_side(tmp_path, ["exp002_name", "exp005", "exp007"])
    assert [r["experiment"] for r in rows] == ["exp002", "exp002", "exp005", "exp007", "exp007"]
    assert rows[2]["status"] == "failed"


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    assert index.side_by_side(tmp_path) == []
    put(tmp_path, 2)
    with pytest.raises(index.UnknownExperiment, match="expected one of exp001, exp002"):
        index.side_by_side(tmp_path, ["exp009"])
    index.path(tmp_path).write_text("{")
    with pytest.raises(index.UnknownExperiment, match="put it back"):
        index.side_by_side(tmp_path)


def test_the_command_imports_nothing_that_takes_its_time(tmp_path: Path) -> None:
    put(tmp_path, 3)
    code = (
        "import sys; sys.argv = ['tickhouse', 'experiments', 'compare', '--json', '--root', sys.argv[1]]\n"
        "from cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'numpy', 'pyarrow', 'lightgbm', 'pandas', 'duckdb', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(json.loads(done.stdout[: done.stdout.rindex("]\n[") + 1])) == 6
