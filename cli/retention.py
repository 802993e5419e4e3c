"""`tickhouse retention …`: what is old goes to the archive, and is deleted when its copy there was verified."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from cli.compact import show_again
from cli.output import print_rows, say
from lake import retention
from lake.commits import now_utc
from lake.paths import lake_root
from lake.retention import Row, load_rules
from lake.runs import new_run_id, write_run

app = typer.Typer(add_completion=False, no_args_is_help=True)

AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="DATE", help="Judge ages by this day instead of today, such as 2025-12-15."
    ),
]
Dataset = Annotated[
    str | None, typer.Option("--dataset", help="Only this dataset, by its folder: bronze/events, raw/*.")
]
Json = Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")]


@app.callback()
def retention_group() -> None:
    """Archive what is older than seeds/reference/retention_policy.csv says, then delete it."""


@app.command(epilog="Example: tickhouse retention plan --as-of 2026-03-31")
def plan(as_of: AsOf = None, dataset: Dataset = None, as_json: Json = False) -> None:
    """List the partitions past their hot_days, and what keeps one from being deleted."""
    _show(retention.plan(lake_root(), load_rules(_day(as_of), dataset)), as_json=as_json)


@app.command(epilog="Example: tickhouse retention archive --dataset bronze/events")
def archive(as_of: AsOf = None, dataset: Dataset = None, as_json: Json = False) -> None:
    """Copy the partitions past their hot_days into lake/archive; nothing is deleted."""
    rules = load_rules(_day(as_of), dataset)
    rows = _recorded("archive", rules, lambda run_id: retention.archive(lake_root(), rules, run_id))
    _show(rows, as_json=as_json)


@app.command(epilog="Example: tickhouse retention verify --json")
def verify(as_of: AsOf = None, dataset: Dataset = None, as_json: Json = False) -> None:
    """Read the archive's copies again and compare each with the records of its source; exit code 1 if one differs."""
    rows = retention.verify(lake_root(), load_rules(_day(as_of), dataset))
    _show(rows, as_json=as_json)
    if any(row.state == "refused" for row in rows):
        raise typer.Exit(1)


@app.command(epilog="Example: tickhouse retention delete --yes")
def delete(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this nothing is changed.")] = False,
    as_of: AsOf = None,
    dataset: Dataset = None,
    as_json: Json = False,
) -> None:
    """Delete partitions past their hot_days whose copy in the archive this call has verified."""
    root, rules = lake_root(), load_rules(_day(as_of), dataset)
    if not yes:
        _show(retention.delete(root, rules, "", yes=False), as_json=as_json)
        say("nothing was changed; --yes does it")
        return
    rows = _recorded("delete", rules, lambda run_id: retention.delete(root, rules, run_id, yes=True))
    if any(row.state == "deleted" for row in rows):
        show_again(root)
    _show(rows, as_json=as_json)


def _recorded(name: str, rules: retention.Rules, work: Callable[[str], list[Row]]) -> list[Row]:
    run_id, started_at = new_run_id("retention"), now_utc()
    rows = work(run_id)
    states = [row.state for row in rows]
    write_run(
        lake_root(),
        run_id,
        config={"command": name, "as_of": rules.as_of.isoformat(), "dataset": rules.only},
        counts={state: states.count(state) for state in sorted({*states})},
        status="ok",
        started_at=started_at,
    )
    return rows


def _show(rows: list[Row], *, as_json: bool) -> None:
    print_rows([row.flat() for row in rows], as_json=as_json)
    if not as_json:
        say(f"{len(rows)} partitions, {sum(row.bytes for row in rows):,} bytes outside the archive")


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date, expected one such as 2025-12-15") from None
