"""The server of the PostgreSQL loader's tests, for the dump."""

from tests.unit.ingest_postgres.conftest import database, server

__all__ = ["database", "server"]
