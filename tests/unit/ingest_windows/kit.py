"""Small NDJSON files of all four datasets, and a lake's windows as a test compares them."""

import json
import random
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lake.windows import read_markers

START = datetime(2024, 12, 1, tzinfo=UTC)
TYPES = ("STOP_TRIGGERED", "EXECUTION_SUBMITTED", "EXECUTED", "FAILED", "KILL_SWITCH")


def instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"


def event(n: int, at: datetime, **more: object) -> dict:
    """Event number ``n``; every value follows from ``n`` and ``at``."""
    rng = random.Random(n)  # noqa: S311 - values of a test
    price = 88_000 + rng.randrange(100_000) / 100
    return {
        "event_id": str(uuid.UUID(int=rng.getrandbits(128))),
        "event_seq": n + 1,
        "occurred_at": instant(at),
        "operation_id": n // 4 + 1,
        "client_id": 1 + n % 2,
        "symbol": "BTCUSDC",
        "event_type": TYPES[n % len(TYPES)],
        "trigger_price": f"{price:.8f}",
        "stop_price": "88200.00000000",
        "quantity": "0.00100000",
        "side": "SELL",
        "execution_token": f"{n // 4:064x}",
        "payload_json": {"trigger_type": "STOP_LOSS", "entry_price": "90000.00000000", "strategy_id": 7},
        "source": "ws",
        "retry_count": 0,
        **more,
    }


def events(count: int, *, seed: int = 1, hours: float = 6, start: datetime = START) -> list[dict]:
    """Events spread evenly at random over ``hours``, in order of time."""
    rng = random.Random(seed)  # noqa: S311 - values of a test
    offsets = sorted(rng.randrange(int(hours * 3_600_000_000)) for _ in range(count))
    return [event(seed * 1_000_000 + n, start + timedelta(microseconds=us)) for n, us in enumerate(offsets)]


def order(n: int, at: datetime, **more: object) -> dict:
    return {
        "id": n,
        "transaction_id": f"tx-{n}",
        "binance_order_id": str(10_000 + n),
        "client_id": 1 + n % 3,
        "transaction_type": "SPOT_BUY",
        "status": "FILLED",
        "symbol": "BTCUSDC",
        "asset": "BTC",
        "quantity": "0.00100000",
        "price": "88000.10000000",
        "fee": "0.00000100",
        "fee_asset": "BTC",
        "side": "BUY",
        "leverage": 3,
        "is_isolated_margin": n % 2 == 0,
        "account_type": "SPOT",
        "category": "TRADING",
        "related_operation_id": n // 2,
        "risk_percent": "1.50",
        "description": "entry",
        "source": "bot",
        "raw_response": {"orderId": n, "transactTime": 1_733_011_200_123 + n},
        "created_at": instant(at),
        **more,
    }


def operation(n: int, at: datetime, **more: object) -> dict:
    return {
        "operation_id": n,
        "client_id": 1,
        "strategy_id": 7,
        "symbol": "ETHUSDC",
        "side": "BUY",
        "account_type": "ISOLATED_MARGIN",
        "status": "ACTIVE",
        "planned_quantity": "1.5",
        "stop_price": "3000",
        "target_price": 3500.25,
        "leverage": 5,
        "created_at": instant(at),
        "updated_at": instant(at),
        **more,
    }


def balance(n: int, at: datetime, **more: object) -> dict:
    flat = {"spot_usdc": "100.5", "spot_btc": "0.001", "btc_price": "88000", "margin_level": "2.1542"}
    rows = {
        "balances": [{"account_type": "SPOT", "symbol": None, "asset": "USDC", "free": "100", "locked": "0"}]
    }
    return {
        "client_id": 1 + n % 2,
        "snapshot_time": instant(at),
        "created_at": instant(at + timedelta(seconds=1)),
        **(rows if n % 2 else flat),
        **more,
    }


def write(path: Path, rows: Iterable[dict | str]) -> Path:
    """One line a row; a string stands as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def windows(root: Path, dataset: str = "events") -> list[tuple]:
    """What must be equal between two lakes that landed the same: content, not names or bytes of files."""
    return [
        (
            m.window_start,
            m.number,
            m.state,
            m.rows,
            m.min_occurred_at,
            m.max_occurred_at,
            m.reject_rows,
            m.content_hash,
        )
        for m in read_markers(root, dataset)
    ]
