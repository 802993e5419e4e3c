"""Full and read-only disks, two runs at once, clocks that jump: the next run of every loader ends as a quiet one."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import disturbed
from tests.fixtures.lake_state import state
from tests.fixtures.loaders import LOADERS, SAMPLED, Loader
from tests.fixtures.processes import Child, fork
from tests.fixtures.quiet import Quiet, assert_same, assert_whole, seeded

SEED = 20251216
DAY_S = 86_400
LONG_FAULTS = 8


# -- disks ---------------------------------------------------------------------------------------------------------


def fill_disk(made: Quiet, root: Path, rng: random.Random, count: int) -> None:
    """No space from a write on, so often; whatever came of it, nothing is half and the next run completes it."""
    writes = made.writes
    assert writes > 3
    for number in range(count):
        low, high = writes * number // count + 1, writes * (number + 1) // count
        at, lake = rng.randint(low, max(low, high)), root / str(number)
        with made.loader.serving():
            made.fresh(lake)
            assert disturbed.out_of_space(lambda lake=lake: made.run(lake), lake, at) == 0, (
                f"write {at} of {writes}"
            )
            made.assert_mended(lake)
        shutil.rmtree(lake)


def limit_files(made: Quiet, root: Path, limit_bytes: int) -> None:
    """The kernel refuses to let any file grow above so many bytes: an end in the middle of a write."""
    with made.loader.serving():
        made.fresh(root)
        assert disturbed.short_files(lambda: made.run(root), limit_bytes) == 0
        made.assert_mended(root)


@pytest.mark.parametrize("loader", LOADERS, ids=repr)
def test_a_full_disk_leaves_nothing_half(loader: Loader, quiet, tmp_path: Path) -> None:
    rng = seeded(SEED, loader)
    fill_disk(quiet(loader), tmp_path, rng, 1)
    limit_files(quiet(loader), tmp_path / "limited", int(2 ** rng.uniform(4, 14)))


@pytest.mark.long
@pytest.mark.parametrize("loader", LOADERS, ids=repr)
def test_disks_that_fill_at_many_writes(loader: Loader, quiet, tmp_path: Path) -> None:
    rng = seeded("long", SEED, loader)
    fill_disk(quiet(loader), tmp_path, rng, LONG_FAULTS)
    for power in range(4, 4 + LONG_FAULTS):
        limit_files(quiet(loader), tmp_path / f"limited{power}", int(2 ** (power + rng.random())))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Call it with a number of bytes for a file system of its own of that size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(reason=f"a small disk can't be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def used_bytes(root: Path) -> int:
    """What a file system in pages of 4 KiB needs for what is below ``root``."""
    return sum(-(-p.lstat().st_size // 4096) * 4096 if p.is_file() else 4096 for p in root.rglob("*"))


@pytest.mark.parametrize("loader", SAMPLED)
def test_a_really_full_disk_is_mended_when_there_is_space(
    loader: Loader, quiet, disk: Callable[[int], Path], tmp_path: Path
) -> None:
    made = quiet(loader)
    with loader.serving():
        calm = made.fresh(tmp_path / "calm")
        before = used_bytes(calm)
        made.run(calm)
    share = seeded("disk", SEED, loader).uniform(0.1, 0.9)
    # Keepers begin with a lake that must fit.
    mounted = disk(before + int(share * max(used_bytes(calm) - before, 16_384)) + 8192)
    root = mounted / "lake"
    with loader.serving():
        made.fresh(root)

        def fails_or_not() -> bool:
            try:
                made.run(root)
            except Exception as error:
                return isinstance(error, OSError) or "space" in str(error) or "full" in str(error)
            return True

        assert fork(fails_or_not).wait() == 0
        assert_whole(root)
        subprocess.run(["mount", "-o", "remount,size=64m", str(mounted)], check=True)
        made.assert_mended(root)


@pytest.mark.parametrize("loader", SAMPLED)
def test_a_read_only_lake_stays_as_it_is(loader: Loader, quiet, disk: Callable[[int], Path]) -> None:
    made = quiet(loader)
    mounted = disk(64 << 20)
    root = mounted / "lake"
    with loader.serving():
        made.fresh(root)
        if loader.run_b:
            made.run_b(root)
        root.mkdir(exist_ok=True)
        before = state(root)
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        try:
            # told or raised, it doesn't matter which: the command line makes a line of either
            assert fork(lambda: not made.run(root) or True).wait() in (0, 1)
            assert state(root) == before
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
        made.run(root)
        if loader.run_b:
            assert_same(state(root, any_order=True), made.expected_both)
        else:
            assert_same(state(root), made.expected)


# -- two at once ---------------------------------------------------------------------------------------------------


def interleaved(made: Quiet, root: Path, at: int, first: Callable, second: Callable) -> None:
    """One stands still at a step, the other runs, to its end or until it waits for the first; then both end."""
    with made.loader.serving():
        made.fresh(root)
        # It may stand before it takes its lock, and then be the one that is refused.
        standing = disturbed.stopped(lambda: _ended(lambda: first(root)), root, at)
        running = fork(lambda: _ended(lambda: second(root)))
        until = time.monotonic() + 0.5
        while running.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        _go_on(standing)
        assert running.wait() == 0
        assert_whole(root)
        # One of the calls may have been refused while the other ran; both are made again.
        first(root)
        second(root)
        assert_same(state(root, any_order=True), made.expected_both)
    shutil.rmtree(root)


def _ended(work: Callable[[], object]) -> bool:
    """Whether the call came to its end, or was told that another one is at work."""
    try:
        work()
    except Exception as error:
        return "another" in str(error) or "wait" in str(error)
    return True


def _go_on(child: Child) -> None:
    if child.poll() is None:
        os.kill(child.pid, signal.SIGCONT)
    assert child.wait() == 0


@pytest.mark.parametrize("loader", SAMPLED)
@pytest.mark.parametrize("order", ["all first", "b first"])
def test_two_runs_at_once_into_the_same_hours(loader: Loader, order: str, quiet, tmp_path: Path) -> None:
    made = quiet(loader)
    other = made.run_b if loader.run_b else made.run
    first, second = (made.run, other) if order == "all first" else (other, made.run)
    at = seeded("two", SEED, loader, order).randint(1, made.steps)
    interleaved(made, tmp_path / "lake", at, first, second)


@pytest.mark.long
@pytest.mark.parametrize("loader", LOADERS, ids=repr)
def test_two_runs_at_once_at_many_steps(loader: Loader, quiet, tmp_path: Path) -> None:
    made, rng = quiet(loader), seeded("long two", SEED, loader)
    other = made.run_b if loader.run_b else made.run
    for number in range(LONG_FAULTS):
        first, second = [(made.run, other), (other, made.run)][number % 2]
        interleaved(made, tmp_path / str(number), rng.randint(1, made.steps), first, second)


@pytest.mark.parametrize("loader", SAMPLED)
def test_the_same_run_twice_at_once(loader: Loader, quiet, tmp_path: Path) -> None:
    made = quiet(loader)
    root = tmp_path / "lake"
    with loader.serving():
        made.fresh(root)
        children = [fork(lambda: _ended(lambda: made.run(root))) for _ in range(2)]
        assert [child.wait() for child in children] == [0, 0]
        made.assert_mended(root)


# -- clocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", SAMPLED)
def test_clocks_that_jump_change_nothing(loader: Loader, quiet, tmp_path: Path) -> None:
    """Days back and ahead, between looks at the clock; one run is killed in between. The vendor may refuse such a
    clock (signatures are of minutes, days must be over): then the next run brings it all.
    """
    made = quiet(loader)
    root = tmp_path / "lake"
    with loader.serving():
        made.fresh(root)
        for number, jumps in enumerate([(0, -3 * DAY_S, 5 * DAY_S), (-400 * DAY_S,), (30 * DAY_S, -DAY_S)]):
            turns = itertools.cycle(jumps)

            def jumping(turns: Iterator = turns) -> bool:
                with disturbed.clock_at(lambda: next(turns)):
                    return _ended(lambda: made.run(root)) or True

            child = fork(jumping)
            if number == 0:
                time.sleep(made.duration_s / 2)
                child.kill()
            else:
                assert child.wait() == 0
            assert_whole(root)
        made.assert_mended(root)
