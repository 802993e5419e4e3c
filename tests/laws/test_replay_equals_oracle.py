"""The fold equals the state machine of spec/execution.md 4.2 for every execution, in whatever order, batches and copies
its events came."""

import datetime
import random
import uuid

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.oracle import replay_worlds
from tests.oracle.replay import replay

COLUMNS = [
    "date", "operation_id", "symbol", "side", "trigger_type", "stop_price", "trigger_price", "entry_price", "quantity",
    "status", "triggered_at", "submitted_at", "executed_at", "failed_at", "blocked_at", "block_reason",
    "exchange_order_id", "executed_quantity", "fill_price", "error_message", "slippage_pct", "slippage_vs_trigger_pct",
    "detection_gap_pct", "abs_slippage_pct", "fee_quote", "gross_pnl", "net_pnl", "source", "execution_source",
    "retry_count", "event_count", "source_event_ids", "is_current", "quality_flags",
]  # fmt: skip
SEEDS = range(12)
SOME = [*SEEDS[:5], *(pytest.param(seed, marks=pytest.mark.long) for seed in SEEDS[5:])]


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def built(pipeline, rows, klines=()):
    """(executions by key with their failed rules, anomalies) of these rows of bronze."""
    pipeline.land(events=rows, klines=klines)
    pipeline.build("stop_executions", "stop_executions_quarantine", "replay_anomalies")
    found = {}
    for row in pipeline.rows("stop_executions"):
        found[row["client_id"], row["execution_token"]] = row | {"failed_rules": []}
    for row in pipeline.rows("stop_executions_quarantine"):
        key = row["client_id"], row["execution_token"]
        assert key not in found
        found[key] = row
    return found, pipeline.rows("replay_anomalies")


def comparable(row):
    return {n: row[n] for n in [*COLUMNS, "failed_rules"]}


def anomalies_of(rows):
    names = [
        "client_id",
        "execution_token",
        "anomaly_code",
        "severity",
        "date",
        "operation_id",
        "detected_at",
    ]
    return sorted([*(str(row[n]) for n in names), str(row["event_id"])] for row in rows)


def expected(rows, closes):
    executions, anomalies = replay(rows, closes)
    by_key = {}
    for row in executions:
        row["source_event_ids"] = [uuid.UUID(e) for e in row["source_event_ids"]]
        by_key[row["client_id"], row["execution_token"]] = row
    return by_key, anomalies


@pytest.mark.parametrize("seed", SOME)
def test_fold_equals_state_machine(pipeline, seed):
    rows, closes = replay_worlds.world(seed, 40), replay_worlds.closes()
    found, anomalies = built(pipeline, rows, replay_worlds.bars(closes))
    wanted, wanted_anomalies = expected(rows, closes)
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        assert comparable(found[key]) == comparable(row), key
    assert anomalies_of(anomalies) == anomalies_of(wanted_anomalies)
    assert len({row["anomaly_id"] for row in anomalies}) == len(anomalies)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_order_batches_and_dates_of_the_delivery_change_nothing(pipeline, seed):
    rng = random.Random(seed)  # noqa: S311
    rows = replay_worlds.world(seed, 40)
    first = {
        row["event_id"]: row
        for row in sorted(rows, key=lambda row: (row["loaded_at"], row["row_hash"]))[::-1]
    }
    rows = list(first.values())  # copies say the same as their first landing
    once, once_anomalies = built(pipeline, rows)

    again = []
    for row in rows:
        for _ in range(rng.choice([1, 1, 2, 3])):
            day = datetime.timedelta(days=rng.choice([0, 0, 1, 2]))
            again.append(
                row | {"loaded_at": row["loaded_at"] + day, "date": (row["ingested_at"] + day).date()}
            )
    rng.shuffle(again)
    twice, twice_anomalies = built(pipeline, again)
    assert {k: comparable(r) for k, r in once.items()} == {k: comparable(r) for k, r in twice.items()}
    assert anomalies_of(once_anomalies) == anomalies_of(twice_anomalies)
    assert {r["anomaly_id"] for r in once_anomalies} == {r["anomaly_id"] for r in twice_anomalies}


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_what_is_plain_comes_out_the_same_by_the_whole_algorithm(pipeline, seed):
    """Plain executions take a short way: told not to be plain, they give the same rows."""
    found, anomalies = built(pipeline, replay_worlds.world(seed, 40))
    tokens = pipeline.rows("int_stop_events__tokens")
    assert 10 < sum(token["is_plain"] for token in tokens) < len(tokens)
    pipeline.replace("int_stop_events__tokens", [token | {"is_plain": False} for token in tokens])
    pipeline.rebuild(
        "int_stop_events__contested",
        "int_stop_executions__contested",
        "int_stop_executions__remarks",
        "int_stop_executions__folded",
        "stop_executions",
        "stop_executions_quarantine",
        "replay_anomalies",
    )
    names = [n for n in pipeline.rows("stop_executions")[0] if n != "created_at"]
    again = pipeline.rows("stop_executions") + pipeline.rows("stop_executions_quarantine")
    assert len(again) == len(found)
    for row in again:
        before = found[row["client_id"], row["execution_token"]]
        assert {n: row[n] for n in names} == {n: before[n] for n in names}
    assert pipeline.rows("replay_anomalies") == anomalies


def test_the_worlds_hold_every_case():
    """No law is empty: every anomaly, flag, rule and status comes up."""
    executions, anomalies = [], []
    for seed in SEEDS:
        rows, remarks = replay(replay_worlds.world(seed, 40), replay_worlds.closes())
        executions += rows
        anomalies += remarks
    assert {a["anomaly_code"] for a in anomalies} >= {
        "MISSING_TRIGGER", "MISSING_SUBMIT", "DUPLICATE_EVENT", "OUT_OF_ORDER", "BLOCK_AFTER_SUBMIT",
        "EVENT_AFTER_TERMINAL", "CONFLICTING_TERMINAL", "LATE_FILL_AFTER_FAILURE", "LATE_FILL_AFTER_BLOCK",
        "NULL_SEQ", "LEVEL_CHANGED", "SEQ_GAP", "OVERFILL", "TENANT_MISMATCH", "KEY_HASH_CONFLICT",
    }  # fmt: skip
    assert {flag for row in executions for flag in row["quality_flags"]} >= {
        "TRIGGER_TYPE_DEFAULTED", "FILL_IMPUTED", "WRONG_SIDE_STOP", "POST_TRADE_SLIPPAGE_BREACH",
        "BLOCK_AFTER_EXECUTED", "FEE_UNPRICED", "FEE_MISSING", "OVERFILL",
    }  # fmt: skip
    assert {rule for row in executions for rule in row["failed_rules"]} >= {
        "REQUIRED_NULL", "SLIPPAGE_RANGE", "EXECUTED_NO_FILL", "TIME_ORDER", "NONPOSITIVE", "TENANT_MISMATCH",
    }  # fmt: skip
    assert {row["status"] for row in executions} == {"PENDING", "SUBMITTED", "EXECUTED", "FAILED", "BLOCKED"}
