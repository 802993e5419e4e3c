"""YAML, published contracts, loaders and data say the same of every dataset (spec/execution.md 7.1, 11.5)."""

import json
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli.contract import app
from ingest import bronze_schema, rejects
from ingest.execution_rules import ENUMS
from ingest.window_schema import LINEAGE, WINDOW_SCHEMAS, WindowSchema
from lake import contract_changes, contract_data, contract_documents, contract_versions, contracts
from lake.contract_documents import Dataset
from tests.fixtures.windows import land_every_dataset
from tests.laws.repository import PROJECT_DIR

DATASETS = contract_documents.datasets()
PUBLISHED = "contracts/published.txt"
MARKET = [
    bronze_schema.FUTURES_TRADES,
    bronze_schema.FUTURES_MBP10,
    bronze_schema.FUTURES_OHLCV,
    bronze_schema.DEFINITIONS,
    bronze_schema.OPTIONS_TRADES,
    bronze_schema.STOCKS_TRADES,
]
RELATIONS = {"orders": "ledger"}  # what is landed under one name is read under another
SQL = {
    "string": "varchar",
    "int64": "bigint",
    "int32": "integer",
    "int16": "smallint",
    "int8": "tinyint",
    "uint8": "utinyint",
    "bool": "boolean",
    "date32[day]": "date",
    "timestamp[us, tz=UTC]": "timestamp with time zone",
    "list<element: int16 not null>": "smallint[]",
}


def columns_of(name: str) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in DATASETS[name].promise["columns"]}


def sql_type(field: pa.Field) -> str:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if (field.metadata or {}).get(b"type") == b"UUID":
        return "uuid"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return SQL[str(kind)]


def test_yaml_contracts_and_changelog_agree():
    """What fails here: the YAML of a dataset was changed and its contract not, a published contract was edited, a
    breaking change has no new major version, or a change has no line under "Data contracts" of the changelog."""
    assert [f"{fault.dataset}: {fault.told}" for fault in contract_versions.check()] == []


def test_every_dataset_that_others_may_read_has_a_contract(manifest: dict[str, Any]):
    shown = {
        f"{node['schema']}/{node['alias']}"
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
        and node["schema"] in contract_documents.LAYERS
        and node["access"] != "private"
        and not node["name"].startswith(("stg_", "int_"))
    }
    landed = {f"bronze/{source['identifier']}" for source in manifest["sources"].values()}
    assert set(DATASETS) == shown | landed


def test_a_contract_has_the_columns_that_dbt_knows(manifest: dict[str, Any]):
    """The YAML is read twice, by dbt and for the contracts: both see the same."""
    for node in [*manifest["nodes"].values(), *manifest["sources"].values()]:
        name = f"{node['schema']}/{node.get('identifier') or node.get('alias')}"
        if name in DATASETS and node["resource_type"] in ("model", "source"):
            promised = {n: c["type"] for n, c in columns_of(name).items()}
            declared = {n: contract_documents.type_name(c["data_type"]) for n, c in node["columns"].items()}
            assert promised | declared == promised, name
            assert set(promised) - set(declared) <= {"date", "session_date", "params", "hour_utc"}, name
            assert DATASETS[name].promise["owner"] == node["config"]["meta"]["owner"], name


@pytest.mark.parametrize("schema", WINDOW_SCHEMAS.values(), ids=lambda schema: schema.name)
def test_the_loader_writes_what_a_window_source_promises(schema: WindowSchema):
    name = f"bronze/{RELATIONS.get(schema.name, schema.name)}"
    promise, promised = DATASETS[name].promise, columns_of(name)
    fields = [*schema.columns, *LINEAGE]
    told = {n: (c["type"], c["nullable"]) for n, c in promised.items() if n != "date"}
    assert told == {f.name: (sql_type(f), f.nullable) for f in fields}
    assert [n for n in promised if n != "date"] == [f.name for f in fields]
    assert promise["grain"] == list(schema.primary_key)
    assert promise["partition"] == [*schema.keys, "date"]
    for column, values in ENUMS.get(schema.name, {}).items():
        assert set(promised[column]["accepted_values"]) == set(values), column


@pytest.mark.parametrize("schema", MARKET, ids=lambda schema: schema.folder)
def test_the_loader_writes_what_a_market_source_promises(schema: bronze_schema.BronzeSchema):
    promised = columns_of(f"bronze/{schema.folder.replace('/', '_')}")
    held = {f.name: (sql_type(f), f.nullable) for f in schema.arrow}
    assert {n: (c["type"], c["nullable"]) for n, c in promised.items() if n in held} == held
    assert set(promised) - set(held) <= {
        *("symbol", "underlying", "date", "hour_utc", "is_shared_hour", "is_superseded"),
    }


