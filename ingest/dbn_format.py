"""DBN files of version 1 to 3, plain or in zstd frames, read as blocks of fixed records.

The layout of `definition` differs between versions (360, 400, 520 bytes), the others' doesn't. Vendor readers take a
truncated file without a word; here a file is read to its proven end or refused.
Source: the vendor's DBN encoding and zstd's frame format (RFC 8878, 3.1).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import databento_dbn
import numpy as np
import zstandard

from ingest.errors import RefusedFile

BLOCK_RECORDS = 8192
UNDEF_PRICE = 2**63 - 1
UNDEF_TIMESTAMP = -1  # 2**64 − 1, seen as int64
UNDEF_SIZE = -1  # 2**32 − 1, seen as int32

_ZSTD_MAGIC = 0xFD2FB528
_SKIPPABLE_MAGIC = range(0x184D2A50, 0x184D2A60)
_MAX_METADATA_BYTES = 32 << 20  # some 200,000 mappings; decoding takes several times the bytes
# Far beyond what market data compress to; a file of one record over and over decodes to some thousands of times its
# bytes.
_MAX_RATIO, _ANY_RATIO_BYTES = 1000, 64 << 20
_READ_BYTES = 1 << 20

# rtype by schema; the records' own first byte is their length in 4-byte words.
_RECORDS = {
    "trades": (0x00, databento_dbn.TradeMsg),
    "mbp-10": (0x0A, databento_dbn.MBP10Msg),
    "mbo": (0xA0, databento_dbn.MBOMsg),
    "definition": (0x13, databento_dbn.InstrumentDefMsg),
    "ohlcv-1s": (0x20, databento_dbn.OHLCVMsg),
    "ohlcv-1m": (0x21, databento_dbn.OHLCVMsg),
    "ohlcv-1h": (0x22, databento_dbn.OHLCVMsg),
    "ohlcv-1d": (0x23, databento_dbn.OHLCVMsg),
}
_OLDER = {
    ("definition", 1): databento_dbn.InstrumentDefMsgV1,
    ("definition", 2): databento_dbn.InstrumentDefMsgV2,
}
# Unsigned fields are read as the signed type of their width: the sentinel becomes −1, and a value too large
# for bronze becomes negative, so one minimum finds both.
_SIGNED = {"<u8": "<i8", "<u4": "<i4", "<u2": "<i2", "S1": "u1"}


@dataclass(frozen=True)
class DbnHeader:
    """What the head of a DBN file says: version, dataset code, schema and the record layout that follows
    from it.
    """

    version: int
    dataset: str
    schema: str
    metadata: databento_dbn.Metadata
    dtype: np.dtype
    first_word: int  # the first two bytes of every record, little-endian: length in words, rtype


class DbnStream:
    """One open DBN file: ``header``, then ``blocks()`` once."""

    def __init__(self, file: io.BufferedReader, stream: io.RawIOBase, *, compressed: bool) -> None:
        self._file = file
        self._stream = stream
        self._compressed = compressed
        self.header = _read_header(self._read)

    def _read(self, n: int) -> bytes:
        parts = []
        while n:
            part = self._stream.read(n)
            if not part:
                break
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def blocks(self, progress: Callable[[int], None] | None = None) -> Iterator[np.ndarray]:
        """Yield the records in file order as structured arrays of at most 8,192, views into one reused
        buffer.

        ``progress`` is called with the number of file bytes read so far. Raises RefusedFile when the last
        record is incomplete or a record is not of the header's schema.
        """
        dtype, word = self.header.dtype, self.header.first_word
        size = dtype.itemsize
        buffer = bytearray(BLOCK_RECORDS * size)
        view = memoryview(buffer)
        have = done = 0
        while True:
            count = self._stream.readinto(view[have:])
            have += count
            if count and have < len(buffer):
                continue
            if have % size:
                raise RefusedFile(
                    f"last record was {have % size} bytes after {done + have // size} whole ones, "
                    f"expected {size}; the file is truncated, fetch it again"
                )
            if have:
                records = np.frombuffer(view[:have], dtype)
                wrong = records["first_word"] != word
                if wrong.any():
                    at = int(np.argmax(wrong))
                    was = int(records["first_word"][at])
                    raise RefusedFile(
                        f"record {done + at} was of rtype {was >> 8:#04x} and {(was & 255) * 4} bytes, "
                        f"expected {word >> 8:#04x} and {(word & 255) * 4} ({self.header.schema}); "
                        "the file is damaged or of several schemas, split it by schema"
                    )
                done += len(records)
                if self._compressed and done * size > _MAX_RATIO * self._file.tell() + _ANY_RATIO_BYTES:
                    raise RefusedFile(
                        f"file decoded to more than {_MAX_RATIO:,} times its bytes by record {done}, expected market "
                        "data, which doesn't; it was made to fill a disk"
                    )
                yield records
                if progress is not None:
                    progress(self._file.tell())
                have = 0
            if not count:
                return


@contextmanager
def open_dbn(path: Path, *, frames_checked: bool = False) -> Iterator[DbnStream]:
    """Open a DBN file whose frames are complete; raises RefusedFile when it is not one, or not of a schema
    we land.

    Decoder errors (a flipped byte under a checksum, for one) come out as RefusedFile, also from
    ``blocks()``.
    """
    with open(path, "rb") as file:
        magic = int.from_bytes(file.read(4), "little")
        file.seek(0)
        if magic != _ZSTD_MAGIC:
            yield DbnStream(file, file, compressed=False)
            return
        if not frames_checked:
            require_whole_frames(path)
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        try:
            with decoder.stream_reader(
                file, read_size=_READ_BYTES, read_across_frames=True, closefd=False
            ) as stream:
                yield DbnStream(file, stream, compressed=True)
        except zstandard.ZstdError as error:
            raise RefusedFile(
                f"zstd stream was damaged near byte {file.tell()} ({error}), expected intact frames; "
                "fetch the file again"
            ) from error


def require_whole_frames(path: Path) -> None:
    """Walk the zstd frames by their block headers, decompressing nothing; raises RefusedFile unless the
    last one ends exactly where the file ends.

    A decoder alone can't tell: at the end of a cut file it just stops giving bytes.
    """
    with open(path, "rb") as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        at = 0
        while at < size:
            at = _frame_end(fd, at)
        if at > size:
            raise RefusedFile(
                f"zstd frame was cut at byte {size}, expected it to go on to byte {at} at least; "
                "the file is truncated, fetch it again"
            )


def _frame_end(fd: int, at: int) -> int:
    """Position after the frame that starts at ``at``; beyond the end of the file when the frame is
    incomplete.
    """
    head = os.pread(fd, 8, at)
    if len(head) < 8:  # the smallest frame is longer
        return at + 9
    magic = int.from_bytes(head[:4], "little")
    if magic in _SKIPPABLE_MAGIC:
        return at + 8 + int.from_bytes(head[4:], "little")
    if magic != _ZSTD_MAGIC:
        raise RefusedFile(
            f"bytes from {at} were {head[:4]!r}, expected a zstd frame; "
            "the file has a foreign tail, fetch it again"
        )
    descriptor = head[4]
    single_segment = descriptor >> 5 & 1
    content_size_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    at += 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size_bytes
    last = 0
    while not last:
        block = os.pread(fd, 3, at)
        if len(block) < 3:
            return at + 4
        word = int.from_bytes(block, "little")
        last, kind, length = word & 1, word >> 1 & 3, word >> 3
        at += 3 + (1 if kind == 1 else length)  # a run-length block stores one byte
    return at + (4 if descriptor >> 2 & 1 else 0)


def _read_header(read: Callable[[int], bytes]) -> DbnHeader:
    head = read(8)
    if head[:3] != b"DBN":
        raise RefusedFile(
            f"first bytes were {head[:4]!r}, expected b'DBN': not a DBN file, or a fragment without "
            "its header; without the header's mappings its instruments have no names"
        )
    if len(head) < 8:
        raise RefusedFile(f"file was {len(head)} bytes long, expected a DBN header; fetch it again")
    version, length = head[3], int.from_bytes(head[4:8], "little")
    if version not in (1, 2, 3):
        raise RefusedFile(
            f"DBN version was {version}, expected 1, 2 or 3; update tickhouse or ask for an older encoding"
        )
    if length > _MAX_METADATA_BYTES:
        raise RefusedFile(
            f"metadata length was {length}, expected at most {_MAX_METADATA_BYTES}; the header is damaged"
        )
    body = read(length)
    if len(body) < length:
        raise RefusedFile(
            f"metadata was {len(body)} bytes, expected {length}; the file is truncated, fetch it again"
        )
    try:
        metadata = databento_dbn.Metadata.decode(head + body)
        _ = metadata.mappings  # its dates are only read when asked for, and may be none
    except Exception as error:
        raise RefusedFile(
            f"metadata could not be decoded ({error}), expected DBN version {version}; fetch the file again"
        ) from error
    schema = str(metadata.schema) if metadata.schema is not None else "mixed"
    if schema not in _RECORDS:
        raise RefusedFile(
            f"schema was {schema}, expected {', '.join(_RECORDS)}; fetch one of these, nothing reads the others"
        )
    rtype, message = _RECORDS[schema]
    message = _OLDER.get((schema, version), message)
    dtype = signed_dtype(message, ts_out=bool(metadata.ts_out))
    return DbnHeader(
        version=version,
        dataset=metadata.dataset,
        schema=schema,
        metadata=metadata,
        dtype=dtype,
        first_word=dtype.itemsize // 4 | rtype << 8,
    )


def signed_dtype(message: type, *, ts_out: bool) -> np.dtype:
    """Layout of a record with its first two bytes as one word, and unsigned fields as signed ones of their width."""
    layout = np.dtype(message._dtypes)
    names, formats, offsets = ["first_word"], ["<u2"], [0]
    for name in layout.names[2:]:
        kind, offset = layout.fields[name][:2]
        names.append(name)
        # A sequence may pass 2^31 and has no sentinel.
        is_signed = name != "sequence"
        formats.append(_SIGNED.get(kind.str.replace("|", ""), kind.str) if is_signed else kind.str)
        offsets.append(offset)
    # Live captures may append the gateway's send time to each record.
    itemsize = layout.itemsize + (8 if ts_out else 0)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})
