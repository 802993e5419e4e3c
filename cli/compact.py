"""`tickhouse compact`: merge small files of bronze."""

from pathlib import Path
from typing import Annotated

import typer

from cli import dbt
from cli.output import print_rows, say
from ingest.compaction import GRACE_S, CompactReport, compact
from ingest.compaction_windows import compact_windows
from lake.commits import now_utc
from lake.paths import lake_root
from lake.rollup import write_rollups
from lake.runs import new_run_id, write_run

app = typer.Typer(add_completion=False)


@app.command("compact", epilog="Example: tickhouse compact --grace-seconds 7200")
def compact_command(
    grace_seconds: Annotated[
        float,
        typer.Option(min=0, help="Files replaced at least this long ago go; none that this call replaces."),
    ] = GRACE_S,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Merge the small files of each bronze hour, or sealed day, without changing a digest or a running query.

    The files that were merged stay for the grace period, as a query that began before still opens them by
    name, and go with the next call after it.
    """
    root, started_at, run_id = lake_root(), now_utc(), new_run_id("compact")
    report = compact(root, grace_s=grace_seconds, dry_run=dry_run, run_id=run_id)
    compact_windows(root, report, grace_s=grace_seconds, dry_run=dry_run)
    for reason in report.kept_apart:
        say(f"kept apart: {reason}")
    if not dry_run:
        if report.changed:
            show_again(root)
        write_run(
            root,
            run_id,
            config={"grace_seconds": grace_seconds},
            counts={
                "merged": len(report.merged),
                "deleted": len(report.deleted),
                "kept_apart": len(report.kept_apart),
            },
            status="ok",
            started_at=started_at,
        )
    print_rows(report.merged, as_json=as_json)
    say(_summary(report, dry_run=dry_run))


def show_again(root: Path) -> None:
    """Make the manifests and the views of lake.duckdb name the files that stand now, as the next dbt run would."""
    write_rollups(root)
    try:
        dbt.invoke(["run-operation", "lake_register"], root=root)
    except RuntimeError as error:
        say(f"the views of lake.duckdb still name the old files until the next dbt run ({error})")


def _summary(report: CompactReport, *, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    before = sum(row["bytes_before"] for row in report.merged)
    files = sum(row["files"] for row in report.merged)
    return (
        f"{files} files ({before:,} bytes) {would}merged into {len(report.merged)}; "
        f"{len(report.deleted)} replaced earlier {would}deleted ({report.bytes_deleted:,} bytes)"
    )
