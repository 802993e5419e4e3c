"""A file of Binance data, opened: gzip and zip unpacked within limits, checksum compared, and what it holds told.

What a file is follows from its first bytes and, where those say nothing, from its name. One that could be two
things is refused.
Source: spec/execution.md 9.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from ingest.binance.archive import Layout, layout_of
from ingest.binance.kinds import AGG_TRADES, INTERVALS, KLINES, PRINTS, Kind
from ingest.errors import RefusedFile

# What unpacking may give: text of trades packs about 1:5, JSON of order books 1:10, zeros 1:1000.
MAX_RATIO = 100
RATIO_FROM_BYTES = 64 << 20
MAX_UNPACKED_BYTES = 64 << 30
_DIRECTORY_BYTES = 64 << 10  # of a zip that holds one file
_HEAD_BYTES = 1 << 16
_END_RECORD, _LONG_END_RECORD, _LONG_LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_BYTES = 65_557  # the record with the longest comment

_KIND_NAMES = {"aggTrades": AGG_TRADES, "trades": PRINTS, "myTrades": None, "klines": KLINES}
_NAME = re.compile(
    r"(?P<symbol>[A-Z0-9]{5,20})[-_](?P<what>[A-Za-z]+|\d{1,2}(?:mo|[smhdwM]))"
    r"(?:[-_](?P<interval>\d{1,2}(?:mo|[smhdwM])))?"
    r"(?:-(?P<year>\d{4})-(?P<month>\d{2})(?:-(?P<day>\d{2}))?)?(?=[-_.]|$)"
)


@dataclass(frozen=True)
class Named:
    """What a file's name says; None where it doesn't."""

    symbol: str | None = None
    kind: Kind | None = None
    interval: str | None = None
    span_us: tuple[int, int] | None = None  # half-open, of the day or month in the name
    market: str | None = None


def read_name(path: Path) -> Named:
    """Symbol, kind, interval and date of names like ``BTCUSDC-1m-2024-12-01.zip``; the market out of the folders that
    the vendor's archive has (``spot``, ``futures/um``).
    """
    folders = [part.lower() for part in path.parts[:-1]]
    market = "spot" if "spot" in folders else "usdm" if {"futures", "um"} <= set(folders) else None
    found = _NAME.match(path.name)
    if found is None:
        return Named(market=market)
    what, interval = found["what"], found["interval"]
    if what[0].isdigit():
        what, interval = "klines", what
    if what not in _KIND_NAMES:
        return Named(market=market)
    interval = "1M" if interval == "1mo" else interval
    if what == "klines" and interval is not None and interval not in INTERVALS:
        raise RefusedFile(f"name says bars of {interval}, expected one of {', '.join(INTERVALS)}; rename it")
    return Named(found["symbol"], _KIND_NAMES[what], interval, _span(found), market)


def _span(found: re.Match[str]) -> tuple[int, int] | None:
    if found["year"] is None:
        return None
    try:
        start = datetime(int(found["year"]), int(found["month"]), int(found["day"] or 1), tzinfo=UTC)
    except ValueError:
        raise RefusedFile(
            f"name says {found[0]!r}, which has no date; expected YYYY-MM or YYYY-MM-DD"
        ) from None
    end = start + timedelta(days=1) if found["day"] else (start + timedelta(days=31)).replace(day=1)
    return _micros(start), _micros(end)


def _micros(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000


@dataclass(frozen=True)
class Opened:
    """``stream`` gives the unpacked bytes from their start. ``layout`` is that of a CSV, None for JSON."""

    stream: io.BufferedReader
    layout: Layout | None
    named: Named
    is_empty: bool = False


@contextlib.contextmanager
def open_recorded(path: Path, name: str | None = None) -> Iterator[Opened]:
    """The file at ``path``, called ``name`` where it stands under another name. Raises RefusedFile for a bad archive, a
    bomb, a truncated file (while it is read), and for what is neither JSON nor a CSV of one kind.
    """
    called = path.with_name(name) if name else path
    named = read_name(called)
    with open(path, "rb") as file, contextlib.ExitStack() as stack:
        magic = file.read(4)
        file.seek(0)
        if magic[:2] == b"PK":
            member, inner = _member(file, path.stat().st_size, stack)
            named = _agree(named, read_name(Path(member)), member)
            packed: BinaryIO = inner
        elif magic[:2] == b"\x1f\x8b":
            packed = stack.enter_context(gzip.GzipFile(fileobj=file))
        else:
            packed = file
        limit = path.stat().st_size if packed is not file else None
        stream = io.BufferedReader(_Limited(packed, limit), 1 << 20)
        yield _tell(stream, named)


def _tell(stream: io.BufferedReader, named: Named) -> Opened:
    head = stream.peek(_HEAD_BYTES)
    text = head.lstrip(b" \t\r\n")
    if not text:
        if head:
            raise RefusedFile("file was blank, expected rows; record it again")
        return Opened(stream, None, named, is_empty=True)
    if re.match(rb"(?:\d{1,20} )?[\[{]", text):
        return Opened(stream, None, named)
    line = text.split(b"\n", 1)[0]
    if not line.isascii() or b"\0" in line:
        raise RefusedFile(
            "file was neither text nor a zip or gzip of it, expected JSON or CSV; check what it is"
        )
    if b"," not in line:
        raise RefusedFile("first line was neither JSON nor CSV, expected one of them; check what the file is")
    layout = layout_of(line.decode(), named.kind)
    if layout is None:
        raise RefusedFile(
            f"CSV of {line.count(b',') + 1} columns could be of several kinds or of none, expected a name that tells: "
            "SYMBOL-aggTrades-…, SYMBOL-1m-… or SYMBOL-trades-…; rename it"
        )
    return Opened(stream, layout, named)


def _agree(outer: Named, inner: Named, member: str) -> Named:
    """The name of a zip and that of the file in it; where both tell, they tell the same."""
    told = {}
    for key in ("symbol", "kind", "interval", "span_us"):
        a, b = getattr(outer, key), getattr(inner, key)
        if a is not None and b is not None and a != b:
            raise RefusedFile(
                f"zip held {member[:80]!r}, expected the file that its own name says; rename it"
            )
        told[key] = b if a is None else a
    return Named(**told, market=outer.market)


def _member(file: BinaryIO, size: int, stack: contextlib.ExitStack) -> tuple[str, BinaryIO]:
    """Name and stream of the one CSV in a zip."""
    _one_entry(file, size)
    with _zip_errors():
        archive = stack.enter_context(zipfile.ZipFile(file))
        entries = archive.infolist()
    if len(entries) != 1:
        raise RefusedFile(f"zip held {len(entries)} files, expected one CSV; unpack it")
    (entry,) = entries
    name = entry.filename
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.csv", name):
        raise RefusedFile(f"zip held {name[:80]!r}, expected one CSV without a folder; unpack it")
    if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedFile("zip was encrypted or packed in an unusual way, expected deflate; unpack it")
    _check_size(entry.file_size, size)
    with _zip_errors():
        return name, stack.enter_context(archive.open(entry))


@contextlib.contextmanager
def _zip_errors() -> Iterator[None]:
    """What a damaged directory makes the library say, in our words."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to before the start
            raise
        raise RefusedFile("zip was broken (an offset), expected a whole one; download it again") from None
    except (
        zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OverflowError, EOFError, struct.error,
    ) as error:  # fmt: skip
        raise RefusedFile(f"zip was broken ({error}), expected a whole one; download it again") from None


