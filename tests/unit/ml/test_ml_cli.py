"""`tickhouse train`: a table on stdout, remarks on stderr, one clear line when it can't."""

import json
import os
import subprocess
import sys

import ml_worlds
import pytest
from typer.testing import CliRunner

from cli.train import app
from lake.paths import PROJECT_DIR
from ml import datasets, training


@pytest.fixture
def known(monkeypatch, contract, quick):
    """The command as it is, with the test's contract and few rounds."""
    monkeypatch.setattr(datasets, "load_contract", lambda version: contract)
    monkeypatch.setattr(training, "Config", lambda version: quick)


def run(root, *args):
    return CliRunner().invoke(app, ["--root", str(root), *args])


def test_a_table_then_up_to_date(root, known):
    dry = run(root, "--dry-run")
    assert "new" in dry.stdout
    assert not (root / "ml").exists()
    first = run(root)
    assert first.exit_code == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].split()[:5] == ["stage", "head", "fold", "first", "last"]
    assert "brier_base" in lines[0]
    assert sum(line.startswith("touch") for line in lines) == 2 * (4 + 2)
    assert "exp001_mechanics_only was trained" in first.stderr
    assert "insufficient folds: 4 fit" in first.stderr
    assert "no claim of skill: 4 test sessions" in first.stderr
    second = run(root)
    assert second.stdout == first.stdout
    assert "was up to date" in second.stderr
    assert "up_to_date" in run(root, "--dry-run").stdout


def test_json_is_an_array_of_flat_objects(root, known):
    rows = json.loads(run(root, "--json").stdout)
    assert len(rows) == 4 * (4 + 2)
    assert len({tuple(r) for r in rows}) == 1
    assert all(not isinstance(v, dict | list) for r in rows for v in r.values())
    assert all(r["brier_base_rate"] is not None for r in rows if r["skipped"] is None)
    (pooled, *_) = [r for r in rows if r["fold"] == "pooled" and r["head"] == "direction"]
    assert pooled["roc_auc_ci_low"] <= pooled["roc_auc_model"] <= pooled["roc_auc_ci_high"]


@pytest.mark.skipif(not datasets.CONTRACTS.is_file(), reason="contracts/features.json was not generated yet")
def test_the_whole_command_fails_in_one_line(tmp_path):
    def command(*args):
        env = {**os.environ, "LAKE_ROOT": str(tmp_path)}
        call = [sys.executable, "-m", "cli.main", "train", *args]
        return subprocess.run(call, cwd=PROJECT_DIR, env=env, capture_output=True, text=True, check=False)

    empty = command()
    assert empty.returncode == 1
    assert empty.stdout == ""
    assert len(empty.stderr.strip().splitlines()) == 1
    assert "dbt build" in empty.stderr
    ml_worlds.commit_gold(tmp_path, ml_worlds.gold(sessions=5, touches=3, planted=False))
    few = command()
    assert few.returncode == 1
    assert "had 5 sessions, expected at least 13" in few.stderr
    assert command("--experiment", "nonsense").returncode == 1
    assert command("--no-such-option").returncode == 2
