"""An audit takes the future away: features of the past pass, and one that looks ahead is named with how often."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from lake import audit
from lake.verify import NotVerifiable
from tests.fixtures.bronze import make_bronze
from tests.fixtures.dbt import Project
from tests.fixtures.released import DATES, FOLDER, VERSION, day, make_project

HONEST = """select
    minutes.session_date,
    cast(minutes.minute_ns as varchar) as observation_id,
    cast(minutes.minute_ns as varchar) as event_id,
    minutes.minute_ns + 60000000000 as asof_ns,
    minutes.volume,
    {ahead} as shown_tick
from {{{{ ref('minutes') }}}} as minutes
"""
AHEAD = "max(minutes.high_tick) over (order by minutes.minute_ns rows between current row and 1 following)"
COLUMNS = """
      - {name: session_date, data_type: date}
      - {name: observation_id, data_type: varchar, config: {meta: {group: identity}}}
      - {name: event_id, data_type: varchar, config: {meta: {group: identity}}}
      - {name: asof_ns, data_type: bigint, config: {meta: {group: identity}}}
      - {name: volume, data_type: bigint, config: {meta: {group: level}}}
      - {name: shown_tick, data_type: integer, config: {meta: {group: level}}}
"""


def project(folder: Path, ahead: str) -> Project:
    """One version over minutes of prints, with ``ahead`` as one of its features."""
    made = make_project(folder)
    for name in ("train_a", "version_b", "banded", "banded_py"):
        for path in (folder / "models").glob(f"{name}.*"):
            path.unlink()
    (folder / "models" / "version_a.sql").write_text(HONEST.format(ahead=ahead))
    listed = yaml.safe_load((folder / "models" / "_models.yml").read_text())
    listed["models"] = [m for m in listed["models"] if m["name"] in ("ticks", "minutes", "version_a")]
    version = next(m for m in listed["models"] if m["name"] == "version_a")
    version["config"]["meta"]["key"] = ["observation_id"]
    version["columns"] = yaml.safe_load(COLUMNS)
    (folder / "models" / "_models.yml").write_text(yaml.safe_dump(listed))
    return made


@pytest.fixture(scope="module", params=["honest", "ahead"])
def built(request, tmp_path_factory) -> tuple[str, Project, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    made = project(folder / "project", "minutes.high_tick" if request.param == "honest" else AHEAD)
    make_bronze(folder / "root", map(day, DATES))
    assert made.build(folder / "root", "+version_a").ok
    return request.param, made, folder / "root"


def test_the_verdict_names_what_looked_ahead_and_is_recorded(built) -> None:
    kind, made, root = built
    record = audit.audit(root, VERSION, project_dir=made.folder)
    assert record["session_date"] == DATES[-1]
    assert record["rows"] > 5
    assert record["passed"] == (kind == "honest")
    if kind == "honest":
        assert record["told"] == f"no row of {record['rows']} up to the instant changed"
    else:
        assert record["told"].startswith("shown_tick changed in ")
    written = [*(root / FOLDER / "_metadata").glob("audit-*.json")]
    assert [json.loads(p.read_text()) for p in written] == [record]


def test_bronze_and_silver_stay_as_they_are(built, tmp_path) -> None:
    _, made, root = built
    copied = Path(shutil.copytree(root, tmp_path / "root"))
    for record in (copied / FOLDER / "_metadata").glob("audit-*.json"):
        record.unlink()
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    audit.audit(copied, VERSION, session_date=DATES[0], project_dir=made.folder)
    after = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    new = set(after) - set(before)
    assert all("audit-" in p.name for p in new)
    assert {p: after[p] for p in before} == before


def test_a_date_that_is_not_built_is_told(built) -> None:
    _, made, root = built
    with pytest.raises(NotVerifiable, match="has no date 2025-12-24"):
        audit.audit(root, VERSION, session_date="2025-12-24", project_dir=made.folder)


def test_another_checkout_is_told(built, tmp_path) -> None:
    """An edit since the build: what would be audited isn't what is on record."""
    _, _, root = built
    edited = project(tmp_path / "project", "minutes.high_tick + 1")
    with pytest.raises(NotVerifiable, match="check out the commit that made it"):
        audit.audit(root, VERSION, project_dir=edited.folder)


def test_rows_that_come_and_go_are_told() -> None:
    one = pa.table({"observation_id": ["a", "b"], "x": [1.0, None]})
    assert audit.differences(one, one.slice(0, 1)) == [
        "1 of 2 rows were not there without the future, 1 were"
    ]
    assert audit.differences(one, one.take([1, 0])) == []
    other = pa.table({"observation_id": ["a", "b"], "x": [1.0, 2.0]})
    assert audit.differences(one, other) == ["x changed in 1 of 2 rows"]


def test_a_touch_at_the_instant_goes_with_its_print() -> None:
    rows = pa.table({"asof_ns": [1, 5, 5, 6], "ts_ns": [1, 2, 5, 2]})
    assert audit._up_to(rows, 5)["ts_ns"].to_pylist() == [1, 2]
    assert audit._up_to(rows.drop_columns(["ts_ns"]), 5).num_rows == 3
