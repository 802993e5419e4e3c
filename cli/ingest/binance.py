"""`tickhouse ingest binance …`: land own fills, aggregate trades and klines as bronze."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from ingest.binance.load import ingest_files
from ingest.binance.report import FileReport, Options, Report
from ingest.binance.sync import ingest_api
from ingest.errors import SourceUnreachable
from lake.paths import lake_root

app = typer.Typer(add_completion=False, no_args_is_help=True)

_FIELDS = (
    "path", "dataset", "status", "reason", "rows", "rejected", "filtered", "gaps", "windows", "late_rows",
    "incomplete", "bytes_in", "raw_path",
)  # fmt: skip
UNREACHABLE = 4
_CODES = "Exit code 1: a file was refused; 2: rows were rejected; 3: conflict; 4: source unreachable."

From = Annotated[
    list[str], typer.Option("--from", metavar="GLOB|api", help="Files, by name or glob; or api. Repeatable.")
]
Symbols = Annotated[str, typer.Option("--symbols", metavar="A,B", help="Only these symbols; needed for api.")]
Start = Annotated[str, typer.Option("--start", help="First hour, UTC: 2024-12-01 or 2024-12-01T05.")]
End = Annotated[str, typer.Option("--end", help="Hour behind the last.")]
Environment = Annotated[str, typer.Option("--environment", help="prod or testnet; a lake holds one.")]
Market = Annotated[
    str, typer.Option("--market", help="spot or usdm, where neither the data nor the folder says it.")
]
MaxBad = Annotated[
    float, typer.Option("--max-bad", help="Share of bad records above which a file is refused.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print an array, one flat object a file.")]


@app.callback()
def binance_group() -> None:
    """Land own fills, aggregate trades and klines of Binance as bronze."""


@app.command(
    "agg_trades", epilog=f"Example: tickhouse ingest binance agg_trades --from 'downloads/*.zip'. {_CODES}"
)
def agg_trades(
    sources: From,
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    environment: Environment = "prod",
    market: Market = "",
    max_bad: MaxBad = 0.01,
    as_json: AsJson = False,
) -> None:
    """Land the public tape out of REST bodies, websocket captures and archive files, or from the API."""
    options = _options(symbols, start, end, environment, market, max_bad)
    _run("agg_trades", sources, options, as_json)


@app.command(
    "klines",
    epilog=f"Example: tickhouse ingest binance klines --from api --symbols BTCUSDC --start 2024-12-01. {_CODES}",
)
def klines(
    sources: From,
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    interval: Annotated[str, typer.Option("--interval", help="Of the bars to ask the API for.")] = "1m",
    as_of: Annotated[
        str,
        typer.Option(
            "--as-of",
            help="When recorded REST bodies without a time were asked for; without it their last bar counts as open.",
        ),
    ] = "",
    environment: Environment = "prod",
    market: Market = "",
    max_bad: MaxBad = 0.01,
    as_json: AsJson = False,
) -> None:
    """Land closed bars out of REST bodies, websocket captures and archive files, or from the API."""
    options = _options(symbols, start, end, environment, market, max_bad, as_of=as_of)
    _run("klines", sources, options, as_json, interval=interval)


@app.command(
    "trades",
    epilog=f"Example: tickhouse ingest binance trades --from 'fills/*.json' --client-id 1. {_CODES}",
)
def trades(
    sources: From,
    client_id: Annotated[int, typer.Option("--client-id", help="Whose fills these are.")],
    account_type: Annotated[
        str,
        typer.Option(
            "--account-type", help="SPOT, ISOLATED_MARGIN or CROSS_MARGIN, where the fills don't say it."
        ),
    ] = "",
    symbols: Symbols = "",
    start: Start = "",
    end: End = "",
    environment: Environment = "prod",
    max_bad: MaxBad = 0.01,
    as_json: AsJson = False,
) -> None:
    """Land own fills out of REST bodies and execution reports, or from the API.

    The API's keys are BINANCE_API_KEY and BINANCE_API_SECRET of the environment.
    """
    options = _options(
        symbols, start, end, environment, "", max_bad, client_id=client_id, account_type=account_type
    )
    _run("trades", sources, options, as_json)


def _options(
    symbols: str,
    start: str,
    end: str,
    environment: str,
    market: str,
    max_bad: float,
    *,
    as_of: str = "",
    client_id: int | None = None,
    account_type: str = "",
) -> Options:
    return Options(
        environment=environment,
        client_id=client_id,
        account_type=account_type or None,
        market=market or None,
        symbols=tuple(dict.fromkeys(s.strip() for s in symbols.split(",") if s.strip())),
        as_of=_moment(as_of, "--as-of"),
        start=_moment(start, "--start"),
        end=_moment(end, "--end"),
        max_bad=max_bad,
    )


def _moment(text: str, option: str) -> datetime | None:
    """A time of ISO 8601, UTC where it names no zone."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} was no time, expected 2024-12-01T05:00:00Z", param_hint=option
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _run(dataset: str, sources: list[str], options: Options, as_json: bool, *, interval: str = "1m") -> None:
    if "api" in sources:
        if len(sources) > 1:
            raise typer.BadParameter("api stood beside files, expected one of them", param_hint="--from")
        report = ingest_api(lake_root(), dataset, options, interval=interval)
    else:
        try:
            report = _with_bar(
                lambda progress: ingest_files(lake_root(), dataset, sources, options, progress=progress)
            )
        except SourceUnreachable as error:
            say(f"tickhouse: {error}")
            raise typer.Exit(UNREACHABLE) from None
    if as_json:
        print_rows([_flat(file) for file in report.files], as_json=True)
    for file in report.files:
        if not file.ok:
            say(f"tickhouse: {file.line()}")
        elif not as_json:
            print(file.line())
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _with_bar(load: Callable[[Callable[[Path, int], None]], Report]) -> Report:
    with tqdm(unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:

        def progress(file: Path, size: int) -> None:
            bar.set_description(file.name, refresh=False)
            bar.update(size)

        return load(progress)


def _flat(file: FileReport) -> dict[str, object]:
    return {name: getattr(file, name) for name in _FIELDS}
