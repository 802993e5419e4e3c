"""One decoded JSON value to the text cells of the row that it holds: which form it has, and which field is which.

Source: spec/execution.md 9. A form is known by its names, as nothing else tells a recorded file apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ingest.binance.kinds import (
    AGG_TRADES,
    BOOL,
    DEC,
    EPOCH,
    FILLS,
    FIXED_INTERVALS_S,
    INT,
    KLINES,
    PRINTS,
    TEXT,
    Kind,
)
from ingest.binance.strict_json import Number, encode

# Events of streams that are known and not ours: counted, never landed.
SKIPPED_EVENTS = frozenset(
    {
        "bookTicker", "depthUpdate", "24hrTicker", "24hrMiniTicker", "1hTicker", "4hTicker", "1dTicker", "avgPrice",
        "markPriceUpdate", "forceOrder", "outboundAccountPosition", "balanceUpdate", "listStatus",
        "listenKeyExpired", "eventStreamTerminated",
    }
)  # fmt: skip
# What has no event name: the fields that it must have, and those that it may have beside them. A row of ours with a
# new field never looks like one.
_SKIPPED_SHAPES = (
    ("bookTicker", {"u", "s", "b", "B", "a", "A"}, set()),
    ("depth snapshot", {"lastUpdateId", "bids", "asks"}, {"E", "T", "symbol", "pair"}),
    ("answer to a subscription", {"result", "id"}, {"status", "rateLimits"}),
)


class Problem(Exception):
    """This value is no row of ours: rule and reason."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule, self.reason = rule, reason


class Skip(Exception):
    """This value is known and not landed; the name it is counted under."""


class Row(NamedTuple):
    """The text cells of one row by column, and its unknown fields."""

    kind: Kind
    cells: dict[str, str | None]
    extra: dict[str, object]


@dataclass(frozen=True)
class Known:
    """What the values of a file don't say themselves."""

    symbol: str | None = None
    interval: str | None = None
    market: str | None = None  # as the caller or the folder's name says
    client_id: int | None = None
    account_type: str | None = None


class _Form(NamedTuple):
    kind: Kind
    fields: tuple[tuple[str, str, str], ...]  # vendor name, column, form
    ignored: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


_REST_AGG = _Form(
    AGG_TRADES,
    (
        ("a", "agg_id", INT), ("p", "price", DEC), ("q", "quantity", DEC), ("f", "first_trade_id", INT),
        ("l", "last_trade_id", INT), ("T", "exchange_time", EPOCH), ("m", "is_buyer_maker", BOOL),
        ("M", "is_best_match", BOOL),
    ),
    optional=frozenset({"M"}),
)  # fmt: skip
_WS_AGG = _Form(
    AGG_TRADES, (("s", "symbol", TEXT), *_REST_AGG.fields), frozenset({"e", "E"}), _REST_AGG.optional
)
_WS_TRADE = _Form(
    PRINTS,
    (
        ("s", "symbol", TEXT), ("t", "trade_id", INT), ("p", "price", DEC), ("q", "quantity", DEC),
        ("T", "exchange_time", EPOCH), ("m", "is_buyer_maker", BOOL), ("M", "is_best_match", BOOL),
    ),
    frozenset({"e", "E", "X", "b", "a", "st", "nq"}),
    frozenset({"M"}),
)  # fmt: skip
_WS_KLINE = _Form(
    KLINES,
    (
        ("t", "open_time", EPOCH), ("T", "close_time", EPOCH), ("s", "symbol", TEXT), ("i", "bar_interval", TEXT),
        ("o", "open", DEC), ("c", "close", DEC), ("h", "high", DEC), ("l", "low", DEC), ("v", "volume", DEC),
        ("n", "trade_count", INT), ("q", "quote_volume", DEC), ("V", "taker_buy_base", DEC),
        ("Q", "taker_buy_quote", DEC),
    ),
    frozenset({"f", "L", "x", "B"}),
)  # fmt: skip
_REST_FILL = _Form(
    FILLS,
    (
        ("symbol", "symbol", TEXT), ("id", "trade_id", INT), ("orderId", "order_id", INT),
        ("orderListId", "order_list_id", INT), ("price", "price", DEC), ("qty", "quantity", DEC),
        ("quoteQty", "quote_quantity", DEC), ("commission", "commission", DEC),
        ("commissionAsset", "commission_asset", TEXT), ("time", "exchange_time", EPOCH),
        ("isBuyer", "side", BOOL), ("isMaker", "is_maker", BOOL), ("isBestMatch", "is_best_match", BOOL),
        ("isIsolated", "is_isolated", BOOL),
    ),
    optional=frozenset({"orderListId", "quoteQty", "isMaker", "isBestMatch", "isIsolated"}),
)  # fmt: skip
_WS_FILL = _Form(
    FILLS,
    (
        ("s", "symbol", TEXT), ("t", "trade_id", INT), ("i", "order_id", INT), ("g", "order_list_id", INT),
        ("L", "price", DEC), ("l", "quantity", DEC), ("Y", "quote_quantity", DEC), ("n", "commission", DEC),
        ("N", "commission_asset", TEXT), ("T", "exchange_time", EPOCH), ("S", "side", TEXT), ("m", "is_maker", BOOL),
    ),
    # The rest of the order's state, which the fill doesn't need; what the vendor adds there is no drift of fills.
    frozenset("eEcofqpPFCxXrzIwMOZWVQdDjJvAuBUbkakmsc") | frozenset({"uS", "Cs", "pl", "pL", "pY", "gP", "gOT", "gOV"}),
    frozenset({"g", "Y", "m"}),
)  # fmt: skip
_BAR_FIELDS = (
    ("open_time", EPOCH), ("open", DEC), ("high", DEC), ("low", DEC), ("close", DEC), ("volume", DEC),
    ("close_time", EPOCH), ("quote_volume", DEC), ("trade_count", INT), ("taker_buy_base", DEC),
    ("taker_buy_quote", DEC),
)  # fmt: skip
_ZERO = re.compile(r"0(\.0+)?\Z")
BAR_COLUMNS = 12  # the last is to be ignored


