"""When a window seals: not while anyone may still write it, and not when a recount finds other rows."""

from datetime import timedelta
from pathlib import Path

import pytest

from ingest.postgres import load as postgres_load
from ingest.postgres.connection import connect, read_source
from ingest.postgres.load import ingest_postgres
from ingest.postgres.reader import Reader, read_fence
from tests.fixtures.postgres import READER
from tests.unit.ingest_postgres import kit
from tests.unit.ingest_postgres.kit import Database
from tests.unit.ingest_windows import kit as rows_kit
from tests.unit.ingest_windows.kit import START

HOUR = timedelta(hours=1)


def now_events(database: Database, count: int, first: int = 0) -> list[dict]:
    """Events that the database stamps with its own clock."""
    at = database.execute("select now()").fetchone()[0]
    return [rows_kit.event(n, at) for n in range(first, first + count)]


def test_a_window_stays_open_while_a_transaction_that_began_in_it_does(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    writer = database.session()
    database.insert("events", now_events(database, 3))
    database.insert("events", now_events(database, 2, 3), writer)
    kit.shift_clock(monkeypatch, 2 * HOUR)
    report = ingest_postgres(root, "events", "DSN")
    assert report.sealed_through is None
    assert "transaction" in report.unsealed
    assert {state for state, _ in kit.states(root).values()} == {"provisional"}
    writer.commit()
    writer.close()
    report = ingest_postgres(root, "events", "DSN")
    assert report.unsealed is None
    assert [s for s in kit.states(root).values() if s[1]] == [("sealed", 5)]
    assert len({row["event_id"] for row in kit.landed(root)}) == len(kit.landed(root)) == 5


def test_a_role_that_cannot_see_who_writes_seals_nothing(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.execute(f"revoke pg_read_all_stats from {READER}")
    try:
        database.insert("events", kit.stamped(rows_kit.events(5, hours=1), seconds=0))
        kit.set_clock(monkeypatch, START + 3 * HOUR)
        report = ingest_postgres(root, "events", "DSN")  # the administrator's session is there, idle
        assert report.exit_code == 0
        assert "pg_read_all_stats" in report.unsealed
        assert {state for state, _ in kit.states(root).values()} == {"provisional"}
    finally:
        database.execute(f"grant pg_read_all_stats to {READER}")


def test_a_session_that_hides_and_a_prepared_transaction_are_noticed(database: Database):
    with connect(read_source("DSN")) as connection:
        assert read_fence(connection).reason is None
        other = database.session()
        other.execute("set track_activities = off")
        other.commit()
        assert "hidden" in read_fence(connection).reason
        other.execute("set track_activities = on")
        other.commit()
        other.close()
        database.execute("begin; select txid_current(); prepare transaction 'waiting'")
        assert "prepared" in read_fence(connection).reason
        database.execute("rollback prepared 'waiting'")
        assert read_fence(connection).reason is None


def test_a_session_is_read_only_and_does_not_wait(database: Database):
    with connect(read_source("DSN")) as connection:
        found = {
            name: connection.execute(f"show {name}").fetchone()[0]
            for name in ("statement_timeout", "lock_timeout", "default_transaction_read_only", "row_security")
        }
    assert found == {
        "statement_timeout": "5s",
        "lock_timeout": "1s",
        "default_transaction_read_only": "on",
        "row_security": "off",
    }


def test_rows_committed_between_the_snapshot_and_the_recount_keep_their_window_open(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.insert("events", kit.stamped(rows_kit.events(50, hours=4), seconds=0))
    kit.set_clock(monkeypatch, START + 6 * HOUR)
    late = kit.stamped([rows_kit.event(999, START + 1.5 * HOUR)], seconds=0)
    true_count = Reader.count_hours

    def count_hours(self, start, end):
        if late:
            database.insert("events", [late.pop()])
        return true_count(self, start, end)

    monkeypatch.setattr(Reader, "count_hours", count_hours)
    report = ingest_postgres(root, "events", "DSN")
    assert report.sealed_through == START + HOUR
    assert "recount" in report.unsealed
    assert "2024-12-01T01:00Z" in report.unsealed
    assert ingest_postgres(root, "events", "DSN").sealed_through == START + 5 * HOUR
    assert len(kit.landed(root)) == 51


def test_rows_of_a_sealed_window_become_a_supplement_of_what_is_new(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.insert("events", kit.stamped(rows_kit.events(50, hours=4), seconds=0))
    kit.set_clock(monkeypatch, START + 6 * HOUR)
    ingest_postgres(root, "events", "DSN")
    again = ingest_postgres(root, "events", "DSN", start=START, end=START + 4 * HOUR)
    assert (again.exit_code, again.load.windows, again.load.unchanged) == (0, 0, 4)
    late = kit.stamped([rows_kit.event(900 + n, START + 2.1 * HOUR) for n in range(3)], seconds=0)
    database.insert("events", late)
    report = ingest_postgres(root, "events", "DSN", start=START, end=START + 4 * HOUR)
    assert (report.load.late_rows, report.exit_code) == (3, 0)
    assert kit.states(root)["2024-12-01 02-s01"] == ("sealed", 3)
    assert ingest_postgres(root, "events", "DSN", start=START, end=START + 4 * HOUR).load.late_rows == 0
    assert len({row["event_id"] for row in kit.landed(root)}) == len(kit.landed(root)) == 53


def test_a_sealed_window_that_lost_rows_in_the_source_is_a_conflict(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.insert("events", kit.stamped(rows_kit.events(50, hours=4), seconds=0))
    kit.set_clock(monkeypatch, START + 6 * HOUR)
    ingest_postgres(root, "events", "DSN")
    before = kit.states(root)
    database.execute("delete from stop_events where ingested_at < %s", [START + HOUR / 2])
    report = ingest_postgres(root, "events", "DSN", start=START, end=START + 4 * HOUR)
    assert report.exit_code == 3
    assert kit.states(root) == before


def test_a_table_without_a_stamp_is_read_again_for_24_hours_and_sealed_after_them(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [rows_kit.order(n, START + n * HOUR) for n in range(30)]
    database.insert("orders", rows)
    now = START + 30 * HOUR
    kit.set_clock(monkeypatch, now + timedelta(minutes=5))
    report = ingest_postgres(root, "orders", "DSN")
    assert report.sealed_through == START + 6 * HOUR
    database.insert("orders", [rows_kit.order(100, START + 6.5 * HOUR)])
    database.execute("update audit_transactions set status = 'CANCELLED' where id = 20")
    report = ingest_postgres(root, "orders", "DSN")
    assert (report.start, report.load.late_rows) == (START + 6 * HOUR, 0)
    landed = kit.landed(root, "orders")
    assert sorted(row["id"] for row in landed) == [*range(30), 100]
    assert [row["status"] for row in landed if row["id"] == 20] == ["CANCELLED"]
    kit.set_clock(monkeypatch, now + timedelta(days=2))
    ingest_postgres(root, "orders", "DSN")
    assert {s for s, _ in list(kit.states(root, "orders").values())[: 30 + 24]} == {"sealed"}


def test_every_version_of_an_operation_that_was_seen_stays(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.insert("operations", [rows_kit.operation(n, START + n * HOUR) for n in range(30)])
    kit.set_clock(monkeypatch, START + 30 * HOUR)
    ingest_postgres(root, "operations", "DSN")
    for number in (2, 20):  # one in a sealed window, one in an open one
        database.execute(
            "update operations set status = 'CLOSED', updated_at = %s where operation_id = %s",
            [START + 29.5 * HOUR, number],
        )
    report = ingest_postgres(root, "operations", "DSN", start=START)
    assert report.exit_code == 0
    landed = kit.landed(root, "operations")
    assert len(landed) == 32
    assert sorted(r["status"] for r in landed if r["operation_id"] in (2, 20)) == [
        "ACTIVE",
        "ACTIVE",
        "CLOSED",
        "CLOSED",
    ]
    assert ingest_postgres(root, "operations", "DSN", start=START).load.windows == 0


def test_an_empty_table_leaves_a_marker_and_its_first_row_is_found_later(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    kit.set_clock(monkeypatch, START + timedelta(minutes=30))
    assert ingest_postgres(root, "events", "DSN").exit_code == 0
    assert kit.states(root) == {"2024-12-01 00": ("provisional", 0)}
    database.insert("events", kit.stamped([rows_kit.event(1, START + 1.2 * HOUR)], seconds=0))
    kit.set_clock(monkeypatch, START + 3.5 * HOUR)
    ingest_postgres(root, "events", "DSN")
    assert list(kit.states(root).values()) == [
        ("sealed", 0),
        ("sealed", 1),
        ("sealed", 0),
        ("provisional", 0),
    ]


def test_a_hole_that_bounds_left_is_read_by_the_next_call_without_bounds(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.insert("events", kit.stamped(rows_kit.events(60, hours=6), seconds=0))
    kit.set_clock(monkeypatch, START + 6.5 * HOUR)
    ingest_postgres(root, "events", "DSN", start=START, end=START + HOUR)
    ingest_postgres(root, "events", "DSN", start=START + 4 * HOUR)
    report = ingest_postgres(root, "events", "DSN")
    assert report.start == START + HOUR
    assert len(kit.landed(root)) == 60
    assert [s for s, _ in kit.states(root).values()] == ["sealed"] * 6 + ["provisional"]


def test_rows_whose_time_is_no_instant_are_kept_aside_and_told_in_every_call(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    good = kit.stamped(rows_kit.events(20, hours=2), seconds=0)
    odd = [
        rows_kit.event(900 + n, START, ingested_at=at)
        for n, at in enumerate(("infinity", "-infinity", "1970-01-01Z"))
    ]
    future = kit.stamped([rows_kit.event(950, START + 40 * HOUR)], seconds=0)
    database.insert("events", [*good, *odd, *future])
    kit.set_clock(monkeypatch, START + 3 * HOUR)
    for _ in range(2):
        report = ingest_postgres(root, "events", "DSN")
        assert (report.timeless, report.future_rows, report.exit_code) == (3, 1, 2)
        assert len(kit.landed(root)) == 20
        [file] = (root / "lake" / "bronze" / "_rejects").rglob("*.parquet")
        assert "date=1970-01-01" in str(file)
    kit.set_clock(monkeypatch, START + 41 * HOUR)
    assert ingest_postgres(root, "events", "DSN").future_rows == 0
    assert len(kit.landed(root)) == 21


def test_a_window_that_ended_a_moment_ago_stays_open(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    """A transaction shows among the active ones a moment after its clock has started."""
    database.insert("events", kit.stamped(rows_kit.events(20, hours=2), seconds=0))
    kit.set_clock(monkeypatch, START + 2 * HOUR + postgres_load.SETTLE / 2)
    assert ingest_postgres(root, "events", "DSN").sealed_through == START + HOUR
