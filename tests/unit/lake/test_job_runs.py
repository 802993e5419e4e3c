"""A run of a job: alone, in order, under one deadline, tried again, and on record."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lake import contracts, job_runs, jobs
from lake.job_runs import FAILED, INCOMPLETE, OK, TIMED_OUT, JobIsRunning, JobRun
from lake.locks import NameLock
from lake.paths import PROJECT_DIR, runs_dir, stage_dir
from tests.fixtures.monitoring import mark_hours, utc

MAY_TAKE_S = 60


@pytest.fixture
def kit(tmp_path: Path) -> "Kit":
    return Kit(tmp_path)


class Kit:
    """Jobs whose steps are scripts: each call appends its name to ``calls``, then does what it is told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls_file = root / "calls"
        self.scripts = root / "scripts"
        self.scripts.mkdir()

    def step(self, name: str, does: str = "") -> str:
        """A command line. ``does`` may use ``count``, how often this step was called before."""
        text = f"""
            import sys, time
            calls = open({str(self.calls_file)!r}, "a+")
            calls.seek(0)
            count = calls.read().split().count({name!r})
            calls.write({name!r} + chr(10)); calls.close()
            """
        path = self.scripts / f"{name}.py"
        path.write_text(textwrap.dedent(text) + does + "\n")
        return f"python {path}"

    def job(self, *steps: str, **changes: object) -> jobs.Job:
        told = {"timeout_s": MAY_TAKE_S, "retries": 0, "retry_after_s": 0, "reads": (), "writes": ()}
        return jobs.Job(
            **(
                {"name": "night", "schedule": "5 * * * *", "command": (), "lock": "night", "steps": steps}
                | told
                | changes
            )
        )

    def run(self, *steps: str, retry: bool = True, **changes: object) -> JobRun:
        return job_runs.run(self.root, self.job(*steps, **changes), retry=retry)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().split() if self.calls_file.exists() else []

    def record(self) -> dict:
        return job_runs.records(self.root)[-1]


def test_steps_run_in_order_and_are_on_record(kit: Kit):
    made = kit.run(kit.step("a"), kit.step("b"))
    assert kit.calls == ["a", "b"]
    record = kit.record()
    assert contracts.faults(record, "job_run") == []
    assert (record["job"], record["status"], record["run_id"]) == ("night", OK, made.run_id)
    assert [(s["attempts"], s["exit_code"], s["status"]) for s in record["steps"]] == [(1, 0, OK)] * 2
    assert record["duration_s"] >= sum(s["duration_s"] for s in record["steps"])


def test_a_step_that_fails_ends_the_run(kit: Kit):
    made = kit.run(kit.step("a", "sys.exit(7)"), kit.step("b"))
    assert kit.calls == ["a"]
    assert made.status == FAILED
    assert [(s.exit_code, s.status) for s in made.steps] == [(7, FAILED)]


def test_a_retry_takes_up_the_step_that_failed(kit: Kit):
    steps = [kit.step("a"), kit.step("b", "sys.exit(count < 2)"), kit.step("c")]
    made = kit.run(*steps, retries=2)
    assert kit.calls == ["a", "b", "b", "b", "c"]
    assert made.status == OK
    assert [s.attempts for s in made.steps] == [1, 3, 1]


def test_retries_are_of_the_run_not_of_each_step(kit: Kit):
    made = kit.run(kit.step("a", "sys.exit(count < 1)"), kit.step("b", "sys.exit(count < 2)"), retries=2)
    assert kit.calls == ["a", "a", "b", "b"]
    assert made.status == FAILED


def test_a_scheduler_with_retries_of_its_own_gets_none_of_ours(kit: Kit):
    made = kit.run(kit.step("a", "sys.exit(count < 1)"), retries=2, retry=False)
    assert (kit.calls, made.status) == (["a"], FAILED)


def test_a_run_that_takes_too_long_is_ended_with_what_it_started(kit: Kit):
    child = kit.root / "child.py"
    child.write_text(f"import time; time.sleep({MAY_TAKE_S})")
    does = (
        f"import subprocess; child = subprocess.Popen([sys.executable, {str(child)!r}])\n"
        f"print(child.pid, file=open({str(kit.root / 'pid')!r}, 'w'), flush=True); child.wait()"
    )
    made = kit.run(kit.step("a", does), kit.step("b"), timeout_s=2, retries=2)
    assert made.status == TIMED_OUT
    assert [(s.exit_code, s.status, s.attempts) for s in made.steps] == [(None, TIMED_OUT, 1)]
    assert kit.calls == ["a"]
    assert not is_alive(int((kit.root / "pid").read_text()))
    assert contracts.faults(kit.record(), "job_run") == []


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_waiting_for_a_retry_counts_as_time(kit: Kit):
    made = kit.run(kit.step("a", "sys.exit(1)"), timeout_s=2, retries=9, retry_after_s=MAY_TAKE_S)
    assert made.status == TIMED_OUT
    assert made.steps[0].attempts == 2


