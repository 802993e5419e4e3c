"""Strikes as small numbers, by table and without one."""

import numpy as np
import pytest

from physics.strikes import TABLE_MILLI, numbered


@pytest.mark.parametrize(
    "strikes",
    [
        [],
        [600_000],
        [601_000, 600_000, 600_500, 600_000],
        [1, TABLE_MILLI, 1, 500],  # the widest span of a table
        [1, TABLE_MILLI + 1, 1, 500],
        [99_999_999, 500, 2**31 - 1, 500],
        [-5, 3, -5],
    ],
)
def test_each_print_finds_its_strike(strikes):
    given = np.array(strikes, np.int32)
    distinct, of = numbered(given)
    assert (distinct.dtype, of.dtype) == (np.int32, np.int32)
    assert distinct.tolist() == sorted(set(strikes))
    assert distinct[of].tolist() == strikes
