"""SIGKILL at any instant of a build: readers see each partition whole, old or new, and the next build repairs all.

One lake is taken back and forth between two states, with and without a late delivery; each build between them has
every partition due. The builder is a fork that sleeps a little between its steps, so that a kill finds it in each.
"""

import os
import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from lake import atomic, datasets
from lake.commits import read_partitions
from lake.digest import file_digest
from lake.paths import stage_dir
from lake.plan import dataset_folder
from tests.fixtures.bronze import Delivery, make_bronze, market_day, write_receipt
from tests.fixtures.dbt import Project, fixture_project, repository_project
from tests.fixtures.lakes import digests
from tests.fixtures.processes import Child, fork

DATES = ("2025-12-15", "2025-12-16")
MODELS = ("ticks", "minutes", "flow", "banded")  # SQL, Python, one partition for each param set
SEED = 20251215
PAUSE_S = 0.004


@dataclass
class Tally:
    """What the readers and the survivors of all kills were like."""

    killed: int = 0
    old: int = 0
    new: int = 0
    uncommitted: int = 0
    mixed: int = 0
    looks: int = 0


@dataclass
class World:
    """One lake, its two states, and the models that are built in it (all of the project, when none are named)."""

    project: Project
    root: Path
    late: Delivery
    models: tuple[str, ...] = ()
    truth: dict[str, dict[tuple, str]] = field(
        default_factory=dict
    )  # digests by state, each of a scratch build
    sums: dict[tuple, set[tuple]] = field(
        default_factory=dict
    )  # what DuckDB sees of a partition in either state
    duration_s: float = 0.0

    def nodes(self) -> dict[str, dict]:
        found = self.project.datasets()
        return {name: node for name, node in found.items() if name in self.models or not self.models}

    def switch(self, state: str) -> None:
        """Make the late delivery visible or not: every partition is due."""
        write_receipt(self.root, self.late, {"with": "landed", "without": "quarantined"}[state])

    def build(self, root: Path | None = None) -> bool:
        select = ["--select", *self.models] if self.models else []
        outcome = self.project.run(root or self.root, "run", *select)
        assert outcome.ok, outcome
        return outcome.ok


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    base = tmp_path_factory.mktemp("kills")
    days = [
        Delivery(d, {"trades": market_day(d, 1, hours=(14, 15), events_per_hour=60)["trades"]}) for d in DATES
    ]
    late_rows = [row for d in DATES for row in market_day(d, 2, hours=(16,), events_per_hour=60)["trades"]]
    world = World(fixture_project(), base / "lake", Delivery("late", {"trades": late_rows}), MODELS)
    prepare(world, base, days)
    assert len(world.truth["with"]) == len(DATES) * 5
    both = world.truth["with"].items() & world.truth["without"].items()
    assert not both, "a partition that is the same in both states would prove nothing"
    return world


def prepare(world: World, base: Path, days: list[Delivery]) -> None:
    """Learn both states from scratch builds, and how long it takes from one to the other; ends without the late."""
    for state in ("without", "with"):
        scratch = base / state
        make_bronze(scratch, [*days, world.late] if state == "with" else days)
        world.build(scratch)
        world.truth[state] = digests(scratch, world.nodes())
        for key, total in partition_sums(scratch, world.nodes()).items():
            world.sums.setdefault(key, set()).add(total)
    make_bronze(world.root, [*days, world.late])
    world.build()
    world.switch("without")
    child = start(world)
    started = first_write(world, child)
    assert child.wait() == 0
    world.duration_s = time.monotonic() - started
    assert digests(world.root, world.nodes()) == world.truth["without"]


def slowly() -> None:
    """Sleep after each step of a publication; in the fork only."""

    def pausing(real):
        def call(*args, **kwargs):
            result = real(*args, **kwargs)
            time.sleep(PAUSE_S)
            return result

        return call

    for module, name in ((atomic, "fsync_file"), (atomic, "fsync_dir"), (os, "replace"), (os, "unlink")):
        setattr(module, name, pausing(getattr(module, name)))


def start(world: World) -> Child:
    def work() -> bool:
        slowly()
        return world.build()

    return fork(work)


def first_write(world: World, child: Child) -> float:
    """Wait until the build writes its first stage file; the instant."""
    deadline = time.monotonic() + 60
    while not any(stage_dir(world.root).glob("*.parquet")):
        assert child.poll() is None, "the build ended before it wrote anything"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return time.monotonic()


def partition_sums(root: Path, nodes: dict[str, dict]) -> dict[tuple, tuple]:
    """What a reader with a glob and no knowledge of commits sees, by model and partition folder."""
    found = {}
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, node in nodes.items():
            folder = root / "lake" / dataset_folder(node)
            for pattern in ("date=*/data.parquet", "params=*/date=*/data.parquet"):
                if any(folder.glob(pattern)):
                    sql = (
                        "select parse_dirpath(filename), count(*), bit_xor(hash(columns(* exclude (filename)))) "
                        f"from read_parquet('{folder / pattern}', filename = true, hive_partitioning = false) "
                        "group by all"
                    )
                    rows = patiently(connection, sql)
                    found |= {
                        (name, str(Path(path).relative_to(folder))): tuple(sums) for path, *sums in rows
                    }
    return found


