"""`tickhouse seal`: make hour windows of execution bronze immutable."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.output import print_rows
from ingest.window_schema import WINDOW_SCHEMAS
from ingest.window_seal import seal_through
from lake.paths import lake_root

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse seal --through 2024-12-02T00:00Z --dataset events")
def seal(
    through: Annotated[str, typer.Option("--through", help="Seal what ends at or before this instant, UTC.")],
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="Only this dataset; may be given again.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an array, one flat object a dataset.")
    ] = False,
) -> None:
    """Seal the hour windows of execution bronze; hours of which nothing came are sealed without rows."""
    for name in dataset or ():
        if name not in WINDOW_SCHEMAS:
            raise typer.BadParameter(
                f"dataset was {name}, expected one of {', '.join(WINDOW_SCHEMAS)}", param_hint="--dataset"
            )
    try:
        when = datetime.fromisoformat(through)
    except ValueError:
        raise typer.BadParameter(
            f"value was {through!r}, expected an instant such as 2024-12-02T00:00Z", param_hint="--through"
        ) from None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    root = lake_root()
    print_rows([vars(seal_through(root, name, when)) for name in dataset or WINDOW_SCHEMAS], as_json=as_json)
