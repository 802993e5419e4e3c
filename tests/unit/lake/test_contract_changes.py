"""Each row of the table of changes (spec/execution.md 7.1), and each way in which a contract can be changed."""

import copy

import pytest

from lake import contract_changes
from lake.contract_changes import compare, is_breaking, next_version

PROMISE = {
    "name": "silver.stop_executions",
    "version": "1.0",
    "owner": "models",
    "description": "One row per execution.",
    "path": "lake/silver/stop_executions",
    "grain": ["client_id", "execution_token"],
    "key": ["client_id", "execution_token"],
    "partition": ["client_id", "date"],
    "columns": [
        {
            "name": name,
            "type": kind,
            "nullable": nullable,
            "description": text,
            "unit": unit,
            "accepted_values": values,
        }
        for name, kind, nullable, text, unit, values in (
            ("client_id", "bigint", False, "Tenant.", None, None),
            ("status", "varchar", False, "State after the fold.", None, ["PENDING", "EXECUTED"]),
            ("fill_price", "decimal(20,8)", True, "Mean fill.", "quote asset", None),
            (
                "label",
                "struct(success boolean,amounts struct(a bigint,b decimal(10,4)))",
                True,
                "Outcome.",
                None,
                None,
            ),
        )
    ],
    "tests": [
        {"column": None, "test": "unique_key", "arguments": {"columns": ["client_id"]}, "severity": "error"},
        {"column": "fill_price", "test": "within", "arguments": {"lo": 0}, "severity": "warn"},
        {"column": "status", "test": "not_null", "arguments": {}, "severity": "error"},
    ],
    "sla": {"availability_pct": 99.5, "freshness_hours": 24.0},
}
NEW_COLUMN = PROMISE["columns"][0] | {"name": "fee_quote"}


def changed(*path_and_value: object) -> dict:
    """The promise with one value replaced; a path of keys and list positions, then the value."""
    *path, value = path_and_value
    document = copy.deepcopy(PROMISE)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return document


def with_column(index: int, **values: object) -> dict:
    return changed("columns", index, PROMISE["columns"][index] | values)


def with_tests(*tests: dict) -> dict:
    return changed("tests", [*PROMISE["tests"], *tests])


