"""The reference seeds are what their generator and the specification say, checked by hand-made cases."""

import csv
import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

PROJECT_DIR = Path(__file__).resolve().parents[2]
REFERENCE_DIR = PROJECT_DIR / "seeds" / "reference"


def ns(text: str) -> int:
    """Nanoseconds UTC of an ISO instant in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


@pytest.fixture(scope="module")
def sessions() -> dict[str, dict[str, str]]:
    with open(REFERENCE_DIR / "dim_session.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["session_date"]: row for row in rows}


def test_generator_gives_the_checked_in_bytes():
    spec = importlib.util.spec_from_file_location(
        "generate_dim_session", REFERENCE_DIR / "generate_dim_session.py"
    )
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    expected = (REFERENCE_DIR / "dim_session.csv").read_bytes()
    assert generator.as_csv(generator.session_rows()).encode() == expected


# Instants written down from the offset in force (EST = UTC-5, EDT = UTC-4), not computed by a tz database.
HOURS = {
    # the Monday after clocks went forward opens on a Sunday evening that already has summer time
    "2025-03-07": ("2025-03-06T23:00", "2025-03-07T09:00", "2025-03-07T14:30", "2025-03-07T21:00"),
    "2025-03-10": ("2025-03-09T22:00", "2025-03-10T08:00", "2025-03-10T13:30", "2025-03-10T20:00"),
    # and back again in November
    "2025-10-31": ("2025-10-30T22:00", "2025-10-31T08:00", "2025-10-31T13:30", "2025-10-31T20:00"),
    "2025-11-03": ("2025-11-02T23:00", "2025-11-03T09:00", "2025-11-03T14:30", "2025-11-03T21:00"),
    # early closes at 13:00 New York
    "2025-11-28": ("2025-11-27T23:00", "2025-11-28T09:00", "2025-11-28T14:30", "2025-11-28T18:00"),
    "2024-07-03": ("2024-07-02T22:00", "2024-07-03T08:00", "2024-07-03T13:30", "2024-07-03T17:00"),
    # the session of the real files: it opens on Christmas evening
    "2023-12-26": ("2023-12-25T23:00", "2023-12-26T09:00", "2023-12-26T14:30", "2023-12-26T21:00"),
}


@pytest.mark.parametrize("day", HOURS)
def test_hours_are_new_york_wall_time(sessions, day):
    row = sessions[day]
    names = ("globex_open_ns", "premarket_open_ns", "rth_open_ns", "rth_close_ns")
    assert [int(row[name]) for name in names] == [ns(text) for text in HOURS[day]]


@pytest.mark.parametrize(
    ("day", "close"),
    [
        ("2025-07-03", "2025-07-03T21:00"),
        ("2025-11-28", "2025-11-28T22:00"),
        ("2025-12-25", "2025-12-25T22:00"),
    ],
)
def test_globex_closes_at_17_also_on_short_days(sessions, day, close):
    assert int(sessions[day]["globex_close_ns"]) == ns(close)


# From the exchange's published lists: fixed feasts, moved feasts, and the two days of mourning of the range.
HOLIDAYS = [
    "2018-12-05",  # mourning, George H. W. Bush
    "2019-04-19",  # Good Friday
    "2020-07-03",  # Independence Day, a Saturday, kept on Friday
    "2022-06-20",  # Juneteenth, a Sunday, kept on Monday; the first year it was kept
    "2023-01-02",  # New Year, a Sunday, kept on Monday
    "2023-12-25",
    "2025-01-09",  # mourning, James E. Carter
    "2025-04-18",
    "2025-11-27",  # Thanksgiving
]
OPEN_DAYS = [
    "2021-06-18",  # Juneteenth was law for a day and not yet kept
    "2021-12-31",  # New Year on a Saturday is not moved
    "2024-10-14",  # Columbus Day: banks rest, the exchange doesn't
    "2025-11-11",  # Veterans Day: the same
    "2025-12-26",
]
EARLY_CLOSES = ["2018-11-23", "2019-07-03", "2023-07-03", "2024-12-24", "2025-07-03", "2025-12-24"]


def test_holidays_and_early_closes(sessions):
    assert [day for day in HOLIDAYS if sessions[day]["is_holiday"] != "true"] == []
    assert [day for day in OPEN_DAYS if sessions[day]["is_holiday"] != "false"] == []
    assert [day for day in EARLY_CLOSES if sessions[day]["is_early_close"] != "true"] == []
    in_2025 = [day for day, row in sessions.items() if day[:4] == "2025"]
    # ten feasts and one day of mourning
    assert sum(sessions[day]["is_holiday"] == "true" for day in in_2025) == 11
    assert sum(sessions[day]["is_early_close"] == "true" for day in in_2025) == 3


def test_every_weekday_has_one_row_in_order(sessions):
    days = [datetime.fromisoformat(day).date() for day in sessions]
    assert (days[0].isoformat(), days[-1].isoformat()) == ("2018-01-01", "2028-12-29")
    assert all(day.weekday() < 5 for day in days)
    # five weekdays in each of 573 whole weeks, Monday first, and the last week ends on its Friday
    assert len(days) == 574 * 5 == len(set(days))
    assert days == sorted(days)


def test_hours_stand_in_order_and_sessions_do_not_overlap(sessions):
    last_close = 0
    for day, row in sessions.items():
        hours = [
            int(row[name])
            for name in (
                "globex_open_ns",
                "premarket_open_ns",
                "rth_open_ns",
                "rth_close_ns",
                "globex_close_ns",
            )
        ]
        assert hours == sorted(hours), day
        # clocks change at 02:00 on Sundays, which no session holds
        assert hours[-1] - hours[0] == 23 * 3600 * 1_000_000_000, day
        assert hours[0] > last_close, day
        last_close = hours[-1]


def test_level_kinds_are_the_fifteen_of_the_specification():
    with open(REFERENCE_DIR / "level_kinds.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    named = {row["level_kind_name"]: (int(row["level_kind"]), float(row["weight"])) for row in rows}
    assert [int(row["level_kind"]) for row in rows] == list(range(15))
    assert named == {
        "PM_HIGH": (0, 1.0), "PM_LOW": (1, 1.0), "OR_HIGH": (2, 0.9), "OR_LOW": (3, 0.9),
        "SESSION_HIGH": (4, 0.6), "SESSION_LOW": (5, 0.6), "SMA_200": (6, 0.8), "SMA_400": (12, 0.8),
        "VWAP": (7, 0.7), "ROUND": (8, 0.3), "STRIKE": (9, 0.3), "CALL_WALL": (10, 1.0),
        "PUT_WALL": (11, 1.0), "GAMMA_FLIP": (13, 0.5), "USER": (14, 0.5),
    }  # fmt: skip


def test_documented_columns_and_types_are_those_of_the_files():
    texts = [path.read_text(encoding="utf-8") for path in sorted(REFERENCE_DIR.glob("_*__seeds.yml"))]
    documented = [seed for text in texts for seed in yaml.safe_load(text)["seeds"]]
    assert {seed["name"] for seed in documented} == {path.stem for path in REFERENCE_DIR.glob("*.csv")}
    for seed in documented:
        with open(REFERENCE_DIR / f"{seed['name']}.csv", encoding="utf-8", newline="") as file:
            header = next(csv.reader(file))
        types = seed["config"]["column_types"]
        assert header == list(types) == [column["name"] for column in seed["columns"]], seed["name"]
        assert {types[name] for name in header if name.endswith("_ns")} <= {"bigint"}
