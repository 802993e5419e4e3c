"""`tickhouse schedule`: jobs.yaml as what other schedulers read."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.output import print_rows, say
from lake import atomic, jobs, schedules
from lake.paths import lake_root

app = typer.Typer(add_completion=False, no_args_is_help=True)

Out = Annotated[Path | None, typer.Option("--out", help="Write files into this folder instead of printing.")]
Json = Annotated[bool, typer.Option("--json", help="Print an array of objects: a file's name and its text.")]


@app.callback()
def schedule_group() -> None:
    """Print what runs the jobs of jobs.yaml by the clock, for this LAKE_ROOT."""


@app.command(epilog="Example: tickhouse schedule cron | crontab -")
def cron(out: Out = None, as_json: Json = False) -> None:
    """Print a crontab."""
    _give({"tickhouse.crontab": schedules.cron(_jobs(), _tickhouse(), lake_root())}, out, as_json=as_json)


@app.command(epilog="Example: tickhouse schedule systemd --out ~/.config/systemd/user")
def systemd(out: Out = None, as_json: Json = False) -> None:
    """Print systemd units, a service and a timer for each job."""
    _give(schedules.systemd(_jobs(), _tickhouse(), lake_root()), out, as_json=as_json)


@app.command(epilog="Example: tickhouse schedule kubernetes --image tickhouse:0.1.0 | kubectl apply -f -")
def kubernetes(
    image: Annotated[str, typer.Option(help="Image that has tickhouse on its path.")] = "tickhouse:latest",
    claim: Annotated[str, typer.Option(help="Volume claim of the lake.")] = "tickhouse-lake",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Print Kubernetes CronJobs."""
    _give({"tickhouse.yaml": schedules.kubernetes(_jobs(), image, claim)}, out, as_json=as_json)


def _give(files: dict[str, str], out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        atomic.make_dirs(out)
        for name, text in files.items():
            atomic.write_text(out / name, text)
            say(f"wrote {out / name}")
    if as_json:
        print_rows([{"file": name, "text": text} for name, text in files.items()], as_json=True)
    elif out is None:
        heads = len(files) > 1
        print("\n".join(f"# --- {name}\n{text}" if heads else text for name, text in files.items()), end="")


def _jobs() -> list[jobs.Job]:
    return [*jobs.load().values()]


def _tickhouse() -> Path:
    """The program beside the Python that runs now."""
    return Path(sys.executable).with_name("tickhouse")
