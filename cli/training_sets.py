"""`tickhouse training-sets`: versions of the training sets of the execution domain."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import print_rows, progress, say
from cli.versions import flat
from lake.paths import lake_root

app = typer.Typer(add_completion=False, no_args_is_help=True)

Root = Annotated[Path | None, typer.Option(help="Root of the lake; default LAKE_ROOT, else data/.")]
Json = Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")]
Name = Annotated[str, typer.Argument(help="stop_outcome or slippage_prediction.")]
OfSet = Annotated[str | None, typer.Option(help="Version, such as v1.0.0; default the newest.")]


@app.command(epilog="Example: tickhouse training-sets publish stop_outcome")
def publish(
    name: Annotated[
        str | None, typer.Argument(help="stop_outcome or slippage_prediction; default both.")
    ] = None,
    *,
    version: Annotated[
        str | None, typer.Option(help="Default v1.0.0, then the next patch once data came.")
    ] = None,
    note: Annotated[str, typer.Option(help="What this version changes; kept in features.json.")] = "",
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Cut the built candidates by time and publish them as a version, which never changes after that.

    Without --version nothing is done while no window was sealed since the newest version. A version that is there is
    computed again and compared: equal changes nothing, anything else is refused with what differs.
    """
    from lake import training_sets  # noqa: PLC0415
    from ml.training_sets.publish import publish as publish_set  # noqa: PLC0415

    place = _place(root)
    rows = []
    for one in [name] if name else training_sets.SETS:
        progress(f"publishing {one}")
        outcome = publish_set(place, one, version, note=note)
        rows.append(
            {"set": one, "version": outcome.version, "state": outcome.state, **_summary(outcome.record)}
        )
    print_rows(rows, as_json=as_json)


@app.command("list", epilog="Example: tickhouse training-sets list --json")
def list_(*, root: Root = None, as_json: Json = False) -> None:
    """List every published version of every set: its rows, data, cut and dataset hash."""
    from lake import training_sets  # noqa: PLC0415

    rows = [
        {
            "set": name,
            "version": found.version,
            "parent": found.record["parent_version"],
            **_summary(found.record),
        }
        for name in training_sets.SETS
        for found in training_sets.published(_place(root), name)
    ]
    print_rows(rows, as_json=as_json)
    if not rows:
        say("no version is published; run `tickhouse training-sets publish`")


@app.command(epilog="Example: tickhouse training-sets show stop_outcome --version v1.0.0 | grep split")
def show(name: Name, *, version: OfSet = None, root: Root = None, as_json: Json = False) -> None:
    """Show the features.json of a version, one line for each value."""
    from lake import training_sets  # noqa: PLC0415

    found = training_sets.version(_place(root), name, version)
    print_rows([{"key": key, "value": value} for key, value in flat(found.record)], as_json=as_json)


@app.command(epilog="Example: tickhouse training-sets verify stop_outcome")
def verify(name: Name, *, version: OfSet = None, root: Root = None, as_json: Json = False) -> None:
    """Read every part of a version again and compare it with features.json; exit code 1 when one differs."""
    from lake import training_sets  # noqa: PLC0415
    from ml.training_sets.publish import verify as verify_version  # noqa: PLC0415

    rows = verify_version(training_sets.version(_place(root), name, version))
    print_rows(rows, as_json=as_json)
    if bad := [row for row in rows if row["problem"]]:
        say(f"{len(bad)} of {len(rows)} parts are not what was published; restore them from a copy")
        raise typer.Exit(1)


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "train": record["rows"]["train"],
        "test": record["rows"]["test"],
        "excluded": sum(record["excluded"].values()),
        "split_at": record["split"]["split_at"][:16],
        "data_through": record["parameters"]["data_through"],
        "dataset_hash": record["dataset_hash"][:8],
    }


def _place(root: Path | None) -> Path:
    return root.expanduser().resolve() if root else lake_root()
