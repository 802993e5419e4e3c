"""Worlds of stop events out of one seed: every shape of an execution, and every fault of a delivery."""

import datetime
import hashlib
import json
import random
import uuid
from decimal import Decimal

TYPES = [
    "STOP_TRIGGERED", "EXECUTION_SUBMITTED", "EXECUTED", "FAILED", "BLOCKED", "KILL_SWITCH", "SLIPPAGE_BREACH",
    "STALE_PRICE", "CIRCUIT_BREAKER",
]  # fmt: skip
USUAL = [
    ["STOP_TRIGGERED", "EXECUTION_SUBMITTED", "EXECUTED"], ["STOP_TRIGGERED", "EXECUTION_SUBMITTED"], ["FAILED"],
    ["STOP_TRIGGERED", "EXECUTION_SUBMITTED", "FAILED", "EXECUTED"], ["STOP_TRIGGERED", "KILL_SWITCH"],
    ["STOP_TRIGGERED", "EXECUTION_SUBMITTED", "EXECUTED", "EXECUTED"],
]  # fmt: skip
MIDNIGHT = datetime.datetime(2024, 12, 2, tzinfo=datetime.UTC)
BUSINESS = [
    "event_id", "event_seq", "stream_seq", "occurred_at", "exchange_time", "operation_id", "client_id", "symbol",
    "event_type", "trigger_type", "trigger_price", "stop_price", "quantity", "side", "execution_token", "payload_json",
    "exchange_order_id", "fill_price", "slippage_pct", "source", "retry_count", "error_message",
]  # fmt: skip


def world(seed: int, executions: int = 12) -> list[dict]:
    """Rows as they land, copies and conflicts included, in the order of their loading."""
    rng = random.Random(seed)  # noqa: S311
    events: list[dict] = []
    next_seq, numbers = 1, {}
    for number in range(executions):
        client, operation = rng.choice([1, 2]), rng.randint(1, 6)
        shape = rng.choice(USUAL) if rng.random() < 0.6 else rng.choices(TYPES, k=rng.randint(1, 6))
        token = f"token{number if rng.random() < 0.85 else rng.randint(0, executions)}"
        has_seq = rng.random() < 0.8
        # most executions stay within minutes, some live through several midnights
        at = MIDNIGHT + datetime.timedelta(
            days=rng.choice([-1, 0, 0, 1]), seconds=rng.choice([-9, -5, 40000])
        )
        step = rng.choice([1, 3, 3, 100000])
        level = Decimal(rng.choice([88200, 93600, 100]))
        side = rng.choice(["SELL", "BUY"])
        made: list[dict] = []
        for event_type in shape:
            key = client, operation
            numbers[key] = numbers.get(key, 0) + (1 if rng.random() < 0.97 else 2)
            at += datetime.timedelta(seconds=rng.choice([0, step, step]), microseconds=rng.choice([0, 0, 7]))
            event = _event(rng, event_type, level, side)
            told = [e for e in made if e["event_type"] == event_type == "EXECUTED"]
            if told and rng.random() < 0.5:  # the same report under another event_id
                event |= {
                    n: told[-1][n] for n in ("exchange_order_id", "payload_json", "fill_price", "quantity")
                }
            event |= {
                "event_seq": next_seq if has_seq or rng.random() < 0.5 else None,
                "stream_seq": numbers[key] if rng.random() < 0.95 else None,
                "occurred_at": at - datetime.timedelta(seconds=rng.choice([0] * 9 + [20])),
                "client_id": client, "operation_id": operation,
                "execution_token": None if rng.random() < 0.05 else token,
            }  # fmt: skip
            next_seq += rng.randint(1, 3)
            if rng.random() < 0.1 and events:  # the producer gave the numbers in another order
                event["event_seq"], events[-1]["event_seq"] = events[-1]["event_seq"], event["event_seq"]
            events.append(event)
            made.append(event)
    return _delivered(rng, events)


