"""Killed, out of space, or two at once: readers see whole deliveries, and the next ingest mends the rest."""

import errno
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.ingest import app
from ingest.dbn import ingest as ingest_dbn
from ingest.landing import Delivery, hash_source, recover_interrupted
from ingest.orphans import sweep_orphans
from lake.bronze import visible_files
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import DAY_NS, HOUR_NS, records, snapshot, write_dbn
from tests.unit.ingest.interrupted_child import Child
from tests.unit.ingest.interrupted_child import run as run_child

SEED = 20251215


def sources(folder: Path) -> Path:
    """Three files, one bad: landings with several hours and dates, rows kept aside, and a quarantine."""
    late = records("trades", 200, start_ns=DAY_NS + 23 * HOUR_NS + 1800 * 10**9, step_ns=18 * 10**9)
    late["size"][[3, 197]] = 0
    write_dbn(folder / "a.trades.dbn.zst", "trades", late)
    write_dbn(folder / "b.mbp-10.dbn.zst", "mbp-10", records("mbp-10", 120, step_ns=60 * 10**9))
    bad = write_dbn(folder / "c.trades.dbn.zst", "trades", records("trades", 100, seed=7))
    bad.write_bytes(bad.read_bytes()[:-3])
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, int]:
    """Source folder, the lake that a quiet run makes of it, and how many events that takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    source = sources(folder / "in")
    done = run_child(folder / "lake", source, 0)
    assert (done.code, done.ok) == (0, False)  # the bad file
    return source, snapshot(folder / "lake"), done.events


def assert_whole_deliveries(root: Path, expected: dict) -> None:
    """Whatever a reader sees now is complete and the same as in the undisturbed lake."""
    seen: dict[str, set[str]] = {}
    for file in visible_files(root):
        relative = str(file.path.relative_to(root))
        seen.setdefault(file.delivery_id, set()).add(relative)
        assert file.path.is_file()
    for delivery_id, files in seen.items():
        expected_files = {p for p in expected["files"] if f"part-{delivery_id[:8]}-" in p}
        assert files == {p for p in expected_files if "/_rejects/" not in p}
        assert all((root / p).is_file() for p in expected_files)
        assert f"raw/_metadata/receipt-{delivery_id}.json" in expected["files"]


def visible_names(root: Path) -> set[str]:
    """What receipts stand for, rejects included, relative."""
    names = {str(f.path.relative_to(root)) for f in visible_files(root)}
    for path in (root / "raw" / "_metadata").glob("receipt-*.json"):
        names |= {f"lake/bronze/{f['path']}" for f in json.loads(path.read_text())["rejects"]}
    return names


def _chance(number: int, low: int, high: int) -> int:
    return int(np.random.default_rng(SEED + number).integers(low, high, endpoint=True))


def kill_and_mend(root: Path, source: Path, expected: dict, kills: list[int]) -> None:
    for kill_at in kills:
        done = run_child(root, source, kill_at)
        assert done.code == -signal.SIGKILL, kill_at
        assert_whole_deliveries(root, expected)
    report = ingest_dbn(root, [source])
    assert sorted(f.status for f in report.files if f.ok) in (
        ["landed"] * 2, ["already_landed", "landed"], ["already_landed"] * 2,
    )  # fmt: skip
    assert snapshot(root) == expected


def test_the_child_meets_every_step(undisturbed: tuple[Path, dict, int]) -> None:
    _, expected, events = undisturbed
    assert events > 80
    assert len([p for p in expected["files"] if "/_rejects/" not in p and p.endswith(".parquet")]) >= 4
    assert len([p for p in expected["files"] if "/_rejects/" in p]) == 2


@pytest.mark.parametrize("number", range(8))
def test_a_killed_ingest_is_mended_by_the_next(
    tmp_path: Path, undisturbed: tuple[Path, dict, int], number: int
) -> None:
    source, expected, events = undisturbed
    # One kill in each eighth of the run, so that a sample of eight covers it.
    kill_at = _chance(number, events * number // 8 + 1, events * (number + 1) // 8)
    kill_and_mend(tmp_path / "lake", source, expected, [kill_at])


@pytest.mark.long
@pytest.mark.parametrize("number", range(60))
def test_any_killed_ingest_is_mended_by_the_next(
    tmp_path: Path, undisturbed: tuple[Path, dict, int], number: int
) -> None:
    """Sixty instants, every third one followed by a second kill, early, in the middle of the mending."""
    source, expected, events = undisturbed
    kills = [_chance(1000 + number, 1, events)] + ([_chance(2000 + number, 1, 12)] if number % 3 == 0 else [])
    kill_and_mend(tmp_path / "lake", source, expected, kills)


def test_a_killed_mending_is_mended_too(tmp_path: Path, undisturbed: tuple[Path, dict, int]) -> None:
    source, expected, events = undisturbed
    kill_and_mend(tmp_path / "lake", source, expected, [events // 3, 4, 7, 9, 12])


def test_a_killed_landing_of_a_file_refused_before_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old receipt says quarantined, which must not pass for the end of the landing."""
    source = write_dbn(tmp_path / "in" / "a.dbn.zst", "trades", records("trades", 30))
    with monkeypatch.context() as patched:
        patched.setattr("ingest.dbn_checks.TS_EVENT_MAX_NS", 5)
        assert ingest_dbn(tmp_path / "refused", [source]).files[0].status == "quarantined"
    shutil.copytree(tmp_path / "refused", tmp_path / "lake")
    done = run_child(tmp_path / "lake", source, 0)
    assert done.ok
    expected, events = snapshot(tmp_path / "lake"), done.events
    assert not any(p.startswith("raw/_quarantine") for p in expected["files"])
    for eighth in (2, 5, 7):
        root = tmp_path / str(eighth)
        shutil.copytree(tmp_path / "refused", root)
        assert run_child(root, source, events * eighth // 8).code == -signal.SIGKILL
        assert_whole_deliveries(root, expected)
        ingest_dbn(root, [])
        assert {p for p in kit.tree(root) if p.endswith(".parquet")} == visible_names(root)
        assert ingest_dbn(root, [source]).ok
        assert snapshot(root) == expected


def test_recover_removes_what_no_commit_lists_and_lands_raw_files(
    tmp_path: Path, undisturbed: tuple[Path, dict, int]
) -> None:
    """The stage of a killed ingest is lost: only the walk over bronze finds the orphans."""
    source, expected, _ = undisturbed
    root = tmp_path / "lake"
    ingest_dbn(root, [source])
    victim = next(f for f in visible_files(root) if f.schema == "futures.mbp10.v1")
    (root / "raw" / "_metadata" / f"receipt-{victim.delivery_id}.json").unlink()
    rejects = root / "lake" / "bronze" / "_rejects" / "dataset=futures_trades" / "date=2025-12-20"
    orphans = [
        victim.path.parent.parent / "hour=23" / "part-00000000-000.parquet",
        victim.path.parent / "foreign.parquet",
        rejects / "part-00000000-000.parquet",
    ]
    windows = (
        root / "lake" / "bronze" / "events" / "date=2025-12-15" / "part-0001.parquet"
    )  # not ours to judge
    for path in [*orphans, windows]:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(victim.path, path)
    report = ingest_dbn(root, [], recover=True)
    assert {str(p.relative_to(root)) for p in orphans} <= set(report.removed)
    assert [f.status for f in report.files] == ["landed", "already_landed"]
    assert windows.is_file()
    windows.unlink()
    found = snapshot(root)
    found["files"] -= {"raw/manifest.json", "lake/bronze/manifest.json", "lake/_stage/bronze.lock"}
    assert found == expected


def test_recover_leaves_alone_what_somebody_is_landing(
    tmp_path: Path, undisturbed: tuple[Path, dict, int]
) -> None:
    source, expected, _ = undisturbed
    root = tmp_path / "lake"
    child, file = stopped_in_publish(root, source / "a.trades.dbn.zst")
    try:
        assert not visible_files(root)
        assert recover_interrupted(root) == 0
        assert sweep_orphans(root) == []
        assert file.is_file()
    finally:
        child.go_on()
    assert child.ok
    assert_whole_deliveries(root, expected)
    assert len(visible_files(root)) > 1


# --- full disks --------------------------------------------------------------------------------------------------


class Faults:
    """Counts the calls that write, and fails the n-th as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = self.fail_at = 0
        for module, names in {
            "ingest.landing.os": ("replace", "fsync"),
            "lake.atomic": ("write_json", "fsync_dir"),
            "ingest.bronze_writer": ("_open", "fsync_file"),
            "pyarrow.parquet": ("ParquetWriter",),
            "ingest.rejects": ("fsync_file",),
            "ingest.bronze_writer.PartitionWriter": ("write", "close"),
            "ingest.landing.Path": ("mkdir",),
            "ingest.landing": ("open",),
            "ingest.parquet_encoder": ("open",),
            "lake.atomic.os": ("fdopen",),
        }.items():
            for name in names:
                target = f"{module}.{name}"
                original = open if name == "open" else _resolve(target)
                monkeypatch.setattr(target, self._wrap(original), raising=False)

    def _wrap(self, original: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            reads = original is open and (len(args) < 2 or "w" not in args[1])
            if not reads:
                self.calls += 1
                if self.calls == self.fail_at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*args, **kwargs)

        return call


def _resolve(target: str) -> object:
    module, *names = target.split(".")
    found = sys.modules[module]
    for name in names:
        found = getattr(found, name)
    return found


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def fill_disk_at(fail_at: int, root: Path, source: Path, expected: dict, faults: Faults) -> int:
    """Fail the write number ``fail_at`` of an ingest, check that nothing is half, and let the next one mend it.

    Returns how many of the other files landed.
    """
    faults.calls, faults.fail_at = 0, fail_at
    landed, raised = 0, None
    try:
        report = ingest_dbn(root, [source])
    except OSError as error:  # the roll-up, the run record or the stage itself: no file's own fault
        raised = error.errno
    assert raised in (None, errno.ENOSPC)
    if raised is None:
        (failed,) = (f for f in report.files if f.status == "failed")
        assert "disk was full" in failed.reason
        others = sorted(f.status for f in report.files if f is not failed)
        assert others in (["landed", "landed"], ["landed", "quarantined"])
        landed = others.count("landed")
    faults.fail_at = 0
    assert_whole_deliveries(root, expected)
    assert kit.tree(root) <= expected["files"]
    assert {p for p in kit.tree(root) if p.endswith(".parquet")} == visible_names(root)
    ingest_dbn(root, [source])
    assert snapshot(root) == expected
    return landed


def count_writes(root: Path, source: Path, faults: Faults) -> int:
    faults.calls = faults.fail_at = 0
    ingest_dbn(root, [source])
    return faults.calls


def test_a_full_disk_at_a_write_leaves_nothing_half(
    tmp_path: Path, undisturbed: tuple[Path, dict, int], faults: Faults
) -> None:
    source, expected, _ = undisturbed
    writes = count_writes(tmp_path / "count", source, faults)
    assert writes > 60
    sample = [_chance(i, writes * i // 12 + 1, writes * (i + 1) // 12) for i in range(12)]
    landed = [fill_disk_at(n, tmp_path / str(n), source, expected, faults) for n in sample]
    assert sum(landed) >= 6


@pytest.mark.long
def test_a_full_disk_at_any_write_leaves_nothing_half(
    tmp_path: Path, undisturbed: tuple[Path, dict, int], faults: Faults
) -> None:
    source, expected, _ = undisturbed
    for n in range(1, count_writes(tmp_path / "count", source, faults) + 1):
        fill_disk_at(n, tmp_path / str(n), source, expected, faults)
        shutil.rmtree(tmp_path / str(n))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Call it with a number of bytes for a file system of its own of that size."""
    folder = tmp_path / "small"
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
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize(("share_of_raw", "share_of_bronze"), [(0.5, 0), (1, 0.5), (1, 0.9)])
def test_a_really_full_disk_is_told_and_cleaned(
    tmp_path: Path, small_disk: Callable[[int], Path], share_of_raw: float, share_of_bronze: float
) -> None:
    """The copy of the raw file doesn't fit, or its row groups don't."""
    large = write_dbn(tmp_path / "large.dbn.zst", "mbp-10", records("mbp-10", 4000, step_ns=3 * 10**9))
    little = write_dbn(tmp_path / "little.dbn.zst", "trades", records("trades", 20))
    bronze_bytes = ingest_dbn(tmp_path / "roomy", [large]).files[0].bytes_out
    root = small_disk(int(large.stat().st_size * share_of_raw + bronze_bytes * share_of_bronze)) / "lake"
    report = ingest_dbn(root, [large, little])
    assert [f.status for f in report.files] == ["failed", "landed"]
    assert "disk was full" in report.files[0].reason
    assert "\n" not in report.files[0].reason
    ingest_dbn(tmp_path / "lake", [little])
    assert snapshot(root) == snapshot(tmp_path / "lake")


def test_a_read_only_lake_is_told_and_left_as_it_is(
    tmp_path: Path, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_dbn(tmp_path / "a.dbn", "trades", records("trades", 20))
    second = write_dbn(tmp_path / "b.dbn", "trades", records("trades", 30, seed=2))
    disk = small_disk(4 << 20)
    root = disk / "lake"
    assert ingest_dbn(root, [first]).ok
    before = snapshot(root)
    monkeypatch.setenv("LAKE_ROOT", str(root))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        result = CliRunner().invoke(app, ["dbn", str(second)])
        assert isinstance(result.exception, OSError)
        assert result.exception.errno == errno.EROFS
        assert snapshot(root) == before
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert ingest_dbn(root, [second]).ok


# --- two at once -------------------------------------------------------------------------------------------------


def stopped_in_publish(root: Path, source: Path) -> tuple[Child, Path]:
    """A child that stands still (SIGSTOP) with a file in place and no receipt yet; and that file."""
    child = Child(root, source, stop_at="-receipt-")
    child.wait_until_stopped()
    assert not list(root.glob("raw/_metadata/receipt-*"))
    return child, next(p for p in root.glob("lake/bronze/futures/*/symbol=*/**/*.parquet") if p.is_file())


def test_a_second_call_with_the_same_file_waits_and_one_with_another_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_dbn(tmp_path / "a.dbn", "trades", records("trades", 20))
    other = write_dbn(tmp_path / "b.dbn", "trades", records("trades", 30, seed=2))
    root = tmp_path / "lake"
    reports = []
    with Delivery(root, path, hash_source(path)), caplog.at_level(logging.WARNING):
        second = threading.Thread(target=lambda: reports.append(ingest_dbn(root, [path])))
        second.start()
        deadline = time.monotonic() + 30
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "another process holds the delivery of a.dbn; waiting for it" in caplog.text
        assert ingest_dbn(root, [other]).files[0].status == "landed"
        assert not reports
    second.join(30)
    assert [f.status for f in reports[0].files] == ["landed"]
    assert kit.tree(root) & {str(p) for p in (root / "lake" / "_stage").iterdir()} == set()


def test_a_second_call_finds_what_the_first_has_landed(tmp_path: Path) -> None:
    path = write_dbn(tmp_path / "a.dbn", "trades", records("trades", 20))
    root = tmp_path / "lake"
    child, _ = stopped_in_publish(root, path)
    reports = []
    second = threading.Thread(target=lambda: reports.append(ingest_dbn(root, [path])))
    second.start()
    second.join(0.3)
    assert not reports
    child.go_on()
    second.join(30)
    assert (child.ok, [f.status for f in reports[0].files]) == (True, ["already_landed"])


@pytest.mark.parametrize("kill", [False, True])
def test_two_ingests_at_once_on_one_hour(tmp_path: Path, kill: bool) -> None:
    """One stands still between its files and its receipt, or dies there; the other lands into the same folder."""
    first = write_dbn(tmp_path / "x" / "day.dbn.zst", "trades", records("trades", 50, seed=1))
    second = write_dbn(tmp_path / "y" / "day.dbn.zst", "trades", records("trades", 70, seed=2))
    root, quiet = tmp_path / "lake", tmp_path / "expected"
    ingest_dbn(quiet, [first])
    ingest_dbn(quiet, [second])
    child, placed = stopped_in_publish(root, first)
    if kill:
        child.kill()
    assert ingest_dbn(root, [second]).ok
    assert [f.rows for f in visible_files(root)] == [70]
    if kill:
        assert not placed.exists()
        # The raw name was given back, so the second has it now.
        assert kit.tree(root) & {"raw/dbn/trades/day.dbn.zst"}
        assert ingest_dbn(root, [first]).ok
    else:
        assert placed.exists()
        assert child.go_on().ok
        assert snapshot(root) == snapshot(quiet)
    assert sorted(f.rows for f in visible_files(root)) == [50, 70]
    raw = {hash_source(p) for p in (root / "raw" / "dbn" / "trades").iterdir()}
    assert raw == {hash_source(first), hash_source(second)}


def kill_one_beside_another(folder: Path, number: int) -> None:
    """Two at once into one hour, one of them killed anywhere: the other's rows are there, the rest is mended."""
    first = write_dbn(folder / "first.dbn.zst", "trades", records("trades", 50, seed=1))
    second = write_dbn(folder / "second.dbn.zst", "trades", records("trades", 70, seed=2))
    root, quiet = folder / "lake", folder / "expected"
    events = run_child(quiet, first, 0).events
    ingest_dbn(quiet, [second])
    children = [Child(root, first, _chance(3000 + number, 1, events)), Child(root, second)]
    killed, whole = (child.wait() for child in children)
    assert whole.ok
    assert killed.code in (-signal.SIGKILL, 0)  # beside another it takes fewer steps: folders are there
    assert 70 in [f.rows for f in visible_files(root)]
    assert_whole_deliveries(root, snapshot(quiet))
    assert ingest_dbn(root, [first, second]).ok
    assert snapshot(root) == snapshot(quiet)


@pytest.mark.parametrize("number", range(2))
def test_one_that_dies_beside_another_takes_nothing_from_it(tmp_path: Path, number: int) -> None:
    kill_one_beside_another(tmp_path, number)


@pytest.mark.long
@pytest.mark.parametrize("number", range(2, 40))
def test_any_that_dies_beside_another_takes_nothing_from_it(tmp_path: Path, number: int) -> None:
    kill_one_beside_another(tmp_path, number)


def test_what_a_dead_ingest_planned_is_not_taken_from_another(tmp_path: Path) -> None:
    """It had planned a raw name and died; another delivery has that name by the time of the cleaning up."""
    first = write_dbn(tmp_path / "x" / "day.dbn.zst", "trades", records("trades", 50, seed=1))
    second = write_dbn(tmp_path / "y" / "day.dbn.zst", "trades", records("trades", 70, seed=2))
    root = tmp_path / "lake"
    child, _ = stopped_in_publish(root, first)
    child.kill()
    stage = next((root / "lake" / "_stage").glob("ingest-*/plan.json")).parent
    aside = stage.rename(tmp_path / "stage")
    (root / "raw" / "dbn" / "trades" / "day.dbn.zst").unlink()
    assert ingest_dbn(root, [second]).ok
    shutil.copytree(aside, stage)
    assert ingest_dbn(root, []).recovered == 1
    assert [f.rows for f in visible_files(root)] == [70]
    assert hash_source(root / "raw" / "dbn" / "trades" / "day.dbn.zst") == hash_source(second)


def test_clocks_that_jump_change_nothing(
    tmp_path: Path, undisturbed: tuple[Path, dict, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of files and of the machine lie in the past and in the future in turns, before and after a kill."""
    source, expected, events = undisturbed
    root = tmp_path / "lake"
    copy = shutil.copytree(source, tmp_path / "in")
    for number, share in enumerate((2, 4, 6)):
        assert run_child(root, copy, events * share // 8).code == -signal.SIGKILL
        for path in [*root.rglob("*"), *copy.iterdir()]:
            years = (1, 4_000_000_000)[(number + len(path.name)) % 2]
            os.utime(path, (years, years))
    clock = itertools.cycle([1.0, 4e9, 2e9, 3.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(clock) * 1e9))
    for when in ("2099-01-01T00:00:00Z", "1971-01-01T00:00:00Z"):
        for module in ("ingest.dbn", "ingest.file_report"):
            monkeypatch.setattr(f"{module}.now_utc", lambda when=when: when)
        ingest_dbn(root, [copy])
        assert snapshot(root) == expected


def test_ingests_at_once_land_each_file_once(tmp_path: Path, undisturbed: tuple[Path, dict, int]) -> None:
    source, expected, _ = undisturbed
    root = tmp_path / "lake"
    children = [Child(root, source) for _ in range(3)]
    for child in children:
        assert child.wait().code == 0
    assert snapshot(root) == expected
    runs = [json.loads(p.read_text())["counts"] for p in (root / "_meta" / "runs").glob("*.json")]
    assert sum(r["landed"] for r in runs) == 2
    assert sum(r["already_landed"] for r in runs) == 4
