"""`tickhouse compact` and `tickhouse retention`: what they print, and that only `--yes` deletes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import compact, dbt, retention
from lake import atomic, bronze
from lake.retention import load_rules as real
from tests.unit.test_compaction import land, on_disk, rows


@pytest.fixture
def lake(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four files of one hour of 2025; dbt is only told to show them."""
    land(root)
    for path in (root / "raw/_metadata").glob("receipt-*.json"):
        atomic.write_json(path, {**json.loads(path.read_text()), "path": None, "sha256": ""})
    monkeypatch.setattr(dbt, "invoke", lambda args, **_: None)
    return root


def tickhouse(app: object, *args: str) -> Result:
    return CliRunner().invoke(app, [*args])


def test_compact_prints_what_it_merged_and_a_dry_run_merges_nothing(lake):
    done = tickhouse(compact.app, "--json", "--dry-run")
    (row,) = json.loads(done.stdout)
    assert (row["files"], row["rows"], row["bytes_after"]) == (4, 800, None)
    assert len(on_disk(lake)) == 4
    done = tickhouse(compact.app, "--json")
    assert json.loads(done.stdout)[0]["bytes_after"] > 0
    assert len(on_disk(lake)) == 5
    done = tickhouse(compact.app, "--grace-seconds", "0")
    assert "4 replaced earlier deleted" in done.stderr
    assert len(on_disk(lake)) == 1
    records = [json.loads(p.read_text()) for p in (lake / "_meta/runs").glob("*_compact_*.json")]
    assert sorted(r["counts"]["deleted"] for r in records) == [0, 4]


def test_bronze_of_the_market_is_permanent(lake):
    done = tickhouse(retention.app, "plan", "--as-of", "2030-01-01", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])


def test_delete_is_a_dry_run_unless_told(lake, tmp_path, monkeypatch):
    policy = tmp_path / "policy.csv"
    policy.write_text("dataset,hot_days,archive_days,date_column,delete_allowed\nbronze/*,90,-1,date,true\n")
    monkeypatch.setattr(retention, "load_rules", lambda as_of, only: real(as_of, only, policy_file=policy))
    content = rows(lake)
    as_of = ("--as-of", "2026-06-01", "--json")
    assert [r["state"] for r in json.loads(tickhouse(retention.app, "plan", *as_of).stdout)] == ["hot"]
    assert json.loads(tickhouse(retention.app, "delete", "--yes", *as_of).stdout)[0]["state"] == "refused"
    assert [r["state"] for r in json.loads(tickhouse(retention.app, "archive", *as_of).stdout)] == [
        "archived"
    ]
    done = tickhouse(retention.app, "delete", *as_of)
    assert json.loads(done.stdout)[0]["state"] == "would be deleted"
    assert "nothing was changed" in done.stderr
    assert len(on_disk(lake)) == 4
    assert json.loads(tickhouse(retention.app, "delete", "--yes", *as_of).stdout)[0]["state"] == "deleted"
    assert on_disk(lake) == []
    assert rows(lake) == content
    assert tickhouse(retention.app, "verify", *as_of).exit_code == 0
    (path,) = bronze.paths(bronze.visible_files(lake))
    path.write_bytes(path.read_bytes()[:-1])
    assert tickhouse(retention.app, "verify", *as_of).exit_code == 1


def test_a_day_that_is_none_is_a_wrong_call(lake):
    done = tickhouse(retention.app, "plan", "--as-of", "soon")
    assert done.exit_code == 2
    assert "expected one such as 2025-12-15" in " ".join(done.stderr.split())
