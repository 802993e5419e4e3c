"""What a tenant may read: views of its own rows, and an export of them (spec/execution.md 8.3).

Every relation with a ``client_id`` that isn't private has a view ``tenant.<schema>_<name>``, filtered by the session
variable ``tickhouse_client_id``: unset means no rows. The exchange's answers and unknown fields are in none.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lake import atomic, plan
from lake.views import literal, quote

SCHEMA = "tenant"
VARIABLE = "tickhouse_client_id"
HIDDEN = ("raw_response", "_extra")  # may hold what no contract names


class TenantError(ValueError):
    """An export that can't be; the message says what to do."""


@dataclass(frozen=True)
class Exported:
    """One relation of an export; ``file`` is below its folder."""

    relation: str
    rows: int
    file: str


def relations(graph: dict) -> Iterator[tuple[str, str, list[str]]]:
    """(schema, name, columns that a tenant sees) of every relation that has a view."""
    for source in graph["sources"].values():
        yield from _shown(source["schema"], source["identifier"], source["columns"])
    for node in graph["nodes"].values():
        is_view = node["resource_type"] == "model" and node["config"].get("materialized") == "view"
        if (plan.is_dataset(node) or is_view) and node["config"].get("access") == "public":
            dated = (
                {**node["columns"], "date": {"name": "date"}} if plan.is_dataset(node) else node["columns"]
            )
            yield from _shown(node["schema"], node["alias"], dated)


def _shown(schema: str, name: str, columns: dict) -> Iterator[tuple[str, str, list[str]]]:
    if "client_id" in columns:
        yield schema, name, [c for c in columns if c not in HIDDEN]


def views_sql(graph: dict) -> list[str]:
    """SQL that makes the views, each over a relation that is there already."""
    found = [f'create schema if not exists "{SCHEMA}"']
    for schema, name, columns in sorted(relations(graph)):
        found.append(
            f"create or replace view {SCHEMA}.{quote(f'{schema}_{name}')} as "
            f"select {', '.join(map(quote, columns))} from {schema}.{quote(name)} "
            f"where client_id = getvariable('{VARIABLE}')::bigint"
        )
    return found


def export(root: Path, client_id: int, out: Path) -> list[Exported]:
    """Write a tenant's rows of every relation to ``out``, one Parquet file each; whole or not at all.

    Relations without a row of it have none. Raises TenantError for a client without rows, a folder that is there
    already, a database without views.
    """
    import duckdb  # noqa: PLC0415

    if out.exists():
        raise TenantError(f"{out} was there already, expected a folder to make; name another")
    path = root / "lake.duckdb"
    if not path.is_file():
        raise TenantError(f"{path} was not there, expected the views of a build; run `dbt build` first")
    atomic.make_dirs(out.parent.resolve())
    staged = out.with_name(f"._tmp-{out.name}-{os.getpid()}")
    found: list[Exported] = []
    try:
        with duckdb.connect(str(path), read_only=True) as con:
            con.execute(f"set timezone = 'UTC'; set variable {VARIABLE} = {literal(client_id)}")
            names = con.execute(
                "select view_name from duckdb_views() where schema_name = ? order by all", [SCHEMA]
            ).fetchall()
            if not names:
                raise TenantError(
                    f"{path} has no views for tenants, expected those of a build; run `dbt build`"
                )
            staged.mkdir()
            for (name,) in names:
                relation = f"{SCHEMA}.{quote(name)}"
                rows = con.execute(f"select count(*) from {relation}").fetchone()[0]
                if rows:
                    file = f"{name}.parquet"
                    con.execute(
                        f"copy (from {relation}) to {literal(staged / file)} (format parquet, compression zstd)"
                    )
                    atomic.fsync_file(staged / file)
                    found.append(Exported(name, rows, file))
        if not found:
            raise TenantError(
                f"client {client_id} has no row in the lake, expected one that has; nothing was written"
            )
        os.rename(staged, out)
        return found
    finally:
        shutil.rmtree(staged, ignore_errors=True)
