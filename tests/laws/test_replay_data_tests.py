"""The share of quarantined executions warns and fails where spec/execution.md 4.5 says it does."""

import duckdb
import pytest

NAME = "assert_few_executions_are_quarantined"


@pytest.fixture(scope="module")
def share(manifest):
    """(accepted, quarantined, days ago) → what dbt makes of the test: pass, warn or fail."""
    test = next(n for n in manifest["nodes"].values() if n["name"] == NAME)
    con = duckdb.connect(":memory:")
    con.execute("create schema silver")

    def of(*parts: tuple[int, int, int]) -> str:
        for name in ("stop_executions", "stop_executions_quarantine"):
            con.execute(f"create or replace table silver.{name} (date date)")
        for accepted, quarantined, days_ago in parts:
            for name, count in (
                ("stop_executions", accepted),
                ("stop_executions_quarantine", quarantined),
            ):
                con.execute(
                    f"insert into silver.{name} select date '2024-12-31' - {days_ago} from range({count})"
                )
        calculated = test["config"]["fail_calc"]
        warns, fails = con.execute(
            f"select {calculated} {test['config']['warn_if']}, {calculated} {test['config']['error_if']} "
            f"from ({test['compiled_code']})"
        ).fetchone()
        assert warns or not fails
        return "fail" if fails else "warn" if warns else "pass"

    return of


@pytest.mark.parametrize(
    ("accepted", "quarantined", "verdict"),
    [
        (2000, 0, "pass"),
        (1998, 2, "pass"),  # 0.1 % is not above it
        (1997, 3, "warn"),
        (1_000_498, 1002, "warn"),  # 1,000.5 of a million
        (1980, 20, "warn"),
        (1979, 21, "fail"),
        (989, 10, "pass"),  # fewer than 1,000 rows say nothing
    ],
)
def test_more_than_a_thousandth_warns_and_more_than_a_hundredth_fails(share, accepted, quarantined, verdict):
    assert share((accepted, quarantined, 0)) == verdict


def test_what_is_older_than_thirty_dates_counts_no_more(share):
    assert share((0, 500, 30), (1000, 0, 0)) == "pass"
    assert share((0, 500, 29), (1000, 0, 0)) == "fail"
