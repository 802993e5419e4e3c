"""`dbt build` reads again only what its data tests have not passed on as they stand now (architecture D3, D5)."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import data_tests
from lake.commits import read_partitions
from tests.fixtures.bronze import Delivery, make_bronze, market_day
from tests.fixtures.dbt import Project, fixture_project

FIRST, SECOND, NEW = "2025-12-15", "2025-12-16", "2025-12-17"
FAILED = "data tests failed: never_thirteen_ticks_size"


def deliver(root: Path, *dates: str) -> None:
    make_bronze(
        root,
        [Delivery(d, {"trades": market_day(d, 1, hours=(14,), events_per_hour=20)["trades"]}) for d in dates],
    )


def spoil(root: Path, date: str) -> None:
    """Give a built date, behind the back of its record, a row that its data test is about."""
    file = read_partitions(root / "lake/silver/datasets/ticks")[None, date].file
    table = pq.ParquetFile(file).read()
    sizes = pa.array([13] * table.num_rows, table.schema.field("size").type)
    pq.write_table(table.set_column(table.schema.get_field_index("size"), "size", sizes), file)


def errors(root: Path) -> dict[str, str | None]:
    found = read_partitions(root / "lake/silver/datasets/ticks")
    return {date: partition.status()["error"] for (_, date), partition in found.items()}


@pytest.fixture
def lake(tmp_path) -> Path:
    deliver(tmp_path / "lake", FIRST, SECOND)
    return tmp_path / "lake"


def test_a_build_tests_new_dates_only_and_dbt_test_reads_all(lake):
    assert fixture_project().build(lake, "ticks").ok
    spoil(lake, FIRST)
    assert fixture_project().build(lake, "ticks").ok
    deliver(lake, NEW)
    assert fixture_project().built(lake, "ticks") == {"ticks": 1}
    assert errors(lake) == {FIRST: None, SECOND: None, NEW: None}

    assert not fixture_project().run(lake, "test", "--select", "ticks").ok
    assert errors(lake) == {FIRST: FAILED, SECOND: FAILED, NEW: FAILED}
    assert not fixture_project().build(lake, "ticks").ok  # a date that failed is read until it is mended


def test_a_new_date_is_read_by_the_build_that_makes_it(lake):
    assert fixture_project().run(lake, "run", "--select", "ticks").ok
    spoil(lake, SECOND)
    assert not fixture_project().build(lake, "ticks").ok
    assert set(errors(lake).values()) == {FAILED}


def test_an_edited_test_reads_every_date_again(lake, tmp_path):
    project = Project.fixture(tmp_path / "project")
    assert project.build(lake, "ticks").ok
    test = project.folder / "macros" / "never_thirteen.sql"
    test.write_text(test.read_text().replace("= 13", ">= 0"))
    project.reparse()
    assert not project.build(lake, "ticks").ok
    assert errors(lake) == {FIRST: FAILED, SECOND: FAILED}


def test_what_a_test_claims_is_its_arguments_config_and_declared_columns():
    project = fixture_project()
    uid = next(node for node in project.graph()["nodes"] if node.endswith(".ticks"))

    def digest(change=lambda graph, test: None) -> str:
        graph = project.graph()
        (test,) = data_tests.of_dataset(graph["nodes"][uid], graph)
        change(graph, test)
        return data_tests.digest([test], graph, project.macros())

    def other_column(graph, test):
        test["test_metadata"]["kwargs"]["column"] = "tick"

    def declared(graph, test):
        graph["nodes"][uid]["columns"]["size"]["meta"] = {"domain": [1, 2]}

    def where(graph, test):
        test["config"]["where"] = "size > 1"

    changed = [digest(change) for change in (other_column, declared, where)]
    assert digest() == digest()
    assert len({digest(), *changed}) == 4


def dataset(name: str) -> dict:
    return {"unique_id": name, "resource_type": "model", "config": {"materialized": "dataset"}}


GRAPH = {
    "nodes": {
        "a": dataset("a"),
        "b": dataset("b"),
        "seed": {"unique_id": "seed", "resource_type": "seed", "config": {}},
        "view": {"unique_id": "view", "resource_type": "model", "config": {"materialized": "view"}},
    }
}


@pytest.mark.parametrize(
    ("reads", "meta", "name", "due"),
    [
        (["a"], {}, None, [FIRST]),
        (["a", "b", "seed"], {}, None, [FIRST, SECOND]),  # a date that one of them lacks is read of both
        (["c", "seed"], {}, None, []),
        (["a", "view"], {}, None, None),
        (["a"], {"across_dates": True}, "unique_key", None),
        (["a"], {}, "unique", None),
        (["c"], {"across_dates": True}, None, []),
    ],
)
def test_due_dates(reads, meta, name, due):
    graph = {"nodes": {**GRAPH["nodes"], "c": dataset("c")}}
    test = {
        "depends_on": {"nodes": reads},
        "config": {"meta": meta},
        "test_metadata": name and {"name": name},
    }
    untested = {"a": {FIRST}, "b": {FIRST, SECOND}, "c": set()}
    assert data_tests.due_dates(test, graph, lambda node: untested[node["unique_id"]]) == due
