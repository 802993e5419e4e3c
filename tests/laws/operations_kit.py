"""Rows of bronze around one operation, number 7 of client 1, in few words; and the specification's golden cycles."""

from __future__ import annotations

import datetime


def at(text: str) -> str:
    """`10:00` or `2 10:00`: a time of the n-th of December 2024, by default the first."""
    day, _, clock = text.rpartition(" ")
    return f"2024-12-{int(day or 1):02d}T{clock}{':00' if clock.count(':') == 1 else ''}Z"


def trade(number: int, side: str, quantity: str, price: str, when: str = "10:00", **other) -> dict:
    return {
        "client_id": 1, "account_type": "SPOT", "symbol": "BTCUSDC", "trade_id": number, "order_id": f"o{number}",
        "price": price, "quantity": quantity, "quote_quantity": 0, "commission": 0, "commission_asset": "",
        "exchange_time": at(when), "side": side,
    } | other  # fmt: skip


def movement(number: int, kind: str, quantity: str, when: str = "10:00", **other) -> dict:
    return {
        "id": number, "transaction_id": f"T{number}", "client_id": 1, "transaction_type": kind, "status": "FILLED",
        "symbol": "BTCUSDC", "asset": "BTC", "quantity": quantity, "account_type": "SPOT", "category": "TRADING",
        "description": "", "source": "sync", "created_at": at(when), "exchange_time": at(when),
        "related_operation_id": 7,
    } | other  # fmt: skip


def orders_of(trades: list[dict], **other) -> list[dict]:
    """For each order of the trades a movement that names operation 7; it says nothing of what was filled."""
    first = {t["order_id"]: t for t in trades[::-1]}
    return [
        movement(n, "LIMIT_ORDER_PLACED", "1", binance_order_id=order, status="PENDING", category="ORDER",
                 account_type=t["account_type"], symbol=t["symbol"], exchange_time=t["exchange_time"],
                 created_at=t["exchange_time"]) | other
        for n, (order, t) in enumerate(first.items(), 1)
    ]  # fmt: skip


def state(**other) -> dict:
    return {
        "operation_id": 7, "client_id": 1, "strategy_id": 3, "symbol": "BTCUSDC", "side": "BUY",
        "account_type": "SPOT",
        "status": "ACTIVE", "planned_quantity": 1, "stop_price": None, "leverage": 1, "created_at": at("09:00"),
        "updated_at": at("09:00"),
    } | other  # fmt: skip


def bar(when: str, low: str, high: str, symbol: str = "BTCUSDC") -> dict:
    opened = datetime.datetime.fromisoformat(at(when))
    return {
        "symbol": symbol, "bar_interval": "1m", "open_time": opened, "open": low, "high": high, "low": low,
        "close": high,
        "close_time": opened + datetime.timedelta(milliseconds=59_999), "volume": 1, "quote_volume": 1,
        "trade_count": 1,
        "taker_buy_base": 0, "taker_buy_quote": 0, "market": "spot",
    }  # fmt: skip


GOLDEN_A = [
    trade(1, "BUY", "0.002", "100", "10:00"), trade(2, "BUY", "0.001", "130", "10:01"),
    trade(3, "SELL", "0.0015", "120", "10:02"), trade(4, "SELL", "0.0015", "115", "10:03"),
]  # fmt: skip

# the margin cycle, which must balance
GOLDEN_B_TRADES = (
    trade(1, "BUY", "0.001", "90000", "10:02", account_type="ISOLATED_MARGIN", commission="0.09",
    commission_asset="USDC"),
    trade(2, "SELL", "0.001", "92800", "10:30", account_type="ISOLATED_MARGIN", commission="0.0928",
    commission_asset="USDC"),
)  # fmt: skip
USDC = {"asset": "USDC", "is_isolated_margin": True}
GOLDEN_B_MOVEMENTS = (
    movement(1, "TRANSFER_SPOT_TO_ISOLATED", "30", "10:00", **USDC),
    movement(2, "MARGIN_BORROW", "63", "10:01", **USDC),
    movement(
        3, "MARGIN_BUY", "0.001", "10:02", binance_order_id="o1", is_isolated_margin=True, price="90000"
    ),
    movement(
        4, "MARGIN_SELL", "0.001", "10:30", binance_order_id="o2", is_isolated_margin=True, price="92800"
    ),
    movement(5, "INTEREST_CHARGED", "0.02", "10:31", **USDC),
    movement(6, "MARGIN_REPAY", "63.02", "10:32", **USDC),
    movement(7, "TRANSFER_ISOLATED_TO_SPOT", "32.5972", "10:33", **USDC),
)