COLUMNS = PROMISE["columns"]
ADDITIVE = {
    # the table of 7.1
    "add column": changed("columns", [*COLUMNS, NEW_COLUMN]),
    "add column in the middle": changed("columns", [COLUMNS[0], NEW_COLUMN, *COLUMNS[1:]]),
    "widen a constraint": with_column(1, nullable=True),
    "widen an enum": with_column(1, accepted_values=["PENDING", "EXECUTED", "FAILED"]),
    "lift an enum": with_column(1, accepted_values=None),
    "add partition": changed("partition", ["client_id", "strategy_id", "date"]),
    # what follows from it
    "add field of a structure": with_column(
        3, type="struct(success boolean,late boolean,amounts struct(a bigint,b decimal(10,4)))"
    ),
    "state a unit": with_column(0, unit="number"),
    "drop a test": changed("tests", PROMISE["tests"][1:]),
    "soften a test": changed("tests", 0, PROMISE["tests"][0] | {"severity": "warn"}),
    "add a warning": with_tests({"column": "status", "test": "varies", "arguments": {}, "severity": "warn"}),
    "add a test with its column": {
        **changed("columns", [*COLUMNS, NEW_COLUMN]),
        "tests": [
            *PROMISE["tests"],
            {"column": "fee_quote", "test": "within", "arguments": {"lo": 0}, "severity": "error"},
        ],
    },
    "change the owner": changed("owner", "ml"),
    "promise more often": changed("sla", "availability_pct", 99.9),
    "promise fresher": changed("sla", "freshness_hours", 2.0),
    "promise one thing more": changed("sla", PROMISE["sla"] | {"parity_pct": 100.0}),
}
BREAKING = {
    # the table of 7.1
    "remove column": changed("columns", COLUMNS[:2] + COLUMNS[3:]),
    "change type": with_column(2, type="double"),
    "widen a type": with_column(2, type="decimal(28,8)"),
    "tighten a constraint": with_column(2, nullable=False),
    "narrow an enum": with_column(1, accepted_values=["PENDING"]),
    "rename a value": with_column(1, accepted_values=["PENDING", "DONE"]),
    "add an enum": with_column(0, accepted_values=[1, 2]),
    "change a unit": with_column(2, unit="base asset"),
    "drop a unit": with_column(2, unit=None),
    "change a definition": with_column(2, description="Last fill."),
    "change a sign in a definition": with_column(2, description="Mean > fill."),
    # what follows from it
    "rename column": with_column(2, name="price"),
    "rename dataset": changed("name", "silver.executions"),
    "move dataset": changed("path", "lake/silver/executions"),
    "change what a row is": changed("description", "One row per attempt."),
    "change the grain": changed("grain", ["execution_token"]),
    "change the key": changed("key", ["execution_token", "client_id"]),
    "remove partition": changed("partition", ["date"]),
    "reorder partition": changed("partition", ["date", "client_id"]),
    "reorder columns": changed("columns", [COLUMNS[1], COLUMNS[0], *COLUMNS[2:]]),
    "remove field of a structure": with_column(3, type="struct(success boolean,amounts struct(a bigint))"),
    "retype field of a structure": with_column(
        3, type="struct(success varchar,amounts struct(a bigint,b decimal(10,4)))"
    ),
    "add a test": with_tests({"column": "status", "test": "varies", "arguments": {}, "severity": "error"}),
    "add a test of rows": with_tests(
        {"column": None, "test": "varies", "arguments": {}, "severity": "error"}
    ),
    "harden a test": changed("tests", 1, PROMISE["tests"][1] | {"severity": "error"}),
    "change what a test asks": changed(
        "tests", 0, PROMISE["tests"][0] | {"arguments": {"columns": ["client_id", "status"]}}
    ),
    "promise less often": changed("sla", "availability_pct", 99.0),
    "promise staler": changed("sla", "freshness_hours", 48.0),
    "promise one thing less": changed("sla", {"availability_pct": 99.5}),
}
EDITORIAL = {
    "respell": with_column(2, description="mean  fill"),
    "punctuate": changed("description", "One row, per execution!"),
}


@pytest.mark.parametrize("name", ADDITIVE)
def test_what_adds_or_widens_is_additive(name: str):
    changes = compare(PROMISE, ADDITIVE[name])
    assert {change.kind for change in changes} == {"additive"}, changes
    assert not is_breaking(changes)
    assert next_version("1.2", changes) == "1.3"


@pytest.mark.parametrize("name", BREAKING)
def test_what_removes_retypes_tightens_or_redefines_is_breaking(name: str):
    changes = compare(PROMISE, BREAKING[name])
    assert is_breaking(changes), changes
    assert next_version("1.2", changes) == "2.0"
    assert all(change.old != change.new and change.where for change in changes)


@pytest.mark.parametrize("name", EDITORIAL)
def test_spelling_alone_is_neither(name: str):
    changes = compare(PROMISE, EDITORIAL[name])
    assert {change.kind for change in changes} == {"editorial"}
    assert not is_breaking(changes)


def test_an_equal_promise_has_no_change_whatever_its_version():
    assert compare(PROMISE, PROMISE | {"version": "7.3"}) == []


def test_the_way_back_of_an_addition_breaks():
    """What adds in one direction removes in the other; an owner and a warning are nobody's promise."""
    for name, document in ADDITIVE.items():
        assert is_breaking(compare(document, PROMISE)) == (name not in ("change the owner", "add a warning"))


def test_a_column_test_is_told_by_its_column_alone():
    (change,) = compare(PROMISE, with_column(1, nullable=True) | {"tests": PROMISE["tests"][:2]})
    assert (change.kind, change.where, change.what) == ("additive", "status", "widened")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("bigint", []),
        ("struct(a bigint)", [("a", "bigint")]),
        ("struct(a decimal(1,0),b struct(c date[]))", [("a", "decimal(1,0)"), ("b", "struct(c date[])")]),
        ("struct(a bigint)[]", []),
    ],
)  # fmt: skip
def test_fields_of_a_structure(kind: str, fields: list):
    assert contract_changes.struct_fields(kind) == fields