def test_a_second_run_is_refused_in_one_line_that_names_the_first(kit: Kit):
    does = (
        f"import os; open({str(kit.root / 'inside')!r}, 'w')\n"
        f"while not os.path.exists({str(kit.root / 'go')!r}): time.sleep(0.05)"
    )
    script = kit.root / "first.py"
    script.write_text(
        "from pathlib import Path; from lake import job_runs, jobs\n"
        f"job = jobs.Job('night', '5 * * * *', (), {MAY_TAKE_S}, 0, 0, 'night', (), (), ({kit.step('a', does)!r},))\n"
        f"job_runs.run(Path({str(kit.root)!r}), job)\n"
    )
    first = subprocess.Popen([sys.executable, str(script)], cwd=PROJECT_DIR)
    try:
        until((kit.root / "inside").exists)
        with pytest.raises(JobIsRunning) as refused:
            kit.run(kit.step("b"))
        assert kit.record()["run_id"] in str(refused.value)
        assert "\n" not in str(refused.value)
        # another job that shares no lock isn't kept waiting
        assert kit.run(kit.step("c"), name="day", lock="day").status == OK
    finally:
        (kit.root / "go").touch()
        assert first.wait(MAY_TAKE_S) == 0
    assert kit.run(kit.step("d")).status == OK
    assert kit.calls == ["a", "c", "d"]


def until(holds) -> None:
    end = time.monotonic() + MAY_TAKE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_keeps_its_lock_while_its_step_goes_on_and_no_longer(kit: Kit, number: int):
    does = f"open({str(kit.root / 'inside')!r}, 'w')\nif count == 0: time.sleep({MAY_TAKE_S})"
    step = kit.step("a", does)
    script = kit.root / "first.py"
    script.write_text(
        "from pathlib import Path; from lake import job_runs, jobs\n"
        f"job = jobs.Job('night', '5 * * * *', (), {MAY_TAKE_S}, 0, 0, 'night', (), (), ({step!r},))\n"
        f"job_runs.run(Path({str(kit.root)!r}), job)\n"
    )
    first = subprocess.Popen([sys.executable, str(script)], cwd=PROJECT_DIR, start_new_session=True)
    until((kit.root / "inside").exists)
    os.kill(first.pid, number)
    first.wait(MAY_TAKE_S)
    # Asked to end it says so in the ledger; killed it can't, and the record stays open.
    assert kit.record()["status"] == ("failed" if number == signal.SIGTERM else "running")
    assert contracts.faults(kit.record(), "job_run") == []
    orphans = children_of(step)
    assert bool(orphans) == (number == signal.SIGKILL)
    if orphans:  # it goes on, and nobody begins beside it
        with pytest.raises(JobIsRunning):
            kit.run(step)
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not children_of(step))
    assert kit.run(step).status == OK


def children_of(step: str) -> list[int]:
    """Processes that still run the script of a step: a killed run can't take them along."""
    script = step.rsplit(maxsplit=1)[-1].encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if script in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


# -- loaders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def loaders(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """Two loaders, then a seal, then one step more; ``exits`` of a loader is its exit code."""
    programs = job_runs._program
    monkeypatch.setattr(
        job_runs,
        "_program",
        lambda words: programs(("python", str(kit.scripts / f"{words[2]}.py"))) if words[1] == "ingest"
        else programs(("python", str(kit.scripts / "seal.py"), *words)) if words[1:2] == ("seal",)
        else programs(words),
    )  # fmt: skip
    (kit.root / jobs.SOURCES_FILE).write_text("sources: [events --from x, orders --from x]")
    mark_hours(kit.root, "events", utc("2025-12-01T00:00"), {0: 1})
    kit.step("seal", f"open({str(kit.root / 'sealed')!r}, 'w').write(' '.join(sys.argv[1:]))")
    return kit


SEAL = "tickhouse seal --through {sealed} {datasets}"


def load(kit: Kit, events: int, orders: int, **changes: object) -> JobRun:
    kit.step("events", f"sys.exit({events})")
    kit.step("orders", f"sys.exit({orders})")
    return kit.run("sources", SEAL, kit.step("after"), **changes)


