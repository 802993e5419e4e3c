"""Date maps by UTC date: which dates are read, what enters build keys, and what can't be followed."""

import datetime
import hashlib
import random
from pathlib import Path

import pytest

from lake import date_maps, path_keys, plan
from lake.date_maps import Dates, Read
from tests.fixtures.dbt import keyed_project

DAYS = [(datetime.date(2024, 11, 28) + datetime.timedelta(n)).isoformat() for n in range(8)]
HAVE = {day: hashlib.sha256(day.encode()).hexdigest() for n, day in enumerate(DAYS) if n != 3}


def read(date: str, *indexes: dict, **options: object) -> tuple[list[str], dict[str, str]]:
    return date_maps.dates_read(Read(**options), date, Dates(HAVE), indexes)


def test_by_default_a_date_reads_its_own():
    assert read(DAYS[4]) == ([DAYS[4]], {DAYS[4]: HAVE[DAYS[4]]})
    assert read(DAYS[3]) == ([], {})  # the parent lacks it
    assert read(DAYS[4], own=False) == ([], {})


def test_days_before_and_after_are_of_the_calendar_not_of_what_is_there():
    assert read(DAYS[4], days_before=2)[0] == [DAYS[2], DAYS[4]]
    assert read(DAYS[2], days_after=2)[0] == [DAYS[2], DAYS[4]]
    assert read(DAYS[0], days_before=1, days_after=1, own=False)[0] == [DAYS[1]]


def test_indexes_say_dates_wherever_they_are():
    index = {DAYS[4]: {DAYS[0], DAYS[7], "2020-01-01"}, DAYS[5]: {DAYS[5]}}
    assert read(DAYS[4], index, {DAYS[4]: {DAYS[6]}}, own=False)[0] == [DAYS[0], DAYS[6], DAYS[7]]
    assert read(DAYS[6], index, own=False) == ([], {})


def test_all_earlier_dates_are_read_and_are_one_input():
    dates, inputs = read(DAYS[5], days_before=None)
    assert dates == [d for d in DAYS[:6] if d in HAVE]
    assert list(inputs) == [f"until={DAYS[4]}", DAYS[5]]
    assert read(DAYS[0], days_before=None) == ([DAYS[0]], {DAYS[0]: HAVE[DAYS[0]]})
    # A date that an index names besides is read once.
    dates, inputs = read(DAYS[5], {DAYS[5]: {DAYS[0], DAYS[7]}}, days_before=None, own=False)
    assert dates == [d for d in DAYS[:5] if d in HAVE] + [DAYS[7]]
    assert list(inputs) == [f"until={DAYS[4]}", DAYS[7]]


def test_the_one_input_changes_with_every_date_before_and_with_no_other():
    rng = random.Random(7)  # noqa: S311
    for _ in range(50):
        changed = rng.choice(list(HAVE))
        other = HAVE | {changed: "f" * 64}
        for day in DAYS:
            was = date_maps.dates_read(Read(days_before=None, own=False), day, Dates(HAVE), ())[1]
            now = date_maps.dates_read(Read(days_before=None, own=False), day, Dates(other), ())[1]
            assert (was != now) == (changed < day)


# -- declarations ------------------------------------------------------------------------------------------------------


def told(model: str, root: Path, **meta: object) -> str:
    graph = keyed_project().graph()
    node = next(n for n in graph["nodes"].values() if n["name"] == model)
    node["config"]["meta"] |= meta
    refusals = (plan.PlanError, date_maps.DateMapError, path_keys.PathKeyError)
    with pytest.raises(refusals) as refused:
        plan.plan(root, node, graph, keyed_project().macros())
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ({"tokens_gone": {}}, "meta.reads names tokens_gone, but it reads events_seen, tokens_spread"),
        (
            {"events_seen": {"days_before": "some"}},
            "days_before was 'some', expected a number of days or all",
        ),
        ({"events_seen": {"days_before": -1}}, "days_before was -1, expected a number of days or all"),
        ({"events_seen": {"days_after": "all"}}, "days_after was 'all', expected a number of days"),
        ({"events_seen": {"days_after": True}}, "days_after was True, expected a number of days"),
        ({"events_seen": {"own": "no"}}, "own was 'no', expected true or false"),
        ({"events_seen": {"sessions_before": 1}}, "expected some of days_before, days_after, dates_of, own"),
        ({"events_seen": {"dates_of": "tokens_seen.home"}}, "expected a list such as [int_x__tokens.home]"),
        ({"events_seen": {"dates_of": []}}, "expected a list such as [int_x__tokens.home]"),
        (
            {"events_seen": {"dates_of": ["tokens_seen.house"]}},
            "dates_of named tokens_seen.house, expected one of tokens_seen.home, tokens_spread.events, "
            "tokens_spread.itself",
        ),
        (
            {"events_seen": {"own": False}, "tokens_spread": {"own": False, "days_before": 1}},
            "tokens_folded reads no dataset or source on its own dates",
        ),
    ],
)
def test_a_map_that_can_not_be_followed_is_refused_in_one_line(tmp_path, reads, expected):
    assert expected in told("tokens_folded", tmp_path, reads=reads)


def test_an_index_of_what_is_built_later_is_refused(tmp_path):
    reads = {"tokens_seen": {"dates_of": ["tokens_spread.events"]}}
    assert "tokens_spread isn't built after tokens_spread" in told("tokens_spread", tmp_path, reads=reads)


def test_hour_windows_have_no_map(tmp_path):
    found = told("events_seen", tmp_path, reads={"events": {"days_before": 1}})
    assert "meta.reads names events, but it reads no dataset" in found


@pytest.mark.parametrize(
    ("indexes", "expected"),
    [
        ({"home": ["home_date"]}, "index home was ['home_date'], expected {for: column, reads: column}"),
        (
            {"home": {"for": "client_id", "reads": "date"}},
            "named client_id, expected a column that the YAML declares",
        ),
        (
            {"home": {"for": "house", "reads": "date"}},
            "named house, expected a column that the YAML declares",
        ),
        (["home"], "meta.indexes was ['home'], expected a map of names"),
    ],
)
def test_an_index_that_is_none_is_refused_in_one_line(tmp_path, indexes, expected):
    assert expected in told("tokens_seen", tmp_path, indexes=indexes)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            ["house"],
            "meta.path_keys was ['house'], expected a list of its columns, each of type bigint, integer",
        ),
        (["quantity"], "meta.path_keys was ['quantity']"),
        (["client_id", "client_id"], "meta.path_keys was ['client_id', 'client_id']"),
    ],
)
def test_path_keys_that_are_none_are_refused_in_one_line(tmp_path, keys, expected):
    assert expected in told("tokens_folded", tmp_path, path_keys=keys)


def test_path_keys_come_first_in_the_order_of_rows():
    nodes = keyed_project().datasets()
    assert path_keys.row_order(nodes["day_after"]) == ["client_id", "symbol", "name"]
    assert path_keys.row_order(nodes["tokens_folded"]) == ["client_id", "execution_token"]
