"""`tickhouse rollback`: serve an earlier promotion again."""

from typing import Annotated

import typer

from cli.output import print_rows
from cli.promote import Alias
from lake.paths import lake_root

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse rollback --to 3 --reason 'signals went quiet'")
def rollback(
    to: Annotated[
        int | None, typer.Option(min=1, help="Table version to serve again; default the one before this.")
    ] = None,
    alias: Annotated[
        Alias, typer.Option("--as", help="champion: serve an earlier one; challenger: withdraw it.")
    ] = Alias.champion,
    reason: Annotated[str, typer.Option(help="A remark that is kept with it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of one object.")] = False,
) -> None:
    """Move the champions back and place their models and their training table, byte for byte as they were."""
    if alias == Alias.challenger and to is not None:
        raise typer.BadParameter("a challenger has no earlier version; leave --to out")
    from ml import promotion  # noqa: PLC0415 (LightGBM takes a second that --help should not pay)

    root = lake_root()
    done = (
        promotion.withdraw(root, reason=reason)
        if alias == Alias.challenger
        else promotion.rollback(root, to, reason=reason)
    )
    print_rows([done.flat()], as_json=as_json)
