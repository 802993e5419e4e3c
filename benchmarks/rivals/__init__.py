"""One day's list of pieces, from Parquet to numbers, by our kernels and by Polars, pandas and ClickHouse (chDB).

`day.py` makes the inputs; each other module has a class whose methods are the pieces of `PIECES`, called in that order
on one object, so that a later piece may use what an earlier one made. All four give the same numbers.
"""

PIECES = ("bars", "book", "barrier", "tape", "ratio", "greeks", "gamma", "kinematics")
"""bars: 1 s, 60 s and 120 s. book: tape of changes at each price, 10-level order flow by 100 ms, states by second.
barrier: changes and depth near 2,000 levels, wall ratio. tape: volumes near them, slopes. ratio: ES/SPY by second.
greeks: implied volatility and gamma of each option print. gamma: dealers' flows near the levels. kinematics: fits of
the mid."""
