"""Sessions to the nanosecond, through the models: where they start and end, what the ranges hold, when touches count.

Instants are written down in UTC. `test_pipeline_equals_oracle` holds whole sessions of these kinds to the oracle, which
reads the same calendar; here nothing is read from it.
"""

from datetime import UTC, datetime

import pytest

from lake import params
from tests.e2e.in_memory import Pipeline
from tests.oracle.rules import MINUTE_NS, SECOND_NS

HOUR_NS = 60 * MINUTE_NS

# globex open (18:00 the day before), premarket (04:00), regular open (09:30), end of touches in regular hours (15:44,
# on a short day 12:44), globex close (17:00)
DAYS = {
    # the Friday before clocks go forward, the Monday after: it opens on a Sunday evening that has summer time already
    "2025-03-07": ("2025-03-06T23:00", "2025-03-07T09:00", "2025-03-07T14:30", "2025-03-07T20:44", "2025-03-07T22:00"),
    "2025-03-10": ("2025-03-09T22:00", "2025-03-10T08:00", "2025-03-10T13:30", "2025-03-10T19:44", "2025-03-10T21:00"),
    # and back
    "2025-10-31": ("2025-10-30T22:00", "2025-10-31T08:00", "2025-10-31T13:30", "2025-10-31T19:44", "2025-10-31T21:00"),
    "2025-11-03": ("2025-11-02T23:00", "2025-11-03T09:00", "2025-11-03T14:30", "2025-11-03T20:44", "2025-11-03T22:00"),
    # a day in summer, the eve of a feast, an ordinary Monday, Thanksgiving and the short day after it
    "2025-07-03": ("2025-07-02T22:00", "2025-07-03T08:00", "2025-07-03T13:30", "2025-07-03T16:44", "2025-07-03T21:00"),
    "2025-11-24": ("2025-11-23T23:00", "2025-11-24T09:00", "2025-11-24T14:30", "2025-11-24T20:44", "2025-11-24T22:00"),
    "2025-11-27": ("2025-11-26T23:00", "2025-11-27T09:00", "2025-11-27T14:30", "2025-11-27T20:44", "2025-11-27T22:00"),
    "2025-11-28": ("2025-11-27T23:00", "2025-11-28T09:00", "2025-11-28T14:30", "2025-11-28T17:44", "2025-11-28T22:00"),
}  # fmt: skip
HOLIDAY = "2025-11-27"
LOW, BETWEEN, HIGH = 24_000, 24_020, 24_040  # two round levels, and a price beyond both monitor bands


def instants(date: str) -> list[int]:
    return [int(datetime.fromisoformat(t).replace(tzinfo=UTC).timestamp()) * SECOND_NS for t in DAYS[date]]


def prints(date: str, events: list[tuple[int, int]]) -> list[dict]:
    """Trades of (ns, tick) in the quarterly contract that leads on that date."""
    contract = {"03": "ESH5", "07": "ESU5", "10": "ESZ5", "11": "ESZ5"}[date[5:7]]
    return [
        {
            "ts_event_ns": t,
            "sequence": i,
            "ordinal": i,
            "tick": k,
            "size": 1,
            "aggressor": 1,
            "contract": contract,
        }
        for i, (t, k) in enumerate(events)
    ]


@pytest.fixture(scope="module")
def pipelines(manifest: dict) -> dict[str, Pipeline]:
    return {name: Pipeline(manifest, params.load(name)) for name in ("default", "overnight")}


def build(pipeline: Pipeline, date: str) -> None:
    """The touches of a date and what they are made of."""
    models = {model.name: model for model in pipeline.models}
    wanted = ["touches"]
    for name in wanted:
        wanted += [
            p["alias"] for p in models[name].parents if p["alias"] in models and p["alias"] not in wanted
        ]
    pipeline.build(date, only=wanted)


@pytest.mark.parametrize("date", DAYS)
def test_a_session_starts_and_ends_to_the_nanosecond(pipelines: dict[str, Pipeline], date: str):
    """[18:00 of the day before, 17:00), with the extremes of [04:00, 09:30) as its premarket range."""
    opened, premarket, regular, _, closed = instants(date)
    events = [
        *[
            (opened - 1, 1),
            (opened, 24_000),
            (premarket - 1, 25_000),
            (premarket, 24_010),
            (regular - 1, 23_990),
        ],
        *[(regular, 23_000), (closed - 1, 24_001), (closed, 2)],
    ]
    pipeline = pipelines["default"]
    pipeline.market((prints(date, events), []))
    build(pipeline, date)
    kept = [(row["ts_event_ns"], row["tick"]) for row in pipeline.rows("stg_futures__trades", date)]
    assert kept == events[1:-1]
    bars = [row for row in pipeline.rows("ohlcv", date) if row["bar_s"] == 60]
    assert (bars[0]["bar_start_ns"], bars[-1]["bar_end_ns"]) == (opened, closed)
    ranges = {
        row["level_kind_name"]: (row["level_tick"], row["valid_from_ns"])
        for row in pipeline.rows("levels", date)
        if row["level_kind_name"].startswith("PM_")
    }
    assert ranges == {"PM_HIGH": (24_010, regular), "PM_LOW": (23_990, regular)}


@pytest.mark.parametrize("param_set", ["default", "overnight"])
@pytest.mark.parametrize("date", DAYS)
def test_touches_are_emitted_to_the_nanosecond(pipelines: dict[str, Pipeline], date: str, param_set: str):
    """In regular hours from 09:30 on and before 15:44 or 12:44, none on a holiday; in `all` mode from the evening
    before on and before 16:44, on holidays and short days too. A round level is touched at each bound and just before.
    """
    opened, _, regular, last, closed = instants(date)
    very_last = closed - 16 * MINUTE_NS
    evening = opened + 2 * HOUR_NS
    events = [(opened, BETWEEN), (opened + HOUR_NS, BETWEEN), (evening, HIGH - 4)]
    for bound in (regular, last, very_last):
        # more than 30 s away from both levels, which arms them again
        events += [(bound - 5 * MINUTE_NS, BETWEEN), (bound - 4 * MINUTE_NS, BETWEEN)]
        events += [(bound - 1, LOW + 4), (bound, HIGH - 4)]
    pipeline = pipelines[param_set]
    pipeline.market((prints(date, events), []))
    build(pipeline, date)
    found = [
        (row["ts_ns"], row["level_tick"])
        for row in pipeline.rows("touches", date)
        if row["level_kind_name"] == "ROUND"
    ]
    in_regular_hours = [(regular, HIGH), (last - 1, LOW)]
    if param_set == "overnight":
        whole = [(evening, HIGH), (regular - 1, LOW), *in_regular_hours, (last, HIGH), (very_last - 1, LOW)]
        assert found == whole
    else:
        assert found == ([] if date == HOLIDAY else in_regular_hours)
