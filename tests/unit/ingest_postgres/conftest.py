"""One server for the session; its database is made anew for each test."""

from collections.abc import Iterator

import pytest

from tests.fixtures.postgres import PostgresServer, binaries, postgres_server
from tests.unit.ingest_postgres.kit import Database

DATABASE = "lake"


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    if binaries() is None:
        pytest.skip(reason="PostgreSQL is not installed; Debian's package postgresql brings the server")
    with postgres_server() as running:
        with running.admin("postgres") as connection:
            connection.execute(f"create database {DATABASE}")
        yield running


@pytest.fixture
def database(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The four tables, empty, and the variable DSN that names them; the role reads and sees who writes."""
    made = Database(server, DATABASE)
    made.create_tables()
    monkeypatch.setenv("DSN", made.dsn)
    # Retries wait as long as they need, but not in a test.
    monkeypatch.setattr("ingest.postgres.load.FIRST_WAIT_S", 0.01)
    yield made
    made.close()
