"""`tickhouse demo`: from nothing to a trained model, and a report of what was made."""

import re
import resource
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from cli import dbt
from cli.output import print_rows, progress, say
from cli.simulate import Dates, FaultNames, Profile, Scale, Seed, Sessions, simulated, simulated_execution
from cli.train import compact
from lake.paths import lake_root

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse demo --dates 2025-11-03:2025-12-31 --scale 0.05")
def demo(
    dates: Dates = None,
    sessions: Sessions = None,
    scale: Scale = None,
    seed: Seed = 1,
    profile: Profile = "planted",
    fault: FaultNames = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Simulate sessions and a trading bot, land them, build every dataset and train; a second run finds all done.

    Prints training figures of all test sessions and of the holdout as they are, without a verdict, then what
    was made, where it stands and how long each step took. Without options: 20 sessions with effects to be found. The
    options are the market's; the bot plays four days with everything planted that there is to find.
    """
    root = lake_root()
    figures: list[dict[str, Any]] = []
    steps: dict[str, Callable[[], tuple[str, Path]]] = {
        "simulate": lambda: simulate(root, dates, sessions, scale, seed, profile, fault),
        "ingest": lambda: ingest(root),
        "simulate bot": lambda: simulate_bot(root, seed),
        "ingest bot": lambda: ingest_bot(root),
        "build": lambda: build(root),
        "train": lambda: train(root, figures),
        "evaluate": lambda: evaluate(root),
    }
    rows: list[dict[str, Any]] = []
    for name, step in steps.items():
        started = time.monotonic()
        made, where = step()
        rows.append(report_row(name, time.monotonic() - started, made, where))
        progress(f"{name}: {made}, {rows[-1]['seconds']} s")
    peak_bytes = (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        * 1024
    )
    seconds = sum(row["seconds"] for row in rows)
    rows.append(report_row("total", seconds, f"peak memory {peak_bytes / 1e6:,.0f} MB", root))

    if not as_json:
        print_rows([brief(row) for row in figures if row["fold"] in ("pooled", "holdout")], as_json=False)
        print()
    print_rows(rows, as_json=as_json)
    say("look around: make shell, .venv/bin/tickhouse status")


def brief(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a training row that fit a screen; `tickhouse train` prints all, fold by fold."""
    shown = compact(row)
    names = ["stage", "head", "fold", "n", "pos", "auc", "auc_base", "pr", "pr_base", "pr_prior"]
    return {name: shown[name] for name in [*names, "brier", "brier_base", "brier_prior", "skill"]}


def report_row(step: str, seconds: float, made: str, where: Path) -> dict[str, Any]:
    return {"step": step, "seconds": round(seconds, 1), "made": made, "where": str(where)}


def simulate(
    root: Path,
    dates: str | None,
    sessions: int | None,
    scale: float | None,
    seed: int,
    profile: str,
    faults: list[str] | None,
) -> tuple[str, Path]:
    rows = simulated(root, dates, sessions, scale, seed, profile, faults)
    new = sum(row["state"] == "written" for row in rows)
    made = ", ".join(
        f"{sum(row['records'] for row in rows if row['schema'] == schema):,} {schema}"
        for schema in sorted({row["schema"] for row in rows})
    )
    return f"{made} records in {len(rows)} files ({new} new)", root / "raw"


def ingest(root: Path) -> tuple[str, Path]:
    from ingest import dbn  # noqa: PLC0415 (the readers load pyarrow and numba)
    from ingest.polygon import landing as polygon  # noqa: PLC0415
    from ingest.simulator.ledger import delivery_list  # noqa: PLC0415

    with tqdm(desc="ingest", unit="file", disable=None, leave=False) as bar:

        def on_progress(file: Path, done: int, total: int) -> None:
            bar.set_postfix_str(f"{file.name} {done * 100 // max(total, 1)} %", refresh=False)
            bar.update(done == total)

        expected, broken = delivery_list(root)
        files = dbn.ingest(root, [root / "raw" / "dbn"], expected=expected, progress=on_progress).files
        files += polygon.ingest(root, [root / "raw" / "polygon"], progress=on_progress).files
    refused = [file for file in files if not file.ok]
    if lines := [file.line() for file in refused if file.path not in broken]:
        raise RuntimeError(f"{len(lines)} of {len(files)} files were not landed: {'; '.join(lines)}")
    for file in refused:
        say(file.line())  # a fault that was asked for
    landed = [file for file in files if file.status == "landed"]
    rows = sum(file.rows for file in files)
    return f"{rows:,} rows of {len(files)} files ({len(landed)} new)", root / "lake" / "bronze"


def simulate_bot(root: Path, seed: int) -> tuple[str, Path]:
    """A trading bot's days beside the market's sessions, everything planted that there is to find."""
    from ingest.simulator.execution import simulation  # noqa: PLC0415 (loads pyarrow)

    out = root / "raw"
    made = simulated_execution(
        out,
        seed,
        simulation.DEMO_CLIENTS,
        simulation.DEMO_DAYS,
        simulation.DEMO_OPS_PER_DAY,
        ",".join(simulation.DEMO_SYMBOLS),
        f"{simulation.DEFAULT_START:%Y-%m-%d}",
        ["all"],
    )
    rows = made.counts["rows"]
    shown = ", ".join(
        f"{rows[name]:,} {name}" for name in ("events", "orders", "fills", "agg_trades", "klines")
    )
    return f"{shown} ({'new' if made.written else 'there'})", out


def ingest_bot(root: Path) -> tuple[str, Path]:
    from ingest.simulator.execution import landing, simulation  # noqa: PLC0415

    end = simulation.DEFAULT_START + timedelta(days=simulation.DEMO_DAYS)
    with tqdm(desc="ingest", unit="folder", disable=None, leave=False) as bar:

        def on_progress(folder: str) -> None:
            bar.set_postfix_str(folder, refresh=False)
            bar.update()

        landed = landing.land_simulated(root, root / "raw", sealed_through=end, progress=on_progress)
    if lines := landed.failed():
        raise RuntimeError(f"{len(lines)} files of the bot were not landed: {'; '.join(lines)}")
    files = landed.files()
    new = sum(file.status == "landed" for file in files)
    rows = sum(file.rows for file in files)
    return f"{rows:,} rows of {len(files)} files ({new} new)", root / "lake" / "bronze"


def build(root: Path) -> tuple[str, Path]:
    with tqdm(desc="build", unit="node", disable=None, leave=False) as bar:

        def on_event(event: Any) -> None:
            if event.info.name == "LogStartLine":
                bar.total = event.data.total
                bar.set_postfix_str(event.data.description, refresh=False)
            elif event.info.name in ("LogModelResult", "LogTestResult", "LogSeedResult", "LogNodeResult"):
                bar.update()

        results = dbt.invoke(["build"], root=root, on_event=on_event).results
    tests = [result for result in results if result.node.resource_type in ("test", "unit_test")]
    dates = [
        match for result in results if (match := re.match(r"(\d+) of (\d+) dates", result.message or ""))
    ]
    built, held = (sum(int(match.group(index)) for match in dates) for index in (1, 2))
    passed = sum(str(result.status) == "pass" for result in tests)
    made = f"{len(dates)} datasets, {held} partitions ({built} new), {passed} of {len(tests)} tests passed"
    return made, root / "lake"


def train(root: Path, figures: list[dict[str, Any]]) -> tuple[str, Path]:
    from ml import training  # noqa: PLC0415 (LightGBM and scikit-learn take a second)

    version, experiment = "v1.0_mechanics_only", "exp001_mechanics_only"
    # The demo's own experiment follows the demo's own data.
    stale = training.outlook(root, version, experiment) == "final"
    with tqdm(desc="train", unit="fit", disable=None, leave=False) as bar:

        def on_progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)

        report = training.train(root, version, experiment, replace=stale, on_progress=on_progress)
    figures += report.rows()
    for line in report.remarks():
        say(line)
    state = "trained" if report.state == "trained" else "up to date"
    return f"{report.metrics['rows']:,} rows, {report.experiment} {state}", report.path


def evaluate(root: Path) -> tuple[str, Path]:
    """Backtest the demo's experiment, unless it has been, and write the report."""
    from ml import backtest, experiments, model_card  # noqa: PLC0415 (LightGBM and scikit-learn take a second)
    from ml.report import facts, page  # noqa: PLC0415

    stored = experiments.stored_of(root, "exp001")
    with tqdm(desc="evaluate", unit="fold", disable=None, leave=False) as bar:
        done = backtest.is_current(root, "exp001") or bool(
            backtest.evaluate(root, "exp001", on_progress=lambda what, done, total: bar.update())
        )
    found = facts.gather(root, ["exp001"])
    place = page.write(root, found)
    model_card.write(root, found[0])
    verdicts = "; ".join(f"{h.name}: {found[0].verdict(h)}" for h in found[0].heads[:2])
    return (f"{stored.path.name} backtested, {verdicts}" if done else "nothing"), place
