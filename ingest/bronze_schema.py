"""The canonical schemas of bronze market data and how their Parquet files are encoded. The same for every
source.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from ingest.parquet_decimal import as_integers, schema_bytes

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

    @cached_property
    def written(self) -> pa.Schema:
        """The schema as the writer gets it, prices as integers."""
        return as_integers(self.arrow)

    @cached_property
    def footers(self) -> tuple[bytes, bytes]:
        """The schema in the footer of a file as written, and as it has to be."""
        options = self.parquet_options()
        return schema_bytes(self.written, options), schema_bytes(self.arrow, options)

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
