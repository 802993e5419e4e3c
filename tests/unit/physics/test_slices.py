"""Rows of one symbol after the other: what order is asked for."""

import numpy as np
import pyarrow as pa
import pytest

from physics.slices import symbol_slices


def sliced(symbols: str, times: list[int], *, unique: bool = False) -> dict[str, slice]:
    return symbol_slices(pa.table({"symbol": [*symbols]}), np.array(times, np.int64), unique=unique)


def test_each_symbol_has_its_rows():
    assert sliced("AAB", [1, 2, 1], unique=True) == {"A": slice(0, 2), "B": slice(2, 3)}
    assert symbol_slices(pa.table({"symbol": pa.array([], pa.string())}), np.empty(0, np.int64)) == {}


def test_equal_times_are_two_rows_unless_one_is_due():
    assert sliced("AA", [5, 5]) == {"A": slice(0, 2)}
    with pytest.raises(ValueError, match="one for each"):
        sliced("AA", [5, 5], unique=True)


@pytest.mark.parametrize(("symbols", "times"), [("AA", [2, 1]), ("BA", [1, 2]), ("ABA", [1, 1, 2])])
def test_another_order_is_refused(symbols: str, times: list[int]):
    with pytest.raises(ValueError, match="order of"):
        sliced(symbols, times)
