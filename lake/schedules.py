"""jobs.yaml as what other schedulers read: a crontab, systemd units, Kubernetes CronJobs.

Text that is complete as it stands and says nothing that jobs.yaml doesn't. Source: spec/execution.md 7.3.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from lake.jobs import FIELDS, Job, JobError, fields

MADE_BY = "Made by `tickhouse schedule {}` from jobs.yaml; change that and make this again."
WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_END_S = 60  # between a run's own timeout and its scheduler's: it ends its steps and writes its record
_MOUNT = "/lake"


def cron(jobs: Iterable[Job], tickhouse: Path, root: Path) -> str:
    """A crontab. ``tickhouse`` is the program's path, ``root`` the data root. Its times are UTC by ``CRON_TZ``; a cron
    that doesn't know it goes by the machine's zone, which then has to be UTC."""
    lines = [f"# {MADE_BY.format('cron')}", "SHELL=/bin/sh", "CRON_TZ=UTC", ""]
    for job in jobs:
        words = shlex.join([f"{tickhouse}", *job.command[1:]])
        # `%` is a newline to cron
        call = f"LAKE_ROOT={shlex.quote(str(root))} {words}".replace("%", r"\%")
        lines += [f"# {job.name}", f"{job.schedule} {call}"]
    return "\n".join(lines) + "\n"


def systemd(jobs: Iterable[Job], tickhouse: Path, root: Path) -> dict[str, str]:
    """Units by file name: a service and a timer for each job. A run that was missed while the machine was off is made
    up for when it is on again."""
    units = {}
    for job in jobs:
        name = f"tickhouse-{job.name}"
        call = " ".join(_unit_word(word) for word in (str(tickhouse), *job.command[1:]))
        units[f"{name}.service"] = "\n".join(
            [
                f"# {MADE_BY.format('systemd')}",
                "[Unit]",
                f"Description=tickhouse {job.name}",
                "After=network-online.target",
                "Wants=network-online.target",
                "",
                "[Service]",
                "Type=oneshot",
                f"Environment={_unit_word(f'LAKE_ROOT={root}')}",
                f"ExecStart={call}",
                f"TimeoutStartSec={job.timeout_s + _END_S}",
                "",
            ]
        )
        units[f"{name}.timer"] = "\n".join(
            [
                f"# {MADE_BY.format('systemd')}",
                "[Unit]",
                f"Description=tickhouse {job.name} by the clock",
                "",
                "[Timer]",
                f"OnCalendar={on_calendar(job.schedule)}",
                "Persistent=true",
                f"Unit={name}.service",
                "",
                "[Install]",
                "WantedBy=timers.target",
                "",
            ]
        )
    return units


def kubernetes(jobs: Iterable[Job], image: str, claim: str) -> str:
    """CronJobs as a stream of YAML documents. The lake is the volume of ``claim``. The cluster does the retries, so a
    run does none of its own."""
    text = [f"# {MADE_BY.format('kubernetes')}\n"]
    for job in jobs:
        text.append("---\n" + yaml.safe_dump(_cron_job(job, image, claim), sort_keys=False))
    return "".join(text)


def _cron_job(job: Job, image: str, claim: str) -> dict[str, Any]:
    container = {
        "name": job.name,
        "image": image,
        "command": [*job.command, "--no-retries"],
        "env": [{"name": "LAKE_ROOT", "value": _MOUNT}],
        # Credentials and DSNs, where there are any.
        "envFrom": [{"secretRef": {"name": "tickhouse", "optional": True}}],
        "volumeMounts": [{"name": "lake", "mountPath": _MOUNT}],
    }
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "lake", "persistentVolumeClaim": {"claimName": claim}}],
    }
    name = f"tickhouse-{job.name}"
    labels = {"app.kubernetes.io/name": "tickhouse", "app.kubernetes.io/component": job.name}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "schedule": job.schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": job.retries,
                    "activeDeadlineSeconds": (job.retries + 1) * (job.timeout_s + _END_S),
                    "template": {"metadata": {"labels": {**labels}}, "spec": pod},
                }
            },
        },
    }


def on_calendar(schedule: str) -> str:
    """Five fields of cron as systemd's calendar event, in UTC: ``30 1 * * 1`` → ``Mon *-*-* 01:30:00 UTC``.

    Raises JobError for a day of the month beside a day of the week: cron runs on either, systemd on both.
    """
    values = fields(schedule)
    minute, hour, day, month, weekday = (
        "*" if len(found) == _count(bounds) else ",".join(f"{value:02d}" for value in found)
        for found, bounds in zip(values, FIELDS, strict=True)
    )
    if weekday != "*":
        if day != "*":
            raise JobError(f"schedule was {schedule!r}, expected a day of the month or of the week, not both")
        weekday = ",".join(WEEKDAYS[value] for value in values[4]) + " "
    return f"{'' if weekday == '*' else weekday}*-{month}-{day} {hour}:{minute}:00 UTC"


def _count(bounds: tuple[int, int]) -> int:
    low, high = bounds
    return high - low + 1 - (high == FIELDS[4][1])  # 7 is Sunday once more


def _unit_word(word: str) -> str:
    """A word of a unit file: `%` starts a specifier there, and spaces split words."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if " " in escaped else escaped
