"""Compaction and the archive change where the rows of execution bronze stand, and nothing that is built of them."""

import datetime
import shutil
from pathlib import Path

import pytest

from ingest.compaction import CompactReport
from ingest.compaction_windows import compact_windows
from ingest.window_schema import WINDOW_SCHEMAS
from lake import retention, windows
from tests.fixtures.dbt import repository_project
from tests.fixtures.lakes import digests
from tests.fixtures.windows import land_rows, window_rows

DATES = ("2025-12-15", "2025-12-16")
MODELS = ("stg_execution__stop_events", "stg_execution__balance_snapshots", "stg_binance__klines")
RULES = retention.Rules(
    (retention.Policy("*", 90, -1, "date", True),), frozenset(), datetime.date(2026, 3, 16), "bronze/*"
)
RUN = "20260316T000000Z_retention_00c0de"


def build(root: Path) -> dict[str, int]:
    outcome = repository_project().run(root, "run", "--select", *MODELS)
    assert outcome.ok, outcome
    return outcome.dates()


def compact(root: Path, grace_s: float) -> CompactReport:
    report = CompactReport()
    compact_windows(root, report, grace_s=grace_s, dry_run=False)
    return report


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("windows") / "lake"
    for date in DATES:
        for schema in WINDOW_SCHEMAS.values():
            rows = window_rows(schema, date, 4)
            land_rows(root, schema, rows, f"{schema.name}-{date}.ndjson")
            land_rows(root, schema, rows[:1], f"{schema.name}-{date}-again.ndjson", sealed=True)
    assert set(build(root)) == {*MODELS}
    return root


def test_what_was_merged_and_archived_counts_as_built_and_can_be_built_from(built, tmp_path):
    """The first date lives in the archive alone, the second in merged parts: one build reads both."""
    root = Path(shutil.copytree(built, tmp_path / "lake"))
    before = digests(root, repository_project().datasets())
    assert compact(root, 3600).merged
    assert build(root) == {}
    assert compact(root, 0).deleted
    assert build(root) == {}
    assert retention.archive(root, RULES, RUN)
    assert {row.state for row in retention.delete(root, RULES, RUN, yes=True)} == {"deleted"}
    for name in WINDOW_SCHEMAS:
        assert windows.date_parts(root, name, DATES[0]) == []
        parts = windows.date_parts(root, name, DATES[1])
        assert len({path.parent for path in parts}) == len(parts) > 0
    assert build(root) == {}

    shutil.rmtree(root / "lake" / "silver")
    assert set(build(root)) == {*MODELS}
    assert digests(root, repository_project().datasets()) == before
