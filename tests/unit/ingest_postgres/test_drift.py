"""Tables that are other than expected: refused with the difference, or read with a warning."""

import logging
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from ingest.errors import RefusedFile, SourceUnreachable
from ingest.postgres.connection import connect, read_source
from ingest.postgres.load import ingest_postgres
from ingest.postgres.tables import is_credential
from tests.unit.ingest_postgres import kit
from tests.unit.ingest_postgres.kit import Database
from tests.unit.ingest_windows import kit as rows_kit
from tests.unit.ingest_windows.kit import START

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("drop column symbol, add instrument text", "without symbol and with the unknown instrument"),
        ("alter stop_price type double precision", "stop_price of type double precision .expected numeric"),
        ("alter quantity type text", "quantity of type text .expected numeric"),
        ("alter occurred_at type timestamp", "occurred_at of type timestamp without time zone"),
        ("alter ingested_at drop default, alter ingested_at type date", "ingested_at of type date"),
        ("alter payload_json drop default, alter payload_json type text", "payload_json of type text"),
        ("alter operation_id type text", "operation_id of type text .expected bigint or integer"),
        ("drop column error_message", "without error_message"),
    ],
)
def test_a_missing_or_retyped_column_is_refused(change: str, told: str, database: Database, root: Path):
    database.execute(f"alter table stop_events {change}")
    with pytest.raises(RefusedFile, match=told):
        ingest_postgres(root, "events", "DSN")
    assert not kit.marker_files(root)


def test_columns_that_a_newer_producer_gives_may_be_there_or_not(database: Database, root: Path):
    database.execute(
        "alter table stop_events drop column event_seq, drop column stream_seq, add trigger_type text"
    )
    rows = [{**row, "trigger_type": None} for row in rows_kit.events(10, hours=1)]
    for row in rows:
        del row["event_seq"]
    database.insert("events", kit.stamped(rows, seconds=0))
    ingest_postgres(root, "events", "DSN")
    assert [(row["event_seq"], row["trigger_type"]) for row in kit.landed(root)] == [(None, "STOP_LOSS")] * 10


def test_types_with_the_same_values_are_read(database: Database, root: Path):
    """An enumeration, a domain, json instead of jsonb, a smaller integer."""
    database.execute(
        "create type kinds as enum ('STOP_TRIGGERED', 'EXECUTION_SUBMITTED', 'EXECUTED', 'FAILED', 'KILL_SWITCH');"
        "create domain price as numeric check (value > 0);"
        "alter table stop_events alter event_type type kinds using event_type::kinds, alter stop_price type price, "
        "alter payload_json drop default, alter payload_json type json, alter client_id type integer"
    )
    rows = kit.stamped(rows_kit.events(40, hours=2), seconds=0)
    database.insert("events", rows)
    assert ingest_postgres(root, "events", "DSN").exit_code == 0
    assert {row["event_id"] for row in kit.landed(root)} == {row["event_id"] for row in rows}


def test_an_unknown_column_goes_to_extra_with_a_warning(
    database: Database, root: Path, caplog: pytest.LogCaptureFixture
):
    database.execute(
        "alter table stop_events add note text, add secret_note text, add weight numeric, add tags jsonb"
    )
    rows = kit.stamped(rows_kit.events(3, hours=1), seconds=0)
    more = [
        {"note": "é"},
        {"weight": 12345678901234567890.0, "secret_note": "never"},
        {"tags": {"b": 1, "a": [None]}},
    ]
    database.insert("events", [{**row, **extra} for row, extra in zip(rows, more, strict=True)])
    with caplog.at_level(logging.WARNING):
        report = ingest_postgres(root, "events", "DSN")
    assert report.unknown_columns == {"note": 1, "weight": 1, "tags": 1}
    assert "unknown columns go to _extra: note, weight, tags" in caplog.text
    assert "never read: secret_note" in caplog.text
    found = sorted((row["event_id"], row["_extra"]) for row in kit.landed(root))
    texts = ['{"note":"é"}', '{"weight":12345678901234567000}', '{"tags":{"a":[null],"b":1}}']
    assert [e for _, e in found] == [
        e for _, e in sorted(zip([r["event_id"] for r in rows], texts, strict=True))
    ]


