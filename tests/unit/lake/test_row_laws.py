"""The laws that rows are held to before they are published."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import row_laws

KEY = ["a", "b"]


def checked(rows: list[tuple], batch_rows: int, **columns: pa.Array) -> None:
    """Hold rows (a, b) to the laws in batches of ``batch_rows``."""
    a, b = (pa.array([r[i] for r in rows], t) for i, t in ((0, pa.int64()), (1, pa.string())))
    table = pa.table({"a": a, "b": b, **columns})
    laws = row_laws.RowLaws(table.schema, KEY, "model, 2025-12-15")
    for batch in table.to_batches(max_chunksize=batch_rows):
        laws.update(batch)
    assert laws.rows == len(rows)


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.sampled_from(["", "a", "ab", "é"])), max_size=12),
    st.integers(1, 5),
    st.booleans(),
)
def test_rows_pass_exactly_when_their_keys_increase(rows, batch_rows, in_order):
    if in_order:
        rows = sorted(set(rows), key=lambda r: (r[0], r[1].encode()))
    keys = [(a, b.encode()) for a, b in rows]
    if all(x < y for x, y in itertools.pairwise(keys)):
        checked(rows, batch_rows)
    else:
        with pytest.raises(row_laws.StageError, match=r"^model, 2025-12-15: row \d+ ") as refused:
            checked(rows, batch_rows)
        first = next(i for i in range(1, len(keys)) if keys[i - 1] >= keys[i])
        what = (
            "repeats the key of the row before it"
            if keys[first] == keys[first - 1]
            else "is out of key order"
        )
        assert f"row {first} {what}" in str(refused.value)


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_a_fault_at_the_edge_of_a_batch_is_seen(batch_rows):
    good = [(i, "x") for i in range(6)]
    checked(good, batch_rows)
    for i in range(1, 6):
        with pytest.raises(row_laws.StageError, match=f"row {i} repeats"):
            checked([*good[:i], good[i - 1], *good[i + 1 :]], batch_rows)
        with pytest.raises(row_laws.StageError, match="NULL in 1 rows"):
            checked([*good[:i], (i, None), *good[i + 1 :]], batch_rows)
        with pytest.raises(row_laws.StageError, match="v held a NaN or an infinity"):
            checked(good, batch_rows, v=pa.array([float("nan") if j == i else 0.5 for j in range(6)]))


def test_nulls_and_finite_numbers_pass():
    checked([(1, "x"), (2, "x")], 100, v=pa.array([None, -1e308]), w=pa.array([None, 1.5], pa.float32()))


@pytest.mark.parametrize(("ahead_ns", "passes"), [(-1, True), (0, False), (1, False)])
def test_the_last_input_lies_strictly_before_the_observation(ahead_ns, passes):
    columns = {"asof_ns": pa.array([100, 200]), "max_input_ts_ns": pa.array([50, 200 + ahead_ns])}
    if passes:
        checked([(1, "x"), (2, "x")], 1, **columns)
    else:
        with pytest.raises(row_laws.StageError, match="a row looks ahead") as refused:
            checked([(1, "x"), (2, "x")], 1, **columns)
        assert "'asof_ns': 200" in str(refused.value)


def test_a_row_without_inputs_does_not_look_ahead():
    none = pa.array([None], pa.int64())
    checked([(1, "x")], 1, asof_ns=pa.array([100]), max_input_ts_ns=none)


DECLARED = [
    ("n", "integer"),
    ("price", "decimal(18,9)"),
    ("at", "date"),
    ("x", "double"),
    ("sizes", "smallint[]"),
]
FOUND = [
    ("n", "INTEGER"),
    ("price", "DECIMAL(18,9)"),
    ("at", "DATE"),
    ("x", "DOUBLE"),
    ("sizes", "SMALLINT[]"),
]


def faults(found: list[tuple[str, str]], exact: bool) -> str | None:
    try:
        row_laws.check_columns(found, DECLARED, "model, 2025-12-15", exact=exact)
    except row_laws.StageError as error:
        head, _, tail = str(error).partition("; mend the model or its YAML")
        assert tail == "; nothing was published"
        return head.removeprefix("model, 2025-12-15: ")
    return None


def test_columns_may_stand_in_any_order():
    assert faults(FOUND[::-1], exact=True) is None


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda f: f[1:], "n is missing"),
        (lambda f: [*f, ("more", "DATE")], "more is not declared"),
        (lambda f: [*f, f[0]], "n appears twice"),
        (lambda f: [("n", "VARCHAR"), *f[1:]], "n was VARCHAR, expected INTEGER"),
        (lambda f: [("n", "DOUBLE"), *f[1:]], "n was DOUBLE, expected INTEGER"),
        (lambda f: [("n", "BOOLEAN"), *f[1:]], "n was BOOLEAN, expected INTEGER"),
        (
            lambda f: [f[0], ("price", "DECIMAL(18,4)"), *f[2:]],
            "price was DECIMAL(18,4), expected DECIMAL(18,9)",
        ),
        (lambda f: [f[0], ("price", "DOUBLE"), *f[2:]], "price was DOUBLE, expected DECIMAL(18,9)"),
        (lambda f: [*f[:3], ("x", "BIGINT"), f[4]], "x was BIGINT, expected DOUBLE"),
    ],
)
def test_a_column_of_another_kind_is_a_fault_in_any_language(exact, change, fault):
    assert faults(change(FOUND), exact=exact) == fault


@pytest.mark.parametrize(
    ("name", "t"), [("n", "BIGINT"), ("n", "UTINYINT"), ("n", "HUGEINT"), ("x", "FLOAT")]
)
def test_only_sql_must_have_the_declared_width(name, t):
    found = [(n, t if n == name else was) for n, was in FOUND]
    assert faults(found, exact=False) is None
    assert faults(found, exact=True).startswith(f"{name} was {t}")
