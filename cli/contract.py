"""`tickhouse contract`: what datasets promise their readers, and what a change of a promise means."""

from typing import Annotated

import typer

from cli.output import print_rows, say
from lake import contract_changes, contract_data, contract_documents, contract_versions
from lake.paths import lake_root

app = typer.Typer(add_completion=False, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")]
Side = Annotated[
    str, typer.Argument(help="A contract file, or a dataset such as silver/touches: its YAML now.")
]


@app.callback()
def contract_group() -> None:
    """Compare, check, write and publish the contracts of datasets."""


@app.command("list", epilog="Example: tickhouse contract list --json")
def list_(as_json: Json = False) -> None:
    """List every dataset with a contract: owner, columns, the version of its YAML, and whether that is published."""
    print_rows(contract_versions.overview(), as_json=as_json)


@app.command(
    epilog="Example: tickhouse contract diff contracts/bronze/events/v1.json bronze/events. Exit code 1: breaking."
)
def diff(old: Side, new: Side, as_json: Json = False) -> None:
    """Say what NEW changes of OLD, each change additive, breaking or editorial; exit code 1 when one is breaking."""
    changes = contract_changes.compare(contract_versions.load(old), contract_versions.load(new))
    print_rows([change.as_row() for change in changes], as_json=as_json)
    if not changes:
        say("no difference")
    if contract_changes.is_breaking(changes):
        raise typer.Exit(1)


@app.command(epilog="Example: tickhouse contract check --data")
def check(
    data: Annotated[
        bool, typer.Option("--data", help="Also the newest file of each dataset of the lake.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say where YAML, contract files, the list of published ones and the changelog differ; exit code 1 when they do."""
    faults = contract_versions.check()
    if data:
        faults += contract_data.check(lake_root(), contract_documents.datasets())
    print_rows([fault.as_row() for fault in faults], as_json=as_json)
    if faults:
        raise typer.Exit(1)
    say("YAML, contracts and changelog agree" + (", and so does the lake" if data else ""))


@app.command(epilog="Example: tickhouse contract write")
def write(as_json: Json = False) -> None:
    """Write the contract of each dataset whose YAML is not published as it stands, a change as the next version."""
    changed = contract_versions.write()
    here = contract_versions.PROJECT_DIR
    rows = [
        {"file": str(path.relative_to(here)), "change": "written" if path.is_file() else "removed"}
        for path in changed
    ]
    print_rows(rows, as_json=as_json)
    say(f"{len(changed)} files changed")


@app.command(epilog="Example: tickhouse contract publish silver/touches")
def publish(
    datasets: Annotated[list[str] | None, typer.Argument(help="Datasets, such as silver/touches.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dataset that has a draft.")] = False,
    as_json: Json = False,
) -> None:
    """List drafts as published: from then on their files stand, and a change is a new version."""
    if bool(datasets) == every:
        raise typer.BadParameter("expected names of datasets or --all, and not both")
    published = contract_versions.publish(datasets or ())
    print_rows([{"published": place} for place in published], as_json=as_json)
    say(f"{len(published)} contracts published")
