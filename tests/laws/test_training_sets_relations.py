"""The relations over published versions as dbt compiled them: right with none, and what the monitors say of some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake import training_sets
from ml.training_sets.publish import publish
from tests.fixtures import training_candidates as kit

NAME = "stop_outcome"


def relations(models: dict[str, dict[str, Any]], root: Path) -> duckdb.DuckDBPyConnection:
    """The compiled views of both sets and the monitors on one connection, over what ``root`` has published."""
    con = duckdb.connect(":memory:")
    con.execute("set TimeZone = 'UTC'; create schema gold; create schema monitoring")
    by_name = {node["name"]: node for node in models.values()}
    for name in training_sets.SETS:
        view = by_name[f"training_sets_{name}"]["compiled_code"]
        empty = training_sets.relation(Path("nowhere"), name)
        assert empty in view, "compiled over an empty lake"
        con.execute(
            f"create view gold.training_sets_{name} as {view.replace(empty, training_sets.relation(root, name))}"
        )
        con.execute(
            f"create view gold.training_sets_{name}_flat as {by_name[f'training_sets_{name}_flat']['compiled_code']}"
        )
    con.execute(
        f"create view monitoring.training_set_monitors as {by_name['training_set_monitors']['compiled_code']}"
    )
    return con


def publish_rows(root: Path, edit: Any = None) -> None:
    rows = kit.rows(NAME, days=10, per_day=6)
    for n, row in enumerate(rows):
        if edit:
            edit(n, row)
    kit.commit(root, NAME, rows)
    publish(root, NAME, data_through=kit.THROUGH)


def test_without_a_version_every_relation_is_typed_and_empty(models, tmp_path):
    con = relations(models, tmp_path)
    by_name = {node["name"]: node for node in models.values()}
    for name in training_sets.SETS:
        for relation in (f"training_sets_{name}", f"training_sets_{name}_flat"):
            found = con.sql(f"select * from gold.{relation}")
            declared = {c["name"]: c["data_type"] for c in by_name[relation]["columns"].values()}
            assert found.columns == [*declared]
            assert [str(t) for t in found.types] == [str(duckdb.sqltype(t)) for t in declared.values()]
            assert found.fetchall() == []
    assert con.sql("select * from monitoring.training_set_monitors").fetchall() == []


def test_the_flat_view_has_every_child_under_its_prefix(models, tmp_path):
    publish_rows(tmp_path)
    con = relations(models, tmp_path)
    for prefix, struct in training_sets.STRUCTS.items():
        for column in training_sets.definition(NAME).struct(struct):
            sql = (
                f"select count(*) from gold.training_sets_{NAME} as a join gold.training_sets_{NAME}_flat as b "
                f"using (sample_id) where a.{struct}.{column.name} is distinct from b.{prefix}{column.name}"
            )
            assert con.sql(sql).fetchone() == (0,)
    told = training_sets.version(tmp_path, NAME).record["rows"]
    assert con.sql(f"select count(*) from gold.training_sets_{NAME}_flat").fetchone() == (
        told["train"] + told["test"],
    )


def one_class(n: int, row: dict) -> None:
    row["label"]["execution_success"] = True


def far(n: int, row: dict) -> None:
    """Every tenth stop stands a hundred times further away than the others, but not in train."""
    if row["metadata"]["as_of"].day > 8 and n % 10 == 0:
        row["features"]["stop_distance_pct"] *= 100


@pytest.mark.parametrize(
    ("edit", "outside"),
    [
        (None, set()),
        (one_class, {("train", "execution_success"), ("test", "execution_success")}),
        (far, {("test", "stop_distance_pct")}),
    ],
)
def test_a_monitor_says_what_was_injected(models, tmp_path, edit, outside):
    publish_rows(tmp_path, edit)
    rows = relations(models, tmp_path).sql("select * from monitoring.training_set_monitors").fetchall()
    assert len(rows) == 6
    assert {(r[1], r[2]) for r in rows if not r[7]} == outside
