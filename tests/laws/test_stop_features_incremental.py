"""Features and candidates that grow with what is landed are those of one build of everything, by digest; and those that
the compiled models give in one pass over all dates. Through the loaders' own writer and `dbt`."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from ingest.window_schema import LINEAGE, WINDOW_SCHEMAS
from ingest.windows import WindowLoad
from lake import contracts, feature_tables
from lake.rollup import write_rollups
from tests.e2e.execution import DEFAULTS, ExecutionPipeline
from tests.fixtures.dbt import repository_project
from tests.fixtures.lakes import digests
from tests.laws import test_stop_features_at_any_instant as instants
from tests.laws.stop_features_kit import bronze, everything
from tests.oracle.stop_worlds import START, World

FINAL = ("stop_outcome_candidates", "slippage_prediction_candidates", "features_stop_execution_features")
COMPARED = {
    "silver": ("stop_triggers", "feat_stop_triggers", "feat_stop_slippage", "feat_stop_execution"),
    "gold": FINAL,
}
CUT = START + timedelta(days=1, hours=13)


def rows() -> dict[str, list[dict]]:
    """A random day of stops, and of operations with fills, which the minutes of `stop_execution_features` need."""
    found = bronze(**everything(World(5, stops=60)))
    found["trades"], found["orders"], found["operations"] = instants.own_rows(instants.FILLS)
    return found


def stored_at(source: str, row: Mapping[str, Any]) -> datetime:
    """When a row is there to be landed."""
    names = ("ingested_at", "updated_at", "created_at", "exchange_time", "close_time")
    return next(row[n] for n in names if n in row)


def land(root: Path, source: str, of: Sequence[dict], name: str, *, sealed: bool) -> None:
    schema = WINDOW_SCHEMAS[source]
    fields = [pa.field(f.name, f.type) for f in schema.columns]
    if source == "events":
        fields.append(LINEAGE.field("ingested_at"))
    filled = [{f.name: _value({**DEFAULTS, **row}.get(f.name), f.type) for f in fields} for row in of]
    with WindowLoad(root, schema, "testnet", source_kind="ndjson") as load:
        load.add(pa.Table.from_pylist(filled, schema=pa.schema(fields)), name, np.arange(1, len(of) + 1))
        load.publish(sealed=sealed)


def _value(value: object, kind: pa.DataType) -> object:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return Decimal(str(value)) if value is not None and pa.types.is_decimal(kind) else value


def build(root: Path, *options: str) -> dict[str, int]:
    outcome = repository_project().run(root, "run", "--select", *(f"+{name}" for name in FINAL), *options)
    failed = {n: outcome.messages[n] for n, s in outcome.statuses.items() if s == "error"}
    assert outcome.ok, failed or outcome
    return outcome.dates()


def ours() -> dict[str, dict]:
    names = {name for of in COMPARED.values() for name in of}
    steps = (
        "int_market_bars__",
        "int_stop_failures__",
        "int_stop_events__terminals",
        "int_operations__levels",
    )
    return {
        n: node
        for n, node in repository_project().datasets().items()
        if n in names or n.startswith((*steps, "int_operations__active", "int_stop_triggers"))
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A lake that was built at noon of the second day and again when everything had come, some of it late."""
    seeds = repository_project()
    found = tmp_path_factory.mktemp("stops")
    assert seeds.run(found, "seed", "--select", "symbols", "event_types").ok
    for number, is_late in enumerate((False, True)):
        for source, of in rows().items():
            part = [
                row
                for n, row in enumerate(of)
                if (stored_at(source, row) >= CUT or (source == "klines" and n % 11 == 0)) == is_late
            ]
            land(found, source, part, f"{source}-{number}.ndjson", sealed=source == "events")
        build(found)
    return found


def test_incremental_equals_full(root):
    grown = digests(root, ours())
    assert {name for name, _, _ in grown} == set(ours())
    assert build(root) == {}
    build(root, "--full-refresh")
    assert digests(root, ours()) == grown


def test_the_table_says_what_it_holds(root):
    """`metadata.json` of spec/execution.md 6, beside the rows."""
    write_rollups(root)  # as `dbt build` ends
    folder = root / "lake" / "gold" / "features" / "stop_execution_features"
    said = json.loads((folder / "metadata.json").read_text())
    assert contracts.faults(said, "feature_table") == []
    with duckdb.connect(str(root / "lake.duckdb"), read_only=True) as con:
        (count,) = con.execute(f"select count(*) from gold.{FINAL[2]}").fetchone()
        types = dict(
            con.execute(f"select column_name, column_type from (describe gold.{FINAL[2]})").fetchall()
        )
    assert said["row_count"] == count > 100
    assert len(said["sha256"]) == 64
    (version,) = said["versions"]
    assert {f["name"]: f["dtype"].upper() for f in version["features"]}.items() <= types.items()
    ttl = {f["name"]: f["ttl_sec"] for f in version["features"]}
    assert {n for n, seconds in ttl.items() if seconds == 86_400} == {
        "stop_distance_pct",
        "consecutive_failures_1h",
    }
    assert set(ttl.values()) == {60, 86_400}

    chosen = said | {
        "experiment": {"name": "a", "arms": [{"version": "1.0.0", "share": 0.5}] * 2},
        "row_count": 0,
    }
    (folder / "metadata.json").write_text(json.dumps(chosen))
    assert feature_tables.write_metadata(root) == [folder / "metadata.json"]
    again = json.loads((folder / "metadata.json").read_text())
    assert again == said | {"experiment": chosen["experiment"]}
    assert feature_tables.write_metadata(root) == []


def test_one_pass_over_all_dates_gives_the_same_rows(root, manifest):
    pipeline = ExecutionPipeline(manifest)
    pipeline.land(**rows())
    pipeline.build(*FINAL)
    with duckdb.connect(str(root / "lake.duckdb"), read_only=True) as con:
        con.execute("set TimeZone = 'UTC'")
        for schema, names in COMPARED.items():
            for name in names:
                listed = ", ".join(pipeline.con.query(f"select * from {schema}.{name}").columns)
                query = f"select {listed} from {schema}.{name} order by all"
                published = con.query(query).fetchall()
                assert published, name
                assert pipeline.con.query(query).fetchall() == published, name
