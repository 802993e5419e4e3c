"""`tickhouse ingest operations`: land operations as bronze."""

import typer

from cli.ingest.windows import EXIT_CODES, AsJson, End, Environment, MaxBad, Source, Start, land
from ingest.windows import MAX_BAD

app = typer.Typer(add_completion=False)


@app.command(
    epilog=f"Example: tickhouse ingest operations --from 'ndjson:exports/operations-*.ndjson'. {EXIT_CODES}"
)
def operations(
    source: Source,
    start: Start = None,
    end: End = None,
    environment: Environment = "prod",
    max_bad: MaxBad = MAX_BAD,
    as_json: AsJson = False,
) -> None:
    """Land operations, each file or window once; bad lines are kept aside and counted."""
    land(
        "operations",
        source,
        start=start,
        end=end,
        environment=environment,
        max_bad=max_bad,
        as_json=as_json,
    )
