"""A slow reader of flat files in plain Python, line by line: what the fast one has to agree with.

It shares no code with it: lines by `split`, fields by a regular expression, numbers by `Decimal` and `int`.
"""

import re
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction

OPTION_COLUMNS = ["ticker", "conditions", "correction", "exchange", "price", "sip_timestamp", "size"]
STOCK_COLUMNS = [
    "ticker", "conditions", "correction", "exchange", "id", "participant_timestamp", "price",
    "sequence_number", "sip_timestamp", "size", "tape", "trf_id", "trf_timestamp",
]  # fmt: skip
MORE_COLUMNS = ["participant_timestamp", "sequence_number", "decimal_size"]
QUOTE_COLUMNS = ["bid_price", "ask_price"]  # of options
MAX_LINE = 65_536
MIN_NS, MAX_NS = 946_684_800 * 10**9, 4_102_444_800 * 10**9

_FIELD = re.compile(rb'"((?:[^"]|"")*)"|([^",]*)')
_OPTION = re.compile(
    r"(?:O:)?([A-Za-z0-9.]{1,6}|(?=[A-Za-z0-9. ]{6}\d{6}[CP])[A-Za-z0-9.]+ +)(\d{6})([CP])(\d{8})"
)
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WHOLE = re.compile(r"[0-9]+")


class Refused(Exception):
    """The header is none."""


class _Bad(Exception):
    def __init__(self, rule: str) -> None:
        self.rule = rule


@dataclass
class Read:
    """Accepted rows as dictionaries of bronze's columns by ordinal, and rejects as (line number, rule, raw bytes)."""

    accepted: dict[int, dict] = field(default_factory=dict)
    rejected: list[tuple[int, str, bytes]] = field(default_factory=list)
    filtered: int = 0
    lines: int = 0


def read(text: bytes, wanted: set[str], *, is_option: bool) -> Read:
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise Refused
    columns = _header(lines[0], is_option=is_option)
    out = Read()
    for number, line in enumerate(line.removesuffix(b"\r") for line in lines[1:]):
        out.lines += 1
        try:
            row = _row(line, columns, wanted, is_option=is_option)
        except _Bad as bad:
            out.rejected.append((number + 2, bad.rule, line))
            continue
        if row is None:
            out.filtered += 1
        else:
            out.accepted[number] = row
    return out


def _header(line: bytes, *, is_option: bool) -> list[str]:
    try:
        columns = [f.decode() for f in _fields(line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r"))]
    except (_Bad, UnicodeDecodeError) as error:
        raise Refused from error
    if any('"' in c or not c.isprintable() for c in columns):
        raise Refused
    required = OPTION_COLUMNS if is_option else STOCK_COLUMNS
    if not set(required) <= set(columns) or len(set(columns)) != len(columns):
        raise Refused
    return columns


def _fields(line: bytes) -> list[bytes]:
    fields, at = [], 0
    while True:
        found = _FIELD.match(line, at)
        fields.append(found[2] if found[1] is None else found[1].replace(b'""', b'"'))
        at = found.end()
        if at == len(line):
            return fields
        if line[at : at + 1] != b",":
            raise _Bad("QUOTE")
        at += 1


def _row(line: bytes, columns: list[str], wanted: set[str], *, is_option: bool) -> dict | None:
    if len(line) > MAX_LINE:
        raise _Bad("LINE_LENGTH")
    fields = _fields(line)
    if b"\0" in line:
        raise _Bad("ENCODING")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise _Bad("ENCODING") from error
    if len(fields) != len(columns):
        raise _Bad("COLUMN_COUNT")
    value = dict(zip(columns, (f.decode() for f in fields), strict=True))
    row = _ticker(value["ticker"], is_option=is_option)
    if row.pop("root") not in wanted:
        return None
    row["ts_event_ns"] = _time(value["sip_timestamp"])
    row["price"] = _price(value["price"], is_option=is_option)
    if is_option:
        bid, ask = (value.get(c, "") for c in QUOTE_COLUMNS)
        row["opt_bid"] = _price(bid, is_option=True) if bid else None
        row["opt_ask"] = _price(ask, is_option=True) if ask else None
        if bid and ask and row["opt_bid"] > row["opt_ask"]:
            raise _Bad("CROSSED_NBBO")
    row["size"] = _size(value["size"], value.get("decimal_size", ""), is_option=is_option)
    row["exchange"] = _optional(value["exchange"], 2**15)
    row["correction"] = _optional(value["correction"], 2**63)
    if row["correction"] not in (None, 0, 1, 7, 8, 10, 11, 12):
        raise _Bad("ENUM")
    row["sequence"] = _optional(value.get("sequence_number", ""), 2**63)
    at = _optional(value.get("participant_timestamp", ""), 2**63)
    row["ts_recv_ns"] = _time(str(at)) if at else None
    conditions = value["conditions"]
    row["conditions"] = [_whole(c, 2**15) for c in conditions.split(",")] if conditions else None
    if not is_option:
        row["trade_id"] = value["id"] or None
    known = {*(OPTION_COLUMNS + QUOTE_COLUMNS if is_option else STOCK_COLUMNS), *MORE_COLUMNS}
    row["_extra"] = {c: v for c, v in value.items() if c not in known} or None
    return row


def _ticker(text: str, *, is_option: bool) -> dict:
    if not is_option:
        if not (1 <= len(text) <= 32 and all(32 < ord(c) < 127 and c not in '",' for c in text)):
            raise _Bad("TICKER")
        return {"root": text}
    found = _OPTION.fullmatch(text)
    if found is None:
        raise _Bad("TICKER")
    root, day, right, strike = found.groups()
    root = root.rstrip(" ")
    try:
        expiry = date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError as error:
        raise _Bad("TICKER") from error
    return {
        "root": root, "option_symbol": f"O:{root}{day}{right}{strike}", "exp_date": expiry, "right": right,
        "strike": Decimal(int(strike)) / 1000,
    }  # fmt: skip


def _whole(text: str, below: int) -> int:
    if not _WHOLE.fullmatch(text) or int(text) >= below:
        raise _Bad("CAST")
    return int(text)


def _optional(text: str, below: int) -> int | None:
    return _whole(text, below) if text else None


def _time(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise _Bad("CAST")
    if not MIN_NS < int(text) < MAX_NS:
        raise _Bad("TS_RANGE")
    return int(text)


def _number(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise _Bad("CAST")
    return Decimal(text)


def _price(text: str, *, is_option: bool) -> Decimal:
    price = _number(text)
    if abs(price) >= 10**9:
        raise _Bad("PRICE_RANGE")
    if Fraction(price) * 10**9 % 1:  # arithmetic of Decimal rounds
        raise _Bad("CAST")
    if price < 0 or (price == 0 and not is_option):
        raise _Bad("PRICE_RANGE")
    return price


def _size(text: str, exact: str, *, is_option: bool) -> Decimal:
    size = _number(text)
    if exact:
        size = _number(exact)
    if size <= 0 or (Fraction(size) % 1 and is_option) or Fraction(size) * 10**6 % 1:
        raise _Bad("SIZE")
    if size >= (2**31 if is_option else 10**12):
        raise _Bad("SIZE")
    return size