def patiently(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple]:
    """Rows of a query that may meet a replacement.

    DuckDB opens a file by name twice, for its schema and for its rows. Replaced in between, the second is not the
    one that was promised and the query fails with an error of the Parquet reader; it is asked again. What it must
    never do is answer with a mixture.
    """
    for _ in range(50):
        try:
            return connection.execute(sql).fetchall()
        except duckdb.Error as error:
            told = error
            time.sleep(0.002)
    raise AssertionError("a file that nobody replaces any more can't be read") from told


def look(world: World, tally: Tally) -> None:
    """One look at each partition, by its commit and by a glob: whole, old or new, and truly described."""
    nodes = world.nodes()
    for name, node in nodes.items():
        for (params, date), partition in read_partitions(world.root / "lake" / dataset_folder(node)).items():
            digest = file_digest(partition.file)
            allowed = {world.truth[state][name, params, date] for state in world.truth}
            assert digest in allowed, f"{name} {date}: neither the old nor the new partition"
            record = partition.folder / "_metadata" / f"commit-{partition.commit.build_key[:8]}.json"
            still = record.is_file()  # else it was replaced while we read, and we know nothing
            if still and partition.commit.content_digest != digest:
                again = read_partitions(world.root / "lake" / dataset_folder(node)).get((params, date))
                assert again is None or again.commit != partition.commit, f"{name} {date}: a false commit"
            tally.looks += 1
    for key, total in partition_sums(world.root, nodes).items():
        assert total in world.sums[key], f"{key}: a glob saw neither the old nor the new partition"


def survivors(world: World, state: str, tally: Tally) -> None:
    """After the kill nothing moves: every commit is true, every file whole."""
    other = {"with": "without", "without": "with"}[state]
    old = new = 0
    for name, node in world.nodes().items():
        folder = world.root / "lake" / dataset_folder(node)
        committed = read_partitions(folder)
        for (params, date), truth in ((k[1:], v) for k, v in world.truth[state].items() if k[0] == name):
            file = (folder / f"params={params}" if params else folder) / f"date={date}" / "data.parquet"
            if not file.exists():
                continue
            digest = file_digest(file)
            assert digest in (truth, world.truth[other][name, params, date])
            if (params, date) not in committed:
                tally.uncommitted += 1
                continue
            assert committed[params, date].commit.content_digest == digest
            old, new = old + (digest != truth), new + (digest == truth)
    tally.old, tally.new, tally.mixed = tally.old + old, tally.new + new, tally.mixed + bool(old and new)


def kill_and_repair(world: World, count: int) -> Tally:
    rng = random.Random(SEED)  # noqa: S311
    tally = Tally()
    for trial in range(count):
        state = "with" if trial % 2 == 0 else "without"
        world.switch(state)
        if trial % 4 == 3:  # a dataset that was never built, and no database
            folders = [world.root / "lake" / dataset_folder(node) for node in world.nodes().values()]
            shutil.rmtree(rng.choice([folder for folder in folders if folder.exists()]))
            (world.root / "lake.duckdb").unlink()
        delay_s = rng.random() * world.duration_s * 0.9
        child = start(world)
        end = first_write(world, child) + delay_s
        while (left := end - time.monotonic()) > 0:
            look(world, tally)
            time.sleep(min(max(left, 0), 0.05))
        tally.killed += child.kill() < 0
        survivors(world, state, tally)

        world.build()
        assert digests(world.root, world.nodes()) == world.truth[state], f"trial {trial}: not repaired"
        left_over = [p.name for p in stage_dir(world.root).glob("*") if p.suffix != ".lock" and p.is_file()]
        assert left_over == []
        assert not any((world.root / "lake").rglob("._tmp-*"))
    return tally


def test_killed_builds_leave_whole_partitions_and_are_repaired(world):
    tally = kill_and_repair(world, 8)
    assert tally.killed >= 4, tally
    assert tally.looks > 0
    assert tally.mixed, f"no kill fell into the middle of a build: {tally}"


@pytest.mark.long
def test_killed_builds_of_the_whole_project(tmp_path):
    first, second = (market_day(date, 1) for date in DATES)
    late = market_day(DATES[0], 2, hours=(16,))
    world = World(repository_project(), tmp_path / "lake", Delivery("late", late))
    prepare(world, tmp_path, [Delivery("first", first), Delivery("second", second)])
    tally = kill_and_repair(world, 12)
    assert tally.killed >= 8, tally
    assert tally.mixed, tally


@pytest.mark.long
def test_killed_builds_many_times(world):
    tally = kill_and_repair(world, 60)
    assert tally.killed >= 40, tally
    assert tally.mixed >= 20, tally
    assert tally.uncommitted, f"no kill fell between the old commit and the new one: {tally}"


def test_a_reader_by_commits_gets_what_they_say(world):
    table = datasets.read(world.root, "silver/datasets/minutes")
    assert table.num_rows == sum(
        p.commit.rows for p in datasets.partitions(world.root, "silver/datasets/minutes")
    )
