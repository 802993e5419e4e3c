"""The vendor's answers about one ticker on one day, saved as one file, and that file as lines of a flat file.

The file is one JSON object, zstd-compressed, laid out by lines: the first holds the request, each further one
a result as the vendor wrote it, numbers digit by digit, and the last closes it. So result 0 stands on line 2,
as the first row of a flat file does. It goes through the same parser, with the same rules.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import zstandard

from ingest.errors import RefusedFile
from ingest.polygon import occ_ticker
from ingest.polygon.layout import KINDS, OPTIONS, STOCKS, Kind

API_SUFFIX = ".json.zst"
BLOCK_ROWS = 4096
_MAX_LINE_CHARS = 1 << 20
_MAX_LINES = 100_000_000
_DECIMALS = ("price", "size", "decimal_size")
_MAX_DECIMALS = 60  # of a number in scientific notation that is written out


class Number(str):
    """A JSON number, as its digits."""

    __slots__ = ()


def loads(text: str | bytes) -> object:
    """JSON with every number as `Number`, so that none loses a digit. Raises ValueError."""

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=refuse)


def dumps(value: object) -> str:
    """The JSON of what ``loads`` gave, on one line, numbers as they were."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{dumps(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)


def write(path: Path, request: dict, results: Iterable[dict]) -> int:
    """Write a file of this module's layout, synced; returns how many results it holds."""
    count = 0
    with open(path, "wb") as raw:
        # No time and no size in the frame: the same answers make the same bytes.
        with zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(raw, closefd=False) as out:
            head = json.dumps(request, separators=(",", ":"))
            out.write(f'{head[:-1]},"results":['.encode())
            for result in results:
                out.write(f"{',' if count else ''}\n{dumps(result)}".encode())
                count += 1
            out.write(b"\n]}\n")
        raw.flush()
        os.fsync(raw.fileno())
    return count


class ApiFile:
    """A saved answer. Raises RefusedFile, here or while it is read, when it isn't one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        head = next(self._lines(), "")
        try:
            request = json.loads(head + "]}")
            self.ticker: str = request["ticker"]
            self.date = date.fromisoformat(request["date"]).isoformat()
            self.kind: Kind = KINDS[request["kind"]]
            self.ticker_key = occ_ticker.parse(self.ticker).root if self.kind is OPTIONS else self.ticker
            if not (self.ticker_key and self.ticker_key.isascii() and self.ticker_key.isprintable()):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RefusedFile(
                f"first line was {head[:80]!r}, expected the request that these answers belong to"
            ) from error
        self._first_ordinal = 0
        self._block: list[str] = []  # the lines of the block that was given last

    def raw_line(self, ordinal: int) -> str:
        """The JSON of a result of the block that was given last."""
        return self._block[ordinal - self._first_ordinal]

    def blocks(self) -> Iterator[bytes]:
        """The results as blocks of a flat file's lines, the header first."""
        known = [*self.kind.required, *self.kind.known]
        if self.kind is STOCKS:
            known = [c for c in known if c != "decimal_size"]
        found: dict[str, None] = {}
        for line in self._results():
            found.update(dict.fromkeys(self._result(line)))
        columns = [*dict.fromkeys([*known, *found])]
        if any('"' in c or not c.isprintable() for c in columns):
            raise RefusedFile(
                "results had a name with quotes or control characters in it, expected plain ones"
            )
        yield (",".join(map(_cell, columns)) + "\n").encode()
        block: list[str] = []
        ordinal = 0
        for line in self._results():
            block.append(line)
            if len(block) == BLOCK_ROWS:
                yield self._give(ordinal, block, columns)
                ordinal, block = ordinal + len(block), []
        if block:
            yield self._give(ordinal, block, columns)

    def _give(self, ordinal: int, block: list[str], columns: list[str]) -> bytes:
        self._first_ordinal, self._block = ordinal, block
        return "".join(map(self._line_of(columns), block)).encode(errors="surrogatepass")

    def _line_of(self, columns: list[str]) -> Callable[[str], str]:
        def line_of(text: str) -> str:
            result = {"ticker": self.ticker} | self._result(text)
            return ",".join([_cell(_text(c, result.get(c))) for c in columns]) + "\n"

        return line_of

    def _result(self, line: str) -> dict:
        try:
            result = loads(line)
            if not isinstance(result, dict):
                raise ValueError
        except (ValueError, RecursionError) as error:
            raise RefusedFile(f"result was {line[:80]!r}, expected a JSON object") from error
        return result

    def _results(self) -> Iterator[str]:
        lines = self._lines()
        next(lines, "")
        before = None
        for line in lines:
            if before is not None:
                yield before.removesuffix(",")
            before = line
        if before != "]}":
            raise RefusedFile("file had no end, expected ]} on its last line; fetch the answers again")

    def _lines(self) -> Iterator[str]:
        try:
            with (
                open(self._path, "rb") as raw,
                zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                    raw, read_across_frames=True
                ) as unpacked,
                io.TextIOWrapper(unpacked, encoding="utf-8", newline="\n") as text,
            ):
                for _ in range(_MAX_LINES):
                    line = text.readline(_MAX_LINE_CHARS)
                    if not line:
                        return
                    if not line.endswith("\n"):
                        raise RefusedFile(
                            f"line had no end within {_MAX_LINE_CHARS:,} characters, expected one"
                        )
                    yield line[:-1]
        except (zstandard.ZstdError, UnicodeDecodeError) as error:
            raise RefusedFile(
                f"file could not be unpacked ({error}), expected zstd of text in UTF-8"
            ) from error
        raise RefusedFile(f"file had more than {_MAX_LINES:,} lines, expected fewer")


def _text(column: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Number):
        # A time with an exponent has been a float, and with it some of its digits went.
        return _plain(value) if column in _DECIMALS else value
    if isinstance(value, str):
        # A line break can't stand in a line. A NUL there gets the row rejected, as it should be.
        return value.replace("\n", "\0")
    if isinstance(value, list) and all(isinstance(v, Number) for v in value):
        return ",".join(value)
    return dumps(value)


def _plain(number: Number) -> str:
    """Without an exponent, the same value; a number that would become very long stays as it is."""
    if "e" not in number.lower():
        return number
    value = Decimal(number)
    return format(value, "f") if abs(value.adjusted()) + len(number) < _MAX_DECIMALS else number


def _cell(text: str) -> str:
    if "," in text or '"' in text or text.endswith("\r"):
        text = text.replace('"', '""')
        return f'"{text}"'
    return text
