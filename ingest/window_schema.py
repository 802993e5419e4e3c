"""The seven datasets of execution bronze: their columns, keys and times. One constant each.

Business columns only, in the order of the contract: row hash and content hash cover exactly these. The lineage
columns are added when rows are written. Source: spec/execution.md 2.1, 3.1 to 3.6.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pyarrow as pa

MONEY = pa.decimal128(20, 8)
PERCENT = pa.decimal128(10, 4)
TIME = pa.timestamp("us", tz="UTC")
# A UUID is stored as its canonical lower-case text: DuckDB and Arrow read the same 36 characters, the digest knows
# the type, and text order is UUID order. The view casts it to UUID.
UUID_METADATA = {b"type": b"UUID"}
# An object of JSON is stored as canonical text: keys in byte order, no spaces.
JSON_METADATA = {b"type": b"JSON"}

LINEAGE = pa.schema(
    [
        pa.field("ingested_at", TIME, nullable=False),
        pa.field("loaded_at", TIME, nullable=False),
        pa.field("ingest_batch_id", pa.string(), nullable=False),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("row_hash", pa.string(), nullable=False),
        pa.field("schema_version", pa.int32(), nullable=False),
        pa.field("environment", pa.string(), nullable=False),
        pa.field("_extra", pa.string(), metadata=JSON_METADATA),
    ]
)


@dataclass(frozen=True)
class WindowSchema:
    """One dataset whose commits are hour windows.

    ``keys`` are the partition keys beside the date, in path order: business columns that stand in the path and not
    in the file. A row belongs to the UTC hour of ``window_column``; where that is the lineage column
    ``ingested_at`` and a row has none, of ``row_time``. ``row_time`` is also what a marker gives the range of.
    ``versioned``: the source overwrites a row by its next version, which has a key of its own; what it no longer holds
    was not lost.
    """

    name: str
    keys: tuple[str, ...]
    window_column: str
    row_time: str
    primary_key: tuple[str, ...]
    columns: pa.Schema
    version: int = 1
    versioned: bool = False

    @functools.cached_property
    def by_ingested_at(self) -> bool:
        return self.window_column == "ingested_at"

    @functools.cached_property
    def file_columns(self) -> pa.Schema:
        """What a part holds: business columns without the partition keys, then lineage."""
        return pa.schema([*(f for f in self.columns if f.name not in self.keys), *LINEAGE])

    @functools.cached_property
    def required(self) -> tuple[str, ...]:
        """Business columns that are never null."""
        return tuple(f.name for f in self.columns if not f.nullable)

    def is_uuid(self, name: str) -> bool:
        return self._type_name(name) == b"UUID"

    def is_json(self, name: str) -> bool:
        return self._type_name(name) == b"JSON"

    def _type_name(self, name: str) -> bytes | None:
        return (self.columns.field(name).metadata or {}).get(b"type")


def _col(name: str, kind: pa.DataType, metadata: dict[bytes, bytes] | None = None) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata=metadata)


def _opt(name: str, kind: pa.DataType, metadata: dict[bytes, bytes] | None = None) -> pa.Field:
    return pa.field(name, kind, nullable=True, metadata=metadata)


EVENTS = WindowSchema(
    name="events",
    keys=(),
    window_column="ingested_at",
    row_time="occurred_at",
    primary_key=("event_id",),
    columns=pa.schema(
        [
            _col("event_id", pa.string(), UUID_METADATA),
            _opt("event_seq", pa.int64()),
            _opt("stream_seq", pa.int64()),
            _col("occurred_at", TIME),
            _opt("exchange_time", TIME),
            _col("operation_id", pa.int64()),
            _col("client_id", pa.int64()),
            _col("symbol", pa.string()),
            _col("event_type", pa.string()),
            _opt("trigger_type", pa.string()),
            _opt("trigger_price", MONEY),
            _opt("stop_price", MONEY),
            _opt("quantity", MONEY),
            _opt("side", pa.string()),
            _opt("execution_token", pa.string()),
            _col("payload_json", pa.string(), JSON_METADATA),
            _opt("exchange_order_id", pa.string()),
            _opt("fill_price", MONEY),
            _opt("slippage_pct", PERCENT),
            _col("source", pa.string()),
            _col("retry_count", pa.int32()),
            _opt("error_message", pa.string()),
        ]
    ),
)

ORDERS = WindowSchema(
    name="orders",
    keys=("client_id",),
    window_column="ingested_at",
    row_time="created_at",
    primary_key=("transaction_id",),
    columns=pa.schema(
        [
            _col("id", pa.int64()),
            _col("transaction_id", pa.string()),
            _opt("binance_order_id", pa.string()),
            _col("client_id", pa.int64()),
            _col("transaction_type", pa.string()),
            _col("status", pa.string()),
            _col("symbol", pa.string()),
            _col("asset", pa.string()),
            _col("quantity", MONEY),
            _opt("price", MONEY),
            _opt("total_value", MONEY),
            _opt("stop_price", MONEY),
            _opt("risk_amount", MONEY),
            _col("fee", MONEY),
            _opt("fee_asset", pa.string()),
            _opt("side", pa.string()),
            _opt("leverage", pa.int16()),
            _col("is_isolated_margin", pa.bool_()),
            _col("account_type", pa.string()),
            _col("category", pa.string()),
            _opt("related_operation_id", pa.int64()),
            _opt("related_position_id", pa.int64()),
            _opt("related_order_id", pa.int64()),
            _opt("risk_percent", pa.decimal128(5, 2)),
            _col("description", pa.string()),
            _col("source", pa.string()),
            _opt("raw_response", pa.string(), JSON_METADATA),
            _col("created_at", TIME),
            _opt("executed_at", TIME),
            _opt("exchange_time", TIME),
        ]
    ),
)

OPERATIONS = WindowSchema(
    name="operations",
    keys=("client_id",),
    window_column="ingested_at",
    row_time="updated_at",
    primary_key=("client_id", "operation_id", "updated_at"),
    versioned=True,
    columns=pa.schema(
        [
            _col("operation_id", pa.int64()),
            _col("client_id", pa.int64()),
            _col("strategy_id", pa.int64()),
            _col("symbol", pa.string()),
            _col("side", pa.string()),
            _col("account_type", pa.string()),
            _col("status", pa.string()),
            _opt("planned_quantity", MONEY),
            _opt("stop_price", MONEY),
            _opt("target_price", MONEY),
            _opt("leverage", pa.int16()),
            _col("created_at", TIME),
            _col("updated_at", TIME),
        ]
    ),
)

BALANCE_SNAPSHOTS = WindowSchema(
    name="balance_snapshots",
    keys=("client_id",),
    window_column="ingested_at",
    row_time="created_at",
    primary_key=("client_id", "snapshot_time"),
    columns=pa.schema(
        [
            _col("client_id", pa.int64()),
            _col("snapshot_time", TIME),
            _opt("spot_usdc", MONEY),
            _opt("spot_btc", MONEY),
            _opt("margin_btc_free", MONEY),
            _opt("margin_btc_borrowed", MONEY),
            _opt("margin_usdc_free", MONEY),
            _opt("margin_usdc_borrowed", MONEY),
            _opt("btc_price", MONEY),
            _opt("total_equity", MONEY),
            _opt("margin_level", PERCENT),
            _opt("total_equity_btc", MONEY),
            _opt("spot_btc_value", MONEY),
            _opt("margin_btc_value", MONEY),
            _opt("balances", pa.string(), JSON_METADATA),
            _col("created_at", TIME),
        ]
    ),
)

TRADES = WindowSchema(
    name="trades",
    keys=(),
    window_column="exchange_time",
    row_time="exchange_time",
    primary_key=("client_id", "account_type", "symbol", "trade_id"),
    columns=pa.schema(
        [
            _col("client_id", pa.int64()),
            _col("account_type", pa.string()),
            _col("symbol", pa.string()),
            _col("trade_id", pa.int64()),
            _col("order_id", pa.string()),
            _opt("order_list_id", pa.int64()),
            _col("price", MONEY),
            _col("quantity", MONEY),
            _col("quote_quantity", MONEY),
            _col("commission", MONEY),
            _col("commission_asset", pa.string()),
            _col("exchange_time", TIME),
            _col("side", pa.string()),
            _opt("is_maker", pa.bool_()),
            _opt("is_best_match", pa.bool_()),
            _opt("is_isolated", pa.bool_()),
        ]
    ),
)

AGG_TRADES = WindowSchema(
    name="agg_trades",
    keys=("symbol",),
    window_column="exchange_time",
    row_time="exchange_time",
    primary_key=("symbol", "agg_id"),
    columns=pa.schema(
        [
            _col("symbol", pa.string()),
            _col("agg_id", pa.int64()),
            _col("price", MONEY),
            _col("quantity", MONEY),
            _col("first_trade_id", pa.int64()),
            _col("last_trade_id", pa.int64()),
            _col("exchange_time", TIME),
            _col("is_buyer_maker", pa.bool_()),
            _opt("is_best_match", pa.bool_()),
            _col("market", pa.string()),
            _opt("received_at", TIME),
        ]
    ),
)

KLINES = WindowSchema(
    name="klines",
    keys=("bar_interval", "symbol"),
    window_column="open_time",
    row_time="open_time",
    primary_key=("symbol", "bar_interval", "open_time"),
    columns=pa.schema(
        [
            _col("symbol", pa.string()),
            _col("bar_interval", pa.string()),
            _col("open_time", TIME),
            _col("close_time", TIME),
            _col("open", MONEY),
            _col("high", MONEY),
            _col("low", MONEY),
            _col("close", MONEY),
            _col("volume", MONEY),
            _col("quote_volume", MONEY),
            _col("trade_count", pa.int64()),
            _col("taker_buy_base", MONEY),
            _col("taker_buy_quote", MONEY),
            _col("market", pa.string()),
        ]
    ),
)

WINDOW_SCHEMAS = {
    schema.name: schema
    for schema in (EVENTS, ORDERS, OPERATIONS, BALANCE_SNAPSHOTS, TRADES, AGG_TRADES, KLINES)
}
