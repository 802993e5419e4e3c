"""`tickhouse run` says what became of a job by its exit code, and in one line why it did not begin."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import run
from lake import job_runs, jobs
from lake.locks import NameLock
from lake.paths import stage_dir


def job(*steps: str, timeout_s: int = 60) -> jobs.Job:
    return jobs.Job(
        "night", "5 * * * *", ("tickhouse", "run", "night"), timeout_s, 1, 0, "night", (), (), steps
    )


def call(monkeypatch: pytest.MonkeyPatch, told: jobs.Job, *options: str):
    monkeypatch.setattr(jobs, "named", lambda name: told)
    return CliRunner().invoke(run.app, ["night", *options])


@pytest.mark.parametrize(
    ("step", "timeout_s", "code", "status"),
    [
        ("python -c 0", 60, 0, "ok"),
        ("python -c 'raise SystemExit(3)'", 60, 1, "failed"),
        ("python -c 'import time; time.sleep(60)'", 1, 124, "timed out"),
    ],
)
def test_the_exit_code_says_what_became_of_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str, timeout_s: int, code: int, status: str
):
    made = call(monkeypatch, job(step, timeout_s=timeout_s), "--json")
    assert made.exit_code == code
    rows = json.loads(made.stdout)
    assert [(row["job"], row["command"], row["status"]) for row in rows] == [("night", step, status)]
    assert [record["status"] for record in job_runs.records(root)] == [status]
    assert f"night {status} after" in made.stderr


def test_one_that_runs_already_is_told_in_one_line(root: Path, monkeypatch: pytest.MonkeyPatch):
    stage_dir(root).mkdir(parents=True)
    lock = NameLock(stage_dir(root) / "job.night.lock")
    assert lock.take(wait=False)
    made = call(monkeypatch, job("python -c 0"))
    assert made.exit_code == run.IS_RUNNING
    assert made.stderr.startswith("tickhouse: job night was running already")
    assert len(made.stderr.splitlines()) == 1
    assert job_runs.records(root) == []
    lock.release()
    assert call(monkeypatch, job("python -c 0")).exit_code == 0


def test_a_dry_run_lists_the_steps_and_calls_none(root: Path, monkeypatch: pytest.MonkeyPatch):
    made = call(monkeypatch, job("python -c 'raise SystemExit(1)'", "dbt build"), "--dry-run", "--json")
    assert made.exit_code == 0
    assert [row["command"] for row in json.loads(made.stdout)] == [
        "python -c 'raise SystemExit(1)'",
        "dbt build",
    ]
    assert [*root.iterdir()] == []


def test_an_unknown_job_is_told_with_those_that_are(root: Path):
    made = CliRunner().invoke(run.app, ["nosuch"])
    assert made.exit_code == 1
    assert "expected one of bronze-ingest, silver-transform, gold-features" in str(made.exception)


def test_without_sources_bronze_ingest_says_so_and_fails(root: Path):
    made = CliRunner().invoke(run.app, ["bronze-ingest"])
    assert made.exit_code == 1
    assert str(made.exception).startswith(
        f"{root / jobs.SOURCES_FILE} was not there, expected the sources to load"
    )
    assert "\n" not in str(made.exception)