def read_element(value: object, known: Known, *, received_us: int | None = None, stream: str = "") -> Row:
    """The row in ``value``. Raises Skip for what is known and not landed, Problem for what can't be a row."""
    match value:
        case {"stream": str(name), "data": dict() as data, **rest} if not rest:
            if stream:
                raise Problem("EVENT_TYPE", "an envelope stood inside an envelope, expected the event")
            return read_element(data, known, received_us=received_us, stream=name)
        case {"e": str(event)}:
            return _event(event, value, known, received_us)
        case dict():
            return _unnamed(value, known)
        case list() if len(value) == BAR_COLUMNS:
            return _bar(value, known)
        case list():
            raise Problem("COLUMN_COUNT", f"a bar had {len(value)} values, expected {BAR_COLUMNS}")
    raise Problem("EVENT_TYPE", f"value was {type(value).__name__}, expected an object or the array of a bar")


def _event(event: str, value: dict, known: Known, received_us: int | None) -> Row:
    if event in SKIPPED_EVENTS:
        raise Skip(event)
    match event:
        case "aggTrade":
            row = _by_name(value, _WS_AGG)
            row.cells["market"] = _market_of_tape(row.cells, known)
            row.cells["received_at"] = None if received_us is None else str(received_us)
            return row
        case "trade":
            return _by_name(value, _WS_TRADE)
        case "kline":
            bar = value.get("k")
            if not isinstance(bar, dict):
                raise Problem("CAST", "k was no object, expected the bar")
            if bar.get("x") is False:
                raise Skip("open bar")
            if bar.get("x") is not True:
                raise Problem("CAST", "k.x was neither true nor false, expected whether the bar is closed")
            row = _by_name(bar, _WS_KLINE)
            if value.get("s", bar.get("s")) != bar.get("s"):
                raise Problem("SYMBOL", "s of the event and of its bar differed, expected the same")
            row.extra.update({k: v for k, v in value.items() if k not in {"e", "E", "s", "k"}})
            row.cells["market"] = known.market or "spot"
            return row
        case "executionReport":
            if value.get("x") != "TRADE":
                raise Skip("executionReport")
            return _report(value, known)
    raise Problem("EVENT_TYPE", f"event was {event[:40]!r}, expected one of the vendor's streams")


def _unnamed(value: dict, known: Known) -> Row:
    names = value.keys()
    for what, needed, allowed in _SKIPPED_SHAPES:
        if needed <= names <= needed | allowed:
            raise Skip(what)
    if {"a", "p", "q"} <= names or {"f", "l", "T", "m"} <= names:
        row = _by_name(value, _REST_AGG)
        row.cells["symbol"] = _need(known.symbol, "symbol")
        row.cells["market"] = _market_of_tape(row.cells, known)
        return row
    if {"orderId", "price", "qty"} <= names or {"commission", "isBuyer"} <= names:
        row = _by_name(value, _REST_FILL)
        buyer = row.cells["side"]
        row.cells["side"] = {"true": "BUY", "false": "SELL"}.get(buyer or "", buyer)
        return _own(row, known)
    if {"code", "msg"} <= names:
        raise Problem(
            "VENDOR_ERROR", f"the vendor answered with error {encode(value['code'])[:20]}, expected data"
        )
    raise Problem(
        "EVENT_TYPE", f"fields were {', '.join(sorted(names))[:80]}, expected those of a known feed"
    )


