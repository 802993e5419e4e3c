"""What is built piece by piece equals what is built at once, and what is up to date is left alone.

The laws are held on every dataset that the real project has, found in its manifest; what needs many builds is held on
the small one.
"""

import re
import shutil
from pathlib import Path

import pytest
from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper

from lake import datasets
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, market_day, print_at, spy_day
from tests.fixtures.dbt import Project, fixture_project, repository_project
from tests.fixtures.lakes import contents, digests
from tests.fixtures.windows import land_every_dataset

DATES = ("2025-12-15", "2025-12-16", "2025-12-17")
STAGED_MODEL = "stg_futures__trades"
STAGED = f"silver/datasets/{STAGED_MODEL}"


def small(date: str) -> Delivery:
    return Delivery(date, {"trades": market_day(date, 1, hours=(14, 15), events_per_hour=40)["trades"]})


def mtimes(root: Path, names: dict[str, dict]) -> dict:
    return {key: (seen.content_digest, seen.mtime_ns) for key, seen in contents(root, names).items()}


# -- every dataset of the real project ---------------------------------------------------------------------------------


def market() -> list[Delivery]:
    """Three sessions, of which the second comes as two deliveries."""
    es = [market_day(date, 1) for date in DATES]
    first, second, third = (
        rows | spy_day(date, 1, after=rows["trades"][-40:]) for date, rows in zip(DATES, es, strict=True)
    )
    cut_ns = at_ns(f"{DATES[1]}T15:00:00")
    early, late = (
        {name: [r for r in rows if (r["ts_event_ns"] < cut_ns) == wanted] for name, rows in second.items()}
        for wanted in (True, False)
    )
    parts = {"first": first, "early": early, "late": late, "third": third}
    return [Delivery(name, rows) for name, rows in parts.items()]


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> tuple[Project, Path]:
    """The real project on a lake that grew: built once, then with a third session and late hours of the second."""
    project, root = repository_project(), tmp_path_factory.mktemp("grown")
    days = market()
    for landed, dates in ((days[:2], DATES[:2]), (days[2:], DATES[1:])):
        make_bronze(root, landed)
        land_every_dataset(root, dates)
        outcome = project.run(root, "run")
        assert outcome.ok, outcome
    return project, root


def test_every_dataset_has_its_dates(grown):
    project, root = grown
    found = digests(root, project.datasets())
    for name, node in project.datasets().items():
        dates = {date for model, _, date in found if model == name}
        assert dates == set(DATES), name
        rows = sum(seen.commit.rows for seen in contents(root, {name: node}).values())
        # of execution, which has worlds of its own for the same laws, these are but a few rows of each source
        is_market = node["config"].get("group") != "execution"
        assert rows or not is_market, f"{name} has no rows in this market: its laws would hold of nothing"


def test_incremental_equals_a_build_from_nothing_in_any_order_of_landing(grown, tmp_path):
    project, root = grown
    make_bronze(tmp_path, reversed(market()))
    land_every_dataset(tmp_path, DATES[::-1])
    outcome = project.run(tmp_path, "run")
    assert outcome.ok, outcome
    assert digests(tmp_path, project.datasets()) == digests(root, project.datasets())


def test_a_rerun_writes_nothing_and_makes_its_views_by_one_statement(grown, monkeypatch):
    project, root = grown
    before = mtimes(root, project.datasets())
    said: list[str] = []
    execute = DuckDBCursorWrapper.execute
    monkeypatch.setattr(
        DuckDBCursorWrapper,
        "execute",
        lambda self, sql, *rest: (said.append(sql), execute(self, sql, *rest))[1],
    )
    outcome = project.run(root, "run")
    assert outcome.ok, outcome
    assert outcome.dates() == {}
    assert mtimes(root, project.datasets()) == before
    (made,) = [sql for sql in said if re.search(r"\b(create|alter|drop|copy)\b.*\bview\b|\bcopy \(", sql)]
    assert made.count("create or replace view") > len(project.datasets())


def test_a_session_delivered_twice_is_read_again_and_changes_nothing(grown, tmp_path):
    project, root = grown
    copy = Path(shutil.copytree(root, tmp_path / "lake"))
    third = market()[-1]
    make_bronze(copy, [Delivery("third again", third.rows)])
    outcome = project.run(copy, "run")
    assert outcome.ok, outcome
    read = ("stg_futures__trades", "stg_options__trades", "stg_stocks__trades")
    read += ("book_tape", "book_states", "bbo_changes")
    assert outcome.dates() == dict.fromkeys(read, 1)
    assert digests(copy, project.datasets()) == digests(root, project.datasets())


# -- deliveries: the multiset rule of staging --------------------------------------------------------------------------


AT_NS = {
    date: at_ns(f"{date}T14:30:00")
    for date in ("2025-12-01", "2025-12-02", "2025-12-03", "2025-12-04", "2025-12-05")
}
HOUR_NS = 3_600_000_000_000
RAISED = 2**40


