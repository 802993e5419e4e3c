"""The four source tables of a trading system, their rows, and clocks that run as a test wants."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import psycopg
import pytest

from ingest.postgres import load as postgres_load
from ingest.postgres import reader
from lake.windows import dataset_dir, read_markers, visible_parts
from tests.fixtures.postgres import READER, PostgresServer

TABLES = """
    create table stop_events (
        event_id uuid primary key, event_seq bigint, stream_seq bigint, occurred_at timestamptz not null,
        exchange_time timestamptz, operation_id bigint not null, client_id bigint not null,
        symbol varchar(20) not null, event_type varchar(50) not null, trigger_price numeric, stop_price numeric,
        quantity numeric, side varchar(10), execution_token varchar(64), payload_json jsonb not null default '{}',
        exchange_order_id varchar(100), fill_price numeric, slippage_pct numeric, source varchar(20) not null,
        retry_count integer not null default 0, error_message text, request_payload_hash varchar(64),
        ingested_at timestamptz not null default now()
    );
    create table audit_transactions (
        id bigserial primary key, transaction_id varchar(64) not null unique, binance_order_id varchar(64),
        client_id bigint not null, transaction_type varchar(50) not null, status varchar(20) not null,
        symbol varchar(20) not null, asset varchar(10) not null, quantity numeric not null, price numeric,
        total_value numeric, stop_price numeric, risk_amount numeric, fee numeric not null default 0,
        fee_asset varchar(10), side varchar(10), leverage smallint, is_isolated_margin boolean not null,
        account_type varchar(20) not null, category varchar(20) not null, related_operation_id bigint,
        related_position_id bigint, related_order_id bigint, risk_percent numeric, description text not null,
        source varchar(50) not null, raw_response jsonb, created_at timestamptz not null, executed_at timestamptz
    );
    create table operations (
        operation_id bigint primary key, client_id bigint not null, strategy_id bigint, symbol varchar(20) not null,
        side varchar(10) not null, account_type varchar(20) not null, status varchar(20) not null,
        planned_quantity numeric, stop_price numeric, target_price numeric, leverage integer,
        created_at timestamptz not null, updated_at timestamptz not null
    );
    create table balance_snapshots (
        client_id bigint not null, snapshot_time timestamptz not null, spot_usdc numeric, spot_btc numeric,
        margin_btc_free numeric, margin_btc_borrowed numeric, margin_usdc_free numeric, margin_usdc_borrowed numeric,
        btc_price numeric, total_equity numeric, margin_level numeric, total_equity_btc numeric,
        spot_btc_value numeric, margin_btc_value numeric, balances jsonb, created_at timestamptz not null,
        primary key (client_id, snapshot_time)
    );
    create index on stop_events (ingested_at, event_id);
"""
NAMES = {
    "events": "stop_events",
    "orders": "audit_transactions",
    "operations": "operations",
    "balance_snapshots": "balance_snapshots",
}


class Database:
    """One database of the server, its rows put there by an administrator."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server, self.name = server, name
        self.dsn = server.dsn(name)
        self.connection = server.admin(name)

    def create_tables(self) -> None:
        # What a test that failed left open would hold its locks.
        others = "datname = current_database() and pid <> pg_backend_pid()"
        self.execute(f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where {others}")
        self.execute("drop schema if exists public, bot cascade; create schema public")
        self.execute(f"grant usage on schema public to {READER}")
        self.execute(TABLES)
        self.execute(
            f"grant select on {', '.join(NAMES.values())} to {READER}; grant pg_read_all_stats to {READER}"
        )

    def execute(self, statement: str, params: Sequence | None = None) -> psycopg.Cursor:
        return self.connection.execute(statement, params)

    def session(self) -> psycopg.Connection:
        """A writer of its own, outside of a transaction block until it begins one."""
        return self.server.admin(self.name, autocommit=False)

    def insert(
        self,
        dataset: str,
        rows: Iterable[dict],
        connection: psycopg.Connection | None = None,
        table: str | None = None,
    ) -> None:
        """Rows as NDJSON has them; columns that all of them lack take their default."""
        rows, table = list(rows), table or NAMES[dataset]
        columns = ", ".join(dict.fromkeys(name for row in rows for name in row))
        (connection or self.connection).execute(
            f"insert into {table} ({columns}) select {columns} "
            f"from jsonb_populate_recordset(null::{table}, %s::jsonb)",
            [json.dumps(rows)],
        )

    def close(self) -> None:
        self.connection.close()


def stamped(rows: Iterable[dict], **after: float) -> list[dict]:
    """Rows that the source stored a while after they happened: ``seconds=2`` or what timedelta takes."""
    return [
        {**row, "ingested_at": (datetime.fromisoformat(row["occurred_at"]) + timedelta(**after)).isoformat()}
        for row in rows
    ]


def set_clock(monkeypatch: pytest.MonkeyPatch, now: datetime, quiet_before: datetime | None = None) -> None:
    """The server's clock stands at ``now``; whoever writes began before ``quiet_before``."""
    true_fence = reader.read_fence

    def read_fence(connection: psycopg.Connection) -> reader.Fence:
        fence = true_fence(connection)
        quiet = None if fence.quiet_before is None else quiet_before or now
        return reader.Fence(now, quiet, fence.reason)

    monkeypatch.setattr(postgres_load.source_reader, "read_fence", read_fence)


def landed(root: Path, dataset: str = "events") -> list[dict]:
    """Every row of bronze that a reader sees, with its partition keys from the path."""
    rows: list[dict] = []
    for part in visible_parts(root, dataset):
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            found = connection.execute(
                f"select * from read_parquet('{part.path}', hive_partitioning = false)"
            )
            rows += [{**row, **part.part.key} for row in found.to_arrow_table().to_pylist()]
    return rows


def hashes(root: Path, dataset: str) -> list[tuple]:
    """What two lakes with the same rows have in common, whoever landed them."""
    return [
        (m.window_start, m.rows, m.min_occurred_at, m.max_occurred_at, m.content_hash)
        for m in read_markers(root, dataset)
        if m.rows
    ]


def states(root: Path, dataset: str = "events") -> dict[str, tuple]:
    """(state, rows) by file of the marker: date and name."""
    return {
        f"{m.window_start[:10]} {m.file_name[7:-5]}": (m.state, m.rows) for m in read_markers(root, dataset)
    }


def marker_files(root: Path, dataset: str = "events") -> list[Path]:
    return sorted(dataset_dir(root, dataset).rglob("commit-*.json"))


def shift_clock(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """The server's clock is ahead by ``by``; the transactions that are open keep the time at which they began."""
    true_fence = reader.read_fence

    def read_fence(connection: psycopg.Connection) -> reader.Fence:
        fence = true_fence(connection)
        now = fence.now + by
        quiet = now if fence.quiet_before == fence.now else fence.quiet_before
        return reader.Fence(now, quiet, fence.reason)

    monkeypatch.setattr(postgres_load.source_reader, "read_fence", read_fence)
