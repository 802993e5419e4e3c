"""Blocks of whole lines out of a byte stream, in bounded memory: a line that is too long is cut out and told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

BLOCK_BYTES = 1 << 20
KEPT_BYTES = 65_536  # of a line that is too long


class Block(NamedTuple):
    """``data`` holds whole lines, the first of which is ``line_no``; the last may lack its newline at the end of the
    file. ``is_too_long``: ``data`` is the beginning of one line of ``length`` bytes.
    """

    line_no: int
    data: bytes
    is_too_long: bool = False
    length: int = 0


def line_blocks(stream: BinaryIO, *, longest: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The lines of ``stream`` in their order; lines end with ``\\n``. Numbers are 1-based."""
    line_no, rest = 1, b""
    while part := stream.read(block_bytes):
        end = part.rfind(b"\n") + 1
        if end:
            yield from _checked(line_no, rest + part[:end], longest)
            line_no += part.count(b"\n", 0, end)
            rest = part[end:]
        else:
            rest += part
        if len(rest) > longest:
            kept, length = rest[:KEPT_BYTES], len(rest)
            rest = b""
            while part := stream.read(block_bytes):
                end = part.find(b"\n") + 1
                if end:
                    length += end - 1
                    last = part.rfind(b"\n") + 1
                    yield Block(line_no, kept, True, length)
                    line_no += 1
                    yield from _checked(line_no, part[end:last], longest)
                    line_no += part.count(b"\n", end, last)
                    rest = part[last:]
                    break
                length += len(part)
            else:
                yield Block(line_no, kept, True, length)
    if rest:
        yield from _checked(line_no, rest, longest)


def _checked(line_no: int, data: bytes, longest: int) -> Iterator[Block]:
    """``data`` as it is, but for lines in it that are too long."""
    if len(data) <= longest or _longest_line(data) <= longest:
        if data:
            yield Block(line_no, data)
        return
    at = start = 0
    first = line_no
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        length = end - start - data.endswith(b"\n", start, end)
        if length > longest:
            if at < start:
                yield Block(first, data[at:start])
            yield Block(line_no, data[start : start + min(length, KEPT_BYTES)], True, length)
            at, first = end, line_no + 1
        start, line_no = end, line_no + 1
    if at < len(data):
        yield Block(first, data[at:])


def _longest_line(data: bytes) -> int:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    return int(np.diff(ends, prepend=-1, append=len(data)).max()) - 1
