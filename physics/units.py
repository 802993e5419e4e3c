"""Ticks, points and durations of the ES price space.

Prices are compared and summed as integer ticks of 0.25 index points; a width given in SPY dollars becomes
ticks through the ES/SPY ratio of its instant.
"""

import numpy as np
from numpy.typing import ArrayLike

TICK_POINTS = 0.25
TICK_MANTISSA = 250_000_000
"""One tick in the int64 mantissa of a DECIMAL(18,9) price."""

ES_MULTIPLIER_USD = 50
MS_NS = 1_000_000
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS


def ticks(spy_dollars: ArrayLike, es_spy_ratio: ArrayLike = 10.0) -> np.ndarray | int:
    """Width of ``spy_dollars`` in ES ticks: ``floor(B * ratio / 0.25 + 0.5)``.

    Shapes:   scalars or arrays that broadcast; two scalars give an ``int``, anything else an int64 array.
    Units:    SPY dollars and ES points per SPY dollar in, ticks out.
    Errors:   ValueError when an operand is not finite: a missing ratio has no width.
    Source:   spec market 1.5.
    """
    raw = np.asarray(spy_dollars, np.float64) * np.asarray(es_spy_ratio, np.float64) / TICK_POINTS + 0.5
    if not np.isfinite(raw).all():
        raise ValueError(
            f"width was {spy_dollars!r} SPY dollars at ratio {es_spy_ratio!r}, expected finite numbers; "
            "give the default ratio 10 where none is known"
        )
    whole = np.floor(raw).astype(np.int64)
    return int(whole) if whole.ndim == 0 else whole


def points_to_ticks(points: ArrayLike) -> np.ndarray | int:
    """Nearest tick of a price or width in points, halves up: ``floor(points / 0.25 + 0.5)`` (spec market
    5.4).

    A scalar gives an ``int``, an array an int64 array. ValueError when a value is not finite.
    """
    return ticks(points, 1.0)


def window_ns(name: str, seconds: float, grid_ms: int) -> int:
    """``seconds`` in nanoseconds, checked to be a positive multiple of the grid (spec market 10).

    Sums over a window are exact only when both of its edges lie on the grid of the states, so anything else
    is a ValueError that names the parameter ``name``.
    """
    nanoseconds = round(seconds * SECOND_NS)
    if nanoseconds <= 0 or nanoseconds % (grid_ms * MS_NS):
        raise ValueError(f"{name} was {seconds} s, expected a positive multiple of grid_ms = {grid_ms} ms")
    return nanoseconds
