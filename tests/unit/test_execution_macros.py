"""Macros of the execution domain against the vectors of spec/execution.md 2.4 and against Python."""

import hashlib
import json
import random
import uuid
from decimal import ROUND_HALF_UP, Decimal, localcontext

import duckdb
import pytest

from tests.fixtures.macros import macro

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "tickhouse/execution")
TOKEN_TEXT = "3b9a684993da6bdd6f11d0941519e576a4bddef3ac0c0630ddfe2e1054313084"  # noqa: S105 (an execution token)


def value(sql: str, **named: object) -> object:
    return duckdb.execute(f"select {sql}", named).fetchone()[0]


def test_the_golden_token_gives_its_ids():
    text = "1|123|STOP_LOSS|88200.00000000|1"
    assert value(macro("sha256_hex", f"'{text}'")) == TOKEN_TEXT
    execution_id = value(macro("uuid5", f"'execution|1|{TOKEN_TEXT}'"))
    assert execution_id == uuid.UUID("9240b994-7937-5391-95dd-595de00d6d1d")
    sample_id = value(macro("uuid5", f"'sample|stop_outcome|v1.0.0|{execution_id}'"))
    assert sample_id == uuid.UUID("25a2a863-b2c7-5287-a201-bf6c6aa75ebe")


def test_uuid5_equals_pythons_for_any_name():
    names = [f"anomaly|{n}|tökén|{n * n}" for n in range(300)] + ["", "'|"]
    made = duckdb.execute(
        f"select {macro('uuid5', 'name')} from (select unnest($names) as name)", {"names": names}
    )
    assert [row[0] for row in made.fetchall()] == [uuid.uuid5(NAMESPACE, name) for name in names]
    assert value(macro("uuid5", "cast(null as varchar)")) is None


def test_the_uuid_of_a_text_is_its_md5():
    texts = [TOKEN_TEXT, "legacy:7:legacy:42", "tökén", "", "'"]
    made = duckdb.execute(
        f"select {macro('text_uuid', 'text')} from (select unnest($texts) as text)", {"texts": texts}
    )
    wanted = [uuid.UUID(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()) for text in texts]
    assert [row[0] for row in made.fetchall()] == wanted
    assert value(macro("text_uuid", "cast(null as varchar)")) is None


def test_a_date_is_before_later_ones_alone():
    days = [f"date '2024-12-{day:02d}'" for day in (9, 10, 11)]
    assert [value(macro("is_before", day, days[1])) for day in days] == [True, False, False]


def test_a_join_passes_over_dates_whose_ids_are_others(tmp_path):
    con = duckdb.connect(config={"threads": 1})
    for day in range(1, 6):
        folder = tmp_path / f"date=2024-12-{day:02d}"
        folder.mkdir()
        con.execute(f"copy (select {day} * 1000 + range as id from range(900)) to '{folder}/data.parquet'")
    con.execute(
        f"create view history as select id, cast(date as date) as date from read_parquet('{tmp_path}/*/*.parquet', "
        "hive_partitioning = true, hive_types = {date: varchar})"
    )
    con.execute(
        "create table on_date as select date '2024-12-05' as date, id from range(2000, 2900) as t(id)"
    )
    join = "explain (analyze, format json) select id from on_date inner join history using (id) where "
    before = macro("is_before", "history.date", "on_date.date")
    assert _rows_scanned(con, join + before) == 900
    # What the macro is for: once this is 900 too, it can go.
    assert _rows_scanned(con, join + "history.date < on_date.date") == 4500


def _rows_scanned(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Rows that the scan of Parquet gives to the join."""
    todo = json.loads(con.execute(sql).fetchall()[0][1])["children"]
    while todo:
        step = todo.pop()
        if "PARQUET" in step.get("operator_name", "") + str(step.get("extra_info")):
            return step["operator_cardinality"]
        todo += step.get("children", [])
    raise AssertionError("no scan of Parquet in the plan")


@pytest.mark.parametrize(
    ("number", "rounded"),
    [
        ("0.22675736961451248", "0.2268"),
        ("0.00025", "0.0002"),  # a half by its shortest text
        ("-0.05341880341880342", "-0.0534"),
        ("1e12", "999999.9999"),
        ("-1e12", "-999999.9999"),
        ("'infinity'", "999999.9999"),
    ],
)
def test_percent_points_round_to_even_and_stay_in_their_type(number, rounded):
    assert value(macro("percent_points", f"cast({number} as double)")) == Decimal(rounded)


@pytest.mark.parametrize("nothing", ["null", "'nan'"])
def test_percent_points_of_nothing_are_null(nothing):
    assert value(macro("percent_points", f"cast({nothing} as double)")) is None


def test_json_is_lifted_in_one_parse():
    payload = {
        "fee": "0.1",
        "flag": True,
        "age": 30,
        "nothing": None,
        "fills": [{"price": "1.5", "qty": 2}, {}],
    }
    sql = macro("json_struct", "$p", ["fee", "flag", "age", "nothing", "absent", {"fills": ["price", "qty"]}])
    assert value(sql, p=json.dumps(payload)) == {
        "fee": "0.1",
        "flag": "true",
        "age": "30",
        "nothing": None,
        "absent": None,
        "fills": [{"price": "1.5", "qty": "2"}, {"price": None, "qty": None}],
    }
    assert value(sql, p='{"fills": "none"}')["fills"] is None
    assert value(macro("json_text", "$p", "age"), p=json.dumps(payload)) == "30"
    assert value(macro("json_text", "$p", "nothing"), p=json.dumps(payload)) is None


def test_rounded_money_is_exact_and_rounds_halves_away_from_zero():
    units = [0, 1, 49_999_999, 50_000_000, 50_000_001, 10**8 - 1, 10**8, 150_000_000, 10**16 - 50_000_000]
    draw = random.Random(7)  # noqa: S311 (numbers of a test)
    units += [draw.randrange(10 ** draw.randrange(1, 33)) for _ in range(3_000)]
    units += [n // 10**8 * 10**8 + 50_000_000 for n in units]  # ties
    exact = [Decimal(sign * n).scaleb(-16) for n in units for sign in (1, -1)]
    made = duckdb.execute(
        f"select {macro('rounded_money', 'exact', 'cast(exact as double)')}"
        " from (select cast(unnest($texts) as decimal(38, 16)) as exact)",
        {"texts": [f"{n:f}" for n in exact]},
    ).fetchall()
    with localcontext(prec=60):
        wanted = [
            n.quantize(Decimal("1e-8"), ROUND_HALF_UP) if abs(n) <= 999_999_999_999 else None for n in exact
        ]
    assert [row[0] for row in made] == wanted
    assert value(macro("rounded_money", "cast(null as decimal(38, 16))", "cast(null as double)")) is None


def test_the_time_in_a_sequence_key_is_found_by_its_number():
    at = "timestamptz '2024-12-01 10:00:00.000001+00'"
    for number in ("7", "9223372036854775807"):
        key = macro("sequence_key", number, at)
        assert value(f"{macro('sequence_key_time', key, number)} = {at}")


@pytest.mark.parametrize(
    ("numbers", "is_gap_free"),
    [
        ("[1, 2, 3]", True),
        ("[1, 1, 2]", True),
        ("[1, 3]", False),
        ("[1, 1, 3]", False),
        ("[2]", False),
        ("[]", True),
        ("cast(null as bigint[])", True),
    ],
)
def test_a_list_of_numbers_from_one_on_without_a_hole(numbers, is_gap_free):
    assert value(macro("is_gap_free", numbers)) is is_gap_free
