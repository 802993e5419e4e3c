"""A commit costs the same in a lake of any size: counted in calls to the file system and bytes, not in time."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bench_commit import fake_lake
from ingest.dbn import ingest
from lake.bronze import visible_files
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import records, write_dbn


class Watch:
    """Counts what Python reports of the file system below a folder, and the entries of the folders listed."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.calls: Counter[str] = Counter()
        self.listed = 0
        sys.addaudithook(self._hook)  # can't be taken out again, only told to look away

    def _hook(self, event: str, args: tuple) -> None:
        if self.folder is None or not (event == "open" or event.startswith(("os.", "glob."))):
            return
        path = next((a for a in args if isinstance(a, str | os.PathLike)), "")
        if not str(path).startswith(str(self.folder)):
            return
        folder, self.folder = self.folder, None
        self.calls[event] += 1
        if event in ("os.listdir", "os.scandir"):
            self.listed += len(os.listdir(path))
        self.folder = folder


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    found = Watch()
    yield found
    found.folder = None


def cost(root: Path, source: Path, watch: Watch) -> tuple[Counter[str], int, int]:
    """Calls by kind, entries listed and bytes added by landing ``source``."""
    before = {p: p.stat().st_size for p in root.rglob("*") if p.is_file()}
    watch.calls, watch.listed, watch.folder = Counter(), 0, root
    report = ingest(root, [source])
    watch.folder = None
    assert [f.status for f in report.files] in (["landed"], ["quarantined"], ["already_landed"])
    after = {p: p.stat().st_size for p in root.rglob("*") if p.is_file()}
    changed = [p for p in before if after.get(p) != before[p]]
    assert changed == []
    return watch.calls, watch.listed, sum(size for p, size in after.items() if p not in before)


@pytest.mark.parametrize("kind", ["landed", "with rejects", "quarantined", "already landed"])
def test_a_commit_costs_the_same_in_a_lake_of_any_size(tmp_path: Path, watch: Watch, kind: str) -> None:
    rows = records("trades", 300, step_ns=20 * 10**9)
    if kind == "with rejects":
        rows["size"][7] = 0
    source = write_dbn(tmp_path / kit.name("trades"), "trades", rows)
    if kind == "quarantined":
        source.write_bytes(source.read_bytes()[:-3])
    costs = []
    for partitions in (30, 3000):
        root = fake_lake(tmp_path / f"lake_{partitions}", partitions)
        assert len(visible_files(root)) == partitions
        if kind == "already landed":
            ingest(root, [source])
        costs.append(cost(root, source, watch))
    (small_calls, small_listed, small_bytes), (large_calls, large_listed, large_bytes) = costs
    assert small_calls == large_calls
    assert small_calls["open"] > 1
    assert small_listed == large_listed
    # The run's record and the records' times and names have the same length in both.
    assert abs(small_bytes - large_bytes) <= 16
