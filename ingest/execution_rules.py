"""Accepted values, ranges and lengths of the execution datasets, as the specification lists them.

Source: spec/execution.md 2.1, 2.2, 3.2, 3.3, 3.5.
"""

from __future__ import annotations

import csv
from decimal import Decimal

from lake.paths import PROJECT_DIR

_SEEDS = PROJECT_DIR / "seeds" / "reference"


def _seed(name: str) -> tuple[str, ...]:
    with (_SEEDS / f"{name}s.csv").open(newline="") as file:
        return tuple(row[name] for row in csv.DictReader(file))


SIDES = ("BUY", "SELL")
ACCOUNT_TYPES = ("SPOT", "ISOLATED_MARGIN", "CROSS_MARGIN", "FUTURES")

ENUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "events": {
        "event_type": _seed("event_type"),
        "trigger_type": ("STOP_LOSS", "TAKE_PROFIT"),
        "side": SIDES,
        "source": ("ws", "cron", "manual", "rust"),
    },
    "orders": {
        "transaction_type": _seed("transaction_type"),
        "status": ("PENDING", "FILLED", "PARTIALLY_FILLED", "CANCELLED", "FAILED", "EXPIRED"),
        "side": SIDES,
        "account_type": ACCOUNT_TYPES,
        "category": ("TRADING", "TRANSFER", "CREDIT", "ORDER", "FEE", "RISK", "EXTERNAL"),
    },
    "operations": {
        "side": SIDES,
        "account_type": ACCOUNT_TYPES,
        "status": ("PLANNED", "ACTIVE", "CLOSED", "CANCELLED"),
    },
}

# (lowest, highest); None: no bound. Prices have none here: silver's quarantine judges them.
RANGES: dict[str, dict[str, tuple[int, int | None]]] = {
    "events": {
        "event_seq": (1, None),
        "stream_seq": (1, None),
        "quantity": (0, None),
        "retry_count": (0, None),
    },
    "orders": {"quantity": (0, None), "leverage": (1, 10)},
    "operations": {"leverage": (1, 10)},
}

PATTERNS = {"symbol": "^[A-Z0-9]{5,20}$"}

LENGTHS: dict[str, dict[str, int]] = {
    "events": {"execution_token": 64, "exchange_order_id": 100},
    "orders": {"transaction_id": 64, "binance_order_id": 64, "fee_asset": 10, "source": 50},
}

# What stands for a value that is missing.
DEFAULTS: dict[str, dict[str, str]] = {
    "events": {"payload_json": "{}", "retry_count": "0"},
    "orders": {"fee": "0"},
    "operations": {"strategy_id": "0"},
}

# Pairs whose product must stay below the limit, so that sums of products are exact.
NOTIONAL_LIMIT = Decimal(10) ** 18
NOTIONALS: dict[str, tuple[tuple[str, str], ...]] = {
    "events": (("trigger_price", "quantity"), ("stop_price", "quantity"), ("fill_price", "quantity")),
    "orders": (("price", "quantity"), ("stop_price", "quantity")),
    "operations": (("stop_price", "planned_quantity"), ("target_price", "planned_quantity")),
}