def _one_entry(file: BinaryIO, size: int) -> None:
    """Look at the end record before anything is read into memory: one entry, a short directory."""
    file.seek(max(0, size - _END_BYTES))
    tail = file.read(_END_BYTES)
    at = tail.rfind(_END_RECORD)
    if at < 0 or len(tail) - at < 22:
        raise RefusedFile("zip had no end record, expected a whole file; download it again")
    entries, directory = struct.unpack_from("<HI", tail, at + 10)
    if (
        entries == 0xFFFF or directory == 0xFFFFFFFF
    ):  # the long form, which some tools write for small files too
        locator = tail[max(0, at - 20) : at]
        if len(locator) == 20 and locator.startswith(_LONG_LOCATOR):
            file.seek(min(struct.unpack_from("<Q", locator, 8)[0], size))
            record = file.read(56)
            if len(record) == 56 and record.startswith(_LONG_END_RECORD):
                entries, directory = struct.unpack_from("<QQ", record, 32)
    file.seek(0)
    if entries != 1 or directory > _DIRECTORY_BYTES:
        raise RefusedFile(f"zip said it held {entries} files, expected one CSV; unpack it")


def _check_size(unpacked: int, packed: int | None) -> None:
    if unpacked > MAX_UNPACKED_BYTES:
        raise RefusedFile(
            f"file unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB, expected less; split it"
        )
    if packed is not None and unpacked > RATIO_FROM_BYTES and unpacked > MAX_RATIO * packed:
        raise RefusedFile(
            f"file unpacks to more than {MAX_RATIO} times its size, as a bomb does; expected recorded data"
        )


class _Limited(io.RawIOBase):
    """The bytes of ``inner`` as long as they stay within the limits; its errors in our words."""

    def __init__(self, inner: BinaryIO, packed_bytes: int | None) -> None:
        self.inner, self.packed_bytes, self.done = inner, packed_bytes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        try:
            part = self.inner.read(len(buffer))
        except EOFError:
            raise RefusedFile("file ended early, expected the whole of it; download it again") from None
        except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error) as error:
            raise RefusedFile(
                f"packed data was broken ({error}), expected a whole file; download it again"
            ) from None
        self.done += len(part)
        if self.packed_bytes is not None:
            _check_size(self.done, self.packed_bytes)
        buffer[: len(part)] = part
        return len(part)


def check_sum_file(path: Path, sha256: str) -> bool:
    """Compare with a neighbouring ``<name>.CHECKSUM``; False when there is none. Raises RefusedFile."""
    neighbour = path.with_name(path.name + ".CHECKSUM")
    if not neighbour.is_file():
        return False
    text = neighbour.read_bytes()[:1024].decode(errors="replace")
    found = re.fullmatch(r"([0-9a-fA-F]{64})[ \t]+\*?([^\s/]+)\s*", text)
    if found is None:
        raise RefusedFile(f"{neighbour.name} was no checksum, expected 'sha256  name'; download it again")
    if found[2] != path.name:
        raise RefusedFile(
            f"{neighbour.name} was of {found[2][:80]!r}, expected {path.name}; download it again"
        )
    if found[1].lower() != sha256:
        raise RefusedFile(
            f"sha256 was {sha256}, expected {found[1].lower()} as {neighbour.name} says; download it again"
        )
    return True
