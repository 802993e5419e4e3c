"""Stop events that are landed window after window and built after each give the rows of one full build, and those of
the state machine. Through the loaders' own writer and `dbt`."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest

from ingest.window_schema import EVENTS, LINEAGE
from ingest.windows import WindowLoad
from lake import datasets
from tests.fixtures.dbt import repository_project
from tests.fixtures.lakes import digests
from tests.laws.test_replay_equals_oracle import anomalies_of, comparable, expected
from tests.oracle import replay_worlds

FINAL = ("stop_executions", "stop_executions_quarantine", "replay_anomalies")


def land(root, rows, name, *, sealed=False):
    schema = pa.schema([pa.field(f.name, f.type) for f in EVENTS.columns] + [LINEAGE.field("ingested_at")])
    texts = [row | {"payload_json": json.dumps(row["payload_json"], sort_keys=True)} for row in rows]
    table = pa.Table.from_pylist([{n: row[n] for n in schema.names} for row in texts], schema=schema)
    with WindowLoad(root, EVENTS, "testnet", source_kind="ndjson") as load:
        load.add(table, name, np.arange(1, len(rows) + 1))
        load.publish(sealed=sealed)


def build(root, *options):
    outcome = repository_project().run(root, "run", "--select", *(f"+{name}" for name in FINAL), *options)
    assert outcome.ok, {
        n: outcome.messages[n] for n, s in outcome.statuses.items() if s == "error"
    } or outcome
    return outcome.dates()


def published(root):
    names = {n: node for n, node in repository_project().datasets().items() if n in FINAL or "int_stop" in n}
    return digests(root, names)


def rows_of(root, name):
    return datasets.read(root, f"silver/{name}").to_pylist()


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A lake that got a world in two loads, built after each, and that world. Loads of any number and order are tried
    in memory (`test_replay_histories`)."""
    root = tmp_path_factory.mktemp("replayed")
    world = replay_worlds.world(5, 40)
    first = {row["event_id"]: row for row in world[::-1]}
    rows = [
        row | {"retry_count": first[row["event_id"]]["retry_count"]} for row in world
    ]  # copies, no conflicts
    rows = [row | {"row_hash": replay_worlds.row_hash(row)} for row in rows]
    random.Random(1).shuffle(rows)  # noqa: S311
    built, landed = [], []
    for number, part in enumerate((rows[::2], rows[1::2])):
        land(root, part, f"part{number}.ndjson")
        landed += [row | {"loaded_at": number} for row in part]
        built.append(build(root))
    return root, landed, built


def test_incremental_equals_full(grown):
    root, _, _ = grown
    incremental = published(root)
    assert build(root) == {}
    build(root, "--full-refresh")
    assert published(root) == incremental


def test_what_is_published_equals_the_state_machine(grown):
    root, rows, _ = grown
    wanted, anomalies = expected(rows, {})
    found = [row | {"failed_rules": []} for row in rows_of(root, FINAL[0])] + rows_of(root, FINAL[1])
    assert len(found) == len(wanted)
    for row in found:
        assert comparable(row) == comparable(wanted[row["client_id"], row["execution_token"]])
    assert anomalies_of(rows_of(root, FINAL[2])) == anomalies_of(anomalies)


def test_every_execution_is_decided_and_the_other_data_tests_hold(grown):
    root, _, _ = grown
    tests = ["assert_every_execution_is_decided"]
    tests += [
        "assert_tokens_are_those_of_bronze",
        "assert_slippage_is_gap_and_cost",
        "assert_no_event_came_in_two_forms",
    ]
    tests += ["assert_one_execution_of_an_operation_is_current", "assert_few_executions_are_quarantined"]
    outcome = repository_project().run(root, "test", "--select", *tests)
    assert outcome.ok, outcome
    assert set(outcome.statuses.values()) == {"pass", "success"}


def test_only_touched_dates_are_built_again(grown):
    root, rows, _ = grown
    by_date = {row["date"] for row in rows_of(root, FINAL[0])}
    assert len(by_date) > 2
    last = max(rows, key=lambda row: row["occurred_at"])
    land(
        root,
        [last | {"event_id": "00000000-0000-4000-8000-000000000001", "execution_token": "one more"}],
        "one.ndjson",
    )
    again = build(root)
    # the date itself, and those that read its events for executions over midnight
    assert 1 <= again["int_stop_executions__folded"] < len(by_date)
