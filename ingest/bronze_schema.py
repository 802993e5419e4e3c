"""The canonical schemas of bronze market data and how their Parquet files are encoded. The same for every
source.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pyarrow as pa

ROW_GROUP_ROWS = 122_880
TS_EVENT_MIN_NS = 946_684_800_000_000_000  # 2000-01-01, exclusive
TS_EVENT_MAX_NS = 4_102_444_800_000_000_000  # 2100-01-01, exclusive
PRICE = pa.decimal64(18, 9)
PRICE_LIMIT = 10**18  # |mantissa| must stay below it
# Columns of few values reach the writer as dictionaries, which it stores without looking at each row's text.
TEXT = pa.dictionary(pa.int8(), pa.string())
CONTRACT = pa.dictionary(pa.int32(), pa.string())

LEVELS = range(10)
LEVEL_PRICES = [f"{side}_px_{k:02d}" for side in ("bid", "ask") for k in LEVELS]
LEVEL_SIZES = [f"{side}_{what}_{k:02d}" for what in ("sz", "ct") for side in ("bid", "ask") for k in LEVELS]


@dataclass(frozen=True)
class BronzeSchema:
    """One bronze dataset: where it lives, its columns in order, and the encoding of its files."""

    name: str
    version: int
    folder: str  # under lake/bronze
    arrow: pa.Schema
    dictionary: list[str] = field(repr=False)

    DELTA = ("ts_event_ns", "ts_recv_ns", "sequence", "ordinal", "ts_in_delta")
    STATISTICS = ("ts_event_ns", "sequence", "contract", "option_symbol", "instrument_id")

    @property
    def schema_hash(self) -> str:
        """sha256 of names, types and nullability in order: changes exactly when the columns do."""
        text = "\n".join(f"{f.name} {f.type} {'null' if f.nullable else 'not null'}" for f in self.arrow)
        return hashlib.sha256(text.encode()).hexdigest()

    def parquet_options(self) -> dict:
        """Arguments of ``pq.ParquetWriter``.

        Deltas suit times; statistics are kept where a reader prunes by them, elsewhere they cost more than
        they give. Level sizes stay plain: split by byte they would take 8 % less, but DuckDB 1.5 can't read
        that.
        """
        present = set(self.arrow.names)
        return {
            "version": "2.6",
            "data_page_version": "2.0",
            "compression": "zstd",
            "compression_level": 3,
            "write_statistics": [c for c in self.STATISTICS if c in present],
            "use_dictionary": self.dictionary,
            "column_encoding": {c: "DELTA_BINARY_PACKED" for c in self.DELTA if c in present},
            "store_decimal_as_integer": True,
            # Without Arrow's own schema every reader sees the logical types, and text is text, not a
            # dictionary.
            "store_schema": False,
        }


def _field(name: str, t: pa.DataType, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, t, nullable=nullable)


_COMMON = [
    _field("ts_event_ns", pa.int64()),
    _field("ts_recv_ns", pa.int64(), nullable=True),
    _field("source", TEXT),
    _field("delivery_id", TEXT),
    _field("ordinal", pa.int64()),
    _field("_extra", pa.string(), nullable=True),
]
_LOW_CARDINALITY = [
    "source", "delivery_id", "publisher_id", "instrument_id", "contract",
    "side", "aggressor", "flags", "depth",
]  # fmt: skip


def _futures(*, trades: bool) -> list[pa.Field]:
    return [
        *_COMMON,
        _field("sequence", pa.int64()),
        _field("publisher_id", pa.int16()),
        _field("instrument_id", pa.int32()),
        _field("contract", CONTRACT),
        _field("price", PRICE, nullable=not trades),
        _field("size", pa.int32(), nullable=not trades),
        _field("side", TEXT),
        _field("aggressor", pa.int8()),
        _field("flags", pa.uint8()),
        _field("depth", pa.uint8()),
        _field("ts_in_delta", pa.int32()),
    ]


FUTURES_TRADES = BronzeSchema(
    name="futures.trades.v1",
    version=1,
    folder="futures/trades",
    arrow=pa.schema(_futures(trades=True)),
    dictionary=[*_LOW_CARDINALITY, "price"],
)
FUTURES_MBP10 = BronzeSchema(
    name="futures.mbp10.v1",
    version=1,
    folder="futures/mbp10",
    arrow=pa.schema(
        [
            *_futures(trades=False),
            _field("action", TEXT),
            *(_field(c, PRICE, nullable=True) for c in LEVEL_PRICES),
            *(_field(c, pa.int32()) for c in LEVEL_SIZES),
        ]
    ),
    dictionary=[*_LOW_CARDINALITY, "action", "price", *LEVEL_PRICES],
)


_CONDITIONS = pa.list_(pa.field("element", pa.int16(), nullable=False))
_OPTIONS_DICTIONARY = [
    "source", "delivery_id", "option_symbol", "exp_date", "strike", "right", "price", "size",
    "aggressor", "exchange", "conditions.list.element", "correction",
]  # fmt: skip
_STOCKS_DICTIONARY = [
    "source", "delivery_id", "price", "size", "exchange", "conditions.list.element", "correction",
]  # fmt: skip

OPTIONS_TRADES = BronzeSchema(
    name="options.trades.v1",
    version=1,
    folder="options/trades",
    arrow=pa.schema(
        [
            *_COMMON,
            _field("option_symbol", CONTRACT),
            _field("exp_date", pa.date32()),
            _field("strike", pa.decimal64(12, 3)),
            _field("right", TEXT),
            _field("price", PRICE),
            _field("size", pa.int32()),
            _field("opt_bid", PRICE, nullable=True),
            _field("opt_ask", PRICE, nullable=True),
            _field("aggressor", pa.int8()),
            _field("exchange", pa.int16(), nullable=True),
            _field("conditions", _CONDITIONS, nullable=True),
            _field("sequence", pa.int64(), nullable=True),
            _field("correction", pa.int8(), nullable=True),
        ]
    ),
    dictionary=_OPTIONS_DICTIONARY,
)
STOCKS_TRADES = BronzeSchema(
    name="stocks.trades.v1",
    version=1,
    folder="stocks/trades",
    arrow=pa.schema(
        [
            *_COMMON,
            _field("price", PRICE),
            _field("size", pa.decimal64(18, 6)),
            _field("exchange", pa.int16(), nullable=True),
            _field("conditions", _CONDITIONS, nullable=True),
            _field("sequence", pa.int64(), nullable=True),
            _field("trade_id", pa.string(), nullable=True),
            _field("correction", pa.int8(), nullable=True),
        ]
    ),
    dictionary=_STOCKS_DICTIONARY,
)
# Bars of the vendor's own, as delivered; the bars that models read are made from trades.
FUTURES_OHLCV = BronzeSchema(
    name="futures.ohlcv.v1",
    version=1,
    folder="futures/ohlcv",
    arrow=pa.schema(
        [
            *_COMMON,
            _field("publisher_id", pa.int16()),
            _field("instrument_id", pa.int32()),
            _field("contract", CONTRACT),
            _field("bar_interval_s", pa.int32()),
            *(_field(c, PRICE) for c in ("open", "high", "low", "close")),
            _field("volume", pa.int64()),
        ]
    ),
    dictionary=["source", "delivery_id", "publisher_id", "instrument_id", "contract", "bar_interval_s"],
)


def _definitions() -> list[pa.Field]:
    def some(t: pa.DataType, *names: str) -> list[pa.Field]:
        return [_field(n, t, nullable=True) for n in names]

    return [
        *_COMMON,
        _field("publisher_id", pa.int16()),
        _field("instrument_id", pa.int32()),
        _field("contract", CONTRACT),
        _field("security_update_action", CONTRACT),
        _field("instrument_class", CONTRACT),
        *some(
            CONTRACT,
            *("user_defined_instrument", "security_type", "exchange", "asset", "security_group", "cfi"),
            *("currency", "settl_currency", "unit_of_measure", "underlying"),
        ),
        *some(pa.int64(), "underlying_id", "raw_instrument_id"),
        *some(
            PRICE,
            *("min_price_increment", "min_price_increment_amount", "display_factor", "unit_of_measure_qty"),
            *("strike_price", "high_limit_price", "low_limit_price"),
        ),
        *some(pa.int32(), "contract_multiplier"),
        *some(pa.int64(), "activation_ns", "expiration_ns"),
        *some(pa.int16(), "maturity_year", "maturity_month", "maturity_day", "maturity_week"),
        _field("leg_count", pa.int32()),
        *some(pa.int32(), "leg_index"),
        *some(pa.int64(), "leg_instrument_id"),
        *some(CONTRACT, "leg_contract", "leg_instrument_class", "leg_side"),
        *some(pa.int32(), "leg_ratio_qty_numerator", "leg_ratio_qty_denominator"),
        *some(PRICE, "leg_price", "leg_delta"),
    ]


# Futures, spreads, options and shares in one dataset: a delivery may hold all of them, they share their columns, and
# who looks up an id doesn't know yet which of them it is.
DEFINITIONS = BronzeSchema(
    name="reference.definitions.v1",
    version=1,
    folder="reference/definitions",
    arrow=pa.schema(_definitions()),
    dictionary=[
        f.name
        for f in _definitions()
        if pa.types.is_dictionary(f.type)
        or f.name.startswith(("maturity_", "leg_"))
        or f.name == "publisher_id"
    ],
)
