"""`ingest databento` killed at any instant: the next call ends where a quiet one does, and orders nothing twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lake.bronze import visible_files
from tests.fixtures.databento_server import KEY, DatabentoServer, Fault
from tests.unit.ingest import databento_kit as kit
from tests.unit.ingest.test_databento_faults import content

SEED = 20251006
KINDS = ("batch", "stream")
QUERY = {"first": 1, "days": 3, "schemas": ("trades", "mbp-10")}  # an empty day in the middle

# Counts what Python tells of files below the lake and of connections, and kills its process at the n-th.
CHILD = """
import os, pathlib, signal, sys
from tests.unit.ingest import databento_kit as kit
root, url, kind, kill_at = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
events = 0
def hook(event, args):
    global events
    if event == "socket.connect":
        counts = True
    elif event == "open" or event.startswith(("os.", "shutil.", "tempfile.")):
        path = next((a for a in args if isinstance(a, (str, os.PathLike))), "")
        counts = str(path).startswith(str(root))
    else:
        counts = False
    if counts:
        events += 1
        if events == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
query = kit.query(first=1, days=3, schemas=("trades", "mbp-10"))
report = kit.call(root, url, query, kind=kind, key=os.environ["DATABENTO_API_KEY"])
print(events)
sys.exit(not report.ok)
"""


def start(root: Path, server: DatabentoServer, kind: str, kill_at: int = 0) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), server.url, kind, str(kill_at)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
        env=os.environ | {"DATABENTO_API_KEY": KEY},
    )  # fmt: skip


@pytest.fixture
def server():
    with kit.server() as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict, int]]:
    """By kind of order: the lake of a quiet run, and how many events that takes."""
    found = {}
    for kind in KINDS:
        root = tmp_path_factory.mktemp(kind) / "lake"
        with kit.server() as server:
            child = start(root, server, kind)
            out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
        found[kind] = content(root), int(out)
    return found


def kill_and_mend(root: Path, server: DatabentoServer, kind: str, expected: dict, kills: list[int]) -> None:
    for kill_at in kills:
        child = start(root, server, kind, kill_at)
        _, err = child.communicate(timeout=120)
        assert child.returncode == -signal.SIGKILL, (kill_at, err)
        assert_visible_is_whole(root, expected)
    mend(root, server, kind, expected)


def mend(root: Path, server: DatabentoServer, kind: str, expected: dict) -> None:
    assert kit.call(root, server.url, kit.query(**QUERY), kind=kind).ok
    assert content(root) == expected
    assert len(server.jobs) == (2 if kind == "batch" else 0)


def assert_visible_is_whole(root: Path, expected: dict) -> None:
    seen: dict[str, set[str]] = {}
    for file in visible_files(root):
        assert file.path.is_file()
        seen.setdefault(file.delivery_id, set()).add(str(file.path.relative_to(root)))
    for delivery_id, files in seen.items():
        assert files == {p for p in expected["files"] if f"part-{delivery_id[:8]}-" in p}


def _chance(number: int, low: int, high: int) -> int:
    return int(np.random.default_rng(SEED + number).integers(low, high, endpoint=True))


def test_a_quiet_run_has_many_instants(undisturbed: dict) -> None:
    assert all(events > 200 for _, events in undisturbed.values())


@pytest.mark.parametrize("number", range(8))
def test_a_killed_call_is_mended_by_the_next(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict, number: int
) -> None:
    """One kill in each eighth of the run; every other one of a stream."""
    kind = KINDS[number % 2]
    expected, events = undisturbed[kind]
    kill_at = _chance(number, events * number // 8 + 1, events * (number + 1) // 8)
    kill_and_mend(tmp_path / "lake", server, kind, expected, [kill_at])


@pytest.mark.long
@pytest.mark.parametrize("number", range(40))
def test_any_killed_call_is_mended_by_the_next(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict, number: int
) -> None:
    """Forty instants, every third one followed by a second kill early in the mending."""
    kind = KINDS[number % 2]
    expected, events = undisturbed[kind]
    kills = [_chance(1000 + number, 1, events)] + ([_chance(2000 + number, 1, 40)] if number % 3 == 0 else [])
    kill_and_mend(tmp_path / "lake", server, kind, expected, kills)


@pytest.mark.parametrize(
    ("kind", "endpoint"), [("batch", "batch.download"), ("stream", "timeseries.get_range")]
)
def test_a_call_killed_in_the_middle_of_a_body_is_mended(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict, kind: str, endpoint: str
) -> None:
    """A batch file is gone on with from where it was; a stream starts anew."""
    data = kit.day_file("mbp-10", kit.FIRST, 4000)
    server.days["mbp-10", "2025-10-07"] = data, 4000
    server.queue(endpoint, *[Fault()] * (2 if kind == "batch" else 3), Fault(stall_after=len(data) // 2))
    child = start(tmp_path / "lake", server, kind)
    assert server.stalled.wait(60)
    kit.wait_until(lambda: any(p.stat().st_size > 0 for p in (tmp_path / "lake").rglob("*.part")))
    child.kill()
    child.communicate()
    server.released.set()
    assert kit.call(tmp_path / "lake", server.url, kit.query(**QUERY), kind=kind).ok
    assert any(s.range for s in server.asked(endpoint)) == (kind == "batch")
    assert len(server.jobs) == (2 if kind == "batch" else 0)
    quiet = tmp_path / "quiet"
    with kit.server() as other:
        other.days["mbp-10", "2025-10-07"] = data, 4000
        assert kit.call(quiet, other.url, kit.query(**QUERY), kind=kind).ok
    assert content(tmp_path / "lake") == content(quiet)


def test_a_call_killed_between_the_order_and_its_answer_orders_once(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict
) -> None:
    server.queue("batch.submit_job", Fault(stall_after=0))
    child = start(tmp_path / "lake", server, "batch")
    assert server.stalled.wait(60)
    assert len(server.jobs) == 1
    child.kill()
    child.communicate()
    server.released.set()
    mend(tmp_path / "lake", server, "batch", undisturbed["batch"][0])
