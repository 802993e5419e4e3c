"""Monitoring of what lands: each relation is proven by a failure that it shows, and shows nothing without it.

Source: spec/execution.md 7.2, 11.10.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.window_schema import EVENTS
from ingest.window_seal import seal_through
from lake import landing_records, record_views, sources, status
from tests.fixtures.monitoring import Monitoring, land_hours, mark_hours, utc
from tests.fixtures.windows import land_rows, window_rows

START = utc("2025-12-01T00:00")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def monitoring(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Monitoring:
    return Monitoring(manifest, tmp_path_factory.mktemp("empty"))


# -- row counts ------------------------------------------------------------------------------------------------------


def test_row_counts_are_of_the_thirty_latest_dates(monitoring: Monitoring, tmp_path: Path):
    mark_hours(tmp_path, "events", START, {24 * day + hour: 1 + day for day in range(32) for hour in (3, 4)})
    mark_hours(tmp_path, "klines", START, {3: 9})
    found = {row["date"]: row["row_count"] for row in monitoring.ask("bronze_row_counts", tmp_path)}
    assert found == {(START + day * DAY).date(): 2 * (1 + day) for day in range(2, 32)}


def test_an_hour_sealed_without_rows_counts_zero(monitoring: Monitoring, tmp_path: Path):
    land_hours(tmp_path, "events", START, [0])
    seal_through(tmp_path, "events", START + 2 * DAY)
    counts = {row["date"]: row["row_count"] for row in monitoring.ask("bronze_row_counts", tmp_path)}
    assert counts == {START.date(): 1, (START + DAY).date(): 0}


def test_copies_and_late_rows_count(monitoring: Monitoring, tmp_path: Path):
    land_hours(tmp_path, "events", START, [0], seal=True)
    land_rows(
        tmp_path, EVENTS, [window_rows(EVENTS, "2025-12-01", 1)[0] | {"ingested_at": START}], "late.ndjson"
    )
    assert [row["row_count"] for row in monitoring.ask("bronze_row_counts", tmp_path)] == [2]


# -- freshness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "verdict"), [(timedelta(minutes=5), "fresh"), (timedelta(hours=3), "stale"), (40 * DAY, "stale")]
)
def test_bronze_is_as_fresh_as_status_and_dbt_say(
    monitoring: Monitoring, tmp_path: Path, age: timedelta, verdict: str
):
    """Also where the newest date is long past: an empty day alarms, it is not empty."""
    now = datetime.now(UTC)
    land_hours(tmp_path, "events", now - age, [0])
    found = {row["dataset"]: row for row in monitoring.ask("bronze_freshness", tmp_path)}
    assert found["events"]["status"] == verdict
    assert age <= found["events"]["ingest_lag"] <= age + timedelta(hours=1)
    assert age <= found["events"]["max_lag"] <= age + timedelta(hours=1)
    assert found["klines"] | {"dataset": None} == dict.fromkeys(found["klines"]) | {"status": "never landed"}
    told = {row.dataset: row.freshness for row in status.bronze_status(tmp_path, now)}
    assert {name: row["status"] for name, row in found.items()} == {
        name: told[f"bronze/{name}"] for name in found
    }


def test_a_day_sealed_without_rows_alarms(monitoring: Monitoring, tmp_path: Path):
    """The marker of a day is there, its rows are not: nothing came, and that is what has to be seen."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    land_hours(tmp_path, "events", now - 3 * DAY, [0])
    seal_through(tmp_path, "events", now)
    (row,) = [r for r in monitoring.ask("bronze_freshness", tmp_path) if r["dataset"] == "events"]
    assert row["status"] == "stale"
    assert row["ingest_lag"] > 2 * DAY


def test_every_source_of_hour_windows_is_judged(monitoring: Monitoring, tmp_path: Path):
    found = monitoring.ask("bronze_freshness", tmp_path)
    assert sorted(r["dataset"] for r in found) == sorted(s.name for s in sources.declared() if s.windows_of)
    assert {r["status"] for r in found} == {"never landed"}


# -- completeness ----------------------------------------------------------------------------------------------------


def hours(monitoring: Monitoring, root: Path, dataset: str = "events") -> dict[int, dict[str, Any]]:
    """Rows of completeness by hours after START."""
    found = [row for row in monitoring.ask("completeness", root) if row["dataset"] == dataset]
    return {int((row["window_start"] - START) / timedelta(hours=1)): row for row in found}


