"""Running sums of doubles in double-double arithmetic: the sum of any slice as a difference of two of them.

A double-double is a pair (high, low) of doubles, about 106 bits: a running sum of a day's values loses nothing that a
double could show, so that "up to here" minus "up to there" is what `math.fsum` says of the rows between, in any order
of the rows and however the sum was reached. Kernels keep one running sum where they would need one sum a window.

Source: Dekker, Numer. Math. 18 (1971), 224–242; two_sum of Knuth, TAOCP 2, 4.2.2, theorem B.
"""

from numba import njit


@njit(inline="always")
def two_sum(a, b):
    """``a + b`` rounded, and what the rounding left out, exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@njit(inline="always")
def add(high, low, x):
    """The double-double (``high``, ``low``) plus the double ``x``."""
    s, e = two_sum(high, x)
    e += low
    high = s + e
    return high, e - (high - s)


@njit(inline="always")
def subtract(high, low, high_2, low_2):
    """(``high``, ``low``) minus (``high_2``, ``low_2``), as a double-double; its ``high`` is the rounded difference."""
    s, e = two_sum(high, -high_2)
    t, f = two_sum(low, -low_2)
    e += t
    high = s + e
    e = (e - (high - s)) + f
    s = high + e
    return s, e - (s - high)


@njit(inline="always")
def join(high, low, high_2, low_2):
    """The sum of two double-doubles."""
    return subtract(high, low, -high_2, -low_2)
