"""One run of a job: alone by its lock, step by step under one deadline, on record in ``_meta/runs``.

Every step can be repeated: what is done already does nothing. So a retry takes up the step that failed, a run that was
missed is made up for by the next one (loaders, seals and builds go by markers, not by the clock), and a killed run
leaves nothing that the next one trips over. Source: spec/execution.md 7.3.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lake import atomic, jobs, runs
from lake.commits import now_utc
from lake.jobs import Job, Step
from lake.locks import POLL_S, NameLock
from lake.paths import PROJECT_DIR, runs_dir, stage_dir
from lake.windows import DAY_RECORD

OK, INCOMPLETE, FAILED, TIMED_OUT, RUNNING = "ok", "incomplete", "failed", "timed out", "running"
# What a loader means by its exit code (spec/execution.md 3.1).
_LOADER_INCOMPLETE, _LOADER_CONFLICT = 2, 3
_GRACE_S = 10  # between asking a step to end and ending it

log = logging.getLogger(__name__)


class JobIsRunning(RuntimeError):
    """Another run of the job, or of one that shares its lock, has not ended."""


@dataclass
class StepRun:
    """What became of one step; ``exit_code`` is None where it never ran or was ended."""

    command: str
    attempts: int = 0
    exit_code: int | None = None
    duration_s: float = 0.0
    status: str = FAILED


@dataclass
class JobRun:
    """The record of a run. Digests are by dataset folder below the data root."""

    run_id: str
    job: str
    status: str
    started_at: str
    finished_at: str | None
    duration_s: float | None
    tickhouse_version: str
    git_commit: str | None
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[StepRun] = field(default_factory=list)

    def write(self, root: Path) -> None:
        atomic.write_json(runs_dir(root) / f"{self.run_id}.json", asdict(self))


def run(
    root: Path,
    job: Job,
    *,
    retry: bool = True,
    now: datetime | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> JobRun:
    """Run ``job`` on the lake under ``root`` and return its record, written when it begins and again when it ends.

    ``retry`` off leaves retries to a scheduler that has its own. A loader that fails doesn't keep the others from
    loading, but nothing of its dataset is sealed; any other step that fails ends the run. ``tell`` gets a line a step.

    Raises JobIsRunning, and JobError before anything was done when there is nothing to run.
    """
    steps = jobs.steps(job, root)
    atomic.make_dirs(stage_dir(root))
    lock = NameLock(stage_dir(root) / f"job.{job.lock}.lock")
    if not lock.take(wait=False):
        raise JobIsRunning(
            f"job {job.name} was running already{_holder(root, job)}, expected one run at a time; "
            "wait until it has ended, or end it"
        )
    try:
        return _run(root, job, steps, job.retries if retry else 0, now or datetime.now(UTC), lock, tell)
    finally:
        lock.release()


def _run(
    root: Path,
    job: Job,
    steps: list[Step],
    retries: int,
    now: datetime,
    lock: NameLock,
    tell: Callable[[str], None],
) -> JobRun:
    began = time.monotonic()
    deadline = began + job.timeout_s
    record = JobRun(
        run_id=runs.new_run_id("job"),
        job=job.name,
        status=RUNNING,
        started_at=now_utc(),
        finished_at=None,
        duration_s=None,
        tickhouse_version=runs.TICKHOUSE_VERSION,
        git_commit=runs.git_commit(),
        inputs=digests(root, job.reads),
    )
    atomic.make_dirs(runs_dir(root))
    record.write(root)
    status = FAILED  # also when something raises
    try:
        status = _steps(root, job, steps, retries, deadline, now, lock, record.steps, tell)
    finally:
        record.status = status
        record.finished_at = now_utc()
        record.duration_s = round(time.monotonic() - began, 3)
        record.outputs = digests(root, job.writes)
        record.write(root)
    return record


def _steps(
    root: Path,
    job: Job,
    steps: list[Step],
    retries: int,
    deadline: float,
    now: datetime,
    lock: NameLock,
    done: list[StepRun],
    tell: Callable[[str], None],
) -> str:
    loaded = [step.lands for step in steps if step.lands]
    unsound: set[str] = set()  # datasets of which a loader failed
    worst = OK
    for number, step in enumerate(steps, 1):
        words = step.words
        if "{sealed}" in words:
            through = jobs.sealed_through(root, now)
            sealable = [name for name in dict.fromkeys(loaded) if name not in unsound]
            if through is None or not sealable:
                continue
            words = _filled(words, through, sealable)
        made = StepRun(shlex.join(_shown(words)))
        done.append(made)
        tell(f"{job.name} {number}/{len(steps)}: {made.command}")
        while True:
            made.attempts += 1
            _attempt(root, words, deadline, lock, made, is_source=step.is_source)
            if made.status != FAILED or retries == 0 or made.exit_code == _LOADER_CONFLICT:
                break
            retries -= 1
            tell(f"exit code {made.exit_code}; again in {job.retry_after_s} s")
            time.sleep(max(0.0, min(job.retry_after_s, deadline - time.monotonic())))
        if made.status == TIMED_OUT:
            return TIMED_OUT
        if made.status == INCOMPLETE and worst == OK:
            worst = INCOMPLETE
        if made.status == FAILED:
            if not step.is_source:
                return FAILED
            worst = FAILED
            unsound |= {step.lands} if step.lands else set()
    return worst


def _attempt(
    root: Path, words: tuple[str, ...], deadline: float, lock: NameLock, made: StepRun, *, is_source: bool
) -> None:
    """Call one step and note what became of it. dbt takes its turn: the lake's database has one writer."""
    began = time.monotonic()
    turn = NameLock(stage_dir(root) / "job.dbt.lock") if words[0] == "dbt" else None
    try:
        while turn and not turn.take(wait=False):
            if time.monotonic() > deadline:
                made.exit_code, made.status = None, TIMED_OUT
                return
            time.sleep(POLL_S)
        made.exit_code = _call(root, words, deadline, [lock, turn] if turn else [lock])
    finally:
        if turn:
            turn.release()
        made.duration_s = round(made.duration_s + time.monotonic() - began, 3)
    if made.exit_code is None:
        made.status = TIMED_OUT
    elif made.exit_code == 0:
        made.status = OK
    else:
        made.status = INCOMPLETE if is_source and made.exit_code == _LOADER_INCOMPLETE else FAILED


