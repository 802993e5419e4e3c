"""The same rows as the parsers give, found slowly: one line and one value at a time, with the standard library only."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
FIRST, LAST = (
    dt.datetime(2000, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
)
NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)")
BOOLEANS = {"True": True, "true": True, "False": False, "false": False}


class Bad(Exception):
    pass


def integer(text: str) -> int:
    if len(text) > 200 or not re.fullmatch("-?[0-9]+", text) or not -(2**63) <= int(text) < 2**63:
        raise Bad
    return int(text)


def number(text: str) -> Decimal:
    if len(text) > 200 or not NUMBER.fullmatch(text):
        raise Bad
    sign, digits, exponent = Decimal(text).as_tuple()
    scaled = int("".join(map(str, digits))) * 10 ** max(0, exponent + 8)
    if exponent < -8:
        scaled, rest = divmod(scaled, 10 ** (-8 - exponent))
        if rest:
            raise Bad
    if scaled >= 10**20:
        raise Bad
    return Decimal(-scaled if sign else scaled) / Decimal(10**8)


def moment(text: str) -> dt.datetime:
    value = integer(text)
    micros = value * 1000 if value < 10**14 else value
    if not 946_684_800_000_000 <= micros < 4_102_444_800_000_000:
        raise Bad
    return EPOCH + dt.timedelta(microseconds=micros)


def positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise Bad
    return value


def agg_row(symbol: str, texts: dict[str, str | None], market: str) -> dict:
    row = {
        "symbol": symbol,
        "agg_id": integer(texts["a"]),
        "price": positive(number(texts["p"])),
        "quantity": positive(number(texts["q"])),
        "first_trade_id": integer(texts["f"]),
        "last_trade_id": integer(texts["l"]),
        "exchange_time": moment(texts["T"]),
        "is_buyer_maker": boolean(texts["m"]),
        "is_best_match": None if texts["M"] is None else boolean(texts["M"]),
        "market": market,
    }
    if row["agg_id"] < 0 or not 0 <= row["first_trade_id"] <= row["last_trade_id"]:
        raise Bad
    if Fraction(row["price"]) * Fraction(row["quantity"]) >= 10**18 or not re.fullmatch(
        "[A-Z0-9]{5,20}", symbol
    ):
        raise Bad
    return row


def boolean(text: str) -> bool:
    if text not in BOOLEANS:
        raise Bad
    return BOOLEANS[text]


def archive_rows(data: bytes, symbol: str, day: dt.date) -> dict[int, dict]:
    """Row by line number of a headless spot CSV of aggregate trades."""
    rows = {}
    lines = data.split(b"\n")
    for line_no, line in enumerate(lines, 1):
        text = line.removesuffix(b"\r") if line_no < len(lines) else line
        try:
            texts = text.decode("ascii").split(",")
            if len(line) > 65_536 or b"\r" in text or len(texts) != 8:
                raise Bad
            row = agg_row(symbol, dict(zip("apqflTmM", texts, strict=True)), "spot")
            if row["exchange_time"].date() == day:
                rows[line_no] = row
        except (Bad, UnicodeDecodeError):
            continue
    return rows


def capture_rows(data: bytes) -> dict[int, dict]:
    """Row by line number of aggregate trades in a capture."""
    rows = {}
    for line_no, line in enumerate(data.split(b"\n"), 1):
        try:
            row = capture_row(line)
        except (Bad, UnicodeDecodeError, ValueError, RecursionError):
            continue
        if row is not None:
            rows[line_no] = row
    return rows


def capture_row(line: bytes) -> dict | None:
    text = line.decode().strip(" \t\r")
    received = None
    if found := re.match(r"([0-9]{1,20}) ", line.decode()):
        text, received = text[found.end() :], EPOCH + dt.timedelta(microseconds=int(found[1]) // 1000)
        if not FIRST <= received <= LAST:
            raise Bad
    value = json.loads(
        text, parse_float=Plain, parse_int=Plain, parse_constant=refuse, object_pairs_hook=unique
    )
    json.dumps(value, ensure_ascii=False).encode()  # a ValueError for half of a surrogate pair
    if isinstance(value, dict) and set(value) == {"stream", "data"}:
        if not isinstance(value["stream"], str) or not isinstance(value["data"], dict):
            raise Bad
        value = value["data"]
        if set(value) == {"stream", "data"}:
            raise Bad
    if not isinstance(value, dict) or value.get("e") != "aggTrade" or isinstance(value["e"], Plain):
        return None
    texts: dict[str, str | None] = {}
    for key in "apqflTmM":
        found = value.get(key) if key == "M" else value[key] if key in value else refuse(key)
        if key == "M" and found is None:
            texts[key] = None
        elif key in "mM":
            if type(found) is not bool:
                raise Bad
            texts[key] = str(found)
        elif isinstance(found, Plain):
            exponent = "e" in found.lower()
            texts[key] = f"{Decimal(found):f}" if key in "pq" and exponent and short(found) else str(found)
        elif type(found) is str and key in "pq":
            texts[key] = found
        else:
            raise Bad
    if type(value.get("s")) is not str:
        raise Bad
    row = agg_row(value["s"], texts, "usdm" if texts["M"] is None else "spot")
    return row | {"received_at": received}


def short(text: str) -> bool:
    try:
        return len(text) <= 40 and abs(Decimal(text).adjusted()) <= 40
    except InvalidOperation:
        return False


class Plain(str):
    __slots__ = ()


def refuse(what: str) -> object:
    raise Bad(what)


def unique(pairs: list) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise Bad
    return dict(pairs)
