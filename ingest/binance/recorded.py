"""Recorded JSON to batches of rows: websocket captures, and REST bodies one a line, in a row, or printed over lines.

A line is ``[receive time in ns, a space,] JSON``. The JSON is an event, its envelope, one row, or a body: an array of
rows. Source: spec/execution.md 9.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from ingest.binance.cells import FIRST_US, LAST_US, MICROSECONDS_FROM, Cells, cast
from ingest.binance.elements import BAR_COLUMNS, Known, Problem, Row, Skip, read_element
from ingest.binance.lines import line_blocks
from ingest.binance.strict_json import NotJson, Number, decode, decode_at, encode, skip_space
from ingest.binance.tally import Batch, Tally
from ingest.errors import RefusedFile

LONGEST_LINE = 8 << 20  # a body of 1,000 rows is about 0.2 MB
LARGEST_PRINTED = 32 << 20  # a body that spans lines is read whole
ROWS_PER_BATCH = 16_384
_PREFIX = re.compile(rb"(\d{1,20}) ")
_SPACE = b" \t\r"


def read_recorded(
    stream: BinaryIO, known: Known, tally: Tally, *, wanted: str, as_of_us: int | None = None
) -> Iterator[Batch]:
    """Batches of the ``wanted`` kind and of what is only checked, rows in file order within a kind.

    Rows of other datasets are counted as filtered. ``as_of_us`` is when the bodies without a time of their own
    were asked for. Raises RefusedFile when the file is neither lines of JSON nor bodies printed over lines.
    """
    reader = _Reader(known, tally, wanted, as_of_us)
    head = stream.peek(1 << 16) if hasattr(stream, "peek") else b""
    if _is_printed(head):
        yield from reader.printed(stream)
    else:
        for block in line_blocks(stream, longest=LONGEST_LINE):
            if block.is_too_long:
                tally.records += 1
                reason = f"line had {block.length:,} bytes, expected at most {LONGEST_LINE:,}"
                tally.reject(
                    block.line_no, "LINE_LENGTH", reason, block.data.decode(errors="backslashreplace")
                )
                continue
            for line_no, line in enumerate(block.data.split(b"\n"), block.line_no):
                if line.strip(_SPACE):
                    yield from reader.line(line_no, line)
    yield from reader.finish()


def _is_printed(head: bytes) -> bool:
    """Whether a value goes on over lines: the first line is an opened bracket, or no line of the head is whole."""
    lines = [line.strip(_SPACE) for line in head.split(b"\n")]
    lines = [line for line in lines if line]
    if not lines or lines[0][:1] not in b"[{" or b"\n" not in head.strip():
        return False
    if lines[0] in (b"[", b"{"):
        return True
    return not any(_is_whole(line) for line in lines[:5]) and len(lines) > 1


def _is_whole(line: bytes) -> bool:
    found = _PREFIX.match(line)
    try:
        return isinstance(decode(line[found.end() if found else 0 :].decode()), dict | list)
    except (NotJson, UnicodeDecodeError):
        return False


@dataclass
class _Open:
    """The rows of one kind that wait for their batch."""

    rows: list[Row] = field(default_factory=list)
    line_no: list[int] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    extra: list[str | None] = field(default_factory=list)


class _Reader:
    def __init__(self, known: Known, tally: Tally, wanted: str, as_of_us: int | None) -> None:
        self.known, self.tally, self.wanted, self.as_of_us = known, tally, wanted, as_of_us
        self._open: dict[str, _Open] = {}

    def line(self, line_no: int, line: bytes) -> Iterator[Batch]:
        received_us, text = None, ""
        try:
            found = _PREFIX.match(line)
            text = line.decode()
            if found is None:
                value = decode(text)
            else:
                received_us = int(found[1]) // 1000
                value = decode(text, found.end())
        except (NotJson, UnicodeDecodeError) as error:
            self.tally.records += 1
            self.tally.reject(line_no, "JSON", f"{_why(error)}, expected one JSON value", _lossy(line))
            return
        if received_us is not None and not FIRST_US <= received_us < LAST_US:
            self.tally.records += 1
            reason = f"receive time was {received_us} µs, expected 2000 to 2099"
            self.tally.reject(line_no, "TS_RANGE", reason, text)
            return
        yield from self.value(line_no, value, received_us, text)

    def value(self, line_no: int, value: object, received_us: int | None, raw: str | None) -> Iterator[Batch]:
        """``raw`` is the text of one row, None where it shall be written anew."""
        if isinstance(value, list):
            body = [value] if _is_bar(value) else value
            asked_us = self.as_of_us if received_us is None else received_us
            open_bars = _open_bars(body, asked_us)
            for place, element in enumerate(body):
                if place in open_bars:
                    self.tally.records += 1
                    self.tally.filtered["open bar"] += 1
                else:
                    yield from self._row(line_no, element, None, None)
            return
        yield from self._row(line_no, value, received_us, raw)

    def printed(self, stream: BinaryIO) -> Iterator[Batch]:
        data = stream.read(LARGEST_PRINTED + 1)
        if len(data) > LARGEST_PRINTED:
            raise RefusedFile(
                f"JSON over several lines was longer than {LARGEST_PRINTED >> 20} MiB, expected less; "
                "write one body a line"
            )
        try:
            text = data.decode()
            at, line_no, counted = skip_space(text, 0), 1, 0
            bodies = []
            while at < len(text):
                line_no, counted = line_no + text.count("\n", counted, at), at
                value, at = decode_at(text, at)
                bodies.append((line_no, value))
                at = skip_space(text, at)
        except (NotJson, UnicodeDecodeError) as error:
            raise RefusedFile(
                f"JSON over several lines was broken: {_why(error)}; expected whole bodies; record it again"
            ) from None
        for line_no, value in bodies:
            yield from self.value(line_no, value, None, None)

    def _row(self, line_no: int, value: object, received_us: int | None, raw: str | None) -> Iterator[Batch]:
        self.tally.records += 1
        try:
            row = read_element(value, self.known, received_us=received_us)
            extra = encode(row.extra) if row.extra else None
            raw = raw or encode(value)
        except Skip as skip:
            self.tally.filtered[str(skip)] += 1
            return
        except Problem as problem:
            self.tally.reject(line_no, problem.rule, problem.reason, raw or _written(value))
            return
        except RecursionError:
            reason = "it was nested too deep, expected the vendor's fields"
            self.tally.reject(line_no, "JSON", reason, raw or _written(value))
            return
        if row.kind.landed not in (None, self.wanted):
            self.tally.filtered[row.kind.name] += 1
            return
        if extra:
            self.tally.drift(set(row.extra))
        waiting = self._open.setdefault(row.kind.name, _Open())
        waiting.rows.append(row)
        waiting.line_no.append(line_no)
        waiting.raw.append(raw)
        waiting.extra.append(extra)
        if len(waiting.rows) >= ROWS_PER_BATCH:
            yield self._flush(row.kind.name)

    def finish(self) -> Iterator[Batch]:
        for name in list(self._open):
            yield self._flush(name)

    def _flush(self, name: str) -> Batch:
        waiting = self._open.pop(name)
        rows, kind = waiting.rows, waiting.rows[0].kind
        cells = Cells(
            kind,
            {c.name: [row.cells.get(c.name) for row in rows] for c in kind.columns},
            np.array(waiting.line_no, np.int64),
            waiting.raw.__getitem__,
            waiting.extra if any(waiting.extra) else None,
        )
        return cast(cells, self.tally)


def _is_bar(value: list) -> bool:
    """A bar is an array of values, a body one of rows."""
    return len(value) > 0 and not isinstance(value[0], dict | list)


def _open_bars(body: list, asked_us: int | None) -> set[int]:
    """The places of the bars that may still have been open when the body was asked for.

    With a time: those that hadn't closed before it. Without one: the newest, since nothing proves it closed;
    a later body doesn't, it may have been asked for when the bar had closed.
    """
    bars = {}
    for place, bar in enumerate(body):
        if isinstance(bar, list) and len(bar) == BAR_COLUMNS:
            with contextlib.suppress(ValueError):
                bars[place] = _micros(bar[6]) if asked_us is not None else _micros(bar[0])
    if not bars:
        return set()
    if asked_us is not None:
        return {place for place, closes in bars.items() if closes >= asked_us}
    newest = max(bars.values())
    return {place for place, opens in bars.items() if opens == newest}


def _micros(value: object) -> int:
    if not isinstance(value, Number) or len(value) > 20:
        raise ValueError
    number = int(value)
    return number * 1000 if number < MICROSECONDS_FROM else number


def _why(error: Exception) -> str:
    return "bytes were no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _written(value: object) -> str:
    try:
        return encode(value)
    except RecursionError:
        return "(nested too deep to be shown)"


def _lossy(line: bytes) -> str:
    return line.decode(errors="backslashreplace")
