"""Staging of the execution domain: delivery is at least once, a key is one row, and the first landing of it stays."""

from collections import Counter

import pytest

from ingest.window_schema import EVENTS, WINDOW_SCHEMAS
from lake import datasets
from tests.fixtures.dbt import repository_project
from tests.fixtures.windows import land_rows, window_rows

DATE = "2025-12-15"
MODELS = {
    "events": "stg_execution__stop_events",
    "orders": "stg_execution__ledger",
    "operations": "stg_execution__operations",
    "balance_snapshots": "stg_execution__balance_snapshots",
    "trades": "stg_binance__fills",
    "agg_trades": "stg_binance__agg_trades",
    "klines": "stg_binance__klines",
}


def staged(root, name: str) -> list[dict]:
    return datasets.read(root, f"silver/datasets/{MODELS[name]}").to_pylist()


def build(root) -> None:
    outcome = repository_project().run(root, "run", "--select", *MODELS.values())
    assert outcome.ok, outcome


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Six rows of each dataset: sent whole, then shuffled and in overlapping pieces."""
    root = tmp_path_factory.mktemp("execution")
    for schema in WINDOW_SCHEMAS.values():
        rows = window_rows(schema, DATE, 6)
        land_rows(root, schema, rows[:4], "first.ndjson")
        land_rows(root, schema, rows[::-1], "second.ndjson")
        land_rows(root, schema, [rows[5], rows[2], rows[2]], "third.ndjson")
    build(root)
    return root


@pytest.mark.parametrize("name", MODELS)
def test_whatever_was_sent_again_is_one_row(lake, name):
    rows = staged(lake, name)
    schema = WINDOW_SCHEMAS[name]
    assert len(rows) == 6
    keys = [tuple(row[c] for c in schema.primary_key) for row in rows]
    assert len(set(keys)) == 6
    assert sum(row["landed_rows"] for row in rows) == 13
    assert Counter(row["source_file"] for row in rows) == {"first.ndjson": 4, "second.ndjson": 2}
    assert not any(row["has_conflict"] for row in rows)


def test_rows_that_differ_under_one_key_are_a_conflict_and_the_first_stays(tmp_path):
    (row,) = window_rows(EVENTS, DATE, 1)
    land_rows(tmp_path, EVENTS, [row], "first.ndjson")
    land_rows(tmp_path, EVENTS, [row | {"retry_count": 9}], "second.ndjson")
    build(tmp_path)
    (kept,) = staged(tmp_path, "events")
    assert kept["has_conflict"]
    assert kept["landed_rows"] == 2
    assert (kept["retry_count"], kept["source_file"]) == (row["retry_count"], "first.ndjson")


def test_a_late_row_lands_in_its_own_hour_and_makes_its_date_due(tmp_path):
    early, late = window_rows(EVENTS, DATE, 2)
    land_rows(tmp_path, EVENTS, [late], "first.ndjson", sealed=True)
    build(tmp_path)
    land_rows(tmp_path, EVENTS, [early], "late.ndjson")
    outcome = repository_project().run(tmp_path, "run", "--select", MODELS["events"])
    assert outcome.ok, outcome
    assert outcome.dates() == {MODELS["events"]: 1}
    assert len(staged(tmp_path, "events")) == 2
    again = repository_project().run(tmp_path, "run", "--select", MODELS["events"])
    assert again.dates() == {}


def test_markets_that_share_a_symbol_keep_their_own_trades(tmp_path):
    schema = WINDOW_SCHEMAS["agg_trades"]
    (row,) = window_rows(schema, DATE, 1)
    land_rows(tmp_path, schema, [row, row | {"market": "usdm"}], "both.ndjson")
    build(tmp_path)
    assert {r["market"] for r in staged(tmp_path, "agg_trades")} == {"spot", "usdm"}