def test_an_hour_without_a_marker_is_missing(monitoring: Monitoring, tmp_path: Path):
    land_hours(tmp_path, "events", START, [0, 1])
    land_hours(tmp_path, "events", START, [3])
    found = hours(monitoring, tmp_path)
    assert {hour: row["is_present"] for hour, row in found.items()} == {0: True, 1: True, 2: False, 3: True}
    assert found[2]["row_count"] is None
    seal_through(tmp_path, "events", START + timedelta(hours=4))
    found = hours(monitoring, tmp_path)
    assert all(row["is_present"] and row["is_sealed"] for row in found.values())
    assert found[2]["row_count"] == 0


def test_a_source_that_stops_while_another_goes_on_has_missing_hours(monitoring: Monitoring, tmp_path: Path):
    land_hours(tmp_path, "events", START, range(3))
    land_hours(tmp_path, "orders", START, range(1))
    assert [row["is_present"] for _, row in sorted(hours(monitoring, tmp_path).items())] == [True] * 3
    found = [row["is_present"] for _, row in sorted(hours(monitoring, tmp_path, "orders").items())]
    assert found == [True, False, False]


def test_an_open_hour_lags_and_a_sealed_one_does_not(monitoring: Monitoring, tmp_path: Path):
    land_hours(tmp_path, "events", START, range(4))
    seal_through(tmp_path, "events", START + timedelta(hours=2))
    found = hours(monitoring, tmp_path)
    assert [found[h]["is_sealed"] for h in range(4)] == [True, True, False, False]
    assert [found[h]["seal_lag"] for h in range(4)] == [None, None, timedelta(hours=1), timedelta(0)]


def test_rows_that_come_late_are_a_supplement(monitoring: Monitoring, tmp_path: Path):
    land_hours(tmp_path, "events", START, {0: 3}, seal=True)
    before = hours(monitoring, tmp_path)[0]
    assert (before["supplements"], before["late_rows"], before["row_count"]) == (0, 0, 3)
    late = [row | {"occurred_at": START} for row in window_rows(EVENTS, "2025-12-02", 2)]
    land_rows(tmp_path, EVENTS, late, "late.ndjson")
    after = hours(monitoring, tmp_path)[0]
    assert (after["supplements"], after["late_rows"], after["row_count"]) == (1, 2, 5)
    assert after["is_sealed"]


def test_an_hour_with_an_unreadable_line_is_incomplete(monitoring: Monitoring, tmp_path: Path):
    from ingest.ndjson import ingest_ndjson  # noqa: PLC0415
    from tests.unit.ingest_windows import kit  # noqa: PLC0415

    kit.write(tmp_path / "events.ndjson", [*kit.events(200, hours=2), "no JSON"])
    ingest_ndjson(tmp_path, "events", str(tmp_path / "events.ndjson"))
    found = [row for row in monitoring.ask("completeness", tmp_path) if row["dataset"] == "events"]
    assert {row["is_incomplete"] for row in found} == {True, False}
    assert sum(row["reject_rows"] or 0 for row in found) == 1


# -- volume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "verdict"), [(4, "alert"), (5, "ok"), (10, "ok"), (20, "ok"), (21, "alert"), (0, "alert")]
)
def test_a_day_is_compared_with_the_median_of_the_days_before(
    monitoring: Monitoring, tmp_path: Path, rows: int, verdict: str
):
    counts = dict(enumerate([10, 10, 10, 99, 10, 1, 10, 10, 10, rows]))
    # the day after the last one has begun
    mark_hours(
        tmp_path, "events", START, {24 * day + 5: count for day, count in counts.items() if count} | {240: 1}
    )
    found = {
        row["date"]: row for row in monitoring.ask("volume_anomaly", tmp_path) if row["dataset"] == "events"
    }
    assert len(found) == 10  # not the day that goes on
    last = found[(START + 9 * DAY).date()]
    assert (last["row_count"], last["median_rows"], last["days_before"]) == (rows, 10.0, 9)
    assert last["median_pct"] == pytest.approx(10.0 * rows)
    assert last["status"] == verdict
    # a week of history is too short to judge by
    assert {day: found[(START + day * DAY).date()]["status"] for day in range(9)} == {
        **dict.fromkeys(range(7), "unknown"), 7: "ok", 8: "ok",
    }  # fmt: skip


