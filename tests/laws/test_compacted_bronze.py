"""Compaction and the archive change where the rows of bronze stand, and nothing that is built of them."""

import shutil
from pathlib import Path

import pytest

from ingest.compaction import compact
from lake import bronze
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, market_day
from tests.fixtures.dbt import repository_project
from tests.fixtures.lakes import digests

DATES = ("2025-12-15", "2025-12-16")
MODELS = ("stg_futures__trades", "ohlcv", "dim_front_month", "book_tape")


def deliveries() -> list[Delivery]:
    """Two sessions. The first day comes twice; of the second an hour comes in two halves, and one of them again."""
    first, second = (market_day(date, 1, hours=(14, 15), events_per_hour=120) for date in DATES)
    cut_ns = at_ns(f"{DATES[1]}T14:30:00")
    halves = [
        {name: [r for r in rows if (r["ts_event_ns"] < cut_ns) == early] for name, rows in second.items()}
        for early in (True, False)
    ]
    return [
        Delivery("first", first),
        Delivery("first again", first),
        Delivery("morning", halves[0]),
        Delivery("afternoon", halves[1]),
        Delivery("afternoon again", halves[1]),
    ]


def build(root: Path) -> dict[str, int]:
    outcome = repository_project().run(root, "run", "--select", *MODELS)
    assert outcome.ok, outcome
    return outcome.dates()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compacted") / "lake"
    make_bronze(root, deliveries())
    assert build(root)
    return root


def from_scratch(root: Path, scratch: Path) -> dict:
    """Digests of a build of everything on a copy that has only bronze."""
    shutil.copytree(root / "raw", scratch / "raw")
    for layer in ("bronze", "archive"):
        if (root / "lake" / layer).is_dir():
            shutil.copytree(root / "lake" / layer, scratch / "lake" / layer)
    assert build(scratch)
    return digests(scratch, repository_project().datasets())


def test_after_a_compaction_nothing_is_due_and_a_build_from_nothing_gives_the_same(built, tmp_path):
    root = Path(shutil.copytree(built, tmp_path / "lake"))
    before = digests(root, repository_project().datasets())
    files = len(bronze.paths(bronze.visible_files(root)))

    report = compact(root)
    assert report.merged
    assert not report.kept_apart
    assert build(root) == {}
    assert compact(root, grace_s=0).deleted
    assert build(root) == {}
    assert len(bronze.paths(bronze.visible_files(root))) < files

    assert from_scratch(root, tmp_path / "scratch") == before
    assert digests(root, repository_project().datasets()) == before
