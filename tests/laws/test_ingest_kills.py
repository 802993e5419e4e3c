"""Killed at any instant, the next run of every loader ends as a run that nobody disturbed."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.fixtures import disturbed
from tests.fixtures.loaders import LOADERS, Loader
from tests.fixtures.processes import fork
from tests.fixtures.quiet import Quiet, assert_whole, seeded

SEED = 20251215
# At a step of the file system, at a random time of the run, and twice, the second time in the mending.
LONG_STEPS, LONG_TIMES = 9, 3


def kill_at_step(made: Quiet, root: Path, *kills: int) -> None:
    with made.loader.serving():
        made.fresh(root)
        for at in kills:
            code = disturbed.killed(lambda: made.run(root), root, at)
            assert code in (0, -signal.SIGKILL), f"{made.loader.name} ended with {code} in step {at}"
            assert_whole(root)
        made.assert_mended(root)
    shutil.rmtree(root)


def kill_at_time(made: Quiet, root: Path, after_s: float) -> None:
    with made.loader.serving():
        made.fresh(root)
        child = fork(lambda: bool(made.run(root)) or True)
        time.sleep(after_s)
        child.kill()
        made.assert_mended(root)
    shutil.rmtree(root)


@pytest.mark.parametrize("loader", LOADERS, ids=repr)
def test_a_killed_run_is_mended_by_the_next(loader: Loader, quiet, tmp_path: Path) -> None:
    made = quiet(loader)
    assert made.steps > 10
    kill_at_step(made, tmp_path / "lake", seeded(SEED, loader).randint(1, made.steps))


@pytest.mark.long
@pytest.mark.parametrize("loader", LOADERS, ids=repr)
def test_a_run_killed_anywhere_is_mended_by_the_next(loader: Loader, quiet, tmp_path: Path) -> None:
    """Over all loaders above 200 instants; every third step is followed by a kill early in the mending."""
    made, rng = quiet(loader), seeded("long", SEED, loader)
    for number in range(LONG_STEPS):
        # one in each part of the run, so that a few cover it
        low, high = made.steps * number // LONG_STEPS + 1, made.steps * (number + 1) // LONG_STEPS
        again = [rng.randint(1, 20)] if number % 3 == 0 else []
        kill_at_step(made, tmp_path / f"step{number}", rng.randint(low, max(low, high)), *again)
    for number in range(LONG_TIMES):
        kill_at_time(made, tmp_path / f"time{number}", rng.uniform(0, made.duration_s))
    assert (LONG_STEPS + LONG_TIMES) * len(LOADERS) >= 200
