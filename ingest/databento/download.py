"""Files to disk: a batch file in as many parts as the line allows, or a stream of one day; verified there.

Memory is bounded by one chunk. A partial file stands as ``<name>.part`` beside where it will be, and is gone
on with after a kill; only a verified one gets its name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ingest.databento.request import Query, Window
from ingest.databento.vendor import CHUNK_BYTES, Vendor, VendorFile
from ingest.dbn_format import open_dbn
from ingest.errors import FailedFile, RefusedFile
from ingest.expected import Expected
from ingest.http_retry import RetryableError
from ingest.landing import hash_source
from lake import atomic

# An attempt that brought this much is no failed one: a long download may be cut more often than any count
# of attempts.
PROGRESS_BYTES = 1 << 20

Tell = Callable[[int], None]  # bytes on disk so far


class WrongFile(Exception):
    """The whole answer came, and isn't what was declared."""


class Deadline:
    """The end of the caller's patience; ``check`` raises FailedFile after it."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s, self._clock = timeout_s, clock
        self._end = clock() + timeout_s

    def check(self, what: str) -> None:
        if self._clock() >= self._end:
            raise FailedFile(
                f"{what} was not finished after {self._timeout_s:.0f} s, expected it to be; run the same "
                "command again: it goes on with what was ordered"
            )


def fetch_batch_file(vendor: Vendor, file: VendorFile, path: Path, *, deadline: Deadline, tell: Tell) -> None:
    """Bring ``file`` to ``path`` with the listed size and sha256; a whole file that has them is left alone.

    One that comes wrong is fetched once more from its start. Still wrong, it stays at ``path`` to be looked
    at, and WrongFile is raised. Raises FailedFile when the attempts or the time are used up; then what came
    so far is kept.
    """
    if path.exists() and _difference(path, file) is None:
        return
    atomic.make_dirs(path.parent)
    part = path.with_name(f"{path.name}.part")
    for last in (False, True):
        vendor.policy.call(
            lambda: _continue(vendor, file, part, deadline, tell), what=f"download of {file.name}"
        )
        wrong = _difference(part, file)
        if wrong is None or last:
            atomic.fsync_file(part)
            atomic.replace(part, path)
        if wrong is None:
            return
        part.unlink(missing_ok=True)
    raise WrongFile(wrong)


def _continue(vendor: Vendor, file: VendorFile, part: Path, deadline: Deadline, tell: Tell) -> None:
    """One request for what is missing of ``part``. Returns when the server has no more to give."""
    had = part.stat().st_size if part.exists() else 0
    if had == file.bytes and part.exists():
        return
    if had > file.bytes:
        part.unlink()
        had = 0
    have = had
    try:
        with vendor.open_once(file, had) as response:
            if response.status_code == 416 or not _starts_at(response, had, file.bytes):
                part.unlink(missing_ok=True)
                raise RetryableError("answer was of another range than asked for")
            if response.status_code == 200:  # the server doesn't do ranges: all of it again
                have = had = 0
            with open(part, "ab" if had else "wb") as out:
                for chunk in response.iter_content(CHUNK_BYTES):
                    out.write(chunk)
                    have += len(chunk)
                    tell(min(have, file.bytes))
                    deadline.check(f"download of {file.name}")
                    if have > file.bytes:
                        return  # longer than listed: whatever follows, it is the wrong file
            if have < file.bytes and "content-length" not in response.headers:
                raise RetryableError("answer was cut off")
    except RetryableError as error:
        if have - had >= PROGRESS_BYTES:
            raise RetryableError(error.reason, error.retry_after_s, progressed=True) from None
        raise


def _starts_at(response: object, start: int, size: int) -> bool:
    if response.status_code != 206:
        return True
    return response.headers.get("content-range", "").startswith(f"bytes {start}-") and response.headers[
        "content-range"
    ].endswith((f"/{size}", "/*"))


def _difference(path: Path, file: VendorFile) -> str | None:
    """What of a file isn't as listed; None when it is."""
    size = path.stat().st_size
    try:
        Expected(bytes=file.bytes, sha256=file.sha256).check_file(
            size, "" if size != file.bytes else hash_source(path)
        )
    except RefusedFile as error:
        return str(error)
    return None


def fetch_stream(
    vendor: Vendor,
    query: Query,
    schema: str,
    window: Window,
    path: Path,
    *,
    deadline: Deadline,
    tell: Tell,
    pay_again: Callable[[], None],
) -> None:
    """Stream one day to ``path``: whole zstd frames, whole records, as many as were declared.

    There is no list with a checksum for a stream, and no part of one can be asked for. Each further attempt
    after bytes came is paid for, so ``pay_again`` is called before it and may raise. A stream that comes
    whole but wrong is asked for once more; still wrong, it stays at ``path`` and WrongFile is raised.
    """
    atomic.make_dirs(path.parent)
    part = path.with_name(f"{path.name}.part")
    paid, what = False, f"stream of {schema} {window.date}"

    def told(done: int) -> None:
        tell(done)
        deadline.check(what)

    def once() -> None:
        nonlocal paid
        part.unlink(missing_ok=True)
        if paid:
            pay_again()
        try:
            vendor.stream_once(query, schema, window.day, part, told)
        finally:
            # The file is opened when the server has said yes.
            paid = part.exists()

    for last in (False, True):
        vendor.policy.call(once, what=what)
        wrong = _incomplete(part, window)
        if wrong is None or last:
            atomic.fsync_file(part)
            os.replace(part, path)
            atomic.fsync_dir(path.parent)
        if wrong is None:
            return
    raise WrongFile(wrong)


def _incomplete(path: Path, window: Window) -> str | None:
    try:
        with open_dbn(path) as stream:  # which proves that its frames end
            Expected(record_count=window.record_count).check_records(sum(map(len, stream.blocks())))
    except RefusedFile as error:
        return str(error)
    return None
