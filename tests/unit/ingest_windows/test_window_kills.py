"""Kills, full disks and two loads at once: after the next run the windows are those of a run that nobody disturbed."""

import errno
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import window_day
from ingest.ndjson import ingest_ndjson
from lake.windows import Marker, dataset_dir, date_parts, landed_dates, read_markers, visible_parts
from tests.fixtures.processes import fork
from tests.unit.ingest_windows import kit

SAMPLE, LONG_SAMPLE = 8, 60
STEPS = ("replace", "link", "fsync", "unlink", "mkdir", "rename")


def calls(folder: Path, root: Path) -> list[Callable[[], object]]:
    """What a night of loads is: new rows of two datasets, copies of some, late ones, lines that can't land."""
    return [
        lambda: ingest_ndjson(root, "events", str(folder / "first-*.ndjson")),
        lambda: ingest_ndjson(root, "orders", str(folder / "orders.ndjson")),
        lambda: ingest_ndjson(root, "events", str(folder / "late.ndjson")),
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    rows = kit.events(240, hours=30)
    kit.write(folder / "first-a.ndjson", [*rows[:140], "no JSON"])
    kit.write(folder / "first-b.ndjson", rows[120:])
    kit.write(folder / "late.ndjson", [*kit.events(200, seed=2, hours=27), '{"event_id": 1}'])
    kit.write(folder / "orders.ndjson", [kit.order(n, kit.START) for n in range(40)])
    return folder


def state(root: Path) -> list:
    return [kit.windows(root, dataset) for dataset in ("events", "orders")]


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list, int]:
    """The windows of a quiet run, and how many steps on the file system it took."""
    root = tmp_path_factory.mktemp("quiet")
    count = root / "steps"

    def work() -> bool:
        steps = count_steps(None)
        for call in calls(inputs, root):
            call()
        count.write_text(str(steps()))
        return True

    assert fork(work).wait() == 0
    return state(root), int(count.read_text())


def count_steps(kill_at: int | None) -> Callable[[], int]:
    """Count the calls that change the file system, in this process; before number ``kill_at`` it kills itself."""
    done = 0

    def hooked(original):
        def step(*args, **kwargs):
            nonlocal done
            if done == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return original(*args, **kwargs)

        return step

    for name in STEPS:
        setattr(os, name, hooked(getattr(os, name)))
    return lambda: done


def disturbed_run_ends_equal(inputs: Path, root: Path, kill_at: int, expected: list) -> None:
    def work() -> bool:
        count_steps(kill_at)
        for call in calls(inputs, root):
            call()
        return True

    assert fork(work).wait() == -signal.SIGKILL
    for dataset in ("events", "orders"):  # whatever a reader finds is whole
        for part in visible_parts(root, dataset):
            assert part.path.stat().st_size == part.part.bytes
        for marker in read_markers(root, dataset):
            assert marker.rows == sum(part.rows for part in marker.parts)
    for call in calls(inputs, root):
        call()
    assert state(root) == expected, kill_at
    for dataset in ("events", "orders"):
        named = {part.name for marker in read_markers(root, dataset) for part in marker.parts}
        on_disk = {
            p.relative_to(dataset_dir(root, dataset)).as_posix()
            for date in landed_dates(root, dataset)
            for p in date_parts(root, dataset, date)
        }
        assert on_disk >= named


def test_killed_anywhere_the_next_run_ends_as_a_quiet_one(
    inputs: Path, undisturbed: tuple[list, int], tmp_path: Path
):
    expected, steps = undisturbed
    for kill_at in random.Random(11).sample(range(steps), SAMPLE):  # noqa: S311
        disturbed_run_ends_equal(inputs, tmp_path / str(kill_at), kill_at, expected)


@pytest.mark.long
def test_killed_at_many_more_instants(inputs: Path, undisturbed: tuple[list, int], tmp_path: Path):
    expected, steps = undisturbed
    for kill_at in random.Random(12).sample(range(steps), LONG_SAMPLE):  # noqa: S311
        disturbed_run_ends_equal(inputs, tmp_path / str(kill_at), kill_at, expected)


def test_a_full_disk_leaves_nothing_and_the_next_run_completes(
    inputs: Path, undisturbed: tuple[list, int], root: Path, monkeypatch: pytest.MonkeyPatch
):
    expected, _ = undisturbed
    for fail_at in (0, 2, 9, 40):
        with monkeypatch.context() as patch:
            done = 0

            def full(*args, original=os.replace, fail_at=fail_at, **kwargs):
                nonlocal done
                done += 1
                if done > fail_at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), args[1])
                return original(*args, **kwargs)

            patch.setattr(os, "replace", full)
            with pytest.raises(OSError, match="No space left"):
                calls(inputs, root)[0]()
        named = {part.path for part in visible_parts(root, "events")}
        assert {p for d in ("2024-12-01", "2024-12-02") for p in date_parts(root, "events", d)} == named
        assert not (root / "lake/_stage/windows-events").exists()
    for call in calls(inputs, root):
        call()
    assert state(root) == expected


def test_a_late_line_that_a_killed_load_left_without_a_marker_is_counted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = kit.write(tmp_path / "first.ndjson", kit.events(100, hours=30))
    bad = kit.event(7, kit.START, side="HOLD")
    late = kit.write(tmp_path / "late.ndjson", [bad, *kit.events(200, seed=2, hours=1)])

    def killed(metadata: Path, marker: Marker) -> None:
        raise KeyboardInterrupt

    for lake in (root, tmp_path / "quiet"):
        ingest_ndjson(lake, "events", str(first))
    with monkeypatch.context() as patch:
        patch.setattr(window_day, "write_marker", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest_ndjson(root, "events", str(late))
    assert list(root.rglob("lake/bronze/_rejects/**/part-00-*.parquet"))
    for lake in (root, tmp_path / "quiet"):
        ingest_ndjson(lake, "events", str(late))
    assert [m.reject_rows for m in read_markers(root, "events")[:2]] == [0, 1]
    assert kit.windows(root) == kit.windows(tmp_path / "quiet")


def test_two_loads_at_once_end_as_one_after_the_other(
    inputs: Path, undisturbed: tuple[list, int], root: Path
):
    expected, _ = undisturbed
    children = [fork(lambda: calls(inputs, root)[0]().exit_code in (0, 2)) for _ in range(2)]
    children.append(fork(lambda: calls(inputs, root)[1]().exit_code == 0))
    assert [child.wait() for child in children] == [0, 0, 0]
    calls(inputs, root)[2]()
    assert state(root) == expected


def test_two_files_at_once_into_the_same_hours(inputs: Path, root: Path, tmp_path: Path):
    a, b = (
        kit.write(tmp_path / f"{n}.ndjson", kit.events(150, seed=s, hours=4)) for n, s in (("a", 1), ("b", 2))
    )
    children = [fork(lambda p=p: ingest_ndjson(root, "events", str(p)).exit_code == 0) for p in (a, b)]
    assert [child.wait() for child in children] == [0, 0]
    for path in (a, b):
        ingest_ndjson(tmp_path / "other", "events", str(path))
    assert kit.windows(root) == kit.windows(tmp_path / "other")
