"""What ``jobs.yaml`` says: the jobs, when they run, what they call; and what ``sources.yaml`` gives bronze-ingest.

Source: spec/execution.md 7.3.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from lake import windows, yaml_files
from lake.paths import PROJECT_DIR

JOBS_FILE = PROJECT_DIR / "jobs.yaml"
SOURCES_FILE = "sources.yaml"
SOURCES = "sources"  # the step that stands for every line of sources.yaml
SEAL_AFTER = timedelta(hours=24)  # spec/execution.md 3.1
PROGRAMS = ("tickhouse", "dbt", "python")
# What a loader lands, by the words behind `tickhouse ingest`: the windows that may be sealed after it.
LOADERS = {
    "events": "events",
    "orders": "orders",
    "operations": "operations",
    "balances": "balance_snapshots",
    "binance trades": "trades",
    "binance agg_trades": "agg_trades",
    "binance klines": "klines",
    "dbn": None,
    "databento": None,
    "polygon": None,
}
# minute, hour, day of month, month, day of week: lowest and highest value
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_KEYS = {
    "schedule": str, "command": list, "timeout_s": int, "retries": int, "retry_after_s": int, "lock": str,
    "reads": list, "writes": list, "steps": list,
}  # fmt: skip


class JobError(ValueError):
    """jobs.yaml or sources.yaml says something that can't be run; one line that names it."""


@dataclass(frozen=True)
class Job:
    """One job. Times in seconds; ``schedule`` is five fields of cron in UTC; ``reads`` and ``writes`` are folders below
    the data root; ``steps`` are command lines, in order."""

    name: str
    schedule: str
    command: tuple[str, ...]
    timeout_s: int
    retries: int
    retry_after_s: int
    lock: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One call of a run: its words, and the dataset that it lands when it is a loader."""

    words: tuple[str, ...]
    lands: str | None = None
    is_source: bool = False

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def load(path: Path = JOBS_FILE) -> dict[str, Job]:
    """Every job by name, in the file's order. Raises JobError naming the job and the key."""
    try:
        content = yaml_files.read(path)
    except yaml.YAMLError as error:
        raise JobError(f"{path.name} was no YAML ({' '.join(str(error).split())}); correct it") from error
    if not isinstance(content, dict) or not isinstance(content.get("jobs"), dict):
        raise JobError(f"{path.name}: key jobs was missing, expected a map of jobs; add it")
    return {name: _job(path.name, name, told) for name, told in content["jobs"].items()}


def named(name: str, path: Path = JOBS_FILE) -> Job:
    """One job. Raises JobError that lists the others when there is none of that name."""
    jobs = load(path)
    if name not in jobs:
        raise JobError(f"job was {name}, expected one of {', '.join(jobs)}; see {path.name}")
    return jobs[name]


def steps(job: Job, root: Path) -> list[Step]:
    """What a run of ``job`` calls, `sources` replaced by the lines of sources.yaml. Raises JobError."""
    found: list[Step] = []
    for line in job.steps:
        if line == SOURCES:
            found += sources(root / SOURCES_FILE)
        else:
            words = shlex.split(line)
            found.append(Step(tuple(word.replace("{project}", str(PROJECT_DIR)) for word in words)))
    return found


def sealed_through(root: Path, now: datetime) -> str | None:
    """The hour up to which windows are sealed: a day before now, and never past the newest hour that any source has.

    Hours that a silent source lacks are sealed as empty while others go on; when all are silent nothing has come that
    could say so, and nothing is sealed. None where nothing is landed.
    """
    newest = []
    for dataset in windows.PARTITION_KEYS:
        if dates := windows.landed_dates(root, dataset):
            newest += [windows.parse_time(m.window_end) for m in windows.read_date(root, dataset, dates[-1])]
    if not newest:
        return None
    return f"{min(now.astimezone(UTC) - SEAL_AFTER, max(newest)):%Y-%m-%dT%H}:00Z"