def test_rejects_are_what_they_promise():
    promised = columns_of("bronze/rejects")
    held = {f.name: (sql_type(f), f.nullable) for f in rejects.SCHEMA}
    assert {n: (c["type"], c["nullable"]) for n, c in promised.items() if n in held} == held
    assert set(promised) - set(held) == {"dataset", "date"}


def test_a_view_over_bronze_promises_no_more_than_what_it_stands_over():
    ledger, orders = columns_of("bronze/ledger"), columns_of("bronze/orders")
    narrower = {"category": ["TRADING", "ORDER"]}
    assert orders == {
        n: c | ({"accepted_values": narrower[n]} if n in narrower else {}) for n, c in ledger.items()
    }


def test_landed_files_are_what_their_contracts_say(tmp_path: Path):
    land_every_dataset(tmp_path, ["2025-12-15"])
    windowed = {f"bronze/{RELATIONS.get(name, name)}" for name in WINDOW_SCHEMAS}
    assert {
        n for n, d in DATASETS.items() if d.folder and contract_data.newest_file(tmp_path, d.folder)
    } >= windowed
    assert [fault.told for fault in contract_data.check(tmp_path, DATASETS)] == []


@pytest.mark.parametrize(
    ("select", "told"),
    [
        ("1::bigint as a, 2::integer as b", ["column b was integer, expected bigint"]),
        ("1::bigint as a", ["column b was missing"]),
        ("1::bigint as a, 2::bigint as b, 3 as c", ["column c is in no contract"]),
        ("2::bigint as b, 1::bigint as a, 3 as client_id", []),
    ],
)
def test_a_file_that_is_not_what_its_contract_says_is_told(tmp_path: Path, select: str, told: list[str]):
    columns = [{"name": n, "type": "bigint"} for n in ("client_id", "a", "b")]
    promise = {"partition": ["client_id", "date"], "columns": columns}
    dataset = Dataset("silver/x", promise, "lake/silver/x")
    for day, text in (("01", "1::varchar as old"), ("02", select)):
        folder = tmp_path / dataset.folder / "client_id=1" / f"date=2025-12-{day}"
        folder.mkdir(parents=True)
        duckdb.sql(f"copy (select {text}) to '{folder / 'data.parquet'}' (format parquet)")
    found = [fault.told for fault in contract_data.check(tmp_path, {dataset.name: dataset})]
    assert found == [f"data.parquet: {text}; build it anew, or correct the YAML" for text in told]


def test_feature_versions_say_the_same_in_both_of_their_contracts():
    for version, promised in contracts.features().items():
        folder = f"lake/gold/training/candidates/{version}"
        (dataset,) = [d for d in DATASETS.values() if d.folder == folder]
        told = [(c["name"], c["type"]) for c in dataset.promise["columns"]]
        assert told == [(c["name"], c["dtype"]) for c in promised["columns"]]


def history(*args: str) -> str | None:
    command = ["git", "-c", "safe.directory=*", "-C", str(PROJECT_DIR), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def test_the_list_of_published_contracts_only_grows():
    """A clean copy without history has the list alone; where there is history, no line of it was ever taken back."""
    now = (PROJECT_DIR / PUBLISHED).read_text().splitlines()
    for commit in (history("log", "--format=%H", "--", PUBLISHED) or "").split():
        before = (history("show", f"{commit}:{PUBLISHED}") or "").splitlines()
        assert now[: len(before)] == before, commit


def test_diff_tells_breaking_by_its_exit_code(tmp_path: Path):
    promise = json.loads(contract_versions.text_of(DATASETS["bronze/events"].promise, "1.0"))
    files = {
        "old": promise,
        "wider": promise | {"columns": [*promise["columns"], promise["columns"][0] | {"name": "more"}]},
        "narrower": promise | {"columns": promise["columns"][1:]},
    }
    paths = {name: tmp_path / f"{name}.json" for name in files}
    for name, content in files.items():
        paths[name].write_text(json.dumps(content))
    run = CliRunner().invoke
    wider = run(app, ["diff", str(paths["old"]), str(paths["wider"]), "--json"])
    assert wider.exit_code == 0
    assert json.loads(wider.stdout) == [
        {
            "kind": contract_changes.ADDITIVE,
            "what": "column added",
            "where": "more",
            "old": "-",
            "new": "uuid",
        }
    ]
    narrower = run(app, ["diff", str(paths["old"]), str(paths["narrower"])])
    assert narrower.exit_code == 1
    assert "column removed" in narrower.stdout
    same = run(app, ["diff", str(paths["old"]), "bronze/events", "--json"])
    assert (same.exit_code, json.loads(same.stdout)) == (0, [])
    nothing = run(app, ["diff", str(paths["old"]), "bronze/nosuch"])
    assert nothing.exit_code == 1
    assert "neither a file nor a dataset" in str(nothing.exception)
