"""`tickhouse simulate market`: raw files as a vendor would deliver them, out of the simulator."""

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from cli.dates import trading_sessions
from cli.output import print_rows
from lake.paths import lake_root

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


@app.callback()
def simulate() -> None:
    """Write raw files out of the simulator."""


@app.command(epilog="Example: tickhouse simulate market --dates 2025-10-06:2025-10-10 --profile planted")
def market(
    dates: Dates = None,
    sessions: Sessions = None,
    scale: Scale = None,
    seed: Seed = 1,
    profile: Profile = "default",
    truth: Annotated[
        Path | None, typer.Option(help="Also write what was planted to this Parquet file, outside the lake.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one flat object a file.")] = False,
) -> None:
    """Write ES as DBN v3 files to raw/dbn, SPY and its options as flat files to raw/polygon; what is there stays."""
    rows = simulated(lake_root(), dates, sessions, scale, seed, profile, truth)
    print_rows(rows, as_json=as_json)


def simulated(
    root: Path,
    dates: str | None,
    sessions: int | None,
    scale: float | None,
    seed: int,
    profile: str,
    truth: Path | None = None,
) -> list[dict[str, object]]:
    """Run the simulator under a progress bar; one flat row for each file, in order of day and schema."""
    # Imported here: the simulator's kernels take a second that --help should not pay.
    from ingest.simulator import market as simulator  # noqa: PLC0415

    if dates or sessions:
        chosen = trading_sessions(dates or simulator.DEMO_DATES[0].isoformat(), sessions)
    else:
        chosen = list(simulator.DEMO_DATES)
    with tqdm(total=len(chosen), desc="simulate", unit="session", disable=None, leave=False) as bar:
        files = simulator.simulate(
            root,
            chosen,
            scale=simulator.DEMO_SCALE if scale is None else scale,
            seed=seed,
            profile=profile,
            progress=lambda done, _: bar.update(done - bar.n),
            truth=truth,
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
