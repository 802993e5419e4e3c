"""Lines of a text file, plain, gzip or zstd, in blocks of bounded size, each with its exact number.

Limits hold against hostile files: of a line's length, and of what unpacking may give.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from ingest.errors import RefusedFile

MAX_LINE_BYTES = 1 << 20
BLOCK_BYTES = 1 << 20
# NDJSON packs about 1:10 to 1:30; zeros pack 1:1000 and more.
MAX_RATIO = 200
RATIO_FROM_BYTES = 64 << 20
MAX_WINDOW_BYTES = 128 << 20  # of a zstd frame
# At a time: four bytes of a frame may stand for 128 KiB, and all that they unpack to comes in one piece.
_PACKED_BYTES = 1 << 11
_OVERLONG_KEPT_BYTES = 4096
SUFFIXES = (".ndjson", ".jsonl", ".ndjson.gz", ".ndjson.zst", ".jsonl.gz", ".jsonl.zst")


@dataclass(frozen=True)
class Lines:
    """Consecutive lines without their ends; ``first`` is the 1-based number of the first. An overlong line stands
    here by its beginning, its place (from 0) and length in ``overlong``.
    """

    first: int
    lines: list[bytes]
    overlong: dict[int, int]


def read_lines(path: Path, progress: Callable[[int], None] | None = None) -> Iterator[Lines]:
    """Blocks of lines in order. ``progress`` gets the bytes of the file read so far.

    Raises RefusedFile for packed data that is broken, ends early, or unpacks beyond the limits.
    """
    with path.open("rb") as file:
        stream = _Limited(_unpacked(file), path.stat().st_size)
        first, rest, dropped = 1, b"", 0
        while part := stream.read(BLOCK_BYTES):
            if progress is not None:
                progress(file.tell())
            if dropped:  # in the middle of an overlong line
                cut = part.find(b"\n")
                if cut < 0:
                    dropped += len(part)
                    continue
                yield Lines(first, [rest], {0: dropped + cut})
                first, rest, dropped, part = first + 1, b"", 0, part[cut + 1 :]
            data = rest + part
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if cut:
                block = _block(first, data[: cut - 1].split(b"\n"))
                yield block
                first += len(block.lines)
            if len(rest) > MAX_LINE_BYTES:
                rest, dropped = rest[:_OVERLONG_KEPT_BYTES], len(rest)
        if dropped:
            yield Lines(first, [rest], {0: dropped})
        elif rest:
            yield _block(first, [rest])


def _block(first: int, lines: list[bytes]) -> Lines:
    overlong = {i: len(line) for i, line in enumerate(lines) if len(line) > MAX_LINE_BYTES}
    for i in overlong:
        lines[i] = lines[i][:_OVERLONG_KEPT_BYTES]
    return Lines(first, lines, overlong)


def _unpacked(file: BinaryIO) -> BinaryIO:
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file)
    if magic == b"\x28\xb5\x2f\xfd":
        return _Zstd(file)
    return file


class _Zstd(io.RawIOBase):
    """All frames of a zstd file; unlike the library's reader it tells a frame that ended early."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()
        self._packed, self._fresh = b"", True
        self._made = memoryview(b"")

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, none at the end."""
        if not self._made:
            self._made = memoryview(self._next())
        part, self._made = bytes(self._made[:size]), self._made[size:]
        return part

    def _next(self) -> bytes:
        while True:
            packed = self._packed or self._file.read(_PACKED_BYTES)
            self._packed = b""
            if not packed:
                if not self._fresh:
                    raise EOFError
                return b""
            made = self._frame.decompress(packed)
            self._fresh = False
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._frame, self._fresh = self._decompressor.decompressobj(), True
            if made:
                return made


class _Limited:
    """Reads as long as it stays within the limits; its errors in our words."""

    def __init__(self, inner: BinaryIO, packed_bytes: int) -> None:
        self._inner, self._packed_bytes, self._done = inner, packed_bytes, 0

    def read(self, size: int) -> bytes:
        try:
            part = self._inner.read(size)
        except EOFError:
            raise RefusedFile("file ended early, expected the whole of it; fetch it again") from None
        except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise RefusedFile(
                f"packed data was broken ({error}), expected a whole file; fetch it again"
            ) from None
        self._done += len(part)
        if self._done > RATIO_FROM_BYTES and self._done > MAX_RATIO * self._packed_bytes:
            raise RefusedFile(
                f"file unpacks to more than {MAX_RATIO} times its size, as a bomb does; expected recorded lines"
            )
        return part
