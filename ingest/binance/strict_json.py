"""JSON read so that nothing is lost or guessed: numbers stay text, a name may stand once, NaN is none.

The standard library's decoder with other hooks: it takes NaN, keeps the last of two equal names and turns
0.1 into a double.
"""

from __future__ import annotations

import decimal
import json
from json.encoder import encode_basestring

_EXPONENT_LIMIT = 40  # of a number written with an exponent; 1e999999999 is nobody's price


class Number(str):
    """The text of a JSON number as it stood there."""

    __slots__ = ()

    def plain(self) -> str:
        """The same value without an exponent, as text; unchanged where it would become long."""
        if "e" not in self and "E" not in self:
            return str(self)
        if len(self) > _EXPONENT_LIMIT:
            return str(self)
        try:
            value = decimal.Decimal(self)
        except decimal.InvalidOperation:  # an exponent beyond all bounds
            return str(self)
        if abs(value.adjusted()) > _EXPONENT_LIMIT:
            return str(self)
        return format(value, "f")


class NotJson(ValueError):
    """The text is no JSON as we take it; the message says why, in a few words and without the text."""


def decode(text: str, start: int = 0) -> object:
    """The one JSON value of ``text`` from ``start`` on: dict, list, str, Number, bool or None. Raises NotJson."""
    value, end = decode_at(text, start)
    if text[end:].strip(" \t\r\n"):
        raise NotJson(f"text went on after the value, at character {end + 1}")
    return value


def decode_at(text: str, start: int) -> tuple[object, int]:
    """The JSON value that starts at ``start``, and where it ends. Raises NotJson."""
    start = skip_space(text, start)
    try:
        value, end = _DECODER.raw_decode(text, start)
        # Half of a surrogate pair is a string that no file can hold; only an escape can make one.
        if "\\u" in text:
            encode(value).encode()
        return value, end
    except UnicodeEncodeError:
        raise NotJson("a string held half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg.lower()} at character {error.pos + 1}") from None
    except RecursionError:
        raise NotJson("it was nested too deep") from None


def skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def encode(value: object) -> str:
    """JSON text of a decoded value: sorted names, no spaces, numbers as they stood."""
    match value:
        case Number():
            return str(value)
        case str():
            return encode_basestring(value)
        case dict():
            return "{" + ",".join(f"{encode_basestring(k)}:{encode(value[k])}" for k in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(encode, value)) + "]"
        case _:
            return {None: "null", True: "true", False: "false"}[value]


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise NotJson(f"name {next(n for n in names if names.count(n) > 1)[:40]!r} stood twice in one object")
    return found


def _constant(name: str) -> object:
    raise NotJson(f"{name} stood for a number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=_constant
)
