"""One-minute bars from klines and a public tape, in plain loops. Source: spec/execution.md 4.7, 3.6.

A trade is a dict (symbol, market, agg_id, price, quantity, first_trade_id, last_trade_id, exchange_time), a kline one
with the columns of `bronze.klines`; prices and quantities are `Decimal`, times are aware datetimes in UTC. Each key
stands once.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

MINUTE = timedelta(minutes=1)
UNIT = Decimal("0.00000001")


def minute_of(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def gaps(trades: Iterable[dict]) -> list[dict]:
    """Every hole in the numbers of a (symbol, market), whatever dates it lies between."""
    tapes = defaultdict(list)
    for trade in trades:
        tapes[trade["symbol"], trade["market"]].append(trade)
    found = []
    for (symbol, market), tape in tapes.items():
        tape.sort(key=lambda t: t["agg_id"])
        for before, after in itertools.pairwise(tape):
            if after["agg_id"] != before["agg_id"] + 1:
                found.append({"symbol": symbol, "market": market, "before": before, "after": after})
    return found


def bars(trades: Iterable[dict], klines: Iterable[dict]) -> dict[tuple[str, datetime], dict]:
    """Bars by (symbol, open_time). A minute of a date knows the trades of that date and of the dates beside it."""
    trades = [t for t in trades if t["market"] == "spot"]
    found = {}
    dates = {t["exchange_time"].date() for t in trades}
    for date in sorted(dates | {d + timedelta(days=1) for d in dates}):
        for symbol in {t["symbol"] for t in trades}:
            seen = [
                t
                for t in trades
                if t["symbol"] == symbol and abs((t["exchange_time"].date() - date).days) <= 1
            ]
            found |= {(symbol, at): bar for at, bar in tape_bars(seen).items() if at.date() == date}
    for kline in klines:
        if kline["market"] == "spot" and kline["bar_interval"] == "1m":
            names = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count")
            found[kline["symbol"], kline["open_time"]] = {n: kline[n] for n in names} | {
                "bar_source": "kline"
            }
    return found


def tape_bars(tape: list[dict]) -> dict[datetime, dict]:
    """Bars of one symbol's trades: none in a minute that a hole in the numbers touches."""
    tape = sorted(tape, key=lambda t: t["agg_id"])
    minutes = defaultdict(list)
    for trade in tape:
        minutes[minute_of(trade["exchange_time"])].append(trade)
    found = {at: _traded(inside) for at, inside in minutes.items()}
    in_time = sorted(minutes)
    for at, following in itertools.pairwise(in_time):
        last = max(minutes[at], key=lambda t: t["agg_id"])
        empty = at + MINUTE
        while empty < following:
            found[empty] = _flat(last["price"])
            empty += MINUTE
    for before, after in itertools.pairwise(tape):
        if after["agg_id"] != before["agg_id"] + 1:
            times = sorted(minute_of(t["exchange_time"]) for t in (before, after))
            doubtful = times[0]
            while doubtful <= times[1]:
                found.pop(doubtful, None)
                doubtful += MINUTE
    return found


def _traded(inside: list[dict]) -> dict:
    prices = [t["price"] for t in inside]
    return {
        "open": inside[0]["price"],
        "high": max(prices),
        "low": min(prices),
        "close": inside[-1]["price"],
        "volume": sum(t["quantity"] for t in inside),
        "quote_volume": sum((t["price"] * t["quantity"] for t in inside), Decimal(0)).quantize(
            UNIT, ROUND_HALF_UP
        ),
        "trade_count": sum(t["last_trade_id"] - t["first_trade_id"] + 1 for t in inside),
        "bar_source": "agg_trades",
    }


def _flat(close: Decimal) -> dict:
    zero = Decimal(0)
    return {
        "open": close, "high": close, "low": close, "close": close, "volume": zero, "quote_volume": zero,
        "trade_count": 0, "bar_source": "agg_trades",
    }  # fmt: skip
