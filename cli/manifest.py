"""`tickhouse manifest`: write the readable roll-ups of raw and bronze."""

from typing import Annotated

import typer

from cli.output import print_rows
from lake import atomic
from lake.paths import lake_root
from lake.rollup import write_rollups

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse manifest && jq .gaps data/lake/bronze/manifest.json")
def manifest(
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Write raw/manifest.json and lake/bronze/manifest.json out of receipts and commit records.

    A dbt build and `ingest dbn --recover` do so too; an ingest doesn't, so that a commit costs the same in a lake of
    any size. What a reader sees follows from the records alone.
    """
    rows = []
    for path in write_rollups(lake_root()):
        content = atomic.read_json(path)
        rows.append(
            {
                "path": str(path),
                "generated_at": content["generated_at"],
                **{
                    name: len(content[name]) if name in content else None
                    for name in ("files", "partitions", "gaps", "quality")
                },
            }
        )
    print_rows(rows, as_json=as_json)
