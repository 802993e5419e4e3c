"""Bars of a DBN file (`ohlcv-1s`, `-1m`, `-1h`, `-1d`) as rows of bronze ``futures.ohlcv``.

A bar starts at its ``ts_event`` and is known only ``bar_interval_s`` later. Bars have no receive time and no sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from ingest.bronze_schema import PRICE, BronzeSchema
from ingest.dbn_format import UNDEF_TIMESTAMP
from ingest.dbn_rows import RowBuffer, constant, plain
from ingest.record_rules import INSTRUMENT_ID, PUBLISHER_ID, TS_RANGE, RecordRules, Rule, price_range

INTERVALS_S = {"ohlcv-1s": 1, "ohlcv-1m": 60, "ohlcv-1h": 3600, "ohlcv-1d": 86_400}
PRICES = ("open", "high", "low", "close")

_OWN = [
    ("publisher_id", "<i2"),
    ("instrument_id", "<i4"),
    ("ts_event", "<i8"),
    *((name, "<i8") for name in PRICES),
    ("volume", "<i8"),
]
# What the record doesn't have but every row of bronze is ordered by.
BARS = np.dtype([*_OWN, ("ts_recv", "<i8"), ("sequence", "<i8"), ("bar_interval_s", "<i4")])


def bars(blocks: Iterable[np.ndarray], schema: str) -> Iterator[np.ndarray]:
    """Blocks of OHLCV records (n,) as blocks of `BARS`."""
    for records in blocks:
        rows = np.zeros(len(records), BARS)
        for name, _ in _OWN:
            rows[name] = records[name]
        rows["ts_recv"] = UNDEF_TIMESTAMP
        rows["bar_interval_s"] = INTERVALS_S[schema]
        yield rows


def _outside(records: np.ndarray) -> np.ndarray:
    open_, high, low, close = (records[name] for name in PRICES)
    return (high < low) | (open_ > high) | (open_ < low) | (close > high) | (close < low)


RULES = RecordRules(
    [
        TS_RANGE,
        Rule(
            "BAR_START",
            "ts_event",
            "a multiple of the bar's interval",
            lambda r: r["ts_event"] % (r["bar_interval_s"] * np.int64(1_000_000_000)) != 0,
        ),
        *(price_range(name, nullable=False) for name in PRICES),
        Rule("BAR_RANGE", "high", "low <= open, close <= high", _outside),
        Rule("SIZE", "volume", "0 to 9223372036854775807", lambda r: r["volume"] < 0),
        INSTRUMENT_ID,
        PUBLISHER_ID,
    ],
    [name for name, _ in _OWN],
)


class BarBuffer(RowBuffer):
    """Rows of bars, see `RowBuffer`."""

    @classmethod
    def fields(cls, schema: BronzeSchema) -> dict[str, tuple[str, str]]:
        return {
            "ts_event_ns": ("ts_event", "<i8"),
            "sequence": ("sequence", "<i8"),
            "publisher_id": ("publisher_id", "<i2"),
            "instrument_id": ("instrument_id", "<i4"),
            "bar_interval_s": ("bar_interval_s", "<i4"),
            "volume": ("volume", "<i8"),
            **{name: (name, "<i8") for name in PRICES},
        }

    def table(
        self, schema: BronzeSchema, rows: int, contracts: list[str], source: str, delivery_id: str
    ) -> pa.Table:
        made = {
            "ts_recv_ns": pa.nulls(rows, pa.int64()),
            "source": constant(source, rows),
            "delivery_id": constant(delivery_id, rows),
            "_extra": pa.nulls(rows, pa.string()),
            "contract": self.contracts(rows, contracts),
            **{name: plain(PRICE, self.columns[name][:rows]) for name in PRICES},
        }
        arrays = [
            made[f.name] if f.name in made else plain(f.type, self.columns[f.name][:rows])
            for f in schema.arrow
        ]
        return pa.Table.from_arrays(arrays, schema=schema.arrow)
