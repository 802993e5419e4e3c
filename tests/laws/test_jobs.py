"""jobs.yaml runs what exists, at the times of the specification; a missed run is made up for by the next one.

Source: spec/execution.md 3.2, 7.3.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lake import job_runs, jobs, windows
from lake.jobs import Job
from tests.fixtures.monitoring import Monitoring
from tests.laws.repository import PROJECT_DIR
from tests.laws.test_docs import errors
from tests.unit.ingest_windows import kit

JOBS = jobs.load()
BUILDS = ("build", "run", "test")


def test_jobs_are_those_of_the_specification():
    assert {name: job.schedule for name, job in JOBS.items()} == {
        "bronze-ingest": "5 * * * *",
        "silver-transform": "30 1 * * *",
        "gold-features": "0 3 * * 1",
    }
    for name, job in JOBS.items():
        assert job.command == ("tickhouse", "run", name)
        assert job.retries == 2


def selected(manifest: dict[str, Any], word: str) -> list[str]:
    """Names of what one word of `--select` means: a path, a tag, or a name with or without its parents."""
    nodes = [n for n in manifest["nodes"].values() if n["resource_type"] in ("model", "test", "seed")]
    method, colon, value = word.partition(":")
    if not colon:
        return [n["name"] for n in nodes if n["name"] == word.strip("+")]
    keys = {"path": lambda n: n["original_file_path"].startswith(value), "tag": lambda n: value in n["tags"]}
    return [n["name"] for n in nodes if keys[method](n)]


@pytest.mark.parametrize("job", JOBS.values(), ids=lambda job: job.name)
def test_a_job_calls_what_exists(job: Job, manifest: dict[str, Any]):
    for line in job.steps:
        words = (
            line.replace("{datasets}", "--dataset events").replace("{sealed}", "2024-12-01T00:00Z").split()
        )
        match words:
            case ["tickhouse", *_]:
                assert errors(" ".join(words)) == []
            case ["dbt", command, "--select", *chosen]:
                assert command in BUILDS
                assert all(selected(manifest, word) for word in chosen), line
            case ["python", "-m", "pytest", *_]:
                (path,) = [word for word in words if word.startswith("{project}/")]
                assert (PROJECT_DIR / path.removeprefix("{project}/")).is_file()
            case _:
                assert line == jobs.SOURCES


def test_steps_come_in_the_order_of_the_specification(manifest: dict[str, Any]):
    """Loading before sealing, compaction before silver, leakage before gold, gold before it is published."""

    def places(name: str, *parts: str) -> list[int]:
        return [next(i for i, step in enumerate(JOBS[name].steps) if part in step) for part in parts]

    for order in (
        places(
            "bronze-ingest", "sources", "tickhouse seal", "tag:bronze", "features_stop_execution_features"
        ),
        places(
            "silver-transform",
            "compact",
            "models/silver",
            "models/monitoring",
            "features_stop_execution_features",
        ),
        places("gold-features", "test_leakage", "models/gold", "training-sets publish", "feature_drift"),
    ):
        assert order == sorted(set(order))


# -- a missed run ----------------------------------------------------------------------------------------------------


def ingest(root: Path, now: datetime) -> job_runs.JobRun:
    """The landing part of bronze-ingest, as if it were called at ``now``."""
    told = JOBS["bronze-ingest"]
    steps = (jobs.SOURCES, next(step for step in told.steps if "seal" in step))
    job = Job(**(vars(told) | {"steps": steps, "retries": 0}))
    made = job_runs.run(root, job, now=now)
    assert made.status == job_runs.OK, made
    return made


def test_a_missed_run_is_made_up_for(tmp_path: Path):
    """Hour by hour, or once after a day of silence: the same windows, sealed to the same hour, with the same rows."""
    rows = kit.events(120, hours=30)
    early = [
        row for row in rows if datetime.fromisoformat(row["occurred_at"]) < kit.START + timedelta(hours=4)
    ]
    assert 0 < len(early) < len(rows)
    roots = {name: tmp_path / name for name in ("steady", "late")}
    for root in roots.values():
        (root / "in").mkdir(parents=True)
        (root / jobs.SOURCES_FILE).write_text("sources: ['events --from ndjson:in/*.ndjson']")
        kit.write(root / "in" / "early.ndjson", early)
    ingest(roots["steady"], kit.START + timedelta(hours=4, minutes=5))
    last = kit.START + timedelta(hours=30, minutes=5)
    for root in roots.values():
        kit.write(root / "in" / "rest.ndjson", [row for row in rows if row not in early])
    runs = {name: ingest(root, last) for name, root in roots.items()}
    markers = {name: windows.read_markers(root, "events") for name, root in roots.items()}
    steady, late = (
        [(m.window_start, m.state, m.rows, m.content_hash) for m in found] for found in markers.values()
    )
    assert steady == late
    assert {m.state for m in markers["late"]} == {"sealed", "provisional"}
    assert sum(m.rows for m in markers["late"]) == len(rows)
    assert runs["steady"].outputs == runs["late"].outputs
    # and once more changes nothing
    again = ingest(roots["late"], last)
    assert again.outputs == runs["late"].outputs
    assert [m.record() for m in windows.read_markers(roots["late"], "events")] == [
        m.record() for m in markers["late"]
    ]


# -- tests of bronze -------------------------------------------------------------------------------------------------

EVENT = {
    "event_id": "00000000-0000-0000-0000-000000000001", "event_seq": 1, "occurred_at": "2025-12-15T12:00:00Z",
    "ingested_at": "2025-12-15T12:00:00Z", "operation_id": 1, "client_id": 1, "symbol": "BTCUSDC",
    "event_type": "EXECUTED", "payload_json": "{}", "source": "ws", "retry_count": 0, "date": "2025-12-15",
}  # fmt: skip


@pytest.fixture(scope="module")
def failures(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory):
    monitoring = Monitoring(manifest, tmp_path_factory.mktemp("empty"))
    tests = {n["name"]: n for n in manifest["nodes"].values() if "bronze" in n["tags"]}
    kinds = [{"event_type": "EXECUTED"}]

    def of(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        parents = tests[name]["depends_on"]["nodes"]
        seeds = {"event_types": kinds} if any(uid.endswith("event_types") for uid in parents) else {}
        return monitoring.query(tests[name], events=rows, **seeds)

    return of


@pytest.mark.parametrize(
    "broken",
    [
        *({column: None} for column in ("event_id", "occurred_at", "operation_id", "client_id", "symbol")),
        *({column: None} for column in ("event_type", "payload_json", "retry_count", "source")),
        {"event_type": "EXPLODED"},
        {"side": "LONG"},
        {"trigger_type": "HUNCH"},
        {"source": "rumour"},
    ],
)
def test_an_event_that_lacks_something_fails_the_test_of_bronze(failures, broken: dict[str, Any]):
    assert failures("assert_bronze_events_are_whole", [EVENT, EVENT | {"side": "BUY"}]) == []
    assert len(failures("assert_bronze_events_are_whole", [EVENT, EVENT | broken])) == 1
    # what was landed long ago was tested then
    old = EVENT | broken | {"date": "2025-12-13"}
    assert failures("assert_bronze_events_are_whole", [EVENT, old]) == []


@pytest.mark.parametrize(
    ("count", "unknown", "warns", "fails"),
    [
        (100, 0, False, False),
        (100, 1, True, False),
        (100, 2, True, True),
        (99, 2, True, False),
        (1000, 11, True, True),
    ],
)
def test_unknown_event_numbers_warn_and_above_a_hundredth_fail(
    failures, count: int, unknown: int, warns: bool, fails: bool
):
    rows = [EVENT] * (count - unknown) + [EVENT | {"event_seq": None}] * unknown
    assert bool(failures("assert_event_numbers_are_known", rows)) == warns
    assert bool(failures("assert_few_event_numbers_are_missing", rows)) == fails
