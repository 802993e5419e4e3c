"""Locks between processes: one builder for each dataset, and nobody builds on a parent that is being rewritten.

Advisory `flock` locks on files in the stage folder: the kernel drops them with the process, so a killed build leaves
none behind.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

POLL_S = 0.05

log = logging.getLogger(__name__)


class LockTimeout(OSError):
    """Another process held a dataset for too long."""


class Locks:
    """The locks of one build step: an exclusive one on what it writes, shared ones on what it reads.

    Taken in order of name, and all before the step starts, so that two processes can't wait for each other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: list[int] = []

    def take(self, write: str, read: Iterable[str], timeout_s: float) -> None:
        """``write`` and ``read`` are dataset folders. Waits; raises LockTimeout with the dataset that was held."""
        deadline = time.monotonic() + timeout_s
        for name in sorted({write, *read}):
            fd = os.open(self.folder / f"{name.replace('/', '.')}.lock", os.O_RDWR | os.O_CREAT, 0o644)
            self.held.append(fd)
            mode = fcntl.LOCK_EX if name == write else fcntl.LOCK_SH
            told = False
            while True:
                try:
                    fcntl.flock(fd, mode | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        self.release()
                        raise LockTimeout(
                            f"lake/{name} was in use by another build for {timeout_s:.0f} s; "
                            "run again when it has ended"
                        ) from None
                    if not told:
                        log.warning("waiting for lake/%s, which another build is using", name)
                        told = True
                    time.sleep(POLL_S)

    def release(self) -> None:
        """Give every lock back; calling it twice is harmless."""
        while self.held:
            os.close(self.held.pop())


class NameLock:
    """An exclusive lock on a name, between processes and threads; its file goes when it is given back.

    A killed holder frees it, and what is left of the file harms nobody. Used where names are many (one for each source
    file), so that lock files don't pile up.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def take(self, *, wait: bool = True, what: str = "") -> bool:
        """Take it; False when another holds it and ``wait`` is off. Says once, with ``what``, that it waits."""
        told = False
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                if not wait:
                    return False
                if not told:
                    log.warning("another process holds %s; waiting for it", what or self.path.name)
                    told = True
                time.sleep(POLL_S)
                continue
            # The holder before us may have taken the file away just before we locked it: then it locks nothing.
            if self._is_the_file(fd):
                self._fd = fd
                return True
            os.close(fd)

    def fileno(self) -> int:
        """Descriptor of the held lock: a child that inherits it holds the lock too. Raises ValueError when not held."""
        if self._fd is None:
            raise ValueError(f"{self.path.name} was not held, expected it to be; take it first")
        return self._fd

    def release(self) -> None:
        """Give it back; calling it twice is harmless."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            os.close(self._fd)
            self._fd = None

    def _is_the_file(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(fd))
        except FileNotFoundError:
            return False
