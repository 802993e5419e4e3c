"""SQL of the views that show the lake in ``lake.duckdb``: one over each dataset, one over each bronze source.

The database holds nothing of its own: these views are made again at the start of every run.

Hive columns are read as text and cast in the view: on DuckDB 1.5.5 ``min(date)`` over a one-file scan with a typed
Hive column dies in the optimizer, which looks for its statistics among the file's own columns.
"""

import csv
import datetime
import itertools
from pathlib import Path

import pyarrow.parquet as pq

from lake import bronze
from lake.commits import Partition
from lake.paths import archive_dir

OF_THE_LISTING = ("date", "hour_utc", "is_shared_hour", "is_superseded")
"""Columns of a bronze source that no file holds: they come from its path and from the list of files."""


class UndeclaredColumns(ValueError):
    """A dataset's YAML lists no columns with types: without them an empty dataset has no schema."""


def columns(node: dict) -> list[tuple[str, str]]:
    """Declared (name, SQL type) of a model or source, in order. Raises UndeclaredColumns."""
    declared = [(c["name"], c.get("data_type")) for c in node["columns"].values()]
    if not declared or any(t is None for _, t in declared):
        missing = [n for n, t in declared if t is None]
        raise UndeclaredColumns(
            f"{node['name']}: columns without a data_type: {', '.join(missing) or 'all'}; declare them in its YAML"
        )
    return declared


