"""Whether the files of a lake are what the contracts say: names and types of columns, from the footers alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb

from lake.contract_documents import Dataset, type_name
from lake.contract_versions import Fault

# The view of a bronze source casts these; a file holds their canonical text.
_AS_TEXT = {"uuid", "json"}
# What a listing or a view adds to the rows of a file.
_OF_THE_VIEW = {"is_shared_hour", "is_superseded", "params_digest"}


def check(root: Path, datasets: dict[str, Dataset]) -> list[Fault]:
    """Differences between each dataset's newest file and its contract; a dataset without files has none."""
    with duckdb.connect() as connection:
        return [
            fault
            for dataset in datasets.values()
            if dataset.folder and (file := newest_file(root, dataset.folder))
            for fault in differences(dataset, file_columns(connection, file), file)
        ]


def newest_file(root: Path, folder: str) -> Path | None:
    """A file of the newest date that has one; by name, as dates sort."""
    pattern = re.compile(r"date=(\d{4}-\d{2}-\d{2})")
    found = [
        (match[1], path)
        for path in (root / folder).glob("**/*.parquet")
        if (match := pattern.search(path.as_posix())) and not path.name.startswith((".", "_"))
    ]
    return max(found, default=(None, None))[1]


def file_columns(connection: duckdb.DuckDBPyConnection, file: Path) -> list[tuple[str, str]]:
    """(name, SQL type) of a file's own columns."""
    query = "select * from read_parquet(?, hive_partitioning = false) limit 0"
    return [
        (name, type_name(str(kind))) for name, kind, *_ in connection.execute(query, [str(file)]).description
    ]


def differences(dataset: Dataset, held: list[tuple[str, str]], where: Path) -> Iterator[Fault]:
    """What a file holds against what is promised; the columns of the path stand in no file."""
    promise = dataset.promise
    in_path = {*promise["partition"], *_OF_THE_VIEW}
    wanted = {c["name"]: c["type"] for c in promise["columns"] if c["name"] not in in_path}
    found = {name: kind for name, kind in held if name not in in_path}
    for name, kind in wanted.items():
        if name not in found:
            yield _fault(dataset, where, f"column {name} was missing")
        elif not _same(found[name], kind):
            yield _fault(dataset, where, f"column {name} was {found[name]}, expected {kind}")
    for name in found:
        if name not in wanted:
            yield _fault(dataset, where, f"column {name} is in no contract")


def _same(held: str, promised: str) -> bool:
    if promised in _AS_TEXT:
        return held in (promised, "varchar")
    return _plain(held) == _plain(promised)


def _plain(kind: str) -> str:
    return kind.replace('"', "").replace(", ", ",")


def _fault(dataset: Dataset, where: Path, told: str) -> Fault:
    return Fault(dataset.name, f"{where.name}: {told}; build it anew, or correct the YAML")
