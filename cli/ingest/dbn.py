"""`tickhouse ingest dbn`: land Databento files as bronze."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from ingest.dbn import find_files, ingest
from ingest.landing import MAX_BAD
from lake.paths import lake_root

app = typer.Typer(add_completion=False)

_FIELDS = (
    "path", "status", "reason", "schema", "date", "rows", "rejected", "partitions", "ts_first_ns", "ts_last_ns",
    "bytes_in", "bytes_out", "delivery_id", "raw_path",
)  # fmt: skip


@app.command(
    epilog="Example: tickhouse ingest dbn glbx-mdp3-20251215.trades.dbn.zst downloads/. "
    "Exit code 1: a file was refused, the others landed."
)
def dbn(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="DBN files, or folders searched for them.")
    ] = None,
    recover: Annotated[
        bool,
        typer.Option("--recover", help="Also delete orphans in bronze and land raw files without a receipt."),
    ] = False,
    max_bad: Annotated[
        float,
        typer.Option(
            "--max-bad", min=0, max=1, help="Share of bad rows, kept aside, above which a file is refused."
        ),
    ] = MAX_BAD,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one flat object a file.")] = False,
) -> None:
    """Land trades, books, orders, definitions and bars of DBN files (v1 to v3, plain or zstd), each once and whole."""
    if not paths and not recover:
        raise typer.BadParameter(
            "nothing was named, expected files or folders; or use --recover", param_hint="PATH…"
        )
    paths = paths or []
    total = sum(file.stat().st_size for file in find_files(paths)[0])
    with tqdm(total=total, unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:
        done: dict[Path, int] = {}

        def progress(file: Path, bytes_done: int, _: int) -> None:
            bar.set_description(file.name, refresh=False)
            bar.update(bytes_done - done.get(file, 0))
            done[file] = bytes_done

        report = ingest(lake_root(), paths, recover=recover, max_bad=max_bad, progress=progress)
    if as_json:
        print_rows([{k: _flat(getattr(f, k)) for k in _FIELDS} for f in report.files], as_json=True)
    for file in report.files:
        if not file.ok:
            say(f"tickhouse: {file.line()}")
        elif not as_json:
            print(file.line())
    if not report.ok:
        raise typer.Exit(1)


def _flat(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
