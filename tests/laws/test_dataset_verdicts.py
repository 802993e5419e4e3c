"""Data tests run after a partition is published; their verdict stands beside its commit."""

from pathlib import Path

import pytest

from lake.commits import read_partitions
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, market_day, print_at, write_receipt
from tests.fixtures.dbt import fixture_project

DATES = ("2025-12-15", "2025-12-16")
BAD = Delivery("bad", {"trades": [print_at(at_ns("2025-12-15T15:30:00"), 27_200, 13)]})


@pytest.fixture
def lake(tmp_path) -> Path:
    days = [
        Delivery(d, {"trades": market_day(d, 1, hours=(14,), events_per_hour=20)["trades"]}) for d in DATES
    ]
    make_bronze(tmp_path, days)
    return tmp_path


def verdicts(root: Path, model: str) -> dict[str, str | None]:
    """Error of each date's verdict, None for ok."""
    found = read_partitions(root / "lake/silver/datasets" / model)
    statuses = {date: partition.status() for (_, date), partition in found.items()}
    assert all((s["status"] == "ok") == (s["error"] is None) for s in statuses.values())
    return {date: s["error"] for date, s in statuses.items()}


ALL_OK = dict.fromkeys(DATES)


def test_a_build_without_tests_leaves_dates_untested_and_tests_make_them_ok(lake):
    assert fixture_project().run(lake, "run", "--select", "ticks", "minutes", "nothing").ok
    assert set(verdicts(lake, "ticks").values()) == {"not tested since it was built; run `dbt build`"}
    assert verdicts(lake, "nothing") == ALL_OK  # no data test is about it: its own checks have passed
    assert fixture_project().run(lake, "test", "--select", "ticks", "minutes").ok
    assert verdicts(lake, "ticks") == verdicts(lake, "minutes") == ALL_OK


def test_a_failed_test_marks_failed_and_a_mended_date_is_ok_again(lake):
    assert fixture_project().build(lake, "ticks", "minutes").ok
    assert verdicts(lake, "ticks") == verdicts(lake, "minutes") == ALL_OK

    make_bronze(lake, [BAD])
    outcome = fixture_project().build(lake, "ticks", "minutes")
    assert not outcome.ok
    assert outcome.statuses["never_thirteen_ticks_size"] == "fail"
    assert outcome.statuses["minutes"] == "skipped"
    bad = {"2025-12-15": "data tests failed: never_thirteen_ticks_size", "2025-12-16": None}
    assert verdicts(lake, "ticks") == bad  # the other date was not built again, and had passed
    assert verdicts(lake, "minutes") == ALL_OK  # built from what ticks was before, and tested then

    assert not fixture_project().build(lake, "ticks").ok  # nothing to build; the test fails still
    assert verdicts(lake, "ticks") == bad

    write_receipt(lake, BAD, "quarantined")
    assert fixture_project().build(lake, "ticks", "minutes").ok
    assert verdicts(lake, "ticks") == verdicts(lake, "minutes") == ALL_OK


def test_some_tests_that_passed_do_not_make_a_date_ok(lake):
    make_bronze(lake, [Delivery("late", {"trades": [print_at(at_ns("2025-12-15T15:30:00"), 27_200, 13)]})])
    assert fixture_project().run(lake, "run", "--select", "ticks", "minutes").ok
    assert not fixture_project().run(lake, "test", "--select", "minutes").ok
    failed = {"data tests failed: never_thirteen_minutes_volume"}
    assert set(verdicts(lake, "minutes").values()) == failed

    assert fixture_project().run(lake, "test", "--select", "not_null_minutes_minute_ns").ok
    assert set(verdicts(lake, "minutes").values()) == failed


def test_nothing_new_rewrites_no_verdict(lake):
    assert fixture_project().build(lake, "ticks").ok
    files = [*lake.rglob("status-*.json")]
    assert len(files) == len(DATES)
    before = {f: f.stat().st_mtime_ns for f in files}
    assert fixture_project().build(lake, "ticks").ok
    assert {f: f.stat().st_mtime_ns for f in lake.rglob("status-*.json")} == before
