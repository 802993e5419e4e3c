"""Operations built as rows come, late ones too, are those that one build makes of everything, and those of one pass."""

from __future__ import annotations

import json
import random
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from ingest.window_schema import LINEAGE, WINDOW_SCHEMAS
from ingest.windows import WindowLoad
from tests.e2e.execution import DEFAULTS, ExecutionPipeline
from tests.fixtures.dbt import repository_project
from tests.fixtures.lakes import digests
from tests.fixtures.operations import World, world

FINAL = ("ledger", "fills", "operations", "tax_lots")
LOADS = 2


def land(root: Path, made: dict[str, list[dict]], name: str) -> None:
    for source, rows in made.items():
        schema = WINDOW_SCHEMAS[source]
        fields = [pa.field(f.name, f.type) for f in schema.columns]
        if schema.by_ingested_at:
            fields.append(LINEAGE.field("ingested_at"))
        filled = [{**DEFAULTS, **row} for row in rows]
        for row in filled:
            for column in ("raw_response", "payload_json"):
                if isinstance(row.get(column), dict):
                    row[column] = json.dumps(row[column], sort_keys=True)
        table = pa.Table.from_pylist(
            [{f.name: row.get(f.name) for f in fields} for row in filled], pa.schema(fields)
        )
        if rows:
            with WindowLoad(root, schema, "testnet", source_kind="ndjson") as load:
                load.add(table, f"{source}-{name}.ndjson", np.arange(1, len(rows) + 1))
                load.publish(sealed=False)


def build(root: Path, *options: str) -> dict[str, int]:
    outcome = repository_project().run(root, "run", "--select", *(f"+{name}" for name in FINAL), *options)
    assert outcome.ok, {
        n: outcome.messages[n] for n, s in outcome.statuses.items() if s == "error"
    } or outcome
    return outcome.dates()


def published(root: Path) -> dict[tuple, str]:
    names = {
        n: node
        for n, node in repository_project().datasets().items()
        if n in FINAL or n.startswith(("int_operations", "int_orders", "int_ledger"))
    }
    return digests(root, names)


def parts(made: World) -> list[dict[str, list[dict]]]:
    """A world in loads: mostly as time goes, a fifth of the rows whenever."""
    rng = random.Random(2)  # noqa: S311
    loads: list[dict[str, list[dict]]] = [{name: [] for name in made.sources()} for _ in range(LOADS)]
    for source, rows in made.sources().items():
        stored = [row.get("ingested_at") or row["open_time"] for row in rows]
        order = sorted(range(len(rows)), key=stored.__getitem__)
        for rank, index in enumerate(order):
            load = rng.randrange(LOADS) if rng.random() < 0.2 else rank * LOADS // len(rows)
            loads[load][source].append(rows[index])
    return loads


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """A lake that was built after each of its loads, and its world."""
    made = world(random.Random(77), operations=10, days=1)  # noqa: S311
    root = tmp_path_factory.mktemp("grown")
    for number, part in enumerate(parts(made)):
        land(root, part, f"{number}")
        build(root)
    return root, made


def test_incremental_equals_full(lake):
    root, _ = lake
    grown = published(root)
    assert build(root) == {}
    build(root, "--full-refresh")
    assert published(root) == grown
    assert {"operations", "tax_lots", "fills", "ledger", "int_operations__held"} <= {
        name for name, _, _ in grown
    }
    assert len({date for name, _, date in grown if name == "operations"}) >= 3


def test_one_pass_over_all_dates_gives_the_same_rows(lake, manifest):
    root, made = lake
    pipeline = ExecutionPipeline(manifest)
    with duckdb.connect(str(root / "lake.duckdb"), read_only=True) as con:
        con.execute("set TimeZone = 'UTC'")
        landed = {}
        for name in made.sources():
            relation = {"orders": "ledger"}.get(name, name)
            landed[name] = con.query(f"select * from bronze.{relation}").to_arrow_table()
        pipeline.land(**landed)
        pipeline.build(*FINAL)
        for name in FINAL:
            columns = [
                c
                for c in pipeline.con.query(f"select * from silver.{name}").columns
                if c != "created_at" or name == "ledger"
            ]
            query = f"select {', '.join(columns)} from silver.{name} order by all"
            rows = con.query(query).fetchall()
            assert rows, name
            assert pipeline.con.query(query).fetchall() == rows, name


@pytest.mark.long
def test_a_late_row_touches_the_dates_of_its_operation_only(lake):
    root, made = lake
    before = published(root)
    trade = made.trades[-1]
    land(root, {"trades": [trade | {"trade_id": 999_999_999}]}, "late")
    build(root)
    after = published(root)
    changed = {
        (name, date)
        for (name, params, date), digest in after.items()
        if before.get((name, params, date)) != digest
    }
    homes = {date for name, date in changed if name == "operations"}
    assert len(homes) <= 1, changed
    assert {date for name, date in changed if name == "fills"} == {trade["exchange_time"].date().isoformat()}
