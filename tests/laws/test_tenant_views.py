"""A tenant sees its own rows by view and in an export, and nothing before it says who it is (spec/execution.md 8.3)."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from lake import tenants
from lake.plan import is_dataset
from tests.fixtures.dbt import keyed_project
from tests.fixtures.tokens import event, land_events
from tests.laws.test_dataset_path_keys import D1, first_days

CANARY = "CANARYUSDC"


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tenants")
    land_events(root, [*first_days(), event(f"{D1}T10:00", "canary", 999, symbol=CANARY)], "first.ndjson")
    outcome = keyed_project().run(root, "run")
    assert outcome.ok, outcome
    return root


def seen(root: Path, client: int | None, view: str) -> list[dict]:
    with duckdb.connect(str(root / "lake.duckdb"), read_only=True) as con:
        if client is not None:
            con.execute(f"set variable {tenants.VARIABLE} = {client}")
        return con.execute(f"select * from tenant.{view}").to_arrow_table().to_pylist()


VIEWS = ("bronze_events", "silver_tokens_folded")


@pytest.mark.parametrize("view", VIEWS)
def test_unset_means_no_rows(lake, view):
    assert seen(lake, None, view) == []
    assert seen(lake, 77, view) == []


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("client", [1, 2, 999])
def test_a_tenant_sees_its_rows_and_none_of_another(lake, view, client):
    rows = seen(lake, client, view)
    assert rows
    assert {row["client_id"] for row in rows} == {client}
    assert (CANARY in str(rows)) == (client == 999)
    assert not set(tenants.HIDDEN) & set(rows[0])


def test_an_export_is_of_one_tenant_whole_or_not_at_all(lake, tmp_path):
    found = tenants.export(lake, 2, tmp_path / "two")
    assert {row.relation: row.rows for row in found} == {"bronze_events": 2, "silver_tokens_folded": 2}
    for row in found:
        table = pq.read_table(tmp_path / "two" / row.file)
        assert set(table["client_id"].to_pylist()) == {2}
        assert table.num_rows == row.rows
        assert CANARY not in str(table.to_pylist())
    with pytest.raises(tenants.TenantError, match="was there already"):
        tenants.export(lake, 2, tmp_path / "two")
    with pytest.raises(tenants.TenantError, match="client 77 has no row"):
        tenants.export(lake, 77, tmp_path / "none")
    shutil.rmtree(tmp_path / "two")
    assert [p.name for p in tmp_path.iterdir()] == []
    with pytest.raises(tenants.TenantError, match=r"lake.duckdb was not there"):
        tenants.export(tmp_path, 1, tmp_path / "none")


def test_every_public_relation_of_a_tenant_has_a_view_without_what_no_contract_names(
    manifest: dict[str, Any],
):
    nodes = {**manifest["nodes"], **manifest["sources"]}.values()
    shown = {f"{schema}.{name}": columns for schema, name, columns in tenants.relations(manifest)}
    for node in nodes:
        if (
            node["resource_type"] == "source"
            or is_dataset(node)
            or node["config"].get("materialized") == "view"
        ):
            name = f"{node['schema']}.{node.get('identifier') or node['alias']}"
            is_public = node["resource_type"] == "source" or node["config"].get("access") == "public"
            assert (name in shown) == (is_public and "client_id" in node["columns"]), name
    assert {
        "silver.stop_executions",
        "silver.operations",
        "bronze.orders",
        "gold.training_sets_stop_outcome",
    } <= set(shown)
    assert all(
        "client_id" in columns and not set(columns) & set(tenants.HIDDEN) for columns in shown.values()
    )
    assert any("raw_response" in node["columns"] for node in nodes)
