"""`tickhouse backfill …`: another version of a dataset beside the one that readers see, compared, then swapped."""

import json
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli.output import print_rows, progress, say
from lake import active, backfill, backfill_diff
from lake.commits import now_utc
from lake.paths import lake_root
from lake.runs import new_run_id, write_run


class _Datasets(TyperGroup):
    """A group whose commands are datasets, and `swap`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise typer.BadParameter(
                f"dataset was {args[0]}, expected {' or '.join(active.DATASETS)}, or swap", ctx=ctx
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=_Datasets, add_completion=False, no_args_is_help=True)


@app.callback()
def backfill_group() -> None:
    """Compute a range of dates again into a sibling version, test and compare it, and swap it in."""


@app.command(
    "stop_executions",
    epilog="Example: tickhouse backfill stop_executions --start 2024-01-01 --end 2024-12-28 --target-version 2",
)
def stop_executions(
    start: Annotated[str, typer.Option("--start", metavar="DATE", help="First date to compute again.")],
    end: Annotated[str, typer.Option("--end", metavar="DATE", help="The date after the last one.")],
    target_version: Annotated[
        int, typer.Option("--target-version", help="Version to make: 2 or more, not yet published.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make an unpublished version anew that is there already.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be computed and copied; write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the rows of a dry run, else the diff.")
    ] = False,
) -> None:
    """Make a version of silver/stop_executions, its quarantine and its anomalies; print what differs."""
    root = lake_root()
    request = backfill.Request("stop_executions", start, end, target_version, overwrite)
    if dry_run:
        print_rows([row.flat() for row in backfill.preview(root, request)], as_json=as_json)
        say("nothing was written")
        return
    run_id, started_at = new_run_id("backfill"), now_utc()
    report = backfill.run(root, request, on_node=progress)
    write_run(
        root,
        run_id,
        config={
            "command": "backfill stop_executions",
            "start": start,
            "end": end,
            "target_version": target_version,
        },
        counts={
            "computed_dates": sum(row.computed for row in report.rows),
            "copied_dates": sum(row.copied for row in report.rows),
        },
        status="failed" if report.problem else "ok",
        started_at=started_at,
    )
    print(
        json.dumps(report.diff, indent=2, allow_nan=False) if as_json else backfill_diff.markdown(report.diff)
    )
    say(f"written: {', '.join(str(path) for path in report.files)}")
    if report.problem:
        raise backfill.BackfillError(f"version {target_version} can't be swapped in: {report.problem}")


@app.command("swap", epilog="Example: tickhouse backfill swap stop_executions --to 2")
def swap(
    dataset: Annotated[str, typer.Argument(help="Dataset to swap: stop_executions.")],
    to: Annotated[int, typer.Option("--to", help="Version that readers see from now on; 1 goes back.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Make a version what readers see and builds write; the one before is kept."""
    before = backfill.swap(lake_root(), dataset, to)
    if as_json:
        print(json.dumps({"dataset": dataset, "version": to, "version_before": before}))
    again = "; it was already, and its views are made anew" if before == to else f"; version {before} is kept"
    say(f"readers of {dataset} see version {to}{again}")