def literal(value: object) -> str:
    """A Python value as a SQL literal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}::bigint"
    if isinstance(value, float):
        return f"{value!r}::double"
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(v) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    return "'" + str(value).replace("'", "''") + "'"


def dataset_view(node: dict, partition_column: str, per_params: bool, partitions: list[Partition]) -> str:
    """SELECT over the committed files of a dataset; typed and empty when there are none.

    Besides the declared columns it shows the partition, from the path, as ``date`` and under the model's own name for
    it (``session_date``); for a dataset with path keys these, in their declared types; and, for a dataset built per
    param set, ``params`` (the first 8 digits of the set's digest, as in the path) and ``params_digest``.

    Its files are those of the records of ``partitions``, by name: a file that is being published, or is no more of
    its date, isn't seen.
    """
    declared = dict(columns(node))
    shown = {name: quote(name) for name in declared}
    shown |= dict.fromkeys((partition_column, "date"), "cast(date as date)")
    if per_params:
        digests = {p.commit.params_digest for p in partitions}
        whole = " ".join(f"when {literal(d[:8])} then {literal(d)}" for d in sorted(digests))
        shown["params"] = "params || ''"
        shown.setdefault("params_digest", f"case params {whole} end")
    hive = {"date": "varchar", **({"params": "varchar"} if per_params else {})}
    groups: dict[tuple[bool, tuple[str, ...], tuple[str, ...]], list[Path]] = {}
    lacking = _lacking([n for n in declared if n not in (partition_column, "date", "params")], partitions)
    for p in partitions:
        # One scan wants equal keys in all of its paths, and those of the archive have `month` besides.
        keys, missing = tuple(p.commit.path_keys or ()), lacking.get(p.commit.code_digest, ())
        places = [(f.path, f.is_archived) for f in p.key_files] if p.is_keyed else [(p.file, p.is_archived)]
        for path, is_archived in places:
            groups.setdefault((is_archived, keys, missing), []).append(path)
    selects = []
    for (_, keys, missing), files in sorted(groups.items(), key=lambda kv: (not kv[0][0], *kv[0][1:])):
        parts = {n: f"cast(null as {declared[n]})" if n in missing else e for n, e in shown.items()}
        # `||`: a text column of the path as it is would be looked up among the file's statistics
        parts |= {k: f"cast({quote(k)} || '' as {declared[k]})" for k in keys if k in declared}
        listed = ", ".join(f"{expression} as {quote(name)}" for name, expression in parts.items())
        selects.append(f"select {listed} from {scan(files, {**hive, **dict.fromkeys(keys, 'varchar')})}")
    if selects:
        return " union all ".join(selects)
    types = {
        partition_column: "date",
        "date": "date",
        "params": "varchar",
        "params_digest": "varchar",
        **declared,
    }
    return f"select {', '.join(f'cast(null as {types[n]}) as {quote(n)}' for n in shown)} where false"


def _lacking(names: list[str], partitions: list[Partition]) -> dict[str, tuple[str, ...]]:
    """By code digest, which of the declared columns the files of that code lack: those declared since, and not built
    yet. The view shows them as NULL, so that a run that is to build them can begin."""
    found: dict[str, tuple[str, ...]] = {}
    for p in partitions:
        if p.commit.code_digest not in found and p.paths:
            held = {*pq.read_schema(p.paths[0]).names, *(p.commit.path_keys or ())}
            found[p.commit.code_digest] = tuple(n for n in names if n not in held)
    return found


def bronze_view(
    root: Path, source: dict, keys: list[str], files: list[bronze.BronzeFile], shared: set[tuple]
) -> str:
    """SELECT over the visible files of a source, hours of one delivery first, hours of several after them, and last,
    marked `is_superseded`, what a better source holds as well.

    A session variable ``bronze_<source>`` (and ``…_shared``, and with ``_archived`` behind it) narrows it to the files
    that one partition reads. Archived files have a scan of their own, before the others': their paths have the key
    ``month`` besides, and one scan wants equal keys in all of its paths.
    """
    empty = [bronze.empty_file(root, source["name"], keys)]
    mine = [f for f in files if f.source_name == source["name"]]
    names = [n for n, _ in columns(source) if n not in (*keys, *OF_THE_LISTING)]
    hive = dict.fromkeys([*keys, "date", "hour"], "varchar")
    places = [("_archived", True), ("", False)] if any(f.is_archived for f in mine) else [("", False)]
    kinds = [("", False, False), ("_shared", True, False)]
    if any(f.is_superseded for f in mine):
        kinds.append(("_superseded", False, True))
    branches = []
    for (suffix, is_shared, is_superseded), (place, is_archived) in itertools.product(kinds, places):
        listed = [
            f
            for f in mine
            if f.is_superseded == is_superseded
            and (is_superseded or (f.hour_key in shared) == is_shared)
            and f.is_archived == is_archived
        ]
        paths = bronze.paths(listed) or empty
        name = f"bronze_{source['name']}{suffix}{place}"
        variable = f"coalesce(getvariable('{name}')::varchar[], {literal(paths)})"
        parts = [quote(n) for n in names] + [f"{k} || '' as {k}" for k in keys]
        parts += [
            "cast(date as date) as date",
            "cast(hour as integer) as hour_utc",
            f"{is_shared} as is_shared_hour",
            f"{is_superseded} as is_superseded",
        ]
        branches.append(f"select {', '.join(parts)} from {scan_expression(variable, hive)}")
    return " union all ".join(branches)


def window_view(root: Path, source: dict, keys: list[str], paths: list[Path]) -> str:
    """SELECT over the readable parts of a source of hour windows, in the order of ``paths``.

    A session variable ``bronze_<source>`` (and ``…_archived``) narrows it to the parts that one partition reads.
    Columns are cast to their declared types: files hold a UUID as text, paths hold every key as text.
    """
    parts = [
        # A column of the path as it is would be looked up among the file's statistics.
        f"cast({quote(n)} || '' as {t}) as {quote(n)}"
        if n in (*keys, "date")
        else f"cast({quote(n)} as {t}) as {quote(n)}"
        for n, t in columns(source)
    ]
    hive = dict.fromkeys([*keys, "date"], "varchar")
    selects = []
    # Archived parts have a scan of their own: their paths have the key `month` besides.
    for place, is_archived in (("_archived", True), ("", False)):
        files = [path for path in paths if path.is_relative_to(archive_dir(root)) == is_archived]
        if files or not is_archived:
            listed = literal(files or [bronze.empty_file(root, source["name"], keys)])
            variable = f"coalesce(getvariable('bronze_{source['name']}{place}')::varchar[], {listed})"
            selects.append(f"select {', '.join(parts)} from {scan_expression(variable, hive)}")
    return " union all ".join(selects)


def derived_view(source: dict, base: dict) -> str:
    """SELECT over the relation of another source: a column is what its ``meta.is`` says, by default its namesake, of
    the rows that the source's ``meta.where`` picks."""
    written = {n: c.get("meta", {}).get("is", quote(n)) for n, c in source["columns"].items()}
    listed = ", ".join(f"cast({written[n]} as {t}) as {quote(n)}" for n, t in columns(source))
    where = source["meta"].get("where", "true")
    return f"select {listed} from {base['schema']}.{base['identifier']} where {where}"


def landed_table(last_at: dict[str, datetime.datetime]) -> str:
    """SQL of ``bronze.landed``, by which dbt judges the freshness of a source: one row for each.

    A source that nothing is landed of is as old as the epoch: it has to alarm, not to be NULL.
    """
    rows = ", ".join(
        f"({literal(name)}, timestamptz {literal(at.isoformat())})" for name, at in sorted(last_at.items())
    )
    return (
        f"create or replace table bronze.landed as select * from (values {rows}) as t(source_name, last_at)"
    )


def empty_file_copy(root: Path, source: dict, keys: list[str]) -> str:
    """COPY that writes a source's zero-row file: what its scan reads when nothing is visible."""
    path = bronze.empty_file(root, source["name"], keys)
    path.parent.mkdir(parents=True, exist_ok=True)
    hive = (*keys, *OF_THE_LISTING)
    parts = [f"cast(null as {t}) as {quote(n)}" for n, t in columns(source) if n not in hive]
    return f"copy (select {', '.join(parts)} where false) to {literal(path)} (format parquet)"


def seed_table(node: dict) -> str | None:
    """SQL that loads a seed from its file, which build keys are made of; None where a column has no declared type.

    `dbt seed` loads it too, but only when it is selected: a table left from an older file must not be read.
    """
    path = Path(node["root_path"]) / node["original_file_path"]
    with open(path, newline="") as f:
        names = next(csv.reader(f))
    types = node["config"].get("column_types") or {}
    if not set(names) <= set(types):
        return None
    listed = ", ".join(f"{literal(n)}: {literal(types[n])}" for n in names)
    return (
        f"create or replace table {node['schema']}.{node['alias']} as "
        f"select * from read_csv({literal(path)}, header = true, auto_detect = false, columns = {{{listed}}})"
    )


def scan(paths: list[Path], hive: dict[str, str]) -> str:
    return scan_expression(literal(paths), hive)


def scan_expression(expression: str, hive: dict[str, str]) -> str:
    types = ", ".join(f"'{k}': {v}" for k, v in hive.items())
    return f"read_parquet({expression}, hive_partitioning = true, hive_types = {{{types}}})"


def quote(name: str) -> str:
    """An identifier, quoted: `right` and `sequence` are words of the grammar."""
    return '"' + name.replace('"', '""') + '"'
