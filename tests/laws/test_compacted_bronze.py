"""Compaction and the archive change where the rows of bronze stand, and nothing that is built of them."""

import datetime
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from ingest.compaction import compact
from lake import bronze, retention
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


RULES = retention.Rules(
    (retention.Policy("*", 90, -1, "date", True),), frozenset(), datetime.date(2026, 3, 16), "bronze/*"
)
RUN = "20260316T000000Z_retention_00c0de"


def test_what_is_archived_counts_as_built_and_can_be_built_from(built, tmp_path):
    """The first day lives in the archive alone, the second in bronze: one build reads both."""
    root = Path(shutil.copytree(built, tmp_path / "lake"))
    before = digests(root, repository_project().datasets())
    compact(root)
    assert len(retention.archive(root, RULES, RUN)) == 4
    assert {row.state for row in retention.delete(root, RULES, RUN, yes=True)} == {"deleted"}
    assert {f.date for f in bronze.visible_files(root) if f.is_archived} == {DATES[0]}
    assert not [*(root / "lake/bronze/futures").glob(f"*/symbol=ES/date={DATES[0]}/**/*.parquet")]
    assert build(root) == {}
    assert from_scratch(root, tmp_path / "scratch") == before


def test_a_built_date_in_the_archive_is_read_through_the_same_view(built, tmp_path):
    root = Path(shutil.copytree(built, tmp_path / "lake"))
    before = digests(root, repository_project().datasets())
    rules = replace(RULES, only="silver/datasets/ohlcv")
    assert len(retention.archive(root, rules, RUN)) == 1
    assert [row.state for row in retention.delete(root, rules, RUN, yes=True)] == ["deleted"]
    assert build(root) == {}
    with duckdb.connect(str(root / "lake.duckdb"), read_only=True) as connection:
        sql = "select session_date, count(*) from silver.ohlcv group by all order by all"
        assert [str(date) for date, _ in connection.execute(sql).fetchall()] == [*DATES]
    shutil.rmtree(root / "lake/silver/datasets/dim_front_month")
    assert set(build(root)) == {"dim_front_month"}, "made again from an archived parent"
    assert digests(root, repository_project().datasets()).items() <= before.items()
