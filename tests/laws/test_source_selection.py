"""Of several sources that hold an hour silver reads one, and bronze shows them all (spec/market.md 4.3)."""

import json
import shutil
from datetime import date
from pathlib import Path

import duckdb
import pytest

from ingest.compaction import compact
from lake import bronze, datasets, retention
from lake.commits import read_partitions
from tests.fixtures.bronze import HOUR_NS, Delivery, at_ns, make_bronze, market_day, print_at
from tests.fixtures.dbt import repository_project

DATE = "2025-12-16"
AT_NS = at_ns(f"{DATE}T14:30:00")
STAGED = "stg_futures__trades"


def trades(*rows: tuple[int, int]) -> dict:
    """Prints from (hours after 14:30 UTC, size)."""
    return {
        "trades": [print_at(AT_NS + hour * HOUR_NS, 27_200, size, contract="ESH6") for hour, size in rows]
    }


# Sizes tell whose row it is. The vendor's hour 15 failed a check, and so did everybody's hour 17.
DELIVERIES = [
    Delivery("simulated", trades((0, 1), (1, 2), (2, 3))),
    Delivery("vendor", trades((0, 10)), source="databento_dbn"),
    Delivery("vendor again", trades((0, 10), (0, 11)), source="databento_dbn"),
    Delivery("vendor open", trades((1, 20)), source="databento_dbn", status="open"),
    Delivery("simulated open", trades((3, 4)), status="open"),
    Delivery("stream open", trades((3, 40)), source="massive_ws", status="open"),
]


def run(root: Path) -> dict[str, int]:
    outcome = repository_project().run(root, "run", "--select", STAGED)
    assert outcome.ok, outcome
    return outcome.dates()


def sizes(root: Path) -> list[int]:
    return datasets.read(root, f"silver/datasets/{STAGED}", ["size"], [DATE])["size"].to_pylist()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    make_bronze(root, DELIVERIES)
    assert run(root) == {STAGED: 1}
    return root


def test_the_best_complete_source_of_each_hour_is_read_and_else_the_best_open_one(built):
    assert sizes(built) == [10, 11, 2, 3, 40]


def test_bronze_shows_every_row_and_says_which_are_read(built):
    with duckdb.connect(str(built / "lake.duckdb"), read_only=True) as connection:
        found = connection.execute(
            "select size, is_shared_hour, is_superseded from bronze.futures_trades order by all"
        ).fetchall()
    kept = {size: (shared, superseded) for size, shared, superseded in found}
    assert len(found) == sum(len(d.rows["trades"]) for d in DELIVERIES)
    assert {size for size, (_, superseded) in kept.items() if superseded} == {1, 20, 4}
    assert {size for size, (shared, _) in kept.items() if shared} == {10, 11}


def test_a_better_source_takes_an_hour_and_the_other_leaves_the_inputs(built, tmp_path):
    root = Path(shutil.copytree(built, tmp_path / "lake"))
    better = Delivery("vendor later", trades((2, 30)), source="databento_dbn")
    before = inputs(root)
    make_bronze(root, [better])
    assert run(root) == {STAGED: 1}
    assert sizes(root) == [10, 11, 2, 30, 40]
    assert set(inputs(root)) - set(before) == {key(better, 16)}
    assert set(before) - set(inputs(root)) == {key(DELIVERIES[0], 16)}
    # A worse one of an hour that is well held changes nothing, and is no reason to build.
    make_bronze(root, [Delivery("replayed", trades((2, 50)), source="replay")])
    assert run(root) == {}


def test_an_hour_that_becomes_complete_is_read(built, tmp_path):
    root = Path(shutil.copytree(built, tmp_path / "lake"))
    name = f"date={DATE}/commit-{DELIVERIES[3].id[:8]}.json"
    record = root / "lake/bronze/futures/trades/_metadata" / name
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "complete"}))
    assert run(root) == {STAGED: 1}
    assert sizes(root) == [10, 11, 20, 3, 40]


def inputs(root: Path) -> dict[str, str]:
    (partition,) = read_partitions(root / "lake/silver/datasets" / STAGED).values()
    return partition.commit.inputs


def key(delivery: Delivery, hour: int) -> str:
    return f"bronze/futures_trades/{DATE}/{hour}/part-{delivery.id[:8]}-000.parquet"


def test_the_book_of_a_day_with_a_better_source_is_one_scan_in_file_order(tmp_path):
    """The branches of shared and of superseded hours are gone from the plan: a second scan would cost the order."""
    day = {"mbp10": market_day(DATE, 1, hours=(14, 15), events_per_hour=60)["mbp10"]}
    more = {"mbp10": market_day(DATE, 2, hours=(15, 16), events_per_hour=60)["mbp10"]}
    make_bronze(tmp_path, [Delivery("vendor", day, source="databento_dbn"), Delivery("simulated", more)])
    outcome = repository_project().run(tmp_path, "run", "--select", "stg_futures__mbp10")
    assert outcome.ok, outcome
    with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as connection:
        query = "select ts_event_ns from silver.stg_futures__mbp10 where contract = 'ESH6'"
        plan = connection.execute(f"explain {query} and not is_shared_hour").fetchone()[1]
        found = [ts for (ts,) in connection.execute(query).fetchall()]
    assert plan.count("Function:") == 1, plan
    expected = day["mbp10"] + [
        r for r in more["mbp10"] if r["ts_event_ns"] // HOUR_NS == AT_NS // HOUR_NS + 2
    ]
    assert found == [r["ts_event_ns"] for r in expected]


def test_sources_stay_apart_in_merged_files_and_in_the_archive(built, tmp_path):
    root = Path(shutil.copytree(built, tmp_path / "lake"))
    for record in (root / "lake/bronze/futures/trades/_metadata").glob("*/commit-*.json"):
        record.write_text(record.read_text().replace('"open"', '"complete"'))  # an open hour is not archived
    assert run(root) == {STAGED: 1}
    before = sizes(root)
    compact(root)
    rules = retention.Rules(
        (retention.Policy("*", 90, -1, "date", True),), frozenset(), date(2026, 4, 1), "bronze/*"
    )
    assert len(retention.archive(root, rules, "20260401T000000Z_retention_00c0de")) == 7, "hours and sources"
    retention.delete(root, rules, "20260401T000000Z_retention_00c0de", yes=True)
    assert all(f.is_archived for f in bronze.visible_files(root))
    assert run(root) == {}
    shutil.rmtree(root / "lake/silver")
    assert run(root) == {STAGED: 1}
    assert sizes(root) == before == [10, 11, 20, 3, 40]
