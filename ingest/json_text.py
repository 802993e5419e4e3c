"""JSON as text: parsed without losing a digit, written in the one canonical form.

Canonical: keys in byte order, no spaces, characters outside ASCII as they are, numbers in plain decimal notation with
the digits that came. A JSON object from PostgreSQL's `jsonb` and the same object from a file give the same text.
Source: spec/execution.md 2.4.
"""

from __future__ import annotations

import json
import json.encoder
import re
from decimal import Decimal, InvalidOperation

MAX_DEPTH = 32
MAX_DIGITS = 100  # of one number written out
MARK = "\0"  # no string of a parsed text holds it
_MARKED = re.compile(r'"\\u0000([-+0-9.]+)"')


class BadJson(ValueError):
    """A text is no JSON of ours; the message says why."""


class Number(str):
    """A number with a point or an exponent: MARK, then its plain notation. A string of the text never starts so."""

    __slots__ = ()

    @property
    def text(self) -> str:
        return self[1:]


def parse(text: str) -> object:
    """Parse ``text``; integers as int, other numbers as `Number`.

    Raises BadJson for what the grammar doesn't know (NaN, a trailing comma), a key that comes twice, a number too
    long to be one, text that is no Unicode, and nesting deeper than MAX_DEPTH.
    """
    try:
        start = _blank(text, 0).end()
        value, end = _SCAN(text, start)
        if end != len(text) and _blank(text, end).end() != len(text):
            raise BadJson(f"line was no JSON (more stood after character {end})")
        if not text.isascii() or "\\u" in text:
            text.encode()
            if "\\u" in text:
                if "\\u0000" in text:
                    raise BadJson("text held a NUL character, expected none; leave it out")
                json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadJson("text held half of a surrogate pair, expected Unicode; write it as UTF-8") from None
    except RecursionError:
        raise BadJson(f"nesting was too deep, expected at most {MAX_DEPTH} levels") from None
    except BadJson:
        raise
    except StopIteration as error:
        raise BadJson(f"line was no JSON (no value at character {error.value})") from None
    except ValueError as error:
        raise BadJson(f"line was no JSON ({error})") from None
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _require_shallow(value, MAX_DEPTH)
    return value


def canonical(value: object) -> str:
    """Text of a value that `parse` gave."""
    text = "".join(_ENCODE(value, 0))
    return _MARKED.sub(r"\1", text) if "\\u0000" in text else text


def plain_number(text: str) -> str:
    """A number as JSON writes it, without its exponent: ``1.50e2`` gives ``150``, ``-0.0`` gives ``0.0``."""
    try:
        number = Decimal(text)
        if not number.is_finite() or max(abs(number.adjusted()), -number.as_tuple().exponent) > MAX_DIGITS:
            raise InvalidOperation
    except InvalidOperation:
        raise BadJson(f"number was {text[:40]}, expected at most {MAX_DIGITS} digits; write it out") from None
    if not number:
        number = abs(number)
    return f"{number:f}"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise BadJson(f"key {twice[:40]} came twice in one object, expected it once; correct the writer")
    return made


def _constant(name: str) -> None:
    raise BadJson(f"number was {name}, expected digits; JSON has no such number")


def _require_shallow(value: object, levels: int) -> None:
    if isinstance(value, dict | list):
        if not levels:
            raise BadJson(f"nesting was too deep, expected at most {MAX_DEPTH} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            _require_shallow(inner, levels - 1)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=lambda text: Number(MARK + plain_number(text)),
    parse_constant=_constant,
)
# The scanner and the encoder of the standard library themselves: the methods around them cost as much as they do.
_SCAN = _DECODER.scan_once
_blank = re.compile(r"[ \t\n\r]*").match
_ENCODE = json.encoder.c_make_encoder(
    None, json.JSONEncoder().default, json.encoder.encode_basestring, None, ":", ",", True, False, False
)
