"""`tickhouse ingest databento`: order from Databento under a limit, and land what comes."""

import sys
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from ingest.databento import Query, Report, Vendor, fetch_and_land
from ingest.databento.ledger import BATCH, STREAM
from ingest.databento.run import DEFAULT_TIMEOUT_S
from lake.paths import lake_root

app = typer.Typer(add_completion=False)

_DAY = ["%Y-%m-%d"]
_ESTIMATE = ("schema", "date", "status", "record_count", "billable_bytes", "cost_usd")


@app.command(
    epilog="Example: tickhouse ingest databento --dataset GLBX.MDP3 --schema trades --schema mbp-10 "
    "--symbols ES.FUT --stype-in parent --start 2025-10-06 --end 2025-10-08 --max-usd 25. "
    "The key comes from DATABENTO_API_KEY. Run it again after an interruption: what was ordered is gone on with."
)
def databento(
    dataset: Annotated[str, typer.Option(help="The vendor's code, as GLBX.MDP3.")],
    schema: Annotated[list[str], typer.Option(help="What to order, as trades or mbp-10; may be repeated.")],
    symbols: Annotated[list[str], typer.Option(help="Symbols, repeated or with commas; or ALL_SYMBOLS.")],
    start: Annotated[datetime, typer.Option(formats=_DAY, help="First UTC day.")],
    end: Annotated[datetime, typer.Option(formats=_DAY, help="UTC day after the last.")],
    max_usd: Annotated[float, typer.Option(min=0, help="Order nothing when it would cost more than this.")],
    stype_in: Annotated[
        str, typer.Option(help="What the symbols are: raw_symbol, parent, continuous, …")
    ] = "raw_symbol",
    batch: Annotated[
        bool,
        typer.Option(
            "--batch/--stream", help="Files with checksums, to be fetched again at no cost; or at once."
        ),
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the estimate and stop.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for jobs and files.")
    ] = DEFAULT_TIMEOUT_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one flat object a day.")] = False,
) -> None:
    """Order from Databento what the lake lacks: the cost first, each day paid for once, checked, landed."""
    query = Query(
        dataset=dataset,
        schemas=tuple(schema),
        symbols=tuple(s for text in symbols for s in text.split(",") if s),
        start=start.date(),
        end=end.date(),
        stype_in=stype_in,
    )
    vendor = Vendor.from_environment()
    with tqdm(unit="B", unit_scale=True, disable=None, leave=False, file=sys.stderr) as bar:

        def progress(file: str, done: int, total: int) -> None:
            bar.set_description(file, refresh=False)
            bar.total, bar.n = total or None, done
            bar.update(0)

        def show(estimate: Report) -> None:
            bar.clear()
            _show(estimate, max_usd)

        report = fetch_and_land(
            lake_root(),
            query,
            vendor,
            max_usd=max_usd,
            kind=BATCH if batch else STREAM,
            dry_run=dry_run,
            timeout_s=timeout_s,
            show=show,
            progress=progress,
        )
    if dry_run:
        rows = [{k: getattr(row, k) for k in _ESTIMATE} for row in report.rows]
        print_rows(rows, as_json=as_json)
        say(_total(report, max_usd))
        return
    if as_json:
        print_rows([asdict(row) for row in report.rows], as_json=True)
    for row in report.rows:
        if row.status in ("failed", "quarantined"):
            say(f"tickhouse: {row.line()}")
        elif not as_json:
            print(row.line())
    if not report.ok:
        raise typer.Exit(1)


def _show(estimate: Report, max_usd: float) -> None:
    for row in estimate.rows:
        if row.status == "to_order":
            say(
                f"{row.schema} {row.date}: {row.record_count:,} records, {row.billable_bytes:,} bytes, "
                f"{row.cost_usd:.2f} USD"
            )
    say(_total(estimate, max_usd))


def _total(report: Report, max_usd: float) -> str:
    return f"to order: {report.cost_usd:.2f} USD, limit {max_usd:.2f} USD"
