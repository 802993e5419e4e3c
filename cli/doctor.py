"""`tickhouse doctor`: is this machine, this environment and this lake in order?"""

import ctypes
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cli.output import print_rows
from lake.bronze import visible_files
from lake.paths import PROJECT_DIR, lake_root, stage_dir

FREE_BYTES_WANTED = 4 << 30  # the demo's lake, its raw files and the space of one rewrite

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse doctor --json")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Check the environment and the lake; exit code 1 when a check fails."""
    rows = [
        {"check": name, "ok": problem is None, "found": found, "problem": problem}
        for name, found, problem in [*environment_checks(), *lake_checks(lake_root())]
    ]
    print_rows(rows, as_json=as_json)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


Check = tuple[str, str, str | None]  # name, what was found, what is wrong and what to do about it


def environment_checks() -> Iterator[Check]:
    """Check the interpreter, the system library that LightGBM needs, and the installed pins."""
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield "python", version, None if fits else "expected 3.11, 3.12 or 3.13; use make PYTHON=python3.11"

    try:
        ctypes.CDLL("libgomp.so.1")
        yield "libgomp", "loaded", None
    except OSError as error:
        yield "libgomp", "not loaded", f"{error}; on Debian: apt-get install libgomp1"

    pins = locked_versions(PROJECT_DIR / "requirements.lock")
    installed = {
        canonicalize_name(distribution.metadata["Name"]): distribution.version
        for distribution in importlib.metadata.distributions()
    }
    off = [
        f"{name} is {installed.get(name, 'missing')}, locked {version}"
        for name, version in pins.items()
        if installed.get(name) != version
    ]
    yield "locked packages", f"{len(pins)} pins", f"{'; '.join(off)}; run make" if off else None


def lake_checks(root: Path) -> Iterator[Check]:
    """Check the root, its rights and space, the promised bronze files, and who holds the database file."""
    there = next(path for path in (root, *root.parents) if path.exists())
    problem = None
    if not there.is_dir():
        problem = f"{there} is a file, expected a folder; set LAKE_ROOT to one"
    elif not os.access(there, os.W_OK):
        problem = f"{there} can't be written; set LAKE_ROOT to another folder"
    yield "lake root", str(root), problem

    free = shutil.disk_usage(there).free
    low = f"{free:,} bytes are free, expected {FREE_BYTES_WANTED:,}; free some or move LAKE_ROOT"
    yield "free space", f"{free:,} bytes", None if free >= FREE_BYTES_WANTED else low

    stage = stage_dir(root)
    one_device = not stage.exists() or stage.stat().st_dev == root.stat().st_dev
    apart = "a staged file can't be renamed into place across file systems; keep lake/_stage beside the data"
    yield "stage", "same file system" if one_device else "another file system", None if one_device else apart

    files = visible_files(root)
    missing = [file.path for file in files if not file.path.is_file()]
    lost = f"{len(missing)} committed files are missing, first {missing[:1]}; ingest their raw files again"
    yield "bronze files", f"{len(files)} visible", lost if missing else None

    yield database_check(root / "lake.duckdb")


def database_check(file: Path) -> Check:
    """Open the database file as a reader would; DuckDB's refusal names the process that holds it."""
    import duckdb  # noqa: PLC0415 (a command that doesn't need it shouldn't load it)

    name = "lake.duckdb"
    if not file.exists():
        return name, "not built yet", None
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            relations = connection.execute(
                "select count(*) from duckdb_views() where not internal"
            ).fetchone()
            return name, f"{relations[0]} views", None
    except duckdb.Error as error:
        text = " ".join(str(error).split())
        return (
            name,
            "can't be opened",
            f"{text}; end that process, or delete the file: dbt build brings it back",
        )


def locked_versions(lock: Path) -> dict[str, str]:
    """Return package name → version of every pin in ``lock`` that applies to this machine."""
    lines = re.findall(r"^[A-Za-z0-9][^\\\n#]*==[^\\\n#]*", lock.read_text(encoding="utf-8"), re.MULTILINE)
    pins = [Requirement(line.strip()) for line in lines]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
