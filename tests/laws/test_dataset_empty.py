"""Nothing landed, nothing in a result, nothing that a date could be: all of it builds, with columns and types."""

import duckdb
import pyarrow.parquet as pq
import pytest

from lake.commits import read_partitions
from tests.fixtures.bronze import Delivery, make_bronze, market_day
from tests.fixtures.dbt import Project, fixture_project, repository_project
from tests.fixtures.lakes import digests

DATES = ("2025-12-15", "2025-12-16")


def schemas_of_views(root, project: Project) -> dict[str, list[tuple[str, str]]]:
    """(name, type) of each dataset's view, in order, after a count of its rows has run; asserts they are empty."""
    found = {}
    with duckdb.connect(str(root / "lake.duckdb"), read_only=True) as connection:
        for name, node in project.datasets().items():
            view = f"{node['schema']}.{node['alias']}"
            assert connection.execute(f"select count(*) from {view}").fetchall() == [(0,)], name
            described = connection.execute(f"describe {view}").fetchall()
            found[name] = [(column, t) for column, t, *_ in described]
    return found


def declared(node: dict) -> list[tuple[str, str]]:
    return [(c["name"], str(duckdb.sqltype(c["data_type"]))) for c in node["columns"].values()]


def test_a_fresh_lake_builds_green_with_typed_empty_views(tmp_path):
    project = repository_project()
    outcome = project.build(tmp_path)
    assert outcome.ok, outcome
    assert outcome.dates() == {}
    shown = schemas_of_views(tmp_path, project)
    for name, node in project.datasets().items():
        assert shown[name][: len(node["columns"])] == declared(node), name
        assert ("date", "DATE") in shown[name]
    assert digests(tmp_path, project.datasets()) == {}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    root = tmp_path_factory.mktemp("empty")
    days = [
        Delivery(d, {"trades": market_day(d, 1, hours=(14,), events_per_hour=20)["trades"]}) for d in DATES
    ]
    make_bronze(root, days)
    fixture_project().built(root, "+after_nothing", "never_thirteen")
    return root


@pytest.mark.parametrize("model", ["nothing", "nothing_py"])
def test_an_empty_result_is_a_file_without_rows_and_with_its_columns(lake, model):
    found = read_partitions(lake / "lake/silver/datasets" / model)
    assert [date for _, date in found] == list(DATES)
    node = fixture_project().datasets()[model]
    for partition in found.values():
        assert partition.commit.rows == 0
        assert pq.read_metadata(partition.file).num_rows == 0
        with duckdb.connect() as connection:
            rows = connection.execute(f"describe select * from '{partition.file}'").fetchall()
        in_file = [(name, t) for name, t, *_ in rows if name != "date"]
        assert in_file == [c for c in declared(node) if c[0] != "session_date"]


def test_a_model_over_empty_parents_has_its_rows(lake):
    with duckdb.connect(str(lake / "lake.duckdb"), read_only=True) as connection:
        sql = "select count(*), count(volume), count(price), count(name) from silver.after_nothing"
        rows, *values = connection.execute(sql).fetchone()
    assert rows > 0
    assert values == [0, 0, 0]


def test_datasets_without_any_date_are_there_for_their_readers_python_too(tmp_path):
    project = fixture_project()
    outcome = project.run(tmp_path, "build", "--exclude", "refused_*")
    assert outcome.ok, outcome
    assert outcome.dates() == {}
    shown = schemas_of_views(tmp_path, project)
    assert shown["nothing_py"] == [
        ("minute_ns", "BIGINT"),
        ("price", "DOUBLE"),
        ("name", "VARCHAR"),
        ("session_date", "DATE"),
        ("date", "DATE"),
    ]
    assert shown["banded_py"][-2:] == [("params", "VARCHAR"), ("params_digest", "VARCHAR")]


def test_the_types_of_a_view_do_not_depend_on_whether_there_are_rows(lake, tmp_path):
    project = fixture_project()
    assert project.run(
        tmp_path, "run", "--select", "ticks", "minutes", "nothing", "nothing_py", "after_nothing"
    ).ok
    empty = schemas_of_views(tmp_path, project)
    with duckdb.connect(str(lake / "lake.duckdb"), read_only=True) as connection:
        for name, node in project.datasets().items():
            described = connection.execute(f"describe {node['schema']}.{node['alias']}").fetchall()
            assert [(column, t) for column, t, *_ in described] == empty[name], name


def test_a_torn_zero_row_file_does_not_outlive_the_run_that_left_it(tmp_path):
    assert fixture_project().run(tmp_path, "run", "--select", "ticks").ok
    torn = [*tmp_path.rglob("empty.parquet")]
    assert torn
    for file in torn:
        file.write_bytes(b"PAR1")
    assert fixture_project().run(tmp_path, "run", "--select", "ticks").ok