@pytest.mark.parametrize(
    ("events", "orders", "status", "sealed"),
    [
        (0, 0, OK, "--dataset events --dataset orders"),
        (2, 0, INCOMPLETE, "--dataset events --dataset orders"),
        (1, 0, FAILED, "--dataset orders"),
        (0, 4, FAILED, "--dataset events"),
        (2, 3, FAILED, "--dataset events"),
    ],
)
def test_a_failed_loader_keeps_its_own_dataset_from_being_sealed(
    loaders: Kit, events: int, orders: int, status: str, sealed: str
):
    """A source that could not be reached must not look like hours without rows (spec/execution.md 3.1)."""
    made = load(loaders, events, orders)
    assert made.status == status
    assert (loaders.root / "sealed").read_text() == f"tickhouse seal --through 2025-12-01T01:00Z {sealed}"
    assert loaders.calls == ["events", "orders", "seal", "after"]
    assert contracts.faults(loaders.record(), "job_run") == []


def test_nothing_is_sealed_when_nothing_could_be_loaded(loaders: Kit):
    assert load(loaders, 4, 1).status == FAILED
    assert loaders.calls == ["events", "orders", "after"]


def test_a_conflict_is_not_tried_again(loaders: Kit):
    load(loaders, 3, 0, retries=2)
    assert loaders.calls.count("events") == 1
    load(loaders, 4, 0, retries=2)
    assert loaders.calls.count("events") == 1 + 3


def test_without_sources_nothing_runs(kit: Kit):
    with pytest.raises(jobs.JobError, match="expected the sources to load"):
        kit.run("sources", kit.step("after"))
    assert kit.calls == []
    assert not runs_dir(kit.root).exists()


def test_dbt_takes_its_turn(kit: Kit, monkeypatch: pytest.MonkeyPatch):
    """The lake's database has one writer: dbt of two jobs doesn't run at once, and waiting ends with the timeout."""
    programs, script = job_runs._program, kit.step("dbt").split()[1]
    monkeypatch.setattr(job_runs, "_program", lambda words: programs(("python", script)))
    stage_dir(kit.root).mkdir(parents=True)
    other = NameLock(stage_dir(kit.root) / "job.dbt.lock")
    assert other.take(wait=False)
    assert kit.run("dbt build", timeout_s=1).status == TIMED_OUT
    assert kit.calls == []
    other.release()
    assert kit.run("dbt build").status == OK


# -- digests ---------------------------------------------------------------------------------------------------------


def commit(root: Path, place: str, **content: object) -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_digests_are_of_content_and_by_dataset(tmp_path: Path):
    first = commit(
        tmp_path, "lake/silver/x/date=2025-12-15/_metadata/commit-1.json", content_digest="a", built_at="1"
    )
    commit(tmp_path, "lake/silver/y/client_id=1/_metadata/date=2025-12-15/commit-1.json", content_digest="b")
    window = commit(
        tmp_path,
        "lake/bronze/orders/_metadata/date=2025-12-15/commit-05.json",
        content_hash="c",
        state="sealed",
    )
    before = job_runs.digests(tmp_path, ["lake/silver", "lake/bronze", "lake/gold", "raw"])
    assert set(before) == {"lake/silver/x", "lake/silver/y", "lake/bronze/orders", "raw"}
    # when it was built, and that parts were merged, is no content
    commit(tmp_path, str(first.relative_to(tmp_path)), content_digest="a", built_at="2")
    commit(tmp_path, str(window.with_name("commit-day.json").relative_to(tmp_path)), rows=3)
    assert job_runs.digests(tmp_path, ["lake/silver", "lake/bronze", "raw"]) == before
    commit(tmp_path, str(first.relative_to(tmp_path)), content_digest="z")
    after = job_runs.digests(tmp_path, ["lake/silver", "lake/bronze", "raw"])
    assert {name for name in after if after[name] != before[name]} == {"lake/silver/x"}


def test_a_run_records_what_it_read_and_what_it_left(kit: Kit):
    commit(kit.root, "lake/bronze/events/date=2025-12-15/_metadata/commit-05.json", content_hash="c")
    made = kit.root / "lake/silver/x/date=2025-12-15/_metadata/commit-1.json"
    does = (
        f"import pathlib; path = pathlib.Path({str(made)!r}); path.parent.mkdir(parents=True, exist_ok=True)\n"
        """path.write_text('{"content_digest": "a"}')"""
    )
    runs = [kit.run(kit.step("a", does), reads=("lake/bronze",), writes=("lake/silver",)) for _ in range(2)]
    assert [set(run.inputs) for run in runs] == [{"lake/bronze/events"}] * 2
    assert [set(run.outputs) for run in runs] == [{"lake/silver/x"}] * 2
    # the same on the same: idempotent, and the ledger shows it
    assert runs[0].inputs == runs[1].inputs
    assert runs[0].outputs == runs[1].outputs
