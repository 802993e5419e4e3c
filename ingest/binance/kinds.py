"""What a row of each kind looks like: columns, types, and which name each vendor form gives them.

Source: spec/execution.md 3.4, 3.6, 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

DECIMAL = pa.decimal128(20, 8)
TIME = pa.timestamp("us", "UTC")

# How the text of a column is read: an integer, an exact decimal, an epoch in ms or µs, a boolean, plain text.
INT, DEC, EPOCH, BOOL, TEXT = "integer", "decimal", "epoch", "boolean", "text"
_ARROW = {INT: pa.int64(), DEC: DECIMAL, EPOCH: TIME, BOOL: pa.bool_(), TEXT: pa.string()}

MARKETS = ("spot", "usdm")
ACCOUNT_TYPES = ("SPOT", "ISOLATED_MARGIN", "CROSS_MARGIN", "FUTURES")
FIXED_INTERVALS_S = {
    "1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "4h": 14400,
    "6h": 21600, "8h": 28800, "12h": 43200, "1d": 86400, "3d": 259200, "1w": 604800,
}  # fmt: skip
INTERVALS = (*FIXED_INTERVALS_S, "1M")


@dataclass(frozen=True)
class Column:
    name: str
    form: str
    required: bool = True


@dataclass(frozen=True)
class Kind:
    """One kind of row. ``landed`` names the bronze dataset, None for what is only checked."""

    name: str
    columns: tuple[Column, ...]
    landed: str | None
    time: str  # the column whose hour is the window

    @property
    def schema(self) -> pa.Schema:
        """The typed columns, then ``_extra``: unknown vendor fields as a JSON object."""
        fields = [pa.field(c.name, _ARROW[c.form]) for c in self.columns]
        return pa.schema([*fields, pa.field("_extra", pa.string())])


AGG_TRADES = Kind(
    "agg_trades",
    (
        Column("symbol", TEXT),
        Column("agg_id", INT),
        Column("price", DEC),
        Column("quantity", DEC),
        Column("first_trade_id", INT),
        Column("last_trade_id", INT),
        Column("exchange_time", EPOCH),
        Column("is_buyer_maker", BOOL),
        Column("is_best_match", BOOL, required=False),
        Column("market", TEXT),
        Column("received_at", EPOCH, required=False),
    ),
    "agg_trades",
    "exchange_time",
)
KLINES = Kind(
    "klines",
    (
        Column("symbol", TEXT),
        Column("bar_interval", TEXT),
        Column("open_time", EPOCH),
        Column("close_time", EPOCH),
        Column("open", DEC),
        Column("high", DEC),
        Column("low", DEC),
        Column("close", DEC),
        Column("volume", DEC),
        Column("quote_volume", DEC),
        Column("trade_count", INT),
        Column("taker_buy_base", DEC),
        Column("taker_buy_quote", DEC),
        Column("market", TEXT),
    ),
    "klines",
    "open_time",
)
FILLS = Kind(
    "trades",
    (
        Column("client_id", INT),
        Column("account_type", TEXT),
        Column("symbol", TEXT),
        Column("trade_id", INT),
        Column("order_id", TEXT),
        Column("order_list_id", INT, required=False),
        Column("price", DEC),
        Column("quantity", DEC),
        Column("quote_quantity", DEC, required=False),  # absent: price × quantity
        Column("commission", DEC),
        Column("commission_asset", TEXT),
        Column("exchange_time", EPOCH),
        Column("side", TEXT),
        Column("is_maker", BOOL, required=False),
        Column("is_best_match", BOOL, required=False),
        Column("is_isolated", BOOL, required=False),
    ),
    "trades",
    "exchange_time",
)
# Single prints of the public tape: checked and counted, never landed.
PRINTS = Kind(
    "prints",
    (
        Column("symbol", TEXT),
        Column("trade_id", INT),
        Column("price", DEC),
        Column("quantity", DEC),
        Column("exchange_time", EPOCH),
        Column("is_buyer_maker", BOOL),
        Column("is_best_match", BOOL, required=False),
        Column("quote_quantity", DEC, required=False),
    ),
    None,
    "exchange_time",
)
KINDS = {kind.name: kind for kind in (AGG_TRADES, KLINES, FILLS, PRINTS)}
DATASETS = ("agg_trades", "klines", "trades")
