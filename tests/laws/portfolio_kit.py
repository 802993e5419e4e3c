"""Rows of bronze for portfolios: klines, movements, snapshots."""

import csv
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from tests.conftest import PROJECT_DIR

with open(PROJECT_DIR / "seeds" / "reference" / "symbols.csv", newline="") as _file:
    SYMBOLS = list(csv.DictReader(_file))
PAIRS = {(s["base_asset"], s["quote_asset"]): s["symbol"] for s in SYMBOLS}
MINUTE = timedelta(minutes=1)


def kline(symbol: str, open_time: datetime, close: str, **other: object) -> dict:
    value = Decimal(close)
    return {
        "symbol": symbol, "bar_interval": "1m", "open_time": open_time, "market": "spot",
        "close_time": open_time + timedelta(seconds=59, milliseconds=999), "open": value, "high": value, "low": value,
        "close": value, "volume": 1, "quote_volume": value, "trade_count": 1, "taker_buy_base": 1,
        "taker_buy_quote": value, **other,
    }  # fmt: skip


def price(symbol: str, time: datetime, close: str) -> dict:
    """A kline that is the price of ``time``: it ends then."""
    return kline(symbol, time - MINUTE, close)


def closes_of(klines: Iterable[dict]) -> dict[tuple[str, datetime], Decimal]:
    """Closes by (symbol, bar_end), as the oracle reads them."""
    return {(k["symbol"], k["open_time"] + MINUTE): k["close"] for k in klines}


def snapshot(
    client_id: int,
    time: datetime,
    *,
    late: timedelta = timedelta(0),
    balances: list[dict] | None = None,
    **flat: object,
) -> dict:
    return {
        "client_id": client_id, "snapshot_time": time, "balances": balances, "created_at": time,
        "ingested_at": time + late, **flat,
    }  # fmt: skip


def held(
    asset: str, free: object, account_type: str = "SPOT", symbol: str | None = None, **parts: object
) -> dict:
    amounts = {"free": free, "locked": 0, "borrowed": 0, "interest": 0} | parts
    return {"account_type": account_type, "symbol": symbol, "asset": asset} | {
        n: str(v) for n, v in amounts.items()
    }


_numbers = iter(range(1, 10**9))


def movement(
    client_id: int, transaction_type: str, time: datetime, asset: str, quantity: object, **other: object
) -> dict:
    number = next(_numbers)
    return {
        "id": number, "transaction_id": f"t{number}", "client_id": client_id, "transaction_type": transaction_type,
        "status": "FILLED", "symbol": f"{asset}USDC", "asset": asset, "quantity": quantity, "account_type": "SPOT",
        "category": "EXTERNAL", "source": "test", "description": "", "created_at": time, "executed_at": time,
        "ingested_at": time, **other,
    }  # fmt: skip


def operation(client_id: int, operation_id: int, symbol: str, side: str, time: datetime) -> dict:
    return {
        "operation_id": operation_id, "client_id": client_id, "strategy_id": 1, "symbol": symbol, "side": side,
        "account_type": "SPOT", "status": "ACTIVE", "created_at": time, "updated_at": time,
    }  # fmt: skip


def fill(
    client_id: int,
    operation_id: int,
    symbol: str,
    side: str,
    time: datetime,
    price: str,
    quantity: str,
    **other: object,
) -> tuple[dict, dict]:
    """An own fill with an order of its own, and the movement of the ledger that names order and operation."""
    number = next(_numbers)
    base, quote = next((s["base_asset"], s["quote_asset"]) for s in SYMBOLS if s["symbol"] == symbol)
    value = round(Decimal(price) * Decimal(quantity), 8)
    own = {
        "client_id": client_id, "account_type": "SPOT", "symbol": symbol, "trade_id": number, "order_id": str(number),
        "price": price, "quantity": quantity, "quote_quantity": value, "commission": 0, "commission_asset": quote,
        "exchange_time": time, "side": side, **other,
    }  # fmt: skip
    traded = movement(
        client_id, f"SPOT_{side}", time, base, quantity, category="TRADING", symbol=symbol, price=price,
        total_value=value, side=side, binance_order_id=str(number), related_operation_id=operation_id,
    )  # fmt: skip
    return own, traded
