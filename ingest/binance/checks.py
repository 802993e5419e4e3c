"""What rows of each kind must fulfil beyond the types of their columns.

Source: spec/execution.md 2.1, 2.2, 3.4, 3.6.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.binance.kinds import (
    ACCOUNT_TYPES,
    AGG_TRADES,
    DECIMAL,
    FILLS,
    INTERVALS,
    KLINES,
    MARKETS,
    PRINTS,
    Kind,
)

Bad = dict[int, tuple[str, str]]  # row: rule, reason; the first rule that a row breaks stays
Typed = dict[str, pa.Array]

NOTIONAL_LIMIT = decimal.Decimal(10) ** 18
_SURELY_BELOW = 1e17  # as doubles: far enough below the limit that rounding can't matter
_ZERO = pa.scalar(decimal.Decimal(0), DECIMAL)
_STEP = decimal.Decimal("1e-8")


def check_rows(kind: Kind, columns: Typed, bad: Bad, span: tuple[int, int] | None) -> None:
    """Mark the rows that break a rule of ``kind``; fills without a quote quantity get theirs in ``columns``."""
    _matches(columns["symbol"], "^[A-Z0-9]{5,20}$", bad, "SYMBOL", "5 to 20 capitals and digits")
    _CHECKS[kind.name](columns, bad)
    if span is not None:
        micros = columns[kind.time].cast(pa.int64())
        outside = pc.or_(pc.less(micros, span[0]), pc.greater_equal(micros, span[1]))
        _mark(bad, outside, "FILE_DATE", lambda i: f"{kind.time} was {columns[kind.time][i].as_py().isoformat()}, "
              "expected a time of the date in the file's name")  # fmt: skip


def _agg_trades(columns: Typed, bad: Bad) -> None:
    _member(columns["market"], MARKETS, bad, "market")
    _positive(columns, ("price",), bad, "PRICE_RANGE")
    _positive(columns, ("quantity",), bad, "SIZE")
    _not_negative(columns, ("agg_id", "first_trade_id"), bad, "ID_RANGE")
    first, last = columns["first_trade_id"], columns["last_trade_id"]
    _mark(bad, pc.less(last, first), "ID_RANGE",
          lambda i: f"last_trade_id was {last[i]}, expected it not below first_trade_id {first[i]}")  # fmt: skip
    _notional(columns["price"], columns["quantity"], bad)


def _klines(columns: Typed, bad: Bad) -> None:
    _member(columns["bar_interval"], INTERVALS, bad, "bar_interval")
    _member(columns["market"], MARKETS, bad, "market")
    start, end = columns["open_time"], columns["close_time"]
    _mark(bad, pc.less_equal(end, start), "BAR_TIME",
          lambda i: f"close_time was {end[i]}, expected it after open_time {start[i]}")  # fmt: skip
    _positive(columns, ("open", "high", "low", "close"), bad, "PRICE_RANGE")
    _not_negative(columns, ("volume", "quote_volume", "taker_buy_base", "taker_buy_quote"), bad, "SIZE")
    _not_negative(columns, ("trade_count",), bad, "SIZE")
    prices = [columns[name] for name in ("open", "high", "low", "close")]
    high, low = pc.max_element_wise(*prices), pc.min_element_wise(*prices)
    wrong = pc.or_(pc.not_equal(high, columns["high"]), pc.not_equal(low, columns["low"]))
    _mark(bad, wrong, "OHLC", lambda _: "high or low was inside the other prices, expected it to bound them")
    _notional(columns["high"], columns["volume"], bad)


def _fills(columns: Typed, bad: Bad) -> None:
    _member(columns["account_type"], ACCOUNT_TYPES, bad, "account_type")
    _member(columns["side"], ("BUY", "SELL"), bad, "side")
    _matches(columns["order_id"], r"^\d{1,64}$", bad, "CAST", "digits", name="order_id")
    _matches(
        columns["commission_asset"],
        "^[A-Z0-9]{0,20}$",
        bad,
        "ASSET",
        "capitals and digits",
        name="commission_asset",
    )
    unnamed = pc.and_(pc.equal(columns["commission_asset"], ""), pc.not_equal(columns["commission"], _ZERO))
    _mark(
        bad,
        unnamed,
        "ASSET",
        lambda i: f"commission was {columns['commission'][i]} of no asset, expected its name",
    )
    _not_negative(columns, ("trade_id",), bad, "ID_RANGE")
    _positive(columns, ("price",), bad, "PRICE_RANGE")
    _positive(columns, ("quantity",), bad, "SIZE")
    _notional(columns["price"], columns["quantity"], bad)
    # -1 is the vendor's "of no list".
    lists = columns["order_list_id"]
    columns["order_list_id"] = pc.if_else(pc.equal(lists, -1), pa.scalar(None, pa.int64()), lists)
    _quote(columns, bad)


def _quote(columns: Typed, bad: Bad) -> None:
    """Price × quantity, rounded once to 8 decimals, where the vendor gives no quote quantity."""
    quote = columns["quote_quantity"]
    if not quote.null_count:
        return
    values = quote.to_pylist()
    for i, value in enumerate(values):
        if value is not None or i in bad:
            continue
        product = columns["price"][i].as_py() * columns["quantity"][i].as_py()
        product = product.quantize(_STEP, rounding=decimal.ROUND_HALF_UP, context=decimal.Context(prec=60))
        if product >= 10**12:
            bad[i] = (
                "DECIMAL_RANGE",
                f"price × quantity was {product}, expected at most 12 digits before the point",
            )
        else:
            values[i] = product
    columns["quote_quantity"] = pa.array(values, DECIMAL)


def _prints(columns: Typed, bad: Bad) -> None:
    _not_negative(columns, ("trade_id", "price", "quantity"), bad, "ID_RANGE")


_CHECKS: dict[str, Callable[[Typed, Bad], None]] = {
    AGG_TRADES.name: _agg_trades,
    KLINES.name: _klines,
    FILLS.name: _fills,
    PRINTS.name: _prints,
}


def _notional(price: pa.Array, quantity: pa.Array, bad: Bad) -> None:
    """|price × quantity| must stay below 10^18, or sums of products overflow (spec/execution.md 2.2)."""
    most = [pc.max(pc.abs(column)).as_py() or 0 for column in (price, quantity)]
    if float(most[0]) * float(most[1]) < _SURELY_BELOW:
        return
    exact = decimal.Context(prec=60)
    for i in range(len(price)):
        a, b = price[i].as_py(), quantity[i].as_py()
        if a is not None and b is not None and abs(exact.multiply(a, b)) >= NOTIONAL_LIMIT:
            bad.setdefault(i, ("NOTIONAL_RANGE", f"price × quantity was {a} × {b}, expected below 10^18"))


def _positive(columns: Typed, names: tuple[str, ...], bad: Bad, rule: str) -> None:
    for name in names:
        values = columns[name]
        _mark(
            bad,
            pc.less_equal(values, _ZERO),
            rule,
            lambda i, n=name, v=values: f"{n} was {v[i]}, expected above 0",
        )


def _not_negative(columns: Typed, names: tuple[str, ...], bad: Bad, rule: str) -> None:
    for name in names:
        values = columns[name]
        zero = pa.scalar(0, pa.int64()) if values.type == pa.int64() else _ZERO
        _mark(
            bad,
            pc.less(values, zero),
            rule,
            lambda i, n=name, v=values: f"{n} was {v[i]}, expected 0 or more",
        )


def _member(values: pa.Array, allowed: tuple[str, ...], bad: Bad, name: str) -> None:
    unknown = pc.and_(pc.invert(pc.is_in(values, pa.array(allowed))), values.is_valid())
    _mark(
        bad, unknown, "ENUM", lambda i: f"{name} was {_show(values[i])}, expected one of {', '.join(allowed)}"
    )


def _matches(
    values: pa.Array, pattern: str, bad: Bad, rule: str, expected: str, name: str = "symbol"
) -> None:
    # Symbols repeat: one look at each value is enough.
    values = values.dictionary_encode()
    fits = pc.match_substring_regex(values.dictionary, pattern)
    if pc.all(fits).as_py():
        return
    unfit = pc.invert(pc.take(fits, values.indices))
    _mark(bad, unfit, rule, lambda i: f"{name} was {_show(values[i])}, expected {expected}")


def _show(value: pa.Scalar) -> str:
    return repr(str(value)[:60])


def _mark(bad: Bad, mask: pa.Array, rule: str, reason: Callable[[int], str]) -> None:
    if not pc.any(mask).as_py():
        return
    for i in np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False)).tolist():
        if i not in bad:
            bad[i] = (rule, reason(i))
