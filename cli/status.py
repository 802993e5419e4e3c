"""`tickhouse status`: what is landed and built, per dataset."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import print_rows, say
from lake import atomic
from lake.bronze import paths, visible_files
from lake.commits import Partition, read_partitions
from lake.paths import lake_dir, lake_root, receipts_dir

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse status --json")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Show each dataset's dates, rows, bytes and last commit, and what is wrong with it, if anything.

    Dates of bronze are UTC, those of silver and gold are session dates. A raw file that couldn't be landed
    has a row of its own.
    """
    root = lake_root()
    rows = [*bronze_status(root), *built_status(root), *quarantine_status(root)]
    if not rows and not as_json:
        say(f"nothing is landed under {root}; start with: tickhouse demo")
    print_rows(rows, as_json=as_json)


def bronze_status(root: Path) -> list[dict[str, Any]]:
    """One row per bronze schema over its visible files, in order of name; ``dates`` are UTC dates."""
    by_folder: dict[str, list[Any]] = {}
    for file in visible_files(root):
        by_folder.setdefault("/".join(file.schema.split(".")[:-1]), []).append(file)
    rows = []
    for folder, files in sorted(by_folder.items()):
        on_disk = [
            path.stat() for path in paths(files) if path.is_file()
        ]  # an archived file may be elsewhere
        newest = max((stat.st_mtime for stat in on_disk), default=None)
        rows.append(
            _row(
                f"bronze/{folder}",
                [file.date for file in files],
                rows=sum(file.rows for file in files),
                size=sum(stat.st_size for stat in on_disk),
                last_commit=None
                if newest is None
                else f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%dT%H:%M:%SZ}",
            )
        )
    return rows


def built_status(root: Path) -> list[dict[str, Any]]:
    """One row per silver and gold dataset and param set, in order of path; ``dates`` are session dates."""
    rows = []
    for folder in dataset_folders(root):
        by_params: dict[str | None, list[Partition]] = {}
        for (params, _), partition in read_partitions(folder).items():
            by_params.setdefault(params, []).append(partition)
        name = folder.relative_to(lake_dir(root)).as_posix()
        rows += [
            _row(
                name if params is None else f"{name}/params={params}",
                [partition.commit.date for partition in partitions],
                rows=sum(partition.commit.rows for partition in partitions),
                size=sum(partition.commit.bytes for partition in partitions),
                last_commit=max(partition.commit.built_at for partition in partitions),
                problem=failures(partitions),
            )
            for params, partitions in by_params.items()
        ]
    return rows


def quarantine_status(root: Path) -> list[dict[str, Any]]:
    """One row per raw file that couldn't be landed whole, with the reason, in order of its receipt."""
    receipts = [atomic.read_json(path) for path in sorted(receipts_dir(root).glob("receipt-*.json"))]
    return [
        _row(
            receipt["path"],
            [],
            rows=receipt["record_count"] or 0,
            size=receipt["bytes"],
            last_commit=receipt["downloaded_at"],
            problem=receipt["reason"],
        )
        for receipt in receipts
        if receipt["status"] == "quarantined"
    ]


def failures(partitions: list[Partition]) -> str | None:
    """How many of ``partitions`` didn't pass their data tests, and what the first of them says."""
    failed = [partition for partition in partitions if partition.status()["status"] != "ok"]
    if not failed:
        return None
    return f"{len(failed)} dates failed, first {failed[0].commit.date}: {failed[0].status()['error']}"


def dataset_folders(root: Path) -> Iterator[Path]:
    """Folders under silver and gold that hold committed partitions, in order of path."""
    found = set()
    for layer in ("silver", "gold"):
        for record in (lake_dir(root) / layer).glob("**/date=*/_metadata/commit-*.json"):
            folder = record.parents[2]
            found.add(folder.parent if folder.name.startswith("params=") else folder)
    yield from sorted(found)


def _row(
    dataset: str,
    dates: list[str],
    *,
    rows: int,
    size: int,
    last_commit: str | None,
    problem: str | None = None,
) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "dates": len(set(dates)),
        "first_date": min(dates, default=None),
        "last_date": max(dates, default=None),
        "rows": rows,
        "bytes": size,
        "last_commit": last_commit,
        "problem": problem,
    }
