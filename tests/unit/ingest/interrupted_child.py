"""An ingest in a process of its own that dies, or stands still, at an instant that the test chooses.

Children are forked from a server that has imported everything: a fresh interpreter for each would cost a second.
"""

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from ingest.dbn import ingest

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


class Child:
    """Started at once. ``kill_at``: SIGKILL at the n-th file system event that Python reports (open, rename, mkdir,
    unlink, …) below the root, so that every step of a landing is hit, not only the long ones. ``stop_at``: SIGSTOP
    at the first event whose path holds that text.
    """

    def __init__(self, root: Path, source: Path, kill_at: int = 0, stop_at: str = "") -> None:
        self._receiver, sender = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_run, args=(root, source, kill_at, stop_at, sender))
        self._process.start()
        sender.close()
        self.events, self.ok = 0, False

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> "Child":
        self._process.join(120)
        if self.code == 0:
            self.events, self.ok = self._receiver.recv()
        return self

    @property
    def code(self) -> int | None:
        """0 for a call that came to its end, −9 for a killed one."""
        return self._process.exitcode

    def wait_until_stopped(self) -> None:
        while self._process.is_alive():
            if Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T":
                return
            time.sleep(0.01)
        raise AssertionError("the child came to its end without standing still")

    def go_on(self) -> "Child":
        os.kill(self.pid, signal.SIGCONT)
        return self.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.join(60)


def run(root: Path, source: Path, kill_at: int) -> Child:
    """A child that has ended."""
    return Child(root, source, kill_at).wait()


def _run(root: Path, source: Path, kill_at: int, stop_at: str, sender: Connection) -> None:
    events, stopped = 0, False

    def hook(event: str, args: tuple) -> None:
        nonlocal events, stopped
        if event != "open" and not event.startswith(("os.", "shutil.", "tempfile.")):
            return
        path = str(next((a for a in args if isinstance(a, str | os.PathLike)), ""))
        if not path.startswith(str(root)):
            return
        events += 1
        if events == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if stop_at and stop_at in path and not stopped:
            stopped = True
            os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)
    ok = ingest(root, [source]).ok
    sender.send((events, ok))
