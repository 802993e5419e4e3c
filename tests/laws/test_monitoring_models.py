"""Monitoring of silver and gold: each relation is proven by a failure that it shows, and shows nothing without it.

Source: spec/execution.md 4.5, 5.6, 7.2, 11.10.
"""

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from lake import contract_documents
from lake.contract_changes import struct_fields
from tests.fixtures.monitoring import Monitoring, utc

DAY = date(2025, 12, 15)
AT = utc("2025-12-15T12:00")


@pytest.fixture(scope="module")
def monitoring(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Monitoring:
    return Monitoring(manifest, tmp_path_factory.mktemp("empty"))


def execution(number: int = 1, **values: Any) -> dict[str, Any]:
    row = {
        "execution_id": f"00000000-0000-0000-0000-{number:012d}",
        "execution_token": f"token {number}",
        "client_id": 1,
        "operation_id": number,
        "symbol": "BTCUSDC",
        "status": "EXECUTED",
        "fill_price": 100,
        "slippage_pct": 0.1,
        "triggered_at": AT,
        "submitted_at": AT,
        "executed_at": AT,
        "created_at": AT,
        "date": DAY,
    }
    return row | values


# -- nulls, slippage, fills ------------------------------------------------------------------------------------------


def test_null_shares_are_by_date(monitoring: Monitoring):
    whole = [execution(n) for n in range(4)]
    (row,) = monitoring.ask("silver_null_pct", stop_executions=whole)
    assert (row["total_rows"], row["non_null_fill_prices"], row["null_fill_price_pct"]) == (4, 4, 0.0)
    lost = [
        *whole[:3],
        execution(3, fill_price=None),
        execution(5, date=DAY + timedelta(days=1), execution_id=None),
    ]
    first, second = sorted(monitoring.ask("silver_null_pct", stop_executions=lost), key=lambda r: r["date"])
    assert (first["non_null_executions"], first["null_fill_price_pct"]) == (4, 25.0)
    assert (second["non_null_executions"], second["null_fill_price_pct"]) == (0, 0.0)


def test_slippage_is_out_of_range_past_the_bounds(monitoring: Monitoring):
    legal = [execution(n, slippage_pct=slippage) for n, slippage in enumerate((50, -50, None))]
    (row,) = monitoring.ask("slippage_out_of_range", stop_executions=legal)
    assert (row["executions_with_slippage"], row["out_of_range"]) == (2, 0)
    beyond = [execution(7, slippage_pct="50.0001"), execution(8, slippage_pct=-51)]
    (row,) = monitoring.ask("slippage_out_of_range", stop_executions=legal, stop_executions_quarantine=beyond)
    assert (row["executions_with_slippage"], row["out_of_range"]) == (4, 2)
    assert float(row["greatest_slippage_pct"]) == 50.0001


def test_counts_are_of_one_tenant_each(monitoring: Monitoring):
    rows = [execution(1, slippage_pct=99), execution(2, client_id=2)]
    found = monitoring.ask("slippage_out_of_range", stop_executions_quarantine=rows)
    assert {row["client_id"]: row["out_of_range"] for row in found} == {1: 1, 2: 0}
    found = monitoring.ask("executed_without_fill", stop_executions_quarantine=rows)
    assert {row["client_id"]: row["executed"] for row in found} == {1: 1, 2: 1}


def test_an_execution_without_a_fill_is_counted_where_it_was_put(monitoring: Monitoring):
    accepted = [execution(1), execution(2, status="FAILED", fill_price=None)]
    (row,) = monitoring.ask("executed_without_fill", stop_executions=accepted)
    assert (row["executed"], row["without_fill"]) == (1, 0)
    unfilled = [execution(3, fill_price=None)]
    (row,) = monitoring.ask(
        "executed_without_fill", stop_executions=accepted, stop_executions_quarantine=unfilled
    )
    assert (row["executed"], row["without_fill"]) == (2, 1)


# -- stuck, quarantined, anomalous -----------------------------------------------------------------------------------


def test_an_execution_is_stuck_after_five_minutes_of_data(monitoring: Monitoring):
    through = [
        {"date": DAY - timedelta(days=1), "data_through": AT - timedelta(hours=9)},
        {"date": DAY, "data_through": AT},
    ]
    five = timedelta(minutes=5)

    def stuck(**values: Any) -> list[str]:
        rows = [execution(1), execution(2, submitted_at=None, **values)]
        found = monitoring.ask("stuck_executions", stop_executions=rows, data_through=through)
        assert all(row["waiting"] > five for row in found)
        return [row["execution_token"] for row in found]

    assert stuck(status="PENDING", triggered_at=AT - five) == []
    assert stuck(status="PENDING", triggered_at=AT - five - timedelta(seconds=1)) == ["token 2"]
    assert stuck(status="SUBMITTED", triggered_at=AT - timedelta(hours=1)) == ["token 2"]
    assert stuck(status="BLOCKED", triggered_at=AT - timedelta(hours=1)) == []
    assert stuck(status="FAILED", triggered_at=AT - timedelta(hours=1)) == []


def test_a_submission_is_counted_from_itself(monitoring: Monitoring):
    row = execution(
        status="SUBMITTED", triggered_at=AT - timedelta(hours=1), submitted_at=AT - timedelta(minutes=4)
    )
    assert (
        monitoring.ask("stuck_executions", stop_executions=[row], data_through=[{"data_through": AT}]) == []
    )


RULES = {
    "REQUIRED_NULL",
    "SLIPPAGE_RANGE",
    "EXECUTED_NO_FILL",
    "TIME_ORDER",
    "NONPOSITIVE",
    "TENANT_MISMATCH",
}


@pytest.mark.parametrize(
    ("accepted", "quarantined", "verdict"),
    [
        (998, 1, "too few"),
        (999, 1, "ok"),
        (998, 2, "warn"),
        (990, 10, "warn"),
        (989, 11, "fail"),
        (1000, 0, "ok"),
    ],
)
def test_the_share_of_quarantine_warns_and_fails(
    monitoring: Monitoring, accepted: int, quarantined: int, verdict: str
):
    """0.1 % and 1 % are the last good shares."""
    found = {
        row["quality_rule"]: row
        for row in monitoring.ask(
            "quarantine_share",
            stop_executions=[{"date": DAY}] * accepted,
            stop_executions_quarantine=[{"date": DAY, "failed_rules": ["NONPOSITIVE", "TIME_ORDER"]}]
            * quarantined,
        )
    }
    assert set(found) == {"any", *RULES}
    assert found["any"]["status"] == found["TIME_ORDER"]["status"] == verdict
    assert found["any"]["quarantined_rows"] == found["NONPOSITIVE"]["quarantined_rows"] == quarantined
    assert found["SLIPPAGE_RANGE"]["quarantined_rows"] == 0
    assert found["any"]["share_pct"] == pytest.approx(100 * quarantined / (accepted + quarantined))


def test_quarantine_is_judged_over_the_last_thirty_days_of_data(monitoring: Monitoring):
    old, young = DAY - timedelta(days=30), DAY - timedelta(days=29)
    rows = [{"date": day, "failed_rules": ["TIME_ORDER"]} for day in (old, young)]
    found = monitoring.ask(
        "quarantine_share", stop_executions=[{"date": DAY}], stop_executions_quarantine=rows
    )
    assert {row["executions"] for row in found} == {2}
    assert {row["last_date"] for row in found} == {DAY}


def test_no_execution_has_no_share(monitoring: Monitoring):
    found = monitoring.ask("quarantine_share")
    assert {(row["executions"], row["share_pct"], row["status"]) for row in found} == {(0, None, "too few")}


def test_anomalies_are_counted_by_code(monitoring: Monitoring):
    def anomaly(code: str, **values: Any) -> dict[str, Any]:
        row = {
            "client_id": 1,
            "execution_token": "a",
            "anomaly_code": code,
            "severity": "warn",
            "detected_at": AT,
        }
        return row | {"date": DAY} | values

    assert monitoring.ask("anomaly_counts") == []
    rows = [anomaly("SEQ_GAP"), anomaly("SEQ_GAP"), anomaly("SEQ_GAP") | {"execution_token": "b"}]
    rows += [anomaly("OVERFILL", severity="error"), anomaly("SEQ_GAP", client_id=2)]
    found = monitoring.ask("anomaly_counts", replay_anomalies=rows)
    told = {
        (r["client_id"], r["anomaly_code"], r["severity"]): (r["anomalies"], r["executions"]) for r in found
    }
    assert told == {
        (1, "SEQ_GAP", "warn"): (3, 2), (1, "OVERFILL", "error"): (1, 1), (2, "SEQ_GAP", "warn"): (1, 1),
    }  # fmt: skip


# -- freshness -------------------------------------------------------------------------------------------------------


def freshness(monitoring: Monitoring, **tables: Iterable[dict]) -> dict[str, Any]:
    return {row["dataset"]: row for row in monitoring.ask("silver_freshness", **tables)}


def test_silver_is_stale_after_its_service_level(monitoring: Monitoring):
    now = datetime.now(UTC)
    level = contract_documents.datasets()["silver/stop_executions"].promise["sla"]["freshness_hours"]
    for hours, verdict in ((level - 1, "fresh"), (level + 1, "stale")):
        rows = [
            execution(created_at=now - timedelta(hours=hours)),
            execution(2, created_at=now - timedelta(days=9)),
        ]
        found = freshness(monitoring, stop_executions=rows)
        assert found["stop_executions"]["status"] == verdict
        assert found["stop_executions"]["silver_lag"] >= timedelta(hours=hours)
        assert (found["operations"]["status"], found["operations"]["silver_lag"]) == ("never built", None)


def test_a_day_without_rows_alarms(monitoring: Monitoring):
    """Freshness is of all dates: yesterday's build of an empty day leaves the rows of the day before as the newest."""
    old = execution(date=DAY - timedelta(days=2), created_at=datetime.now(UTC) - timedelta(days=2))
    assert freshness(monitoring, stop_executions=[old])["stop_executions"]["status"] == "stale"


# -- training sets ---------------------------------------------------------------------------------------------------

FEATURES = {
    "stop_distance_pct": 2, "time_to_trigger_sec": 3600, "time_in_position_sec": 3000, "volatility_15m": 0.001,
    "volume_24h": 14_000_000, "volume_24h_base": 150, "hour_of_day": 14, "day_of_week": 4, "consecutive_failures_1h": 0,
}  # fmt: skip


def sample(
    as_of: datetime, success: bool = True, version: str = "v1.0.0", split: str = "train", **features: Any
) -> dict:
    return {
        "version": version,
        "split": split,
        "features": FEATURES | features,
        "label": {"execution_success": success},
        "metadata": {"split": split, "as_of": as_of},
    }


def candidate(as_of: datetime, **features: Any) -> dict:
    return {"features": FEATURES | features, "metadata": {"as_of": as_of}}


def test_labels_are_shared_out_within_version_and_split(monitoring: Monitoring):
    even = [sample(AT, success=n % 2 == 0) for n in range(4)]
    shares = monitoring.ask("gold_label_distribution", training_sets_stop_outcome=even)
    assert {row["percentage"] for row in shares} == {50.0}
    rows = [*even, *(sample(AT, split="test") for _ in range(3)), sample(AT, success=False, version="v1.1.0")]
    found = monitoring.ask("gold_label_distribution", training_sets_stop_outcome=rows)
    told = {
        (r["version"], r["split"], r["execution_success"]): (r["sample_count"], r["percentage"])
        for r in found
    }
    assert told == {
        ("v1.0.0", "train", True): (2, 50.0), ("v1.0.0", "train", False): (2, 50.0),
        ("v1.0.0", "test", True): (3, 100.0), ("v1.1.0", "train", False): (1, 100.0),
    }  # fmt: skip


def drift(
    monitoring: Monitoring, train: Iterable[Any], recent: Iterable[Any], feature: str = "volume_24h"
) -> dict:
    rows = [sample(AT, **{feature: value}) for value in train]
    later = [candidate(AT + timedelta(minutes=1 + n), **{feature: value}) for n, value in enumerate(recent)]
    # samples of the training time itself, and those that are none, say nothing of what came after
    later += [
        candidate(AT, **{feature: 9_999_999}),
        candidate(AT + timedelta(days=9)) | {"excluded_reason": "BLOCKED"},
    ]
    found = monitoring.ask("feature_drift", training_sets_stop_outcome=rows, stop_outcome_candidates=later)
    assert {row["feature"] for row in found} == set(FEATURES)
    return next(row for row in found if row["feature"] == feature)


def psi(train: list[Any], recent: list[Any]) -> float:
    """Slowly, from the definition: ten bins of train in order of value, ties in one bin, NULL in a bin of its own."""
    known = sorted(value for value in train if value is not None)
    size, extra = divmod(len(known), 10)
    ends, at = [], 0
    for decile in range(10):
        at += size + (decile < extra)
        if at and (not ends or known[at - 1] != ends[-1]):
            ends.append(known[at - 1])

    def share(values: list[Any], which: int | None) -> float:
        def bin_of(value: Any) -> int | None:
            return (
                None
                if value is None
                else next((i for i, end in enumerate(ends[:-1]) if value <= end), len(ends) - 1)
            )

        return max(sum(bin_of(v) == which for v in values) / len(values), 0.0001)

    total = 0.0
    for which in (*range(len(ends)), None):
        if share(train, which) > 0.0001 or share(recent, which) > 0.0001:
            total += (share(recent, which) - share(train, which)) * math.log(
                share(recent, which) / share(train, which)
            )
    return total


STEADY = [*range(100)]


@pytest.mark.parametrize(
    ("train", "recent", "verdict"),
    [
        (STEADY, STEADY, "ok"),
        (STEADY, [v + 5 for v in STEADY], "ok"),
        (STEADY, [v + 8 for v in STEADY], "warn"),
        (STEADY, [v * 10 for v in STEADY], "alert"),
        (STEADY, [v - 1000 for v in STEADY], "alert"),
        (STEADY, [None if v % 5 == 0 else v for v in STEADY], "alert"),
        ([0] * 90 + [1] * 10, [0] * 90 + [1] * 10, "ok"),
        ([0] * 90 + [1] * 10, [0] * 50 + [1] * 50, "alert"),
        ([*range(33)], [*range(3)], "alert"),
    ],
)
def test_drift_is_the_stability_index_on_deciles_of_train(
    monitoring: Monitoring, train: list[Any], recent: list[Any], verdict: str
):
    found = drift(monitoring, train, recent)
    assert found["psi"] == pytest.approx(psi(train, recent), abs=1e-12)
    assert found["status"] == verdict
    assert (found["train_samples"], found["recent_samples"]) == (len(train), len(recent))


def test_drift_of_one_feature_leaves_the_others_alone(monitoring: Monitoring):
    rows = [sample(AT, hour_of_day=n % 24) for n in range(48)]
    later = [candidate(AT + timedelta(hours=1 + n), hour_of_day=3) for n in range(48)]
    found = monitoring.ask("feature_drift", training_sets_stop_outcome=rows, stop_outcome_candidates=later)
    assert {row["feature"] for row in found if row["status"] != "ok"} == {"hour_of_day"}


def test_without_later_samples_drift_is_not_known(monitoring: Monitoring):
    found = drift(monitoring, STEADY, [])
    assert (found["psi"], found["recent_samples"], found["status"]) == (None, 0, "unknown")


def test_features_that_are_watched_are_those_of_the_set():
    columns = contract_documents.datasets()["gold/training_sets_stop_outcome"].promise["columns"]
    (features,) = [column["type"] for column in columns if column["name"] == "features"]
    assert [name for name, _ in struct_fields(features)] == [*FEATURES]


def test_parity_is_a_door_that_nothing_came_through_yet(monitoring: Monitoring):
    assert monitoring.ask("feature_parity") == []


# -- all of them -----------------------------------------------------------------------------------------------------

RELATIONS = {
    "bronze_row_counts", "silver_null_pct", "gold_label_distribution", "bronze_freshness", "silver_freshness",
    "completeness", "duplicates", "sequence_gaps", "slippage_out_of_range", "executed_without_fill",
    "stuck_executions", "quarantine_share", "anomaly_counts", "order_reconciliation", "agg_trade_gaps",
    "unattributed_fills", "feature_drift", "feature_parity", "volume_anomaly",
}  # fmt: skip


def test_every_monitoring_relation_of_the_specification_is_there(models: dict[str, dict[str, Any]]):
    there = {node["alias"]: node for node in models.values() if node["schema"] == "monitoring"}
    assert set(there) >= RELATIONS
    assert {node["config"]["materialized"] for node in there.values()} == {"view"}
