"""What commit records say of a delivery reaches the book: its gaps, unless another delivery fills them, and whether it
marks the end of events. `test_pipeline_equals_oracle` holds the values; here is when they count."""

import json
import shutil
from pathlib import Path

import pytest

from lake import datasets
from tests.fixtures.bronze import Delivery, make_bronze, market_day
from tests.fixtures.dbt import repository_project

DATE = "2025-12-16"
MODELS = ("stg_futures__trades", "ohlcv", "dim_front_month", "book_tape", "book_states")
BOOK = {"book_tape": 1, "book_states": 1}
DAY = market_day(DATE, 1, hours=(14, 15), events_per_hour=400)
# One delivery lacks three records of hour 14: too short a time for silence to tell, and a change of the book follows.
FIRST = next(
    i
    for i in range(40, 200)
    if DAY["mbp10"][i + 3]["ts_event_ns"] - DAY["mbp10"][i - 1]["ts_event_ns"] < 50_000_000_000
    and DAY["mbp10"][i + 3]["action"] == "A"
)
LAST = FIRST + 3
HOLED = {**DAY, "mbp10": DAY["mbp10"][:FIRST] + DAY["mbp10"][LAST:]}
AFTER_NS = DAY["mbp10"][LAST]["ts_event_ns"]


def gap(reason: str = "sequence", contract: str = "ESH6") -> dict:
    return {
        "key": {"symbol": "ES"}, "contract": contract, "reason": reason,
        "from_ns": DAY["mbp10"][FIRST - 1]["ts_event_ns"], "to_ns": AFTER_NS,
    }  # fmt: skip


def holed(*gaps: dict) -> Delivery:
    return Delivery("holed", HOLED, gaps={"mbp10": gaps})


def run(root: Path) -> dict[str, int]:
    outcome = repository_project().run(root, "run", "--select", *MODELS)
    assert outcome.ok, outcome
    return outcome.dates()


def tape(root: Path) -> list[tuple]:
    rows = datasets.read(root, "silver/datasets/book_tape", dates=[DATE]).to_pylist()
    return [(r["ts_event_ns"], r["sequence"], r["side"], r["tick"], r["delta"]) for r in rows]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose book has a hole that nobody knows of."""
    root = tmp_path_factory.mktemp("plain")
    make_bronze(root, [holed()])
    run(root)
    return root


@pytest.fixture
def lake(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "lake"))


def restate(root: Path, **content: object) -> None:
    """Put other statements into the commit record of the book."""
    (record,) = (root / "lake/bronze/futures/mbp10/_metadata").glob("date=*/commit-*.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | content))


def test_a_known_gap_gives_no_flow_across_it_and_one_that_is_filled_does(lake, tmp_path):
    before = tape(lake)
    assert any(row[0] == AFTER_NS for row in before)
    restate(lake, gaps=[gap()])
    assert run(lake) == BOOK
    assert tape(lake) == [row for row in before if row[0] != AFTER_NS]

    make_bronze(lake, [Delivery("whole", DAY)])
    assert run(lake).items() >= BOOK.items()
    make_bronze(tmp_path / "whole", [Delivery("whole", DAY)])
    run(tmp_path / "whole")
    assert tape(lake) == tape(tmp_path / "whole")


def test_two_deliveries_that_lack_the_same_leave_the_gap(lake):
    before = tape(lake)
    restate(lake, gaps=[gap()])
    make_bronze(lake, [Delivery("holed too", HOLED)])
    run(lake)
    assert tape(lake) == [row for row in before if row[0] != AFTER_NS]


def test_gaps_that_are_none_of_the_books_change_nothing(lake):
    """Of another contract; and those whose reason the records show themselves, and are judged by."""
    before = tape(lake)
    restate(lake, gaps=[gap("silence"), gap("maybe_bad_book"), gap(contract="ESZ5")])
    assert run(lake) == BOOK
    assert tape(lake) == before


def test_without_marks_of_event_ends_every_record_is_one(lake):
    before = tape(lake)
    restate(
        lake, quality=[{"key": {"symbol": "ES"}, "check": "f_last_share", "value": 0.0, "verdict": "warn"}]
    )
    assert run(lake) == BOOK
    # The rows do have marks: the record that closes a trade has one, its print none, which is no state anyway.
    assert tape(lake) == before
    restate(lake, quality=[])
    assert run(lake) == BOOK
