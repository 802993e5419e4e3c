"""A partition that breaks its contract is refused with one line, and what stood there before still stands.

Each `refused_*` model of the small project breaks one law, and only when a print of 13 contracts is there.
"""

import pytest

from lake.commits import read_partitions
from lake.paths import stage_dir
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, market_day, print_at
from tests.fixtures.dbt import Outcome, fixture_project
from tests.fixtures.lakes import contents

DATE = "2025-12-16"
REASONS = {
    "refused_date": "a row had session_date 2025-12-17",
    "refused_null_date": "a row had session_date NULL",
    "refused_null_key": "key column ordinal was NULL in 1 rows",
    "refused_repeated_key": "repeats the key of the row before it",
    "refused_presorted": "is out of key order",
    "refused_nan": "value held a NaN or an infinity",
    "refused_infinity": "value held a NaN or an infinity",
    "refused_look_ahead": "expected max_input_ts_ns < asof_ns",
    "refused_py_missing_column": "value is missing",
    "refused_py_extra_column": "more is not declared",
    "refused_py_type": "value was VARCHAR, expected INTEGER",
    "refused_py_fraction": "value was DOUBLE, expected INTEGER",
    "refused_py_overflow": "out of range for the destination type INT32",
    "refused_py_order": "is out of key order",
    "refused_py_date": "a row had session_date 2025-12-17",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> tuple[Outcome, dict, dict]:
    """Outcome of a build over a bad print, with the committed partitions before and after it."""
    project, root = fixture_project(), tmp_path_factory.mktemp("refused")
    datasets = {name: node for name, node in project.datasets().items() if name.startswith("refused_")}
    trades = market_day(DATE, 1, hours=(14,), events_per_hour=40)["trades"]
    make_bronze(root, [Delivery("good", {"trades": trades})])
    assert set(project.built(root, "ticks", "refused_*")) == {"ticks", *datasets}
    before = contents(root, datasets)

    bad = [print_at(at_ns(f"{DATE}T15:59:00"), 27_200, 13), print_at(at_ns(f"{DATE}T15:59:30"), 27_200, 2)]
    make_bronze(root, [Delivery("bad", {"trades": bad})])
    outcome = project.run(root, "run", "--select", "ticks", "refused_*")
    after = contents(root, datasets)
    staged = [p.name for p in stage_dir(root).glob("refused_*.parquet")]
    assert all(
        name.partition("@")[0] in {"refused_date", "refused_null_date", "refused_py_kernel"}
        for name in staged
    )
    return outcome, before, after


def test_every_refusing_model_is_listed_here():
    models = {name for name in fixture_project().datasets() if name.startswith("refused_")}
    assert models == set(REASONS) | {"refused_py_kernel"}


@pytest.mark.parametrize("model", REASONS)
def test_a_broken_law_is_told_in_one_line_with_model_date_and_reason(refused, model):
    outcome, _, _ = refused
    assert outcome.statuses[model] == "error"
    header, *message = outcome.messages[model].splitlines()
    assert header.startswith(f"Runtime Error in model {model}")
    assert len(message) == 1
    assert f"{model}, {DATE}: " in message[0]
    assert REASONS[model] in message[0]
    assert message[0].count("nothing was published") == 1
    assert message[0].endswith("nothing was published")


def test_the_command_fails(refused):
    assert not refused[0].ok


def test_an_error_of_a_kernel_keeps_its_words(refused):
    assert (
        "ValueError: thirteen was in the rows, expected none; drop it"
        in refused[0].messages["refused_py_kernel"]
    )


def test_nothing_was_published_and_the_old_partitions_stand(refused):
    _, before, after = refused
    assert after == before
    assert len(before) == len(REASONS) + 1


def test_a_good_date_beside_a_bad_one_is_built(tmp_path):
    project = fixture_project()
    trades = [*market_day("2025-12-15", 1, hours=(14,), events_per_hour=20)["trades"]]
    trades += [print_at(at_ns(f"{DATE}T15:59:00"), 27_200, 13)]
    make_bronze(tmp_path, [Delivery("both", {"trades": trades})])
    outcome = project.run(tmp_path, "run", "--select", "ticks", "refused_nan")
    assert not outcome.ok
    found = read_partitions(tmp_path / "lake/silver/datasets/refused_nan")
    assert [date for _, date in found] == ["2025-12-15"]
