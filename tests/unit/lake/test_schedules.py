"""What `tickhouse schedule` prints is valid by the ordinary parsers and says what jobs.yaml says."""

import configparser
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.schedule import app
from lake import jobs, schedules
from lake.jobs import JobError

JOBS = jobs.load()
PROGRAM, ROOT = Path("/opt/tick house/bin/tickhouse"), Path("/srv/100% lake")


# -- cron ------------------------------------------------------------------------------------------------------------


def crontab_lines(text: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Environment settings, and (schedule, command) of each line, as crontab(5) reads them."""
    settings, lines = {}, []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if equals and name.isidentifier():
            settings[name] = value
            continue
        words = line.split(None, 5)
        # an unescaped % ends the command
        assert "%" not in words[5].replace(r"\%", "")
        lines.append((" ".join(words[:5]), words[5].replace(r"\%", "%")))
    return settings, lines


def test_a_crontab_calls_each_job_when_jobs_yaml_says():
    settings, lines = crontab_lines(schedules.cron(JOBS.values(), PROGRAM, ROOT))
    assert settings["CRON_TZ"] == "UTC"
    assert [when for when, _ in lines] == [job.schedule for job in JOBS.values()]
    for job, (_, command) in zip(JOBS.values(), lines, strict=True):
        assert shlex.split(command) == [f"LAKE_ROOT={ROOT}", str(PROGRAM), *job.command[1:]]


def test_a_crontab_is_accepted_by_cron(tmp_path: Path):
    if not shutil.which("crontab"):
        pytest.skip("no crontab on this machine")
    path = tmp_path / "crontab"
    path.write_text(schedules.cron(JOBS.values(), PROGRAM, ROOT))
    done = subprocess.run(["crontab", "-T", str(path)], capture_output=True, text=True, check=False)
    if "invalid option" in done.stderr:
        pytest.skip("this crontab can't only look")
    assert done.returncode == 0, done.stderr


# -- systemd ---------------------------------------------------------------------------------------------------------


def unit(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=True, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str
    parser.read_string(text)
    return parser


def test_units_run_each_job_when_jobs_yaml_says():
    units = schedules.systemd(JOBS.values(), PROGRAM, ROOT)
    assert set(units) == {f"tickhouse-{name}.{kind}" for name in JOBS for kind in ("service", "timer")}
    for name, job in JOBS.items():
        service, timer = (unit(units[f"tickhouse-{name}.{kind}"]) for kind in ("service", "timer"))
        call = shlex.split(service["Service"]["ExecStart"].replace("%%", "%"))
        assert call == [str(PROGRAM), *job.command[1:]]
        assert shlex.split(service["Service"]["Environment"].replace("%%", "%")) == [f"LAKE_ROOT={ROOT}"]
        assert service["Service"]["Type"] == "oneshot"
        assert int(service["Service"]["TimeoutStartSec"]) > job.timeout_s
        assert timer["Timer"]["OnCalendar"] == schedules.on_calendar(job.schedule)
        assert timer["Timer"]["Persistent"] == "true"
        assert timer["Timer"]["Unit"] == f"tickhouse-{name}.service"


def test_units_are_accepted_by_systemd(tmp_path: Path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze on this machine")
    program = tmp_path / "tick house"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name, text in schedules.systemd(JOBS.values(), program, ROOT).items():
        (tmp_path / name).write_text(text)
    paths = sorted(str(path) for path in tmp_path.glob("tickhouse-*"))
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


SCHEDULES = [
    "5 * * * *",
    "30 1 * * *",
    "0 3 * * 1",
    "*/15 6-8 * * *",
    "0,30 0 1 * *",
    "7 2 15 3,6 *",
    "0 0 * * 0,5-7",
]


def cron_times(schedule: str, start: datetime, end: datetime) -> list[datetime]:
    """Every minute that the five fields name, told minute by minute; days by either of both fields when both speak."""
    minute, hour, day, month, weekday = schedule.split()

    def holds(field: str, value: int, low: int, high: int) -> bool:
        for item in field.split(","):
            span, _, step = item.partition("/")
            first, _, last = span.partition("-")
            bounds = (low, high) if span == "*" else (int(first), int(last or first))
            if bounds[0] <= value <= bounds[1] and (value - bounds[0]) % int(step or 1) == 0:
                return True
        return False

    found = []
    while start < end:
        on_weekday = any(
            holds(weekday, value, 0, 7)
            for value in ({0, 7} if start.isoweekday() == 7 else {start.isoweekday()})
        )
        on_day = holds(day, start.day, 1, 31)
        right_day = on_day and on_weekday if "*" in (day, weekday) else on_day or on_weekday
        if right_day and holds(minute, start.minute, 0, 59) and holds(hour, start.hour, 0, 23):
            found += [start] if holds(month, start.month, 1, 12) else []
        start += timedelta(minutes=1)
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_calendar_event_means_the_cron_line(schedule: str):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze on this machine")
    base = datetime(2026, 3, 1, tzinfo=UTC)
    wanted = cron_times(schedule, base + timedelta(minutes=1), base + timedelta(days=40))[:12]
    command = ["systemd-analyze", "calendar", "--iterations=12", f"--base-time={base:%Y-%m-%d %H:%M:%S} UTC"]
    zone = {"TZ": "UTC", "PATH": "/usr/bin:/bin"}
    command.append(schedules.on_calendar(schedule))
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=zone)
    # each time is told in one line: in UTC beside the local zone, or alone where that is UTC
    told = re.findall(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC", done.stdout.partition("Next elapse")[2])
    times = [datetime.fromisoformat(f"{day}T{time}+00:00") for day, time in told]
    assert times[: len(wanted)] == wanted


def test_a_day_of_the_month_beside_one_of_the_week_has_no_calendar_event():
    with pytest.raises(JobError, match="not both"):
        schedules.on_calendar("0 0 1 * 1")


# -- Kubernetes ------------------------------------------------------------------------------------------------------


def cron_jobs() -> dict[str, dict[str, Any]]:
    documents = [d for d in yaml.safe_load_all(schedules.kubernetes(JOBS.values(), "house:1", "claim")) if d]
    return {document["metadata"]["name"]: document for document in documents}


def test_cron_jobs_run_each_job_when_jobs_yaml_says():
    found = cron_jobs()
    assert set(found) == {f"tickhouse-{name}" for name in JOBS}
    for name, job in JOBS.items():
        document = found[f"tickhouse-{name}"]
        assert (document["apiVersion"], document["kind"]) == ("batch/v1", "CronJob")
        spec = document["spec"]
        assert (spec["schedule"], spec["timeZone"]) == (job.schedule, "Etc/UTC")
        assert spec["concurrencyPolicy"] == "Forbid"
        run = spec["jobTemplate"]["spec"]
        assert run["backoffLimit"] == job.retries == 2
        assert run["activeDeadlineSeconds"] > (job.retries + 1) * job.timeout_s
        pod = run["template"]["spec"]
        assert pod["restartPolicy"] in ("Never", "OnFailure")  # a Job may have no other
        (container,) = pod["containers"]
        assert container["image"] == "house:1"
        # the cluster tries again, so the run itself doesn't
        assert container["command"] == [*job.command, "--no-retries"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"name": "LAKE_ROOT", "value": mounts["lake"]} in container["env"]
        (volume,) = pod["volumes"]
        assert volume == {"name": "lake", "persistentVolumeClaim": {"claimName": "claim"}}


def test_cron_jobs_have_no_aliases_and_names_that_a_cluster_takes():
    text = schedules.kubernetes(JOBS.values(), "house:1", "claim")
    assert not any(isinstance(event, yaml.events.AliasEvent) for event in yaml.parse(text))
    assert all(len(name) <= 52 and name.replace("-", "").isalnum() for name in cron_jobs())


# -- the command -----------------------------------------------------------------------------------------------------


def test_manifests_say_where_this_lake_is(root: Path, tmp_path: Path):
    printed = CliRunner().invoke(app, ["cron"])
    assert printed.exit_code == 0
    assert f"LAKE_ROOT={root}" in printed.stdout
    out = tmp_path / "units"
    assert CliRunner().invoke(app, ["systemd", "--out", str(out)]).exit_code == 0
    assert len([*out.iterdir()]) == 2 * len(JOBS)
    assert f"LAKE_ROOT={root}" in (out / "tickhouse-bronze-ingest.service").read_text()
    applied = CliRunner().invoke(app, ["kubernetes", "--image", "house:2"])
    assert len([d for d in yaml.safe_load_all(applied.stdout) if d]) == len(JOBS)
    assert "image: house:2" in applied.stdout
