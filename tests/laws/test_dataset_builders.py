"""Two builders on one lake, each with a database file of its own: one waits for the other, and the result is one."""

import time
from pathlib import Path

import pytest

from lake import commits, locks
from lake.paths import stage_dir
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, market_day, print_at
from tests.fixtures.dbt import Outcome, fixture_project
from tests.fixtures.lakes import digests
from tests.fixtures.processes import Child, fork

DATES = ("2025-12-15", "2025-12-16")
MODELS = ("ticks", "minutes", "flow", "trail", "banded")


def land(root: Path) -> None:
    days = [
        Delivery(d, {"trades": market_day(d, 1, hours=(14,), events_per_hour=40)["trades"]}) for d in DATES
    ]
    make_bronze(root, days)


def outcome_of(root: Path, database: str, *models: str) -> Outcome:
    file = root / database / "lake.duckdb"  # of one name: it is the catalog's, which a parsed project knows
    file.parent.mkdir(exist_ok=True)
    return fixture_project().run(root, "run", "--select", *models, database=file)


def build(root: Path, database: str, *models: str) -> bool:
    outcome = outcome_of(root, database, *models)
    if not outcome.ok:
        print(outcome)
    return outcome.ok


def started(root: Path, database: str, *models: str, pause_s: float = 0.0) -> Child:
    """A builder in a fork, which sleeps before each publication."""

    def work() -> bool:
        real = commits.publish

        def slow(*args):
            time.sleep(pause_s)
            return real(*args)

        commits.publish = slow
        return build(root, database, *models)

    return fork(work)


def test_two_builders_at_once_end_well_and_with_one_result(tmp_path):
    fixture_project().datasets()  # parsed before the forks
    land(tmp_path)
    builders = [started(tmp_path, f"database_{i}", *MODELS, pause_s=0.02) for i in range(2)]
    assert [b.wait() for b in builders] == [0, 0]
    land(tmp_path / "alone")
    assert build(tmp_path / "alone", "a", *MODELS)
    names = {name: fixture_project().datasets()[name] for name in MODELS}
    assert digests(tmp_path, names) == digests(tmp_path / "alone", names)
    assert len(digests(tmp_path, names)) == 6 * len(DATES)


def test_a_builder_sees_what_another_published_after_its_views_were_made(tmp_path, monkeypatch):
    """The plan reads commits, the build reads views: both must show the same files."""
    land(tmp_path)
    assert build(tmp_path, "a", "ticks", "minutes")
    from lake.plugin import Plugin  # noqa: PLC0415

    register = Plugin._op_register

    def then_another_publishes(self, job):
        register(self, job)
        monkeypatch.setattr(Plugin, "_op_register", register)
        make_bronze(
            tmp_path, [Delivery("late", {"trades": [print_at(at_ns("2025-12-17T15:00:00"), 27_200)]})]
        )
        assert started(tmp_path, "b", "ticks").wait() == 0

    monkeypatch.setattr(Plugin, "_op_register", then_another_publishes)
    assert build(tmp_path, "a", "minutes")
    found = commits.read_partitions(tmp_path / "lake/silver/datasets/minutes")
    assert {date: p.commit.rows for (_, date), p in found.items()}["2025-12-17"] == 1


def test_locks_exclude_writers_and_let_readers_share(tmp_path):
    a, b, c = (locks.Locks(tmp_path) for _ in range(3))
    a.take("silver/child_a", ["silver/parent"], 0)
    b.take("silver/child_b", ["silver/parent"], 0)
    with pytest.raises(locks.LockTimeout, match="lake/silver/parent was in use by another build"):
        c.take("silver/parent", [], 0)
    with pytest.raises(locks.LockTimeout, match="lake/silver/child_a was in use"):
        c.take("silver/grandchild", ["silver/child_a"], 0)
    assert c.held == []
    a.release()
    b.release()
    c.take("silver/parent", [], 0)
    with pytest.raises(locks.LockTimeout, match="lake/silver/parent"):
        a.take("silver/child_a", ["silver/parent"], 0)
    c.release()
    c.release()


def test_a_killed_builder_leaves_no_lock(tmp_path):
    fixture_project().datasets()
    land(tmp_path)
    child = started(tmp_path, "a", "ticks", pause_s=60)
    while not any(stage_dir(tmp_path).glob("ticks@*.parquet")):
        assert child.poll() is None
        time.sleep(0.01)
    assert child.kill() == -9
    assert build(tmp_path, "b", "ticks")


def test_a_failed_model_gives_its_locks_back_when_the_run_ends(tmp_path):
    make_bronze(tmp_path, [Delivery("bad", {"trades": [print_at(at_ns("2025-12-15T15:00:00"), 27_200, 13)]})])
    outcome = outcome_of(tmp_path, "a", "ticks", "refused_date", "refused_nan")
    assert outcome.statuses["ticks"] == "success"
    assert outcome.statuses["refused_date"] == outcome.statuses["refused_nan"] == "error"
    fresh = locks.Locks(stage_dir(tmp_path))
    for name in ("ticks", "refused_date", "refused_nan"):
        fresh.take(f"silver/datasets/{name}", [], 0)
    fresh.release()
