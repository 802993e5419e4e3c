"""On simulated sessions, landed and built by the very steps a user runs, each feature of each released set says
something: none is the same in every row, none repeats another (spec market 8)."""

from datetime import date
from pathlib import Path

import pytest

from cli import dbt
from ingest import dbn
from ingest.polygon import landing as polygon
from ingest.simulator import market
from lake import calendar, datasets

VERSIONS = ("v1.0_mechanics_only", "v1.1_ta_only", "v2.0_full_ensemble")
FIRST = "2025-10-06"


@pytest.mark.parametrize("sessions", [5, pytest.param(20, marks=pytest.mark.long)])
def test_every_feature_varies(tmp_path: Path, sessions: int):
    known = [s.date for s in calendar.load().sessions if s.date >= FIRST and not s.is_holiday]
    dates = [date.fromisoformat(day) for day in known[:sessions]]
    market.simulate(tmp_path, dates, scale=0.02 if sessions == 20 else 0.004, seed=1, profile="default")
    assert dbn.ingest(tmp_path, [tmp_path / "raw" / "dbn"]).ok
    assert polygon.ingest(tmp_path, [tmp_path / "raw" / "polygon"]).ok
    dbt.invoke(["run", "--select", "+touch_features"], root=tmp_path)
    results = dbt.invoke(["test", "--select", "test_name:varies"], root=tmp_path).results
    found = [r for r in results if r.node.resource_type == "test"]
    assert {r.node.name: (str(r.status), r.message) for r in found if str(r.status) != "pass"} == {}
    assert len(found) == len(VERSIONS)
    for version in VERSIONS:  # fewer than 1,000 rows would pass whatever they are
        assert datasets.read(tmp_path, f"silver/features/{version}", columns=["stage"]).num_rows >= 1_000
