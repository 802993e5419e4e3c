"""`tickhouse experiments`: what was tried, on which version, with what result."""

from pathlib import Path
from typing import Annotated

import typer

from cli.output import print_rows, say
from cli.versions import flat
from lake.paths import lake_root

app = typer.Typer(add_completion=False, no_args_is_help=True)

Root = Annotated[Path | None, typer.Option(help="Root of the lake; default LAKE_ROOT, else data/.")]
Json = Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")]
METRICS = ("signal_count", "feature_count", "pr_auc", "roc_auc", "brier_skill", "ci_low", "ci_high")


@app.command("list", epilog="Example: tickhouse experiments list")
def list_(*, root: Root = None, as_json: Json = False) -> None:
    """List every experiment with its main metrics."""
    from ml import experiments  # noqa: PLC0415  # a second of imports that --help should not pay

    rows = [
        {
            **{k: e[k] for k in ("id", "version", "status", "created_at", "parent", "param_set", "stage")},
            **{k: e["metrics"].get(k) for k in METRICS},
            "notes": e["notes"],
        }
        for e in experiments.read_index(_place(root))
    ]
    print_rows(rows, as_json=as_json)
    if not rows:
        say("there is no experiment; run `tickhouse train`")


@app.command(epilog="Example: tickhouse experiments show exp001")
def show(
    experiment: Annotated[str, typer.Argument(help="Id or full name of an experiment.")],
    *,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Show everything that is on record of an experiment, one line for each value."""
    from ml import experiments  # noqa: PLC0415

    entry = experiments.entry_of(_place(root), experiment)
    print_rows([{"key": key, "value": value} for key, value in flat(entry)], as_json=as_json)


@app.command(epilog="Example: tickhouse experiments compare exp001 v2.0_full_ensemble")
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[A B ...]", help="Two experiments or versions; or any number of experiments; or none."
        ),
    ] = None,
    *,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Put two experiments or versions side by side, or the scores of many.

    Two: features added and removed, parameters and null rates that differ, the population stability index of each
    common feature (ten quantile bins of A and one for NULL; below 0.1 is stable, above 0.25 moved), base rates of the
    labels by stage, and metrics. Otherwise: one line for each head of those named, or of every completed experiment,
    its base rate beside it.
    """
    if names and len(names) == 2:
        from ml import comparison  # noqa: PLC0415

        print_rows(comparison.compare(_place(root), *names), as_json=as_json)
        return
    from ml import index  # noqa: PLC0415

    print_rows(index.side_by_side(_place(root), names or ()), as_json=as_json)


@app.command(
    epilog="Example: tickhouse experiments register v2.0_full_ensemble --parent exp001 --notes 'with options'"
)
def register(
    version: Annotated[str, typer.Argument(help="Version that the experiment is about.")],
    *,
    experiment: Annotated[
        str | None, typer.Option("--id", help="Id, expNNN; default the next free one.")
    ] = None,
    status: Annotated[
        str, typer.Option(help="running, completed, failed or archived; completed is final.")
    ] = ("running"),
    parent: Annotated[str | None, typer.Option(help="Id of the experiment that it goes on from.")] = None,
    stage: Annotated[str | None, typer.Option(help="Stages, with a comma between.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given several times.")] = None,
    notes: Annotated[str, typer.Option(help="A remark.")] = "",
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Insert an experiment into experiments.json, or update one that is not completed."""
    from ml import experiments  # noqa: PLC0415

    entry = experiments.register(
        _place(root),
        version,
        experiment_id=experiment,
        status=status,
        parent=parent,
        stage=stage,
        tags=tag or (),
        notes=notes,
    )
    row = {k: entry[k] for k in ("id", "version", "status", "parent", "param_set", "stage", "notes")}
    print_rows([row], as_json=as_json)


def _place(root: Path | None) -> Path:
    return root.expanduser().resolve() if root else lake_root()
