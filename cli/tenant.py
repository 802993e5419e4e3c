"""`tickhouse tenant …`: what is one tenant's, and nobody else's."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.output import print_rows, say
from lake import tenants
from lake.paths import lake_root

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def tenant_group() -> None:
    """Rows of one tenant. In SQL: set variable tickhouse_client_id = 1, then the views of schema `tenant`."""


@app.command(epilog="Example: tickhouse tenant export --client-id 1 --out exports/client-1")
def export(
    client_id: Annotated[int, typer.Option("--client-id", help="Tenant; there is no default.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Write a tenant's rows of every relation as Parquet, one file each."""
    found = tenants.export(lake_root(), client_id, out)
    print_rows([asdict(row) for row in found], as_json=as_json)
    say(f"{sum(row.rows for row in found):,} rows of client {client_id} in {out}")