def test_days_of_a_month_ago_leave_the_median(monitoring: Monitoring, tmp_path: Path):
    counts = {24 * day + 5: 30 if day < 11 else 10 for day in range(40)}
    mark_hours(tmp_path, "events", START, counts | {24 * 40: 1})
    found = {row["date"]: row for row in monitoring.ask("volume_anomaly", tmp_path)}
    assert found[(START + 39 * DAY).date()]["days_before"] == 28
    assert found[(START + 39 * DAY).date()]["median_rows"] == 10.0
    assert found[(START + 11 * DAY).date()]["status"] == "alert"


# -- the records themselves ------------------------------------------------------------------------------------------


def test_markers_are_read_two_months_back(tmp_path: Path):
    import duckdb  # noqa: PLC0415

    mark_hours(tmp_path, "events", START, {24 * day: 1 for day in (0, 1, landing_records.DAYS)})
    seen = duckdb.sql(
        f"select window_start from {record_views.RELATIONS['bronze_windows'](tmp_path)}"
    ).fetchall()
    assert len(seen) == 2  # the first is one day too old


# -- keys and numbers ------------------------------------------------------------------------------------------------


def event(**values: Any) -> dict[str, Any]:
    row = {"client_id": 1, "operation_id": 7, "date": "2025-12-01", "landed_rows": 1, "has_conflict": False}
    return row | {"event_id": "00000000-0000-0000-0000-000000000001", "occurred_at": START} | values


def test_a_key_landed_twice_is_a_duplicate_also_across_dates(monitoring: Monitoring):
    other = "00000000-0000-0000-0000-000000000002"
    once = [event(), event(event_id=other)]
    assert monitoring.ask("duplicates", stg_execution__stop_events=once) == []
    (row,) = monitoring.ask("duplicates", stg_execution__stop_events=[*once, event(date="2025-12-02")])
    assert (row["dataset"], row["client_id"], row["copies"], row["dates"]) == ("events", 1, 2, 2)
    assert row["key_text"].endswith("0001")
    (row,) = monitoring.ask(
        "duplicates", stg_execution__stop_events=[event(landed_rows=3, has_conflict=True)]
    )
    assert (row["copies"], row["dates"], row["has_conflict"]) == (3, 1, True)


def test_duplicates_of_tenants_are_told_apart(monitoring: Monitoring):
    fill = {
        "account_type": "SPOT",
        "symbol": "BTCUSDC",
        "trade_id": 5,
        "date": "2025-12-01",
        "landed_rows": 1,
    }
    fills = [fill | {"client_id": client, "has_conflict": False} for client in (1, 2)]
    assert monitoring.ask("duplicates", stg_binance__fills=fills) == []
    (row,) = monitoring.ask("duplicates", stg_binance__fills=[*fills, fills[1] | {"date": "2025-12-02"}])
    assert (row["dataset"], row["client_id"], row["key_text"]) == ("trades", 2, "SPOT|BTCUSDC|5")


def test_a_number_that_is_missing_is_a_gap_of_its_operation(monitoring: Monitoring):
    def stream(numbers: list[int | None], **values: Any) -> list[dict[str, Any]]:
        return [
            event(stream_seq=n, occurred_at=START + timedelta(minutes=i), **values)
            for i, n in enumerate(numbers)
        ]

    whole = [*stream([1, 2, 2, 3]), *stream([None, None], operation_id=8), *stream([2, 1], client_id=2)]
    assert monitoring.ask("sequence_gaps", stg_execution__stop_events=whole) == []
    holed = [*whole, *stream([6, 7, 9])]
    found = monitoring.ask("sequence_gaps", stg_execution__stop_events=holed)
    told = [(r["client_id"], r["operation_id"], r["first_missing_seq"], r["last_missing_seq"]) for r in found]
    assert sorted(told) == [(1, 7, 4, 5), (1, 7, 8, 8)]
    assert {r["missing_events"] for r in found} == {1, 2}
    (late,) = monitoring.ask("sequence_gaps", stg_execution__stop_events=stream([3], operation_id=9))
    assert (late["first_missing_seq"], late["last_missing_seq"], late["before_time"]) == (1, 2, None)
