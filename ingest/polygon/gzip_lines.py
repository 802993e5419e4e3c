"""A gzip file of text as blocks of whole lines, its completeness proven and its size bounded."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import RefusedFile
from ingest.polygon.line_kernel import MAX_LINE_BYTES

BLOCK_BYTES = 4 << 20
MAX_TEXT_BYTES = 64 << 30  # a day of all option prints is about 10 GB
MAX_RATIO = 100  # such files shrink to a tenth; nothing but a bomb shrinks to a hundredth
_RATIO_FREE_BYTES = 16 << 20  # small files may be as regular as they like
_READ_BYTES = 1 << 18
KEPT_BYTES = 4096  # of a line that is too long
_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class LongLine:
    """A line above the limit: how it begins, and its bytes in all but the line feed."""

    start: bytes
    bytes: int


def text_blocks(
    path: Path,
    *,
    max_bytes: int = MAX_TEXT_BYTES,
    max_ratio: float = MAX_RATIO,
    block_bytes: int = BLOCK_BYTES,
    progress: Callable[[int], None] | None = None,
) -> Iterator[bytes | LongLine]:
    """Blocks of whole lines, each line with its line feed; a line longer than a block comes as a `LongLine`.

    The last line gets a line feed when it has none. Memory is bounded by a few blocks whatever the file holds.
    ``progress`` gets the compressed bytes read so far. Raises RefusedFile, at the end at the latest, when the
    file is no gzip, is cut, has a wrong checksum or length, bytes after its end, or unpacks to more than
    ``max_bytes`` or ``max_ratio`` times its size.
    """
    rest: list[bytes] = []
    rest_bytes = 0
    long_start, long_bytes = b"", 0  # of a line that is being skipped
    for unpacked in _unpacked(path, max_bytes, max_ratio, block_bytes, progress):
        part = unpacked
        if long_bytes:
            end = part.find(b"\n")
            if end < 0:
                long_bytes += len(part)
                continue
            yield LongLine(long_start, long_bytes + end)
            part, long_start, long_bytes = part[end + 1 :], b"", 0
        end = part.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, part[:end]])
            rest, rest_bytes = [part[end:]], len(part) - end
        else:
            rest.append(part)
            rest_bytes += len(part)
        if rest_bytes > max(block_bytes, MAX_LINE_BYTES):
            long_start, long_bytes = b"".join(rest)[:KEPT_BYTES], rest_bytes
            rest, rest_bytes = [], 0
    if long_bytes:
        yield LongLine(long_start, long_bytes)
    elif rest_bytes:
        yield b"".join([*rest, b"\n"])


def _unpacked(
    path: Path,
    max_bytes: int,
    max_ratio: float,
    block_bytes: int,
    progress: Callable[[int], None] | None,
) -> Iterator[bytes]:
    size = path.stat().st_size
    limit = min(max_bytes, max(_RATIO_FREE_BYTES, int(size * max_ratio)))
    read = done = 0
    with open(path, "rb") as file:
        data = file.read(_READ_BYTES)
        if not data.startswith(_MAGIC):
            raise RefusedFile(
                f"file began with {data[:2].hex() or 'nothing'}, expected 1f8b, the mark of gzip"
            )
        member = zlib.decompressobj(wbits=31)
        while data:
            read += len(data)
            while data:
                try:
                    text = member.decompress(data, block_bytes)
                except zlib.error as error:
                    raise RefusedFile(
                        f"gzip stream was damaged after {done:,} unpacked bytes ({error}), expected it whole; "
                        "fetch the file again"
                    ) from error
                done += len(text)
                if done > limit:
                    raise RefusedFile(
                        f"text was more than {limit:,} bytes out of {size:,} packed ones, expected at most "
                        f"{max_ratio:g} times as many and {max_bytes:,} in all; raise the limit if that is right"
                    )
                if text:
                    yield text
                data = member.unconsumed_tail
                if member.eof:
                    data = member.unused_data
                    if not data and read < size:
                        data = file.read(_READ_BYTES)
                        read += len(data)
                    if data and not data.startswith(_MAGIC[: len(data)]):
                        raise RefusedFile(
                            f"gzip stream was followed by {data[:2].hex()}, expected its end; fetch the file again"
                        )
                    if data:
                        member = zlib.decompressobj(wbits=31)
            if progress is not None:
                progress(read)
            data = file.read(_READ_BYTES)
    if not member.eof:
        raise RefusedFile(
            f"gzip stream was cut after {done:,} unpacked bytes, expected its end with checksum and length; "
            "fetch the file again"
        )
