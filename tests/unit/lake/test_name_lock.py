"""Locks on names: one holder at a time, nothing left behind, the dead hold nothing."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lake.locks import NameLock

HOLD_AND_DIE = """
import os, pathlib, signal, sys
from lake.locks import NameLock
NameLock(pathlib.Path(sys.argv[1])).take()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_one_holder_at_a_time_and_no_file_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files come and go under the waiting: a lock on one that is gone would let two in."""
    monkeypatch.setattr("lake.locks.POLL_S", 0.0005)
    path, inside, most = tmp_path / "a.lock", [0], []

    def work() -> None:
        for _ in range(15):
            lock = NameLock(path)
            assert lock.take()
            inside[0] += 1
            time.sleep(0.001)
            most.append(inside[0])
            inside[0] -= 1
            lock.release()
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 90
    assert max(most) == 1
    assert not path.exists()


def test_who_does_not_wait_is_told_no(tmp_path: Path) -> None:
    first, second = NameLock(tmp_path / "a.lock"), NameLock(tmp_path / "a.lock")
    assert first.take(wait=False)
    assert not second.take(wait=False)
    first.release()
    assert second.take(wait=False)
    second.release()


def test_the_dead_hold_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    subprocess.run(
        [sys.executable, "-c", HOLD_AND_DIE, str(path)], check=False, cwd=Path(__file__).parents[3]
    )
    assert path.exists()
    lock = NameLock(path)
    assert lock.take(wait=False)
    lock.release()
    assert not path.exists()