def _call(root: Path, words: tuple[str, ...], deadline: float, locks: list[NameLock]) -> int | None:
    """Exit code of a call in a process group of its own; None when the deadline ended it.

    The call holds the locks as well: when its run is killed and it goes on, nobody takes its place meanwhile.
    """
    environment = {
        **os.environ,
        "LAKE_ROOT": str(root),
        "DBT_PROJECT_DIR": str(PROJECT_DIR),
        "DBT_PROFILES_DIR": str(PROJECT_DIR),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    process = subprocess.Popen(
        _program(words),
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=2,  # data of a step is news of the run
        start_new_session=True,
        pass_fds=[lock.fileno() for lock in locks],
    )
    with _ended_with_us(process):
        try:
            return process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _end(process)
            return None


def _program(words: tuple[str, ...]) -> list[str]:
    """The programs of this environment, wherever the call comes from.

    A step runs in the data root, whose folder `lake` must not be taken for the package: so Python gets `-P`.
    """
    match words[0]:
        case "tickhouse":
            return [str(Path(sys.executable).with_name("tickhouse")), *words[1:]]
        case "dbt":
            return [str(Path(sys.executable).with_name("dbt")), "--quiet", *words[1:]]
        case _:
            return [sys.executable, "-P", *words[1:]]


@contextlib.contextmanager
def _ended_with_us(process: subprocess.Popen) -> Iterator[None]:
    """A run that is asked to end takes its step along."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ValueError):  # another thread than the main one can't set it
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if process.poll() is None:
            _end(process)
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen) -> None:
    """Ask the whole group to end, and end it when it doesn't; back when none of it is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _GRACE_S
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < deadline:
                process.poll()  # a leader that isn't waited for would stay in its group
                os.killpg(process.pid, 0)
                time.sleep(POLL_S)
        except ProcessLookupError:
            break
    process.wait()


def _filled(words: tuple[str, ...], sealed: str, datasets: Iterable[str]) -> tuple[str, ...]:
    """The words of a step with what stands for its placeholders."""
    options = [word for name in datasets for word in ("--dataset", name)]
    values = {"{sealed}": [sealed], "{datasets}": options}
    return tuple(filled for word in words for filled in values.get(word, [word]))


def _shown(words: Iterable[str]) -> Iterator[str]:
    """Words of a step as the ledger keeps them: where data comes from, never an option's secret."""
    for word in words:
        name, equals, _ = word.partition("=")
        yield f"{name}=***" if equals and name.startswith("--") else word


# -- the ledger ------------------------------------------------------------------------------------------------------


def digests(root: Path, folders: Iterable[str]) -> dict[str, str]:
    """One sha256 for each dataset below these folders of ``root``: over the content digests that its records state.

    Equal digests mean equal rows; a record's own time and run don't enter. Of ``raw`` the receipts count, by name:
    a receipt is named by what came.
    """
    found: dict[str, list[str]] = {}
    for folder in folders:
        if folder == "raw":
            names = sorted(path.name for path in (root / "raw" / "_metadata").glob("*.json"))
            found["raw"] = names
            continue
        for path in sorted((root / folder).glob("**/_metadata/**/commit-*.json")):
            if path.name == DAY_RECORD:  # where rows stand, not which there are
                continue
            place = path.relative_to(root)
            dataset = _dataset(place)
            record = json.loads(path.read_bytes())
            content = record.get("content_digest") or record.get("content_hash") or ""
            found.setdefault(dataset, []).append(f"{place.as_posix()} {record.get('state', '')} {content}")
    return {
        name: hashlib.sha256("\n".join(lines).encode()).hexdigest() for name, lines in sorted(found.items())
    }


def _dataset(place: Path) -> str:
    """``lake/bronze/orders/_metadata/date=…/commit-05.json`` → ``lake/bronze/orders``."""
    names = []
    for name in place.parts:
        if "=" in name or name == "_metadata":
            break
        names.append(name)
    return "/".join(names)


def records(root: Path) -> list[dict]:
    """Every run of a job on record, oldest first."""
    return [atomic.read_json(path) for path in sorted(runs_dir(root).glob("*_job_*.json"))]


def _holder(root: Path, job: Job) -> str:
    """The run that probably holds the lock: the newest that has not ended."""
    open_runs = [
        record for record in records(root) if record["status"] == RUNNING and record["job"] == job.name
    ]
    return f" (run {open_runs[-1]['run_id']}, since {open_runs[-1]['started_at']})" if open_runs else ""