def test_names_of_credentials():
    for name in (
        "api_key",
        "secretKey",
        "user_password",
        "pwd_hash",
        "access_token",
        "DSN",
        "private_pem",
        "auth_header",
    ):
        assert is_credential(name), name
    for name in ("note", "stop_price", "operation_id", "venue", "created_at"):
        assert not is_credential(name), name


def test_rows_of_the_other_environment_are_refused(database: Database, root: Path):
    database.execute("alter table stop_events add environment text")
    rows = kit.stamped(rows_kit.events(10, hours=1), seconds=0)
    database.insert("events", [{**row, "environment": "prod"} for row in rows])
    assert ingest_postgres(root, "events", "DSN").exit_code == 0
    database.execute(
        "update stop_events set environment = 'testnet' where event_seq = (select max(event_seq) from stop_events)"
    )
    with pytest.raises(RefusedFile, match="environment 'testnet', expected prod"):
        ingest_postgres(root, "events", "DSN", start=START)


def test_a_schema_of_its_own_is_named_by_the_search_path(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.execute(
        "create schema bot; grant usage on schema bot to tickhouse_reader; alter table operations set schema bot"
    )
    with pytest.raises(SourceUnreachable, match="search path"):
        ingest_postgres(root, "operations", "DSN")
    monkeypatch.setenv("DSN", database.dsn + " options='-c search_path=bot'")
    assert ingest_postgres(root, "operations", "DSN").exit_code == 0


def test_an_absent_table_is_told_and_leaves_no_marker(database: Database, root: Path):
    database.execute("drop table operations")
    with pytest.raises(SourceUnreachable, match="no table operations"):
        ingest_postgres(root, "operations", "DSN")
    assert not kit.marker_files(root, "operations")


def test_a_partitioned_table_and_a_view_are_read_whole(
    database: Database, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.postgres.reader.FIRST_PAGE_ROWS", 9)
    kit.set_clock(monkeypatch, START + 40 * HOUR)
    rows = kit.stamped(rows_kit.events(200, hours=30), seconds=0)
    database.insert("events", rows)
    ingest_postgres(root, "events", "DSN")
    database.execute(
        "alter table stop_events rename to whole;"
        "create table stop_events (like whole including defaults) partition by range (ingested_at);"
        "create table early partition of stop_events for values from ('2024-01-01') to ('2024-12-01 07:00Z');"
        "create table late partition of stop_events for values from ('2024-12-01 07:00Z') to ('2025-01-01');"
        "insert into stop_events select * from whole; grant select on stop_events to tickhouse_reader"
    )
    parts = tmp_path / "parts"
    assert ingest_postgres(parts, "events", "DSN").unsealed is None
    assert kit.hashes(parts, "events") == kit.hashes(root, "events")
    database.execute(
        "alter table stop_events rename to parts; create view stop_events as select * from whole;"
        "grant select on stop_events to tickhouse_reader"
    )
    view = tmp_path / "view"
    # A view doesn't say that its stamp is never missing: it is read as a table without one.
    assert ingest_postgres(view, "events", "DSN").sealed_through == START + 16 * HOUR
    assert kit.hashes(view, "events") == kit.hashes(root, "events")


def test_a_stamp_that_may_be_missing_is_read_by_the_row_time_where_it_is(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    database.execute("alter table stop_events alter ingested_at drop not null")
    rows = kit.stamped(rows_kit.events(60, hours=30), hours=1)
    for row in rows[::3]:
        row["ingested_at"] = None
    database.insert("events", rows)
    kit.set_clock(monkeypatch, START + 40 * HOUR)
    assert ingest_postgres(root, "events", "DSN").sealed_through == START + 16 * HOUR
    assert len(kit.landed(root)) == 60


def test_a_writer_cannot_be_the_reader(database: Database):
    """The session itself is read-only, whatever the role may do."""
    database.execute("grant insert, delete on stop_events to tickhouse_reader")
    with connect(read_source("DSN")) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("delete from stop_events")
