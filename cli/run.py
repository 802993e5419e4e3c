"""`tickhouse run`: one run of a job of jobs.yaml."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import print_rows, progress, say
from lake import job_runs, jobs
from lake.paths import lake_root

app = typer.Typer(add_completion=False)

IS_RUNNING, TIMED_OUT = 75, 124  # what `flock` and `timeout` callers know


@app.command(
    epilog="Example: tickhouse run bronze-ingest. Exit code 0: done, also where hours are incomplete; 1: a step "
    "failed; 75: it is running already; 124: it took longer than its timeout."
)
def run(
    job: Annotated[
        str, typer.Argument(help="bronze-ingest, silver-transform or gold-features: see jobs.yaml.")
    ],
    retries: Annotated[
        bool, typer.Option("--retries/--no-retries", help="Take up a failed step again, as jobs.yaml says.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the steps and call none.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one flat object a step.")] = False,
) -> None:
    """Run one job: its steps in order, one run at a time, on record in _meta/runs.

    What bronze-ingest loads stands in sources.yaml below LAKE_ROOT, one line a loader: the words that follow
    `tickhouse ingest`. Secrets stand in the environment, never there.
    """
    root, told = lake_root(), jobs.named(job)
    if dry_run:
        steps = jobs.steps(told, root)
        print_rows(
            [{"job": job, "step": n, "command": step.text} for n, step in enumerate(steps, 1)],
            as_json=as_json,
        )
        return
    try:
        record = job_runs.run(root, told, retry=retries, tell=progress)
    except job_runs.JobIsRunning as error:
        say(f"tickhouse: {error}")
        raise typer.Exit(IS_RUNNING) from None
    print_rows([{"job": job, **asdict(step)} for step in record.steps], as_json=as_json)
    say(f"{job} {record.status} after {record.duration_s:.1f} s; run {record.run_id}")
    if record.status == job_runs.TIMED_OUT:
        raise typer.Exit(TIMED_OUT)
    if record.status == job_runs.FAILED:
        raise typer.Exit(1)
