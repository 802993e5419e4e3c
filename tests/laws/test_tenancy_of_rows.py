"""No row of a tenant knows of another: with one tenant's rows alone, every relation of the domain has the same rows of
it, and no text of them is another's. Source: spec/execution.md 8.3.
"""

import json
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pytest

from ingest.simulator.execution.faults import FAULTS
from ingest.simulator.execution.landing import land_simulated
from ingest.simulator.execution.simulation import simulate_execution
from ingest.window_schema import WINDOW_SCHEMAS
from lake import windows
from tests.e2e.execution import ExecutionPipeline
from tests.fixtures.dbt import unsynced

CANARY = 999
TYPES = {"client_id": "bigint", "date": "date"}
# A token under two clients is by the specification a matter of both: all its rows are quarantined.
PLANTED = sorted(set(FAULTS) - {"tenant-mismatch"})
# What a client's rows are told apart by at their sources.
IDENTIFIERS = {
    "events": ("event_id", "execution_token", "exchange_order_id"),
    "orders": ("transaction_id", "binance_order_id"),
    "trades": ("order_id",),
}


def bronze(root: Path, con: duckdb.DuckDBPyConnection, source: str):
    """All landed rows of one source, as they are read."""
    paths = [str(part.path) for part in windows.visible_parts(root, source)]
    keys = ", ".join(f"'{k}': {TYPES.get(k, 'varchar')}" for k in (*WINDOW_SCHEMAS[source].keys, "date"))
    return con.execute(
        f"select * from read_parquet({paths}, hive_partitioning = true, hive_types = {{{keys}}})"
    ).to_arrow_table()


@pytest.fixture(scope="module")
def landed(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("tenants")
    simulate_execution(
        folder / "bot",
        seed=11,
        clients=2,
        days=2,
        ops_per_day=20,
        symbols=["BTCUSDC", "ETHUSDC"],
        faults=PLANTED,
    )
    with unsynced():
        land_simulated(folder / "root", folder / "bot")
    con = duckdb.connect(":memory:")
    con.execute("set TimeZone = 'UTC'")
    return {source: bronze(folder / "root", con, source) for source in WINDOW_SCHEMAS}


@pytest.fixture(scope="module")
def pipeline(manifest) -> ExecutionPipeline:
    return ExecutionPipeline(manifest)


def relations(pipeline: ExecutionPipeline) -> dict[str, list[str]]:
    """Every relation of the domain with a client_id, and its columns but for the time of its building."""
    found = {}
    for name, node in pipeline.models.items():
        columns = [c for c in node["columns"] if c not in ("created_at", "generated_at", "computed_at")]
        if "client_id" in columns and (
            "execution" in node["fqn"] or node["schema"] in ("monitoring", "analytics")
        ):
            found[name] = columns
    return found


def rows_of(pipeline: ExecutionPipeline, client_id: int) -> dict[str, list[str]]:
    """Rows of one client, by relation, as sorted texts."""
    found = {}
    for name, columns in relations(pipeline).items():
        node = pipeline.models[name]
        if node["config"]["materialized"] != "dataset":
            pipeline.rows(name, "false")  # makes the view
        listed = ", ".join(f'"{c}"' for c in columns)
        rows = pipeline.query(f"select {listed} from {node['schema']}.{name} where client_id = {client_id}")
        found[name] = sorted(json.dumps(row, default=str) for row in rows)
    return found


def only(landed: dict, client_id: int) -> dict:
    def kept(table):
        if "client_id" not in table.column_names:
            return table  # the public tape
        return table.filter(pc.field("client_id") == client_id)

    return {source: kept(table) for source, table in landed.items()}


@pytest.fixture(scope="module")
def together(pipeline, landed) -> dict[int, dict]:
    pipeline.land(**landed)
    pipeline.build()
    return {client_id: rows_of(pipeline, client_id) for client_id in (1, 2, CANARY)}


@pytest.mark.parametrize("client_id", [1, CANARY])
def test_a_tenant_alone_has_the_same_rows(pipeline, landed, together, client_id):
    pipeline.land(**only(landed, client_id))
    pipeline.build()
    alone = rows_of(pipeline, client_id)
    differing = {
        name: [
            [row for row in together[client_id][name] if row not in set(rows)][:1],
            [row for row in rows if row not in set(together[client_id][name])][:1],
        ]
        for name, rows in alone.items()
        if rows != together[client_id][name]
    }
    assert differing == {}


def test_no_row_of_a_tenant_names_anothers(landed, together):
    owned: dict[int, set[str]] = {1: set(), 2: set(), CANARY: set()}
    for source, columns in IDENTIFIERS.items():
        for row in landed[source].select(["client_id", *columns]).to_pylist():
            owned[row["client_id"]] |= {str(row[c]) for c in columns if row[c] is not None}
    for client_id, of_client in together.items():
        others = set().union(*(ids for c, ids in owned.items() if c != client_id)) - owned[client_id]
        others = {i for i in others if len(i) > 5}  # an order number of five digits may be a price
        for name, rows in of_client.items():
            words = {
                w for row in rows for w in row.replace('"', " ").replace(",", " ").replace("'", " ").split()
            }
            assert words & others == set(), name
            if client_id != CANARY:
                assert not any("CANARY" in row for row in rows), name


def test_the_worlds_have_rows_to_mix_up(together):
    counts = {name: {c: len(rows[name]) for c, rows in together.items()} for name in together[1]}
    expected = {
        "stop_executions", "stop_executions_quarantine", "replay_anomalies", "operations", "fills", "ledger",
        "balance_snapshots", "portfolio_snapshots", "portfolio_daily", "stop_triggers", "stop_outcome_candidates",
        "portfolio_performance", "tax_lots",
    }  # fmt: skip
    assert expected <= set(counts)
    lacking = {name for name in expected if not counts[name][1] or not counts[name][2]}
    assert lacking == set()
