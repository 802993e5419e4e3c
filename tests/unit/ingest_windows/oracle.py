"""An event line judged slowly and on its own: `json`, `decimal` and `datetime` only, none of the loader's code.

Source: spec/execution.md 2.1, 2.2, 3.1, 3.2.
"""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal

EVENT_TYPES = (
    "STOP_TRIGGERED", "EXECUTION_SUBMITTED", "EXECUTED", "FAILED", "BLOCKED", "STALE_PRICE", "KILL_SWITCH",
    "SLIPPAGE_BREACH", "CIRCUIT_BREAKER",
)  # fmt: skip
DECIMALS = {"trigger_price": 8, "stop_price": 8, "quantity": 8, "fill_price": 8, "slippage_pct": 4}
DIGITS = {"slippage_pct": 6}
INTEGERS = {"event_seq": 64, "stream_seq": 64, "operation_id": 64, "client_id": 64, "retry_count": 32}
TEXTS = (
    "symbol",
    "event_type",
    "trigger_type",
    "side",
    "execution_token",
    "exchange_order_id",
    "source",
    "error_message",
)
REQUIRED = ("event_id", "occurred_at", "operation_id", "client_id", "symbol", "event_type", "source")
KNOWN = {*DECIMALS, *INTEGERS, *TEXTS, "event_id", "occurred_at", "exchange_time", "payload_json", "ingested_at",
         "environment", "request_payload_hash"}  # fmt: skip
MAX_DEPTH, MAX_DIGITS = 32, 100


class Bad(Exception):
    """The line must be rejected."""


class Written(str):
    """A number as it was written."""


def _pairs(pairs):
    if len({key for key, _ in pairs}) != len(pairs):
        raise Bad("key twice")
    return dict(pairs)


def _constant(name):
    raise Bad(name)


def _walk(value, depth=0):
    """Depth, halves of surrogates, NUL, and numbers too long to write out."""
    if isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise Bad("deep")
        for key in value if isinstance(value, dict) else ():
            _walk(key, depth)
        for inner in value.values() if isinstance(value, dict) else value:
            _walk(inner, depth + 1)
    elif isinstance(value, Written):
        _number(value)
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
        raise Bad("text")


def _number(text):
    digits = Decimal(text)
    if abs(digits.adjusted()) > MAX_DIGITS or -digits.as_tuple().exponent > MAX_DIGITS:
        raise Bad("long")
    return digits


def _decimal(value, scale, whole):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Bad("no decimal")
    text = str(value)
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?", text):
        raise Bad("no decimal")
    number = _number(text)
    if (
        number != number.quantize(Decimal(1).scaleb(-scale), context=Context(prec=1000))
        or abs(number) >= 10**whole
    ):
        raise Bad("too long")
    return number


def _time(value):
    if value is None:
        return None
    form = r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d(?::?\d\d)?)"
    found = re.fullmatch(form, value, re.ASCII) if type(value) is str else None
    if not found:
        raise Bad("no time")
    *parts, fraction, zone = found.groups()
    fraction = fraction or "0"
    if len(fraction) > 6 and fraction[6:].strip("0"):
        raise Bad("too fine")
    try:
        when = datetime(*map(int, parts), int(fraction[:6].ljust(6, "0")), tzinfo=UTC)
        if zone != "Z":
            hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
            if hours > 23 or minutes > 59:
                raise Bad("no zone")
            when -= timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    except (ValueError, OverflowError):
        raise Bad("no time") from None
    if not 2000 <= when.year < 2100:
        raise Bad("range")
    return when


def judge(line: bytes) -> dict | None:
    """The typed values of an event, None for a blank line. Raises Bad."""
    try:
        text = line.decode()
        if not text.strip(" \t\r"):
            return None
        row = json.loads(text, object_pairs_hook=_pairs, parse_float=Written, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise Bad("no JSON") from None
    if type(row) is not dict:
        raise Bad("no object")
    _walk(row)
    made: dict = {}
    for name, bits in INTEGERS.items():
        value = made[name] = row.get(name)
        if value is not None and (
            type(value) is not int or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
        ):
            raise Bad(name)
    for name in TEXTS:
        value = made[name] = row.get(name)
        if value is not None and type(value) is not str:
            raise Bad(name)
    for name, scale in DECIMALS.items():
        made[name] = _decimal(row.get(name), scale, DIGITS.get(name, 12))
    for name in ("occurred_at", "exchange_time", "ingested_at"):
        made[name] = _time(row.get(name))
    payload = row.get("payload_json")
    if payload is not None and type(payload) is not dict:
        raise Bad("payload")
    made["payload"] = payload or {}
    if made["trigger_type"] is None:
        made["trigger_type"] = made["payload"].get("trigger_type")
    if (
        made["trigger_type"] not in (None, "STOP_LOSS", "TAKE_PROFIT")
        or type(made["trigger_type"]) is Written
    ):
        raise Bad("trigger_type")
    identity = row.get("event_id")
    hexes = "-".join(f"[0-9a-fA-F]{{{n}}}" for n in (8, 4, 4, 4, 12))
    if type(identity) is not str or not re.fullmatch(hexes, identity):
        raise Bad("event_id")
    made["event_id"] = str(uuid.UUID(identity))
    made["retry_count"] = made["retry_count"] or 0
    if any(made.get(name) is None for name in REQUIRED):
        raise Bad("missing")
    if not re.fullmatch("[A-Z0-9]{5,20}", made["symbol"]) or made["event_type"] not in EVENT_TYPES:
        raise Bad("enum")
    if made["side"] not in (None, "BUY", "SELL") or made["source"] not in ("ws", "cron", "manual", "rust"):
        raise Bad("enum")
    if (
        any(made[n] is not None and made[n] < 1 for n in ("event_seq", "stream_seq"))
        or made["retry_count"] < 0
    ):
        raise Bad("range")
    if len(made["execution_token"] or "") > 64 or len(made["exchange_order_id"] or "") > 100:
        raise Bad("length")
    if made["quantity"] is not None:
        prices = [made[n] for n in ("trigger_price", "stop_price", "fill_price") if made[n] is not None]
        if made["quantity"] < 0 or any(abs(p * made["quantity"]) >= 10**18 for p in prices):
            raise Bad("notional")
    made["extra"] = {key: value for key, value in row.items() if key not in KNOWN}
    return made