def prints(date: str, *rows: tuple, **other: object) -> list[dict]:
    """Trades of one session from (offset ns, sequence) or (offset ns, sequence, size)."""
    return [
        print_at(AT_NS[date] + offset_ns, 27_200, *size, sequence=sequence, contract="ESH6", **other)
        for offset_ns, sequence, *size in rows
    ]


def by_rank(*names: str) -> list[str]:
    """Names of deliveries of equal row counts, first in rank first: the smaller id."""
    return sorted(names, key=lambda name: Delivery(name, {}).id)


# Each case has a session of its own: (deliveries, what staging makes of them as (sequence, size, ordinal)).
second, third = by_rank("x", "y")
CASES = {
    "identical prints within one delivery are genuine": (
        "2025-12-01",
        {"a1": [(0, 1), (0, 1), (5, 2)], "b1": [(0, 1), (0, 1), (5, 2)]},
        [(1, 1, 0), (1, 1, 1), (2, 1, 2)],
    ),
    # Four rows come from the first in rank; the second adds the two copies that are missing, raised by its rank.
    "the largest multiplicity of any one delivery counts": (
        "2025-12-02",
        {"less": [(0, 1)] * 2, "copies": [(0, 1)] * 3, "rows": [(0, 1), (5, 2), (6, 3), (7, 4)]},
        [(1, 1, 0), (1, 1, RAISED + 1), (1, 1, RAISED + 2), (2, 1, 1), (3, 1, 2), (4, 1, 3)],
    ),
    "what a later delivery adds is raised by its rank": (
        "2025-12-03",
        {"first": [(0, 1), (1, 1), (2, 1)], second: [(0, 1), (9, 9)], third: [(9, 9, 2), (9, 9, 1)]},
        [(1, 1, 0), (1, 1, 1), (1, 1, 2), (9, 1, RAISED + 1), (9, 2, 2 * RAISED)],
    ),
    "only the hour that deliveries share is merged": (
        "2025-12-04",
        {
            "day": [(0, 1), (HOUR_NS, 2), (HOUR_NS + 5, 3)],
            "hour": [(HOUR_NS, 2)],
            "other": [(2 * HOUR_NS, 4)],
        },
        [(1, 1, 0), (2, 1, 1), (3, 1, 2), (4, 1, 0)],
    ),
    "the time of receipt does not make a row another": (
        "2025-12-05",
        {"early": [(0, 1)], "late": [(0, 1)]},
        [(1, 1, 0)],
    ),
}


def land_cases(root: Path, order: int) -> None:
    deliveries = [
        Delivery(name, {"trades": prints(date, *rows, ts_recv_ns=len(name))})
        for date, parts, _ in CASES.values()
        for name, rows in parts.items()
    ]
    make_bronze(root, deliveries[::order])
    outcome = repository_project().run(root, "run", "--select", STAGED_MODEL, "ohlcv")
    assert outcome.ok, outcome


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cases")
    land_cases(root, 1)
    return root


@pytest.mark.parametrize("case", CASES)
def test_deliveries_of_one_hour_are_merged_by_their_multisets(cases, case):
    date, _, expected = CASES[case]
    table = datasets.read(cases, STAGED, ["sequence", "size", "ordinal"], [date])
    assert (
        list(zip(*(table[c].to_pylist() for c in ("sequence", "size", "ordinal")), strict=True)) == expected
    )


def test_the_order_of_landing_changes_nothing(cases, tmp_path):
    land_cases(tmp_path, -1)
    models = repository_project().datasets()
    assert digests(tmp_path, models) == digests(cases, models)


def test_a_second_delivery_of_the_same_rows_adds_nothing_and_stops_there(cases, tmp_path):
    root = Path(shutil.copytree(cases, tmp_path / "lake"))
    rows = prints("2025-12-04", (0, 1), (HOUR_NS, 2), (HOUR_NS + 5, 3))
    make_bronze(root, [Delivery("day again", {"trades": rows})])
    outcome = repository_project().run(root, "run", "--select", STAGED_MODEL, "ohlcv")
    # The date is built anew, as it has another input; its bars are the same, so nothing follows.
    assert outcome.dates() == {STAGED_MODEL: 1}
    table = datasets.read(root, STAGED, dates=["2025-12-04"])
    assert table["sequence"].to_pylist() == [1, 2, 3, 4]


# -- dates, databases and code, on the small project -------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_lake(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small")
    make_bronze(root, map(small, DATES))
    outcome = fixture_project().run(root, "run", "--exclude", "refused_*")
    assert outcome.ok, outcome
    return root


@pytest.fixture
def lake(small_lake, tmp_path) -> Path:
    return Path(shutil.copytree(small_lake, tmp_path / "lake"))


