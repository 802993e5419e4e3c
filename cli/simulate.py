"""`tickhouse simulate {market,execution}`: raw files as their sources would deliver them, out of the simulators."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from cli.dates import trading_sessions
from cli.output import print_rows
from lake.paths import lake_root

if TYPE_CHECKING:
    from ingest.simulator.execution.simulation import ExecutionSimulation

app = typer.Typer(add_completion=False, no_args_is_help=True)

Dates = Annotated[
    str | None,
    typer.Option(
        metavar="DATES",
        help="START:END, both inclusive, holidays skipped; D1,D2,…; or START with --sessions. "
        "Default: the demo's 20 sessions.",
    ),
]
Sessions = Annotated[
    int | None, typer.Option(min=1, help="Number of trading sessions from the first date on.")
]
Scale = Annotated[
    float | None,
    typer.Option(help="Share of a full day's events (8 million book records). Default: the demo's."),
]
Seed = Annotated[int, typer.Option(help="The same seed, date, scale and profile give the same records.")]
Profile = Annotated[
    str, typer.Option(help="default, null (nothing to learn) or planted (effects to be found).")
]
FaultNames = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="NAME",
        help="What is wrong in the files; may be repeated. all, none, or list to see them. Default: odd things that "
        "are harmless (crossed-book, identical-prints, odd-tickers).",
    ),
]


@app.callback()
def simulate() -> None:
    """Write raw files out of the simulator."""


@app.command(
    epilog="Example: tickhouse simulate market --dates 2025-10-06:2025-10-10 --profile planted --fault none"
)
def market(
    dates: Dates = None,
    sessions: Sessions = None,
    scale: Scale = None,
    seed: Seed = 1,
    profile: Profile = "default",
    fault: FaultNames = None,
    truth: Annotated[
        Path | None, typer.Option(help="Also write what was planted to this Parquet file, outside the lake.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one flat object a file.")] = False,
) -> None:
    """Write ES as DBN v3 files to raw/dbn, SPY and its options as flat files to raw/polygon; what is there stays."""
    if fault == ["list"]:
        print_rows(list_faults(), as_json=as_json)
        return
    rows = simulated(lake_root(), dates, sessions, scale, seed, profile, fault, truth)
    print_rows(rows, as_json=as_json)


@app.command(
    epilog="Example: tickhouse simulate execution --seed 7 --clients 2 --days 5 --ops-per-day 50 --out bot --fault none"
)
def execution(
    seed: Annotated[int, typer.Option(help="The same arguments give the same rows.")] = 7,
    clients: Annotated[int, typer.Option(help="Tenants 1 to N; the canary, 999, trades beside them.")] = 2,
    days: Annotated[int, typer.Option(help="UTC days from --start on.")] = 30,
    ops_per_day: Annotated[int, typer.Option(help="Operations of each tenant a day.")] = 50,
    symbols: Annotated[str, typer.Option(metavar="A,B", help="What they trade.")] = "BTCUSDC,ETHUSDC",
    start: Annotated[str, typer.Option(metavar="DATE", help="First UTC day.")] = "2024-12-01",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault", metavar="NAME", help="What is planted; may be repeated. all (default), none, or list."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: raw/ of LAKE_ROOT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Write a bot's events, ledger, operations, balances and fills, the market, and what was planted (truth/)."""
    if fault == ["list"]:
        print_rows(list_execution_faults(), as_json=as_json)
        return
    made = simulated_execution(
        out or lake_root() / "raw", seed, clients, days, ops_per_day, symbols, start, fault or ["all"]
    )
    state = "written" if made.written else "there"
    rows = [
        {"kind": kind, "name": name, "count": count, "state": state}
        for kind, counts in made.counts.items()
        for name, count in counts.items()
    ]
    print_rows(rows, as_json=as_json)


def list_execution_faults() -> list[dict[str, object]]:
    from ingest.simulator.execution.faults import FAULTS  # noqa: PLC0415

    return [{"fault": name, "what": f.what, "handling": f.handling} for name, f in FAULTS.items()]


def simulated_execution(
    out: Path,
    seed: int,
    clients: int,
    days: int,
    ops_per_day: int,
    symbols: str,
    start: str,
    faults: list[str],
) -> "ExecutionSimulation":
    """Run the simulator of execution under a progress bar. Raises typer.BadParameter for a start that is no date."""
    from ingest.simulator.execution.simulation import simulate_execution  # noqa: PLC0415 (loads pyarrow)

    try:
        first = datetime.fromisoformat(start)
    except ValueError:
        raise typer.BadParameter(
            f"value was {start!r}, expected a date such as 2024-12-01", param_hint="--start"
        ) from None
    with tqdm(total=days, desc="simulate", unit="day", disable=None, leave=False) as bar:
        return simulate_execution(
            out,
            seed=seed,
            clients=clients,
            days=days,
            ops_per_day=ops_per_day,
            symbols=[name.strip() for name in symbols.split(",") if name.strip()],
            start=first.replace(tzinfo=UTC) if first.tzinfo is None else first,
            faults=faults,
            progress=lambda done, _: bar.update(done - bar.n),
        )


def list_faults() -> list[dict[str, object]]:
    from ingest.simulator.faults import DEMO_FAULTS, FAULTS  # noqa: PLC0415 (loads numba)

    return [
        {
            "fault": name,
            "hits": f.hits,
            "default": name in DEMO_FAULTS,
            "what": f.what,
            "handling": f.handling,
        }
        for name, f in FAULTS.items()
    ]


def simulated(
    root: Path,
    dates: str | None,
    sessions: int | None,
    scale: float | None,
    seed: int,
    profile: str,
    faults: list[str] | None = None,
    truth: Path | None = None,
) -> list[dict[str, object]]:
    """Run the simulator under a progress bar; one flat row for each file, in order of day and schema.

    Faults are the demo's when None.
    """
    # Imported here: the simulator's kernels take a second that --help should not pay.
    from ingest.simulator import market as simulator  # noqa: PLC0415

    if dates or sessions:
        chosen = trading_sessions(dates or simulator.DEMO_DATES[0].isoformat(), sessions)
    else:
        chosen = list(simulator.DEMO_DATES)
    with tqdm(total=len(chosen), desc="simulate", unit="session", disable=None, leave=False) as bar:

        def on_progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        files = simulator.simulate(
            root,
            chosen,
            scale=simulator.DEMO_SCALE if scale is None else scale,
            seed=seed,
            profile=profile,
            progress=on_progress,
            truth=truth,
            faults=simulator.DEMO_FAULTS if faults is None else faults,
        )
    return [
        {
            "path": str(file.path.relative_to(root)),
            "schema": file.schema,
            "date": file.day.isoformat(),
            "records": file.record_count,
            "bytes": file.bytes,
            "fault": file.fault,
            "state": "written" if file.written else "there",
        }
        for file in files
    ]
