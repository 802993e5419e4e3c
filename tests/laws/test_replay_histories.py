"""Whatever its events were and however they came, an execution is what the state machine of spec/execution.md 4.2 makes
of them: properties over random histories (`tests/oracle/replay_histories.py`).

One example is a set of histories, built in one pass in memory; the loads of the last property are built date by date.
The examples are the same in every run.
"""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.e2e.growing import GrowingPipeline
from tests.laws.test_replay_equals_oracle import anomalies_of, comparable, expected
from tests.oracle.replay import replay
from tests.oracle.replay_histories import TYPES, deliveries, loads, moved_by_a_later_date, worlds

FINAL = ("stop_executions", "stop_executions_quarantine", "replay_anomalies")
EXAMPLES = [10, pytest.param(200, marks=pytest.mark.long)]
LOADED = [5, pytest.param(100, marks=pytest.mark.long)]


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )


@pytest.fixture(scope="module")
def pipeline(manifest):
    return GrowingPipeline(manifest, *FINAL)


def published(pipeline):
    """(executions by key with their failed rules, anomalies) as they stand."""
    accepted = [row | {"failed_rules": []} for row in pipeline.rows(FINAL[0])]
    found = [*accepted, *pipeline.rows(FINAL[1])]
    by_key = {(row["client_id"], row["execution_token"]): comparable(row) for row in found}
    assert len(by_key) == len(found)  # accepted or quarantined, once
    return by_key, anomalies_of(pipeline.rows(FINAL[2]))


def wanted(rows):
    executions, anomalies = expected(rows, {})
    return {key: comparable(row) for key, row in executions.items()}, anomalies_of(anomalies)


@pytest.mark.parametrize("count", EXAMPLES)
def test_any_order_and_any_copies_give_what_the_state_machine_gives(pipeline, count):
    @examples(count)
    @given(st.data())
    def law(data):
        world = data.draw(worlds())
        pipeline.land(events=data.draw(deliveries(world)))
        pipeline.build(*FINAL)
        assert published(pipeline) == wanted(world)

    law()


@pytest.mark.parametrize("count", LOADED)
def test_any_sequence_of_loads_gives_what_the_state_machine_gives(pipeline, count):
    """After each load, of the events so far: a build of the dates that it touches is a build of them all."""

    @examples(count)
    @given(st.data())
    def law(data):
        world = data.draw(worlds(most=12))
        pipeline.forget()
        landed = []
        for part in data.draw(loads(world)):
            landed += part
            pipeline.grow(events=landed)
            assert published(pipeline) == wanted([*{row["event_id"]: row for row in landed}.values()])

    law()


def test_a_date_moves_an_execution_to_where_no_date_alone_puts_it(pipeline):
    world = moved_by_a_later_date()
    pipeline.forget()
    for upto in (2, 3):
        pipeline.grow(events=world[:upto])
        assert published(pipeline) == wanted(world[:upto])
    assert [str(row["date"]) for row in pipeline.rows(FINAL[0]) + pipeline.rows(FINAL[1])] == ["2024-12-01"]


def test_the_histories_hold_every_case():
    """No property is empty: every type, anomaly, rule and status comes up in what hypothesis draws, and executions
    live through midnights, are late and come in parts."""
    found, shapes = set(), set()

    @settings(examples(60), phases=[Phase.generate])
    @given(worlds(), st.data())
    def look(world, data):
        executions, anomalies = replay(world)
        found.update(row["event_type"] for row in world)
        found.update(a["anomaly_code"] for a in anomalies)
        found.update(rule for row in executions for rule in row["failed_rules"])
        found.update(row["status"] for row in executions)
        dates = {row["event_id"]: row["date"] for row in world}
        for row in executions:
            shapes.update(
                {"midnight"} if len({dates[e] for e in row["source_event_ids"]}) > 1 else (),
                {"lone failure"} if row["kinds"] == {"FAILED"} else (),
            )
        shapes.update({"late"} if any(row["date"] > row["occurred_at"].date() for row in world) else ())
        delivered = data.draw(deliveries(world))
        shapes.update({"copies"} if len(delivered) > len(world) else ())
        shapes.update({"loads"} if len(data.draw(loads(world))) > 1 else ())

    look()
    assert found >= {
        *TYPES, "MISSING_TRIGGER", "MISSING_SUBMIT", "DUPLICATE_EVENT", "OUT_OF_ORDER", "BLOCK_AFTER_SUBMIT",
        "EVENT_AFTER_TERMINAL", "CONFLICTING_TERMINAL", "LATE_FILL_AFTER_FAILURE", "LATE_FILL_AFTER_BLOCK",
        "NULL_SEQ", "LEVEL_CHANGED", "SEQ_GAP", "OVERFILL", "TENANT_MISMATCH",
        "REQUIRED_NULL", "EXECUTED_NO_FILL", "TIME_ORDER", "PENDING", "SUBMITTED", "EXECUTED", "FAILED", "BLOCKED",
    }  # fmt: skip
    assert shapes == {"midnight", "lone failure", "late", "copies", "loads"}
