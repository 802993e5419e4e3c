"""`tickhouse verify`: build a version again elsewhere and compare."""

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from lake.paths import lake_root

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse verify v2.0_full_ensemble")
def verify(
    version: Annotated[str, typer.Argument(help="Version, such as v2.0_full_ensemble.")],
    *,
    root: Annotated[
        Path | None, typer.Option(help="Root of the lake; default LAKE_ROOT, else data/.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Empty folder to build in and to keep; default a temporary one.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of DuckDB and dbt; enter no result.")
    ] = None,
    perturb: Annotated[
        bool,
        typer.Option(
            "--perturb",
            help="Build its last date without what came after an instant; rows up to it must stay.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Build a version again from bronze and its recorded params, and compare every digest on record.

    One line for each date of each dataset, down to those that read bronze; bronze is read where it stands. Exit code 1
    when a digest differs; what differs in code, bronze or engines is told beside it. With --perturb nothing is compared
    but one date with itself, the future taken away; the verdict is recorded, and a promotion asks for it.
    """
    from lake.verify import verify as run  # noqa: PLC0415  # dbt takes seconds to import

    place = root.expanduser().resolve() if root else lake_root()
    if perturb:
        audited(place, version, scratch, as_json)
        return
    with tqdm(desc="rebuilding", unit="model", disable=None, leave=False) as bar:

        def on_node(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        report = run(
            place,
            version,
            scratch=scratch.expanduser().resolve() if scratch else None,
            threads=threads,
            on_node=on_node,
        )
    digits = None if as_json else 12
    print_rows(
        [
            {
                "dataset": row.dataset,
                "date": row.date,
                "recorded": row.recorded[:digits],
                "rebuilt": row.rebuilt and row.rebuilt[:digits],
                "equal": row.is_equal,
            }
            for row in report.rows
        ],
        as_json=as_json,
    )
    for line in remarks(report):
        say(line)
    if not report.is_equal:
        raise typer.Exit(1)


def audited(place: Path, version: str, scratch: Path | None, as_json: bool) -> None:
    from lake import audit  # noqa: PLC0415  # dbt takes seconds to import

    with tqdm(desc="auditing", unit="model", disable=None, leave=False) as bar:
        record = audit.audit(
            place,
            version,
            scratch=scratch.expanduser().resolve() if scratch else None,
            on_node=lambda name: bar.set_postfix_str(name, refresh=False) or bar.update(),
        )
    shown = ("version", "session_date", "asof_ns", "rows", "passed", "told")
    print_rows([{name: record[name] for name in shown}], as_json=as_json)
    if not record["passed"]:
        raise typer.Exit(1)


def remarks(report: object) -> list[str]:
    """Lines about what is not as on record, and the result."""
    lines = []
    if report.code:
        commit = f" of commit {report.git_commit[:12]}" if report.git_commit else ""
        lines.append(f"code differs from that on record{commit}: {', '.join(report.code)}")
    if report.bronze:
        lines.append(f"bronze changed since: {', '.join(report.bronze)}")
    if report.engines:
        lines.append(f"engines differ: {', '.join(report.engines)}")
    different = sum(not row.is_equal for row in report.rows)
    verdict = f"{different} of {len(report.rows)} digests differ" if different else "every digest is equal"
    return [*lines, f"{report.version}: {verdict}"]