def _bar(value: list, known: Known) -> Row:
    cells = {
        column: _cell(value[place], f"value {place + 1} ({column})", form)
        for place, (column, form) in zip(range(BAR_COLUMNS - 1), _BAR_FIELDS, strict=True)
    }
    cells["symbol"] = _need(known.symbol, "symbol")
    cells["bar_interval"] = known.interval or interval_of(cells["open_time"], cells["close_time"])
    cells["market"] = known.market or "spot"
    return Row(KLINES, cells, {})


def interval_of(open_time: str | None, close_time: str | None) -> str:
    """The name of the interval that a bar spans, by its two times in ms or µs. Raises Problem."""
    try:
        start, end = int(open_time or ""), int(close_time or "")
    except ValueError:
        raise Problem("CAST", "open or close time was no integer, expected an epoch") from None
    unit = 1000 if start < 10**14 else 1_000_000
    for name, seconds in FIXED_INTERVALS_S.items():
        if end - start + 1 == seconds * unit:
            return name
    raise Problem(
        "ENUM", "close time − open time was none of the fixed intervals, expected one; name the file after it"
    )


def _report(value: dict, known: Known) -> Row:
    """An execution report of a trade is an own fill."""
    # A fill without a fee names no asset.
    if "N" in value and value["N"] is None and _ZERO.match(str(value.get("n"))):
        value = {**value, "N": ""}
    return _own(_by_name(value, _WS_FILL), known)


def _own(row: Row, known: Known) -> Row:
    isolated = row.cells.get("is_isolated")
    told = None if isolated is None else "ISOLATED_MARGIN" if isolated == "true" else "CROSS_MARGIN"
    if told and known.account_type and told != known.account_type:
        raise Problem(
            "ACCOUNT_TYPE", f"isIsolated says {told}, expected {known.account_type} as --account-type says"
        )
    row.cells["account_type"] = told or known.account_type or "SPOT"
    row.cells["client_id"] = None if known.client_id is None else str(known.client_id)
    return row


def _market_of_tape(cells: dict[str, str | None], known: Known) -> str:
    """Spot says whether a trade was the best match (M), USD-M futures don't."""
    told = "usdm" if cells["is_best_match"] is None else "spot"
    if known.market and told == "spot" and known.market != told:
        raise Problem(
            "MARKET", "M was there, which futures don't have; expected none of it, or --market spot"
        )
    return known.market or told


def _need(value: str | None, name: str) -> str:
    if value is None:
        raise Problem(
            "MISSING_COLUMN", f"{name} is not in the body; name the file SYMBOL-… or use --symbols SYMBOL"
        )
    return value


def _by_name(value: dict, form: _Form) -> Row:
    cells: dict[str, str | None] = {}
    for name, column, kind in form.fields:
        if name not in value:
            if name not in form.optional:
                raise Problem("MISSING_COLUMN", f"{name} ({column}) was not there, expected it")
            cells[column] = None
        else:
            cells[column] = _cell(value[name], name, kind)
    if len(cells) < len(value):
        read = {name for name, _, _ in form.fields} | form.ignored
        return Row(form.kind, cells, {k: v for k, v in value.items() if k not in read})
    return Row(form.kind, cells, {})


def _cell(value: object, name: str, form: str) -> str | None:
    """The text of a field, when its JSON type is one that the column may come as; null stays null."""
    if value is None:
        return None
    kind = type(value)
    if form == DEC:
        if kind is str:
            return value
        if kind is Number:
            return value.plain()
    elif form in (INT, EPOCH):
        if kind is Number:
            return value
    elif form == BOOL:
        if kind is bool:
            return "true" if value else "false"
    elif kind is str:
        return value
    was = encode(value)
    raise Problem(
        "CAST", f"{name} was {was if len(was) <= 60 else was[:60] + '…'}, expected {_EXPECTED[form]}"
    )


_EXPECTED = {
    DEC: "a decimal in quotes", INT: "an integer", EPOCH: "an epoch as integer", BOOL: "true or false",
    TEXT: "text in quotes",
}  # fmt: skip
