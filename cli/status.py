"""`tickhouse status`: what is landed and built, per dataset."""

from typing import Annotated

import typer

from cli.output import print_rows, say
from lake.paths import lake_root
from lake.status import lake_status

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse status --json")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Show each dataset's dates, rows, bytes, freshness, gaps, rejected share and last run, and what is wrong with it.

    Dates of bronze and of the execution domain are UTC, those of market silver and gold are session dates. Freshness is
    judged by the limits that dbt knows: dbt source freshness says the same. A raw file that couldn't be landed has a
    row of its own.
    """
    root = lake_root()
    rows = lake_status(root)
    if not any(row.dates or row.problem for row in rows):
        if not as_json:
            say(f"nothing is landed under {root}; start with: tickhouse demo")
        rows = []
    print_rows([row.as_row() for row in rows], as_json=as_json)