def sources(path: Path) -> list[Step]:
    """The loaders that ``sources.yaml`` lists. Raises JobError when there is none, or a line is no loader."""
    example = "such as: sources: ['events --from ndjson:exports/events-*.ndjson']"
    if not path.is_file():
        raise JobError(f"{path} was not there, expected the sources to load; write it, {example}")
    try:
        content = yaml_files.read(path)
    except yaml.YAMLError as error:
        raise JobError(f"{path} was no YAML ({' '.join(str(error).split())}); correct it") from error
    lines = content.get("sources") if isinstance(content, dict) else None
    if not isinstance(lines, list) or not lines:
        raise JobError(f"{path} lists no sources, so there is nothing to load; add some, {example}")
    return [_source(path, line) for line in lines]


def _source(path: Path, line: Any) -> Step:
    words = tuple(shlex.split(line)) if isinstance(line, str) else ()
    for loader, dataset in LOADERS.items():
        count = len(loader.split())
        if words[:count] == tuple(loader.split()):
            return Step(("tickhouse", "ingest", *words), dataset, is_source=True)
    # Only the first words: what follows may be anything, also what should not be shown.
    raise JobError(
        f"{path}: a source began with {' '.join(words[:2])!r}, expected one of {', '.join(LOADERS)}"
    )


def _job(file: str, name: str, told: Any) -> Job:
    where = f"{file}: {name}"
    if not re.fullmatch("[a-z][a-z0-9-]*", name):
        raise JobError(f"{where}: a job's name has lower-case letters, digits and hyphens; rename it")
    if not isinstance(told, dict):
        raise JobError(f"{where} was {told!r}, expected a map; write its keys")
    if wrong := sorted({*told} ^ {*_KEYS}):
        raise JobError(
            f"{where}: {wrong[0]} was {'unknown' if wrong[0] in told else 'missing'}; keys: {', '.join(_KEYS)}"
        )
    for key, kind in _KEYS.items():
        if not isinstance(told[key], kind) or isinstance(told[key], bool):
            raise JobError(f"{where}: {key} was {told[key]!r}, expected {kind.__name__}; correct it")
    for key, least in (("timeout_s", 1), ("retries", 0), ("retry_after_s", 0)):
        if told[key] < least:
            raise JobError(f"{where}: {key} was {told[key]}, expected at least {least}; correct it")
    fields(told["schedule"], where)
    for line in told["steps"]:
        if line != SOURCES and shlex.split(line)[:1] not in [[program] for program in PROGRAMS]:
            raise JobError(
                f"{where}: a step was {line!r}, expected {SOURCES} or a call of {', '.join(PROGRAMS)}"
            )
    lists = {key: tuple(map(str, told[key])) for key, kind in _KEYS.items() if kind is list}
    return Job(name=name, **(told | lists))


def fields(schedule: str, where: str = "schedule") -> list[list[int]]:
    """The values that each of the five fields of a cron line allows, in order; Sunday is 0. Raises JobError.

    Understood are numbers, lists, ranges and steps: ``*/15``, ``1-5``, ``0,30``.
    """
    parts = schedule.split()
    if len(parts) != len(FIELDS):
        raise JobError(
            f"{where}: schedule was {schedule!r}, expected minute hour day month weekday; correct it"
        )
    found = []
    for part, (low, high) in zip(parts, FIELDS, strict=True):
        values: set[int] = set()
        for item in part.split(","):
            match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", item)
            if match is None:
                raise JobError(
                    f"{where}: schedule had {item!r}, expected a number, a range, a step or *; correct it"
                )
            first, last, step = match.groups()
            start = low if first is None else int(first)
            end = high if first is None else int(last or first)
            if not low <= start <= end <= high:
                raise JobError(f"{where}: schedule had {item!r}, expected {low} to {high}; correct it")
            values.update(range(start, end + 1, int(step or 1)))
        found.append(sorted({0 if (high == 7 and value == 7) else value for value in values}))
    return found
