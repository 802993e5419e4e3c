"""Instrument definitions of a DBN file as rows of bronze ``reference.definitions``.

The record is 360, 400 or 520 bytes in version 1, 2 and 3: what a version has under a name is taken as it is, what it
lacks (the legs of a spread before version 3) is NULL. A definition names itself: its raw symbol is the contract,
whatever the file's mappings say.

``ts_event_ns`` is when the exchange sent the definition, often days ago; ``ts_recv_ns`` is when the vendor repeated it,
once a day. The UTC date of the latter is the one on which the id means the contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from ingest.bronze_schema import PRICE, BronzeSchema
from ingest.dbn_format import UNDEF_PRICE, UNDEF_TIMESTAMP
from ingest.dbn_rows import RowBuffer, constant, nullable, plain
from ingest.record_rules import INSTRUMENT_ID, PUBLISHER_ID, TS_RANGE, RecordRules, Rule, price_range
from ingest.symbology import DAY_NS, day_of, product_root

_NO_INT32 = 2**31 - 1

# bronze column → field of the record; the rest have the same name
_RENAMED = {
    "ts_event_ns": "ts_event",
    "ts_recv_ns": "ts_recv",
    "activation_ns": "activation",
    "expiration_ns": "expiration",
    "security_group": "group",
    "leg_contract": "leg_raw_symbol",
}
_PRICES = (
    "min_price_increment", "min_price_increment_amount", "display_factor", "unit_of_measure_qty", "strike_price",
    "high_limit_price", "low_limit_price", "leg_price", "leg_delta",
)  # fmt: skip
_TEXT = {
    "raw_symbol": 71, "group": 21, "exchange": 5, "asset": 11, "cfi": 7, "security_type": 7, "currency": 4,
    "settl_currency": 4, "unit_of_measure": 31, "underlying": 21, "leg_raw_symbol": 71, "instrument_class": 1,
    "security_update_action": 1, "user_defined_instrument": 1, "leg_instrument_class": 1, "leg_side": 1,
}  # fmt: skip
_OWN = [
    ("publisher_id", "<i2"), ("instrument_id", "<i4"), ("ts_event", "<i8"), ("ts_recv", "<i8"),
    *((name, "<i8") for name in _PRICES),
    ("activation", "<i8"), ("expiration", "<i8"),
    ("underlying_id", "<u4"), ("raw_instrument_id", "<i8"), ("leg_instrument_id", "<u4"),
    ("contract_multiplier", "<i4"), ("leg_ratio_qty_numerator", "<i4"), ("leg_ratio_qty_denominator", "<i4"),
    ("maturity_year", "<u2"), ("maturity_month", "u1"), ("maturity_day", "u1"), ("maturity_week", "u1"),
    ("leg_count", "<u2"), ("leg_index", "<u2"),
    *((name, f"S{length}") for name, length in _TEXT.items()),
]  # fmt: skip
# `contract_code` numbers the raw symbol; bronze is ordered by a sequence, which definitions don't have.
DEFINITION = np.dtype([*_OWN, ("contract_code", "<i4"), ("sequence", "<i8")])
_SHOWN = [name for name, _ in _OWN]


def _not_ascii(records: np.ndarray) -> np.ndarray:
    wrong = np.zeros(len(records), dtype=bool)
    for name in _TEXT:
        letters = np.ascontiguousarray(records[name]).view(np.uint8).reshape(len(records), -1)
        wrong |= ((letters >= 0x7F) | ((letters < 0x20) & (letters > 0))).any(axis=1)
        wrong |= ((letters[:, :-1] == 0) & (letters[:, 1:] != 0)).any(axis=1)  # behind its end
    return wrong


RULES = RecordRules(
    [
        TS_RANGE,
        Rule("SYMBOL", "raw_symbol", "the raw symbol of the instrument", lambda r: r["raw_symbol"] == b""),
        Rule("ENCODING", "raw_symbol", "text of printable ASCII in every field", _not_ascii),
        Rule(
            "ACTION",
            "security_update_action",
            "one of A, D, M",
            lambda r: ~np.isin(r["security_update_action"], [b"A", b"D", b"M"]),
        ),
        Rule("ENUM", "instrument_class", "a letter", lambda r: r["instrument_class"] == b""),
        *(price_range(name, nullable=True) for name in _PRICES),
        INSTRUMENT_ID,
        PUBLISHER_ID,
    ],
    _SHOWN,
)


class DefinedSymbols:
    """The contracts that the records of one definition file name, in the place of the file's mappings.

    ``contracts[code]`` is the raw symbol of a code and ``root(code)`` its product: of an option that of its underlying
    (``ESM4 C4250`` → ``ES``), of anything else as everywhere.
    """

    def __init__(self) -> None:
        self.contracts: list[str] = []
        self._roots: list[str] = []
        self._code_of: dict[tuple[bytes, bytes], int] = {}
        self._seen: dict[int, dict[int, str | None]] = {}

    def root(self, code: int) -> str:
        return self._roots[code]

    def learn(self, records: np.ndarray) -> None:
        """Set ``contract_code`` of records (n,) of `DEFINITION` that break no rule."""
        option = np.isin(records["instrument_class"], [b"C", b"P"])
        pairs = np.zeros(len(records), [("symbol", "S71"), ("underlying", "S21")])
        pairs["symbol"], pairs["underlying"] = (
            records["raw_symbol"],
            np.where(option, records["underlying"], b""),
        )
        unique, at = np.unique(pairs, return_inverse=True)
        codes = np.array([self._code(*pair) for pair in unique.tolist()], dtype=np.int32)
        records["contract_code"] = codes[at]
        ts_recv = np.where(records["ts_recv"] == UNDEF_TIMESTAMP, records["ts_event"], records["ts_recv"])
        triples = np.stack([ts_recv // DAY_NS, records["instrument_id"], records["contract_code"]], axis=1)
        for day, instrument_id, code in np.unique(triples, axis=0).tolist():
            ids = self._seen.setdefault(day, {})
            contract = self.contracts[code]
            # Two contracts under one id on one day: it can't be looked up by the day.
            ids[instrument_id] = contract if ids.get(instrument_id, contract) == contract else None

    def _code(self, symbol: bytes, underlying: bytes) -> int:
        code = self._code_of.setdefault((symbol, underlying), len(self.contracts))
        if code == len(self.contracts):
            self.contracts.append(symbol.decode())
            self._roots.append(product_root((underlying or symbol).decode()))
        return code

    def seen_symbols(self) -> dict[str, dict[str, str]]:
        """``{date: {id: symbol}}`` by the UTC date of ``ts_recv``, for the receipt; not of ids of several contracts."""
        return {
            day_of(day): {str(i): c for i, c in sorted(ids.items()) if c is not None}
            for day, ids in sorted(self._seen.items())
        }

    def first_day(self) -> str | None:
        """The earliest UTC date of ``ts_recv`` so far, None before any."""
        return day_of(min(self._seen)) if self._seen else None


def definitions(blocks: Iterable[np.ndarray], symbols: DefinedSymbols) -> Iterator[np.ndarray]:
    """Blocks of definition records (n,) of any version as blocks of `DEFINITION`; ``symbols`` learns their names."""
    for records in blocks:
        rows = np.zeros(len(records), DEFINITION)
        for name in _SHOWN:
            if name in records.dtype.names:
                values = records[name]
                rows[name] = (
                    values.view("S1") if values.dtype == np.uint8 and rows.dtype[name].kind == "S" else values
                )
        bad = RULES.bad(rows)
        good = rows if bad is None else rows[~bad]
        if len(good):
            symbols.learn(good)
            if bad is not None:
                rows[~bad] = good
        yield rows


class DefinitionBuffer(RowBuffer):
    """Rows of definitions, see `RowBuffer`."""

    @classmethod
    def fields(cls, schema: BronzeSchema) -> dict[str, tuple[str, str]]:
        made = {"ordinal", "contract", "source", "delivery_id", "_extra"}
        kinds = dict(_OWN)
        fields = {n: _RENAMED.get(n, n) for n in schema.arrow.names if n not in made}
        return {name: (field, kinds[field]) for name, field in fields.items()} | {
            "sequence": ("sequence", "<i8")
        }

    def table(
        self, schema: BronzeSchema, rows: int, contracts: list[str], source: str, delivery_id: str
    ) -> pa.Table:
        legs = self.columns["leg_count"][:rows] > 0
        made = {
            "source": constant(source, rows),
            "delivery_id": constant(delivery_id, rows),
            "_extra": pa.nulls(rows, pa.string()),
            "contract": self.contracts(rows, contracts),
        }
        for f in schema.arrow:
            if f.name not in made:
                made[f.name] = self._column(f, self.columns[f.name][:rows], legs)
        return pa.Table.from_arrays([made[f.name] for f in schema.arrow], schema=schema.arrow)

    def _column(self, f: pa.Field, values: np.ndarray, legs: np.ndarray) -> pa.Array:
        if values.dtype.kind == "S":
            return _texts(values)
        if f.type == PRICE:
            valid = values != UNDEF_PRICE
        elif f.name in ("ts_recv_ns", "activation_ns", "expiration_ns"):
            valid = values != UNDEF_TIMESTAMP
        elif f.name in ("underlying_id", "raw_instrument_id"):
            valid = values != 0
        elif f.name == "contract_multiplier":
            valid = values != _NO_INT32
        elif f.name.startswith("maturity_"):
            valid = values != np.iinfo(values.dtype).max
        else:
            valid = np.ones(len(values), dtype=bool)
        if f.name.startswith("leg_") and f.name != "leg_count":
            valid &= legs
        wide = values.astype(np.int64 if f.type == PRICE else f.type.to_pandas_dtype())
        return nullable(f.type, wide, valid) if f.nullable else plain(f.type, wide)


def _texts(values: np.ndarray) -> pa.Array:
    """Texts (n,) as a dictionary array of those that occur; an empty one is NULL."""
    unique, at = np.unique(values, return_inverse=True)
    texts = pa.array([v.decode() for v in unique.tolist()], pa.string())
    codes = at.astype(np.int32)
    if not (values == b"").any():
        return pa.DictionaryArray.from_arrays(plain(pa.int32(), codes), texts)
    present = values != b""
    codes = np.where(present, codes - 1, 0).astype(np.int32)  # the empty text sorts first
    return pa.DictionaryArray.from_arrays(nullable(pa.int32(), codes, present), texts[1:])
