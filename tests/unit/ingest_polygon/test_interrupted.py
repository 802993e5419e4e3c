"""Killed anywhere, or two at once: readers see whole deliveries, and the next ingest mends the rest."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ingest.polygon.landing import ingest
from lake.bronze import visible_files
from tests.unit.ingest_polygon.kit import DAY, OPTIONS_HEADER, STOCKS, bronze, digests, put, receipts
from tests.unit.ingest_polygon.test_landing import many_lines

SEED = 20_251_224
# Kills itself at the n-th file system event below the root that Python reports, so that every step is hit.
CHILD = """
import os, pathlib, signal, sys
root, source, kill_at = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
from ingest.polygon import sorted_rows
from ingest.polygon.landing import ingest
sorted_rows.SortedRows.__init__.__kwdefaults__.update(run_rows=100, merge_rows=50)
events = 0
def hook(event, args):
    global events
    if event == "open" or event.startswith(("os.", "shutil.", "tempfile.")):
        path = next((a for a in args if isinstance(a, (str, os.PathLike))), "")
        if str(path).startswith(str(root)):
            events += 1
            if events == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
report = ingest(root, [source])
print(events)
sys.exit(not report.ok)
"""


def run_child(root: Path, source: Path, kill_at: int) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(root), str(source), str(kill_at)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list, int]:
    """Source folder, what a quiet run makes of it, and how many events that takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lines = many_lines(600)
    bad = lines[300].replace("O:SPY", "O:SPY?")
    put(folder / "in" / f"{DAY}.csv.gz", "\n".join([OPTIONS_HEADER, *lines[:300], bad, *lines[300:]]))
    put(folder / "in" / f"stocks-{DAY}.csv.gz", STOCKS)
    put(folder / "in" / "empty-2025-12-25.csv.gz", OPTIONS_HEADER + "\n")
    done = run_child(folder / "lake", folder / "in", 0)
    assert done.returncode == 0, done.stderr
    return folder / "in", state(folder / "lake"), int(done.stdout)


def state(root: Path) -> list:
    """Bronze by digest, and receipts with their counts and rejects."""
    lineage = ("downloaded_at", "bytes", "sha256")
    kept = []
    for receipt in receipts(root):
        rejects = [{k: v for k, v in r.items() if k not in lineage} for r in receipt["rejects"]]
        kept.append({k: v for k, v in receipt.items() if k != "downloaded_at"} | {"rejects": rejects})
    return [digests(root), kept]


def kill_and_mend(root: Path, source: Path, expected: list, kill_at: int) -> None:
    done = run_child(root, source, kill_at)
    assert done.returncode == -signal.SIGKILL, (kill_at, done.stderr)
    seen = {f.delivery_id for f in visible_files(root)}
    assert set(digests(root)) <= set(expected[0])
    assert seen <= {r["delivery_id"] for r in expected[1]}
    assert ingest(root, [source]).ok
    assert state(root) == expected
    assert not list((root / "lake" / "_stage").iterdir())


@pytest.mark.parametrize("number", range(5))
def test_a_killed_ingest_is_mended_by_the_next(tmp_path: Path, undisturbed, number: int) -> None:
    source, expected, events = undisturbed
    rng = np.random.default_rng(SEED + number)
    low, high = events * number // 5 + 1, events * (number + 1) // 5
    kill_and_mend(tmp_path / "lake", source, expected, int(rng.integers(low, high, endpoint=True)))


@pytest.mark.long
def test_sixty_kills(tmp_path: Path, undisturbed) -> None:
    source, expected, events = undisturbed
    for number, kill_at in enumerate(np.linspace(1, events, 60).astype(int).tolist()):
        kill_and_mend(tmp_path / str(number), source, expected, kill_at)


def test_four_at_once_land_each_file_once(root: Path, undisturbed) -> None:
    source, expected, _ = undisturbed
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: ingest(root, [source]), range(4)))
    assert all(r.ok for r in reports)
    assert sum(f.status == "landed" for r in reports for f in r.files) == 3
    assert state(root) == expected
    assert len(bronze(root, "stocks.trades.v1")) == 3
