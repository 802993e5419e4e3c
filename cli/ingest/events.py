"""`tickhouse ingest events`: land stop events as bronze."""

import typer

from cli.ingest.windows import EXIT_CODES, AsJson, End, Environment, MaxBad, Source, Start, land
from ingest.windows import MAX_BAD

app = typer.Typer(add_completion=False)


@app.command(epilog=f"Example: tickhouse ingest events --from 'ndjson:exports/events-*.ndjson'. {EXIT_CODES}")
def events(
    source: Source,
    start: Start = None,
    end: End = None,
    environment: Environment = "prod",
    max_bad: MaxBad = MAX_BAD,
    as_json: AsJson = False,
) -> None:
    """Land stop events, each file or window once; bad lines are kept aside and counted."""
    land(
        "events",
        source,
        start=start,
        end=end,
        environment=environment,
        max_bad=max_bad,
        as_json=as_json,
    )
