"""What the commands of the four execution datasets share: options, the sources, how they report."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from ingest.errors import SourceUnreachable
from ingest.named_files import named_files
from ingest.ndjson import ingest_ndjson
from lake.paths import lake_root

UNREACHABLE = 4
EXIT_CODES = (
    "Exit code 0: published; 1: a file was refused, the others landed; 2: published with incomplete windows; "
    "3: a sealed window holds other rows; 4: there was no source to read."
)

Source = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="ndjson:GLOB|postgres:DSN_NAME",
        help="Where the rows are; DSN_NAME is an environment variable.",
    ),
]
Start = Annotated[str | None, typer.Option("--start", help="First hour, UTC, such as 2024-12-01T05:00Z.")]
End = Annotated[str | None, typer.Option("--end", help="Hour after the last, exclusive.")]
Environment = Annotated[str, typer.Option("--environment", help="prod or testnet; a lake holds one of them.")]
MaxBad = Annotated[
    float, typer.Option("--max-bad", min=0, max=1, help="Largest share of bad lines of a file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")]


def land(
    dataset: str,
    source: str,
    *,
    start: str | None,
    end: str | None,
    environment: str,
    max_bad: float,
    as_json: bool,
) -> None:
    """Land ``dataset`` out of ``source`` and leave with the exit code of what became of it."""
    kind, _, rest = source.partition(":")
    if kind not in SOURCES or not rest:
        raise typer.BadParameter(
            f"source was {kind!r}, expected ndjson:GLOB or postgres:DSN_NAME", param_hint="--from"
        )
    options = {
        "environment": environment,
        "start": hour(start, "--start"),
        "end": hour(end, "--end"),
        "max_bad": max_bad,
    }
    try:
        code = SOURCES[kind](dataset, rest, options, as_json)
    except SourceUnreachable as error:
        say(f"tickhouse: {error}")
        code = UNREACHABLE
    if code:
        raise typer.Exit(code)


def from_ndjson(dataset: str, pattern: str, options: dict[str, Any], as_json: bool) -> int:
    """Land the files of a glob; prints a row for each."""
    total = sum(file.stat().st_size for file in named_files([pattern]))
    with tqdm(total=total, unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:
        done: dict[Path, int] = {}

        def progress(file: Path, bytes_done: int) -> None:
            bar.update(bytes_done - done.get(file, 0))
            done[file] = bytes_done

        report = ingest_ndjson(lake_root(), dataset, pattern, progress=progress, **options)
    if as_json:
        print_rows(
            [
                {
                    "path": str(f.path),
                    "dataset": f.dataset,
                    "status": f.status,
                    "reason": f.reason,
                    "rows": f.rows,
                    "rejected": f.rejected,
                    "bytes_in": f.bytes_in,
                    "raw_path": f.raw_path,
                    "unknown_columns": ",".join(f.unknown_columns),
                }
                for f in report.files
            ],
            as_json=True,
        )
    for file in report.files:
        if not file.ok:
            say(f"tickhouse: {file.line()}")
        elif not as_json:
            print(file.line())
        if file.unknown_columns:
            say(f"tickhouse: {file.path}: unknown columns went to _extra: {', '.join(file.unknown_columns)}")
    tell(report.load, as_json)
    return report.exit_code


def from_postgres(dataset: str, name: str, options: dict[str, Any], as_json: bool) -> int:
    """Land a table of the server whose connection string the environment holds as ``name``."""
    # Imported here: the driver of a database is nothing that a file needs.
    from ingest.postgres.load import ingest_postgres  # noqa: PLC0415

    with tqdm(unit=" rows", disable=None, file=sys.stderr) as bar:
        report = ingest_postgres(lake_root(), dataset, name, progress=bar.update, **options)
    span = [None if at is None else f"{at:%Y-%m-%dT%H:%MZ}" for at in (report.start, report.end)]
    through = None if report.sealed_through is None else f"{report.sealed_through:%Y-%m-%dT%H:%MZ}"
    if as_json:
        print_rows(
            [
                {
                    "table": report.table,
                    "dataset": report.dataset,
                    "start": span[0],
                    "end": span[1],
                    "rows": report.rows,
                    "new_rows": report.load.new_rows,
                    "late_rows": report.load.late_rows,
                    "rejected": report.load.rejected,
                    "windows": report.load.windows,
                    "unchanged": report.load.unchanged,
                    "sealed_through": through,
                    "unsealed": report.unsealed,
                    "future_rows": report.future_rows,
                    "unknown_columns": ",".join(report.unknown_columns),
                }
            ],
            as_json=True,
        )
    else:
        print(
            f"{report.table}: {report.rows:,} rows read of [{span[0]}, {span[1]}), sealed through {through or 'none'}"
        )
    tell(report.load, as_json)
    if report.unsealed:
        say(f"tickhouse: windows were left provisional: {report.unsealed}")
    if report.timeless:
        say(f"tickhouse: {report.timeless:,} rows have no time to be placed by; see _rejects")
    return report.exit_code


def tell(load: Any, as_json: bool) -> None:
    """Say what became of the windows; ``load`` is a LoadReport."""
    if not as_json:
        print(
            f"{load.dataset}: {load.windows:,} windows published, {load.unchanged:,} unchanged, "
            f"{load.new_rows:,} new rows, {load.late_rows:,} of them late"
        )
    if load.incomplete:
        say(
            f"tickhouse: {len(load.incomplete):,} windows are incomplete, first {load.incomplete[0]}; see _rejects"
        )
    for conflict in load.conflicts:
        say(f"tickhouse: conflict: window {conflict}")


def hour(text: str | None, option: str) -> datetime | None:
    """An instant of UTC out of an option; one without a zone is UTC."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"value was {text!r}, expected an hour such as 2024-12-01T05:00Z", param_hint=option
        ) from None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    if (when.minute, when.second, when.microsecond) != (0, 0, 0):
        raise typer.BadParameter(f"value was {text!r}, expected a full hour of UTC", param_hint=option)
    return when


SOURCES: dict[str, Callable[[str, str, dict[str, Any], bool], int]] = {
    "ndjson": from_ndjson,
    "postgres": from_postgres,
}
