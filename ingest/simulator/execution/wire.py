"""Values as the files write them. Times are microseconds since 1970 UTC; money, prices, quantities whole 1e-8 units."""

import hashlib
import json
import math
from datetime import UTC, datetime

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
UNIT = 10**8

_days: dict[int, str] = {}


def iso(time_us: int) -> str:
    """``2024-12-01T00:00:00.000000Z``."""
    day, rest = divmod(time_us, DAY_US)
    text = _days.get(day)
    if text is None:
        text = _days[day] = datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
    second, micros = divmod(rest, SECOND_US)
    return f"{text}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{micros:06d}Z"


def date_text(time_us: int) -> str:
    return iso(time_us)[:10]


def money(units: int) -> str:
    """A decimal of scale 8: exact, no float on the way."""
    sign = "-" if units < 0 else ""
    return f"{sign}{abs(units) // UNIT}.{abs(units) % UNIT:08d}"


def money_or_none(units: int | None) -> str | None:
    return None if units is None else money(units)


def divide(numerator: int, denominator: int) -> int:
    """Whole quotient, half away from zero, as a plain cast to a decimal rounds."""
    quotient, rest = divmod(abs(numerator), abs(denominator))
    quotient += 2 * rest >= abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def product(units: int, other: int) -> int:
    """Of two decimals of scale 8, rounded back to scale 8."""
    return divide(units * other, UNIT)


def percent_points(ratio_in_percent: float) -> float:
    """Four decimals, half to even. Source: spec/execution.md 2.2."""
    return round(ratio_in_percent * 10_000) / 10_000


def cast_double(value: float) -> int:
    """A double as a decimal of scale 8, half away from zero, in whole units."""
    return math.floor(abs(value) * UNIT + 0.5) * (-1 if value < 0 else 1)


def uuid_text(raw: bytes) -> str:
    """A version-4 UUID out of 16 random bytes."""
    h = raw.hex()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[raw[8] & 3]}{h[17:20]}-{h[20:]}"


def execution_token(client_id: int, operation_id: int, trigger_type: str, level: int, attempt_no: int) -> str:
    """Source: spec/execution.md 2.4."""
    name = f"{client_id}|{operation_id}|{trigger_type}|{money(level)}|{attempt_no}"
    return hashlib.sha256(name.encode()).hexdigest()


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def json_line(row: dict) -> str:
    return _encode(row) + "\n"
