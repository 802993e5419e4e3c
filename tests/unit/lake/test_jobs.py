"""jobs.yaml and sources.yaml are read strictly: what can't be run is refused in one line, before anything runs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from lake import jobs
from lake.jobs import JobError
from tests.fixtures.monitoring import mark_hours

JOB = {
    "schedule": "5 * * * *",
    "command": ["tickhouse", "run", "night"],
    "timeout_s": 60,
    "retries": 2,
    "retry_after_s": 1,
    "lock": "night",
    "reads": ["lake/bronze"],
    "writes": ["lake/silver"],
    "steps": ["tickhouse status"],
}


def load(tmp_path: Path, **changes: object) -> dict[str, jobs.Job]:
    path = tmp_path / "jobs.yaml"
    told = {k: v for k, v in (JOB | changes).items() if v is not ...}
    path.write_text(yaml.safe_dump({"jobs": {"night": told}}))
    return jobs.load(path)


def test_a_job_is_what_the_file_says(tmp_path: Path):
    job = load(tmp_path)["night"]
    assert (job.name, job.schedule, job.timeout_s, job.retries) == ("night", "5 * * * *", 60, 2)
    assert job.steps == ("tickhouse status",)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"timeout_s": ...}, "night: timeout_s was missing"),
        ({"retry": 1}, "night: retry was unknown"),
        ({"retries": "2"}, "night: retries was '2', expected int"),
        ({"retries": True}, "night: retries was True, expected int"),
        ({"retries": -1}, "night: retries was -1, expected at least 0"),
        ({"timeout_s": 0}, "night: timeout_s was 0, expected at least 1"),
        ({"schedule": "5 * * *"}, "schedule was '5 \\* \\* \\*', expected minute hour day month weekday"),
        ({"schedule": "60 * * * *"}, "schedule had '60', expected 0 to 59"),
        ({"schedule": "5 * * * mon"}, "schedule had 'mon', expected a number"),
        ({"schedule": "5 3-1 * * *"}, "schedule had '3-1', expected 0 to 23"),
        (
            {"steps": ["rm -r /"]},
            "a step was 'rm -r /', expected sources or a call of tickhouse, dbt, python",
        ),
    ],
)
def test_a_job_that_can_not_be_run_is_refused_in_one_line(tmp_path: Path, changes: dict, told: str):
    with pytest.raises(JobError, match=told) as refused:
        load(tmp_path, **changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["jobs: [", "- 1", "jobs: 3", ""])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str):
    (tmp_path / "jobs.yaml").write_text(text)
    with pytest.raises(JobError, match=r"jobs\.yaml"):
        jobs.load(tmp_path / "jobs.yaml")


def test_an_unknown_job_is_told_with_those_that_are(tmp_path: Path):
    load(tmp_path)
    with pytest.raises(JobError, match="job was day, expected one of night"):
        jobs.named("day", tmp_path / "jobs.yaml")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("*", list(range(60))),
        ("7", [7]),
        ("0,30", [0, 30]),
        ("*/15", [0, 15, 30, 45]),
        ("10-14", [10, 11, 12, 13, 14]),
        ("10-20/5,3", [3, 10, 15, 20]),
    ],
)
def test_fields_of_a_schedule(field: str, values: list[int]):
    assert jobs.fields(f"{field} * * * *")[0] == values


def test_seven_is_sunday_as_zero_is():
    assert jobs.fields("0 0 * * 7")[4] == jobs.fields("0 0 * * 0")[4] == [0]
    assert jobs.fields("0 0 * * 5-7")[4] == [0, 5, 6]


def test_sources_are_the_words_behind_ingest(tmp_path: Path):
    (tmp_path / jobs.SOURCES_FILE).write_text(
        "sources:\n"
        "  - events --from 'ndjson:in box/*.ndjson'\n"
        "  - binance klines --from api --symbols BTCUSDC\n"
        "  - polygon --dates 2025-12-15\n"
    )
    job = load(tmp_path, steps=["sources", "tickhouse seal --through {sealed} {datasets}"])["night"]
    found = jobs.steps(job, tmp_path)
    assert [(step.words[1:], step.lands, step.is_source) for step in found] == [
        (("ingest", "events", "--from", "ndjson:in box/*.ndjson"), "events", True),
        (("ingest", "binance", "klines", "--from", "api", "--symbols", "BTCUSDC"), "klines", True),
        (("ingest", "polygon", "--dates", "2025-12-15"), None, True),
        (("seal", "--through", "{sealed}", "{datasets}"), None, False),
    ]


@pytest.mark.parametrize(
    ("hours_ago", "hours_sealed"),
    [(0, 24), (23, 24), (25, 25), (90, 90)],
)
def test_nothing_is_sealed_past_the_newest_hour(tmp_path: Path, hours_ago: int, hours_sealed: int):
    """A lake of last month's files isn't filled with empty hours up to now: nobody says that nothing came."""
    now = datetime(2025, 12, 15, 9, 59, tzinfo=UTC)
    assert jobs.sealed_through(tmp_path, now) is None
    end = now.replace(minute=0) - timedelta(hours=hours_ago)
    mark_hours(tmp_path, "events", end, {-1: 5})
    mark_hours(tmp_path, "orders", end - timedelta(days=40), {-1: 5})
    assert jobs.sealed_through(tmp_path, now) == f"{now - timedelta(hours=hours_sealed):%Y-%m-%dT%H}:00Z"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "sources.yaml was not there, expected the sources to load; write it, such as"),
        ("", "sources.yaml lists no sources, so there is nothing to load"),
        ("sources: []", "sources.yaml lists no sources, so there is nothing to load"),
        ("sources: events", "sources.yaml lists no sources"),
        ("sources: [", "sources.yaml was no YAML"),
        (
            "sources: [klines --from api]",
            "a source began with 'klines --from', expected one of events, orders",
        ),
        ("sources: [events: ndjson]", "a source began with '', expected one of events"),
    ],
)
def test_sources_that_load_nothing_are_told_in_one_line(tmp_path: Path, text: str | None, told: str):
    path = tmp_path / jobs.SOURCES_FILE
    if text is not None:
        path.write_text(text)
    with pytest.raises(JobError, match=told) as refused:
        jobs.sources(path)
    assert "\n" not in str(refused.value)
