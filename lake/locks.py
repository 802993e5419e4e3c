"""Locks between processes: one builder for each dataset, and nobody builds on a parent that is being rewritten.

Advisory `flock` locks on files in the stage folder: the kernel drops them with the process, so a killed build leaves
none behind.
"""

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
