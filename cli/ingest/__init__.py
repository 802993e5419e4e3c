"""`tickhouse ingest …`: land raw files as bronze. One module per source."""

import typer

from cli.lazy import Commands, lazy_group

COMMANDS: Commands = {
    "dbn": ("cli.ingest.dbn", "Land Databento files."),
    "databento": ("cli.ingest.databento", "Order from Databento under a limit, and land what comes."),
    "polygon": ("cli.ingest.polygon", "Land option and stock trades of Polygon / Massive."),
    "binance": ("cli.ingest.binance", "Land own fills, aggregate trades and klines of Binance."),
    "events": ("cli.ingest.events", "Land stop events, from NDJSON or PostgreSQL."),
    "orders": ("cli.ingest.orders", "Land movements of the ledger, from NDJSON or PostgreSQL."),
    "operations": ("cli.ingest.operations", "Land operations, from NDJSON or PostgreSQL."),
    "balances": ("cli.ingest.balances", "Land balance snapshots, from NDJSON or PostgreSQL."),
}

app = typer.Typer(cls=lazy_group(COMMANDS), add_completion=False, no_args_is_help=True)


@app.callback()
def ingest_group() -> None:
    """Land raw files as bronze."""