def everything() -> dict[str, dict]:
    return {
        name: node for name, node in fixture_project().datasets().items() if not name.startswith("refused_")
    }


def run(root: Path, *args: str, **variables: str) -> dict[str, int]:
    outcome = fixture_project().run(root, "run", "--exclude", "refused_*", *args, **variables)
    assert outcome.ok, outcome
    return outcome.dates()


def test_a_late_delivery_rebuilds_the_dates_it_must(lake):
    make_bronze(lake, [Delivery("late", {"trades": [print_at(at_ns(f"{DATES[1]}T15:30:00"), 27_200, 5)]})])
    assert run(lake) == {
        "ticks": 1,
        "through_a_view": 1,
        "flow": 1,
        "minutes": 1,
        "trail": 2,  # the session itself and the one that looks back on it
        "earlier": 2,  # its ticks changed; the minutes before the next session did
        "banded": 2,
        "banded_py": 2,
        "version_a": 1,
        "version_b": 1,
        "nothing": 1,
        "nothing_py": 1,
        "after_nothing": 1,
    }
    assert run(lake) == {}


def test_an_equal_result_stops_the_wave(lake):
    # A print of size 0 in a minute that has prints: another row of ticks, the same minutes.
    at = datasets.read(lake, "silver/datasets/minutes", dates=[DATES[1]])["minute_ns"][0].as_py()
    make_bronze(lake, [Delivery("late", {"trades": [print_at(at, 27_000, 0)]})])
    assert run(lake) == {"ticks": 1, "through_a_view": 1, "flow": 1, "minutes": 1, "earlier": 1}


def test_a_full_refresh_changes_no_digest(lake):
    before = digests(lake, everything())
    built = run(lake, "--full-refresh")
    assert built == {name: len(DATES) * (2 if "banded" in name else 1) for name in everything()}
    assert digests(lake, everything()) == before


def test_dates_of_one_call_end_before_the_end(tmp_path):
    make_bronze(tmp_path, map(small, DATES))
    wanted = {"start_date": DATES[1], "end_date": DATES[2]}
    assert fixture_project().built(tmp_path, "ticks", "minutes", **wanted) == {"ticks": 1, "minutes": 1}
    assert {date for _, _, date in digests(tmp_path, everything())} == {DATES[1]}
    assert fixture_project().built(tmp_path, "ticks", "minutes", start_date=DATES[2]) == {
        "ticks": 1,
        "minutes": 1,
    }
    assert fixture_project().built(tmp_path, "ticks", "minutes") == {"ticks": 1, "minutes": 1}


def test_a_deleted_database_comes_back_with_nothing_to_build(lake):
    before = mtimes(lake, everything())
    (lake / "lake.duckdb").unlink()
    assert fixture_project().built(lake, "minutes") == {}  # its parents are not selected, and are there
    assert fixture_project().run(lake, "test", "--select", "minutes").ok
    (lake / "lake.duckdb").unlink()
    assert run(lake) == {}
    assert mtimes(lake, everything()) == before


def test_a_deleted_database_and_a_late_delivery_at_once(lake):
    (lake / "lake.duckdb").unlink()
    make_bronze(lake, [Delivery("late", {"trades": [print_at(at_ns(f"{DATES[1]}T15:30:00"), 27_200, 5)]})])
    assert fixture_project().built(lake, "ticks") == {"ticks": 1}  # the seed it reads is not selected


def test_a_seed_file_is_read_as_it_is_now(lake, monkeypatch):
    """The table of a seed may be older than its file, which is what build keys are made of."""
    import duckdb  # noqa: PLC0415

    with duckdb.connect(str(lake / "lake.duckdb")) as connection:
        connection.execute("update reference.dim_session set globex_close_ns = globex_open_ns")
    before = digests(lake, everything())
    assert fixture_project().run(lake, "run", "--select", "ticks", "--full-refresh").ok
    assert digests(lake, everything()) == before


def test_rows_of_a_withdrawn_delivery_go(lake):
    from tests.fixtures.bronze import write_receipt  # noqa: PLC0415

    write_receipt(lake, small(DATES[1]), "quarantined")
    built = run(lake)
    assert (built["ticks"], built["minutes"], built["trail"]) == (1, 1, 2)
    assert datasets.read(lake, "silver/datasets/minutes", dates=[DATES[1]]).num_rows == 0
    write_receipt(lake, small(DATES[1]), "landed")
    run(lake)
    assert datasets.read(lake, "silver/datasets/minutes", dates=[DATES[1]]).num_rows > 0


def test_one_and_two_threads_give_equal_digests(small_lake, tmp_path):
    make_bronze(tmp_path, map(small, DATES))
    outcome = fixture_project().run(tmp_path, "run", "--exclude", "refused_*", threads=2)
    assert outcome.ok, outcome
    assert digests(tmp_path, everything()) == digests(small_lake, everything())
