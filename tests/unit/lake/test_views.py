"""SQL of the views over the lake."""

import duckdb
import pytest

from lake import views
from tests.fixtures.bronze import Delivery, make_bronze, market_day
from tests.fixtures.dbt import fixture_project


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -(2**62), 1.5, 1e-300, "", "it's", "a\\b", [1, 2], ["x", None], [], [1.5, 2.0]],
)
def test_a_literal_gives_the_value_back(value):
    with duckdb.connect() as connection:
        assert connection.execute(f"select {views.literal(value)}").fetchone() == (value,)


def test_whole_numbers_are_64_bits_and_fractions_double():
    with duckdb.connect() as connection:
        types = connection.execute(
            f"select typeof({views.literal(1)}), typeof({views.literal(1.0)})"
        ).fetchone()
    assert types == ("BIGINT", "DOUBLE")


def test_columns_without_a_type_are_named():
    node = {
        "name": "m",
        "columns": {c["name"]: c for c in ({"name": "a", "data_type": "date"}, {"name": "b"})},
    }
    with pytest.raises(views.UndeclaredColumns, match="m: columns without a data_type: b"):
        views.columns(node)
    with pytest.raises(views.UndeclaredColumns, match="data_type: all"):
        views.columns({"name": "m", "columns": {}})


def test_a_seed_with_an_undeclared_column_is_left_to_dbt(tmp_path):
    (tmp_path / "s.csv").write_text("a,b\n1,\n2,x\n")
    node = {
        "root_path": str(tmp_path),
        "original_file_path": "s.csv",
        "schema": "main",
        "alias": "s",
        "config": {"column_types": {"a": "bigint"}},
    }
    assert views.seed_table(node) is None
    node["config"]["column_types"]["b"] = "varchar"
    with duckdb.connect() as connection:
        connection.execute(views.seed_table(node))
        assert connection.execute("select * from s order by a").fetchall() == [(1, None), (2, "x")]


def test_a_root_with_a_quote_in_its_name_builds(tmp_path):
    root = tmp_path / "it's a lake"
    make_bronze(
        root,
        [Delivery("d", {"trades": market_day("2025-12-15", 1, hours=(14,), events_per_hour=9)["trades"]})],
    )
    assert fixture_project().built(root, "ticks", "flow") == {"ticks": 1, "flow": 1}
