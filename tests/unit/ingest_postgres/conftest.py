"""One server for the session; a database of its own for each test."""

import itertools
from collections.abc import Iterator

import pytest

from tests.fixtures.postgres import PostgresServer, binaries, postgres_server
from tests.unit.ingest_postgres.kit import Database

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    if binaries() is None:
        pytest.skip(reason="PostgreSQL is not installed; Debian's package postgresql brings the server")
    with postgres_server() as running:
        yield running


@pytest.fixture
def database(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The four tables, empty, and the variable DSN that names them; the role reads and sees who writes."""
    name = f"lake_{next(_numbers)}"
    with server.admin("postgres") as connection:
        connection.execute(f"create database {name}")
    made = Database(server, name)
    made.create_tables()
    monkeypatch.setenv("DSN", made.dsn)
    # Retries wait as long as they need, but not in a test.
    monkeypatch.setattr("ingest.postgres.load.FIRST_WAIT_S", 0.01)
    yield made
    made.close()
