"""Dealer gamma by strike: edges of the windows, who counts, and sums that lose nothing."""

import math

import pyarrow as pa
import pytest

from physics.exposure import EXPOSURE_SCHEMA, exposure
from physics.units import MINUTE_NS, SECOND_NS

START = 1_765_893_600_000_000_000
SCHEMA = pa.schema(
    [
        ("ts_event_ns", pa.int64()),
        ("strike_milli", pa.int32()),
        ("is_call", pa.int8()),
        ("size", pa.int32()),
        ("dealer_gamma", pa.float64()),
    ]
)


def table(*prints) -> pa.Table:
    """Prints of (ns after the session start, strike in $, right, contracts, dealer gamma)."""
    rows = [
        (START + ns, strike * 1000, right == "C", size, gamma) for ns, strike, right, size, gamma in prints
    ]
    return pa.table(
        [pa.array([row[k] for row in rows]).cast(f.type) for k, f in enumerate(SCHEMA)] if rows else
        [pa.array([], f.type) for f in SCHEMA],
        schema=SCHEMA,
    )  # fmt: skip


def at(prints: pa.Table, minutes: int = 10, W_wall: float = 120) -> dict[tuple, dict]:
    """Rows by (minute after the session start, strike in $, right)."""
    found = exposure(
        prints, session_start_ns=START, session_end_ns=START + minutes * MINUTE_NS, W_wall=W_wall
    )
    assert found.schema == EXPOSURE_SCHEMA
    keys = [(r["minute_ns"], r["strike_milli"], r["right"]) for r in found.to_pylist()]
    assert keys == sorted(set(keys))
    return {
        ((row["minute_ns"] - START) // MINUTE_NS, row["strike_milli"] // 1000, row["right"]): row
        for row in found.to_pylist()
    }


def test_a_print_counts_from_the_next_minute_on_and_leaves_the_window_after_it():
    rows = at(table((MINUTE_NS - 1, 600, "C", 1, 7.0), (MINUTE_NS, 601, "C", 1, 5.0)))
    assert [m for m, strike, _ in rows if strike == 600] == [*range(1, 10)]
    assert [m for m, strike, _ in rows if strike == 601] == [*range(2, 10)]
    # [m − 120 s, m): the one at 60 s is in the windows of 2 and 3, the one a ns earlier in those of 1 and 2
    assert [rows[m, 600, "C"]["dealer_gamma_window"] for m in range(1, 5)] == [7.0, 7.0, 0.0, 0.0]
    assert [rows[m, 601, "C"]["dealer_gamma_window"] for m in range(2, 5)] == [5.0, 5.0, 0.0]
    assert {row["dealer_gamma_session"] for (_, strike, _), row in rows.items() if strike == 600} == {7.0}


def test_what_came_before_the_session_start_is_in_the_window_and_not_in_the_session():
    rows = at(table((-MINUTE_NS, 600, "P", 3, 7.0), (-1, 600, "P", 4, 1.0), (0, 600, "P", 5, 0.5)))
    columns = ("dealer_gamma_window", "dealer_gamma_session", "contracts_session", "max_input_ts_ns")
    assert [[rows[m, 600, "P"][c] for c in columns] for m in range(4)] == [
        [8.0, 0.0, 0, START - 1],
        [8.5, 0.5, 5, START],
        [0.5, 0.5, 5, START],
        [0.0, 0.5, 5, START],
    ]


def test_calls_and_puts_are_apart_but_in_the_sum_of_their_strike():
    rows = at(table((1, 600, "C", 2, 10.0), (2, 600, "P", 3, -4.0), (3, 601, "C", 1, 1.0)))
    assert rows[1, 600, "C"]["dealer_gamma_session"] == 10.0
    assert rows[1, 600, "P"]["dealer_gamma_session"] == -4.0
    assert {rows[1, 600, right]["dealer_gamma_strike"] for right in "CP"} == {6.0}
    assert rows[1, 601, "C"]["dealer_gamma_strike"] == 1.0
    assert (rows[1, 600, "C"]["contracts_session"], rows[1, 600, "P"]["contracts_session"]) == (2, 3)


def test_a_print_without_a_gamma_is_not_there():
    assert at(table((1, 600, "C", 2, None))) == {}
    rows = at(table((1, 600, "C", 2, None), (2, 600, "C", 3, 1.0), (3, 600, "P", 1, None)))
    assert rows.keys() == {(m, 600, "C") for m in range(1, 10)}
    assert rows[1, 600, "C"]["contracts_session"] == 3
    assert rows[1, 600, "C"]["max_input_ts_ns"] == START + 2


def test_sums_are_true_sums():
    """What a float would lose: a small print between large ones, and a window behind a large past."""
    late = 3 * MINUTE_NS
    rows = at(table((1, 600, "C", 1, 1e16), (2, 600, "C", 1, 1.0), (3, 600, "C", 1, -1e16), (late, 600, "C", 1, 0.1),
                    (late + 1, 600, "C", 1, 0.2)))  # fmt: skip
    assert rows[1, 600, "C"]["dealer_gamma_session"] == 1.0
    assert rows[4, 600, "C"]["dealer_gamma_window"] == math.fsum((0.1, 0.2))
    assert rows[4, 600, "C"]["dealer_gamma_session"] == math.fsum((1.0, 0.1, 0.2))


def test_without_prints_there_are_no_rows():
    assert at(table()) == {}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"W_wall": 0.05}, "W_wall was 0.05 s, expected a positive multiple of grid_ms = 100 ms"),
        ({"session_start_ns": START + SECOND_NS}, "expected a whole minute"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed, told):
    given = {"session_start_ns": START, "session_end_ns": START + MINUTE_NS, "W_wall": 300}
    with pytest.raises(ValueError, match=told):
        exposure(table(), **(given | changed))


def test_prints_out_of_order_are_refused():
    with pytest.raises(ValueError, match="expected non-decreasing keys"):
        at(table((2, 600, "C", 1, 1.0), (1, 600, "C", 1, 1.0)))
