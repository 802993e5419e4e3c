"""`tickhouse ingest polygon`: land option and stock trades of Polygon / Massive as bronze."""

import logging
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from ingest.file_report import IngestReport
from ingest.landing import MAX_BAD
from ingest.polygon.landing import WANTED, Settings, find_files, ingest
from ingest.polygon.layout import KINDS
from lake.paths import lake_root

app = typer.Typer(add_completion=False)

_DAY = ["%Y-%m-%d"]
_FIELDS = (
    "path", "status", "reason", "schema", "date", "rows", "rejected", "partitions", "ts_first_ns", "ts_last_ns",
    "bytes_in", "bytes_out", "delivery_id", "raw_path",
)  # fmt: skip


@app.command(
    epilog="Examples: tickhouse ingest polygon 2025-12-24.csv.gz downloads/ · "
    "tickhouse ingest polygon s3://BUCKET/us_options_opra/trades_v1/2025/12/ · "
    "tickhouse ingest polygon --dataset options --start 2025-12-22 --end 2025-12-25 · "
    "tickhouse ingest polygon --api O:SPY251224C00690000 --start 2025-12-24 --end 2025-12-25. "
    "Exit code 1: something was refused, the rest landed."
)
def polygon(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH…", help="Flat files, folders of them, s3:// addresses; with --api tickers."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="options or stocks: fetch the vendor's flat files of --start to --end.")
    ] = None,
    api: Annotated[bool, typer.Option("--api", help="Ask the REST interface for the tickers named.")] = False,
    start: Annotated[datetime | None, typer.Option(formats=_DAY, help="First day.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=_DAY, help="Day after the last.")] = None,
    schema: Annotated[
        str | None, typer.Option(help="options or stocks, where neither path nor header says it.")
    ] = None,
    underlying: Annotated[
        list[str] | None, typer.Option(help="Option root or stock symbol to keep; may be repeated.")
    ] = None,
    max_bad: Annotated[
        float, typer.Option(min=0, max=1, help="Share of bad lines above which a file is refused.")
    ] = MAX_BAD,
    recover: Annotated[
        bool,
        typer.Option("--recover", help="Also delete orphans in bronze and land raw files without a receipt."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one flat object a file.")] = False,
) -> None:
    """Land option and stock trades out of flat files, S3 or the REST interface, each file once and whole."""
    sources = sources or []
    remote = [s for s in sources if s.startswith("s3://")]
    _require_one_mode(sources, remote, dataset, api=api, days=(start, end), recover=recover)
    for name, value in (("--dataset", dataset), ("--schema", schema)):
        if value is not None and value not in KINDS:
            raise typer.BadParameter(f"was {value}, expected {' or '.join(KINDS)}", param_hint=name)
    settings = Settings(
        kind=KINDS[schema] if schema else None, wanted=tuple(underlying or WANTED), max_bad=max_bad
    )
    # Their debug lines hold request headers.
    for name in ("botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tqdm(unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:
        if api:
            from ingest.polygon import rest  # noqa: PLC0415 — the vendor's client is slow to import

            report = rest.ingest(lake_root(), sources, start.date(), end.date(), settings)
        elif remote or dataset:
            from ingest.polygon import s3  # noqa: PLC0415 — so is this one

            days = (KINDS[dataset], start.date(), end.date()) if dataset else None
            report = s3.ingest(
                lake_root(), settings, urls=remote, days=days,
                progress=lambda item, done: _tell(bar, item.name, done, item.bytes),
            )  # fmt: skip
        else:
            paths = [Path(s) for s in sources]
            bar.total = sum(f.stat().st_size for f in find_files(paths)[0])
            report = ingest(
                lake_root(), paths, settings, recover=recover,
                progress=lambda file, done, size: _tell(bar, file.name, done, size),
            )  # fmt: skip
    _print(report, as_json=as_json)
    if not report.ok:
        raise typer.Exit(1)


def _require_one_mode(
    sources: list[str], remote: list[str], dataset: str | None, *, api: bool, days: tuple, recover: bool
) -> None:
    """Raise BadParameter when it isn't clear what to land."""
    if not (sources or dataset or recover):
        raise typer.BadParameter(
            "nothing was named, expected files, folders or s3:// addresses; or use --dataset, --api or --recover",
            param_hint="PATH…",
        )
    if (
        len(remote) not in (0, len(sources))
        or (dataset and (sources or api))
        or (api and (remote or not sources))
    ):
        raise typer.BadParameter(
            "files, s3:// addresses, --dataset and --api tickers were mixed, expected one kind a call",
            param_hint="PATH…",
        )
    if recover and (remote or dataset or api):
        raise typer.BadParameter("goes with files, expected no other source", param_hint="--recover")
    if (dataset or api) and not (all(days) and days[0] < days[1]):
        raise typer.BadParameter(
            "were no range of days, expected --start before --end", param_hint="--start, --end"
        )
    if not (dataset or api) and any(days):
        raise typer.BadParameter(
            "go with --dataset or --api, expected one of them", param_hint="--start, --end"
        )


def _tell(bar: tqdm, name: str, done: int, size: int) -> None:
    bar.set_description(f"{name} {done / max(size, 1):.0%}")


def _print(report: IngestReport, *, as_json: bool) -> None:
    if as_json:
        print_rows([{k: _flat(getattr(f, k)) for k in _FIELDS} for f in report.files], as_json=True)
    for file in report.files:
        if not file.ok:
            say(f"tickhouse: {file.line()}")
        elif not as_json:
            print(file.line())


def _flat(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