def _event(rng: random.Random, event_type: str, level: Decimal, side: str) -> dict:
    def maybe(value: object, share: float = 0.9) -> object:
        return value if rng.random() < share else None

    payload: dict = {}
    if rng.random() < 0.8:
        payload["entry_price"] = str(level + rng.choice([-1800, 1800, 0, 5]))
    if event_type == "BLOCKED" and rng.random() < 0.7:
        payload["block_reason"] = "LIMIT"
    event = {
        "event_id": str(uuid.UUID(int=rng.getrandbits(128))), "exchange_time": None, "symbol": "BTCUSDC",
        "event_type": event_type, "trigger_type": maybe(rng.choice(["STOP_LOSS", "TAKE_PROFIT"])),
        "trigger_price": maybe(level - rng.choice([0, 200, 5])),
        "stop_price": maybe(level + (rng.choice([0] * 9 + [1]))), "quantity": maybe(Decimal("0.001"), 0.97),
        "side": maybe(side, 0.97), "exchange_order_id": None, "fill_price": None, "slippage_pct": None,
        "source": rng.choice(["ws", "cron"]), "retry_count": rng.randint(0, 2), "error_message": None,
    }  # fmt: skip
    if event_type == "FAILED":
        event["error_message"] = maybe(f"code={rng.randint(1, 3)}", 0.8)
    if event_type == "EXECUTED":
        event["exchange_order_id"] = maybe(f"order{rng.randint(1, 2)}")
        event["fill_price"] = maybe(level - rng.choice([0, 200, 250, -45, 60]), 0.95)
        event["quantity"] = maybe(Decimal(rng.choice(["0.0006", "0.0004", "0.001"])), 0.95)
        _pay(rng, payload, event)
    event["payload_json"] = payload
    return event


def _pay(rng: random.Random, payload: dict, event: dict) -> None:
    asset, amount = rng.choice(
        [("USDC", "0.088"), ("BTC", "0.000001"), ("BNB", "0.00012"), ("XYZ", "1"), (None, "0.05")]
    )
    if rng.random() < 0.1:
        payload["fill_imputed"] = True
    how = rng.random()
    if how < 0.6:
        payload["fills"] = [
            {"price": str(event["fill_price"]) if event["fill_price"] else None, "qty": "0.0005",
             "commission": amount, "commission_asset": asset, "trade_id": rng.randint(1, 3)}
            for _ in range(rng.randint(1, 2))
        ]  # fmt: skip
    elif how < 0.85:
        payload["fee"] = amount
        if asset:
            payload["fee_asset"] = asset
    if rng.random() < 0.3:
        event["exchange_time"] = MIDNIGHT + datetime.timedelta(minutes=rng.choice([-30, 30, 90]))


def _delivered(rng: random.Random, events: list[dict]) -> list[dict]:
    """Shuffled a little, some twice, few of these in another form; each on the date of its ingestion."""
    rows = []
    for event in events:
        late = rng.choice([1, 1, 1, 1, 5, 90000])
        rows.append(event | {"ingested_at": event["occurred_at"] + datetime.timedelta(seconds=late)})
        if rng.random() < 0.12:
            again = rows[-1]["ingested_at"] + datetime.timedelta(seconds=rng.choice([0, 2, 86400]))
            rows.append(rows[-1] | {"ingested_at": again})
            if rng.random() < 0.2:
                rows[-1]["retry_count"] = 7
    rng.shuffle(rows)
    base = MIDNIGHT + datetime.timedelta(days=9)
    return [
        row | {"loaded_at": base + datetime.timedelta(seconds=number), "row_hash": row_hash(row)}
        for number, row in enumerate(rows)
    ]


def row_hash(row: dict) -> str:
    """Any hash of the business columns serves: equal rows have equal ones."""
    return hashlib.sha256(json.dumps([row[n] for n in BUSINESS], default=str).encode()).hexdigest()


def closes() -> dict:
    """Closes of BNBUSDC by (symbol, bar_end), with holes longer than an hour."""
    minutes = [-1500, -1440, -90, -61, -31, -5, 0, 29, 35, 90, 1440, 1500]
    return {
        ("BNBUSDC", MIDNIGHT + datetime.timedelta(minutes=m)): Decimal(700) + m / Decimal(10) for m in minutes
    }


def bars(prices: dict) -> list[dict]:
    """Rows of bronze.klines for these closes."""
    minute = datetime.timedelta(minutes=1)
    return [
        {"symbol": symbol, "bar_interval": "1m", "open_time": end - minute, "close_time": end, "open": close,
         "high": close, "low": close, "close": close, "volume": 1, "quote_volume": 1, "trade_count": 1,
         "taker_buy_base": 0, "taker_buy_quote": 0, "market": "spot"}
        for (symbol, end), close in prices.items()
    ]  # fmt: skip
