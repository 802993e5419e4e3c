"""The dump is the same data as the NDJSON: out of a server it lands with the same content hashes."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.ndjson import ingest_ndjson
from ingest.postgres.load import ingest_postgres
from tests.fixtures.postgres import ADMIN, ADMIN_PASSWORD, READER, binaries
from tests.unit.ingest_postgres import kit as postgres_kit
from tests.unit.ingest_postgres.kit import NAMES, Database
from tests.unit.simulator_execution import kit

START = datetime(2024, 12, 1, tzinfo=UTC)
# What a table cannot hold twice, or at all, and what comes in another file.
ONLY_IN_FILES = ("duplicate-delivery", "unknown-event-type", "malformed-line", "late-commit")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dump")
    faults = ["shuffled-delivery", "null-event-seq", "secrets", "partial-fills", "executed-without-fill"]
    kit.simulate(out, days=2, ops_per_day=15, faults=faults)
    return out


def load(database: Database, folder: Path) -> None:
    """Read the dump as a user would, with psql."""
    database.execute("drop schema public cascade; create schema public")
    for file in sorted(folder.glob("*.sql")):
        command = [
            str(binaries() / "psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1", "--single-transaction",
            "-d", database.server.dsn(database.name, ADMIN, ADMIN_PASSWORD), "-f", str(file),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-500:]
    database.execute(f"grant usage on schema public to {READER}")
    database.execute(
        f"grant select on {', '.join(NAMES.values())} to {READER}; grant pg_read_all_stats to {READER}"
    )


def test_the_dump_and_the_lines_have_the_same_content(
    out: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load(database, out / "postgres")
    postgres_kit.set_clock(monkeypatch, START + timedelta(days=3))
    for dataset in NAMES:
        files, table = tmp_path / "files", tmp_path / "table"
        report = ingest_postgres(table, dataset, "DSN", start=START, end=START + timedelta(days=2, hours=1))
        assert report.exit_code == 0
        assert ingest_ndjson(files, dataset, str(out / "events" / dataset / "*.ndjson")).exit_code == 0
        landed = postgres_kit.hashes(files, dataset)
        assert postgres_kit.hashes(table, dataset) == landed
        assert sum(rows for _, rows, *_ in landed) == len(kit.rows(out, dataset)) > 90


def test_a_dump_holds_each_event_once_and_nothing_that_is_none(database: Database, tmp_path: Path):
    kit.simulate(tmp_path, days=3, ops_per_day=15, faults=ONLY_IN_FILES)
    load(database, tmp_path / "postgres")
    (in_table,) = database.execute("select array_agg(event_id::text) from stop_events").fetchone()
    lines = {
        row["event_id"] for row in kit.rows(tmp_path, "events") if row["event_type"] != "STOP_TELEPORTED"
    }
    late = {row["event_id"] for row in kit.rows(tmp_path, "late")}
    assert len(in_table) == len(set(in_table))
    assert set(in_table) == lines | late
    assert late - lines
