"""The interval of a score over sessions, slowly: from the formula alone, by bisection and plain sums."""

import math
from collections.abc import Sequence


def effective(weights: Sequence[float]) -> float:
    """How many sessions of one weight say as much as these."""
    return sum(weights) ** 2 / sum(w * w for w in weights)


def expanded_percentiles(values: Sequence[float], sessions: float, coverage: float) -> tuple[float, float]:
    """Bounds of ``coverage`` by the ``values`` of a score over draws of so many ``sessions``."""
    t = _student_quantile((1 + coverage) / 2, sessions - 1)
    z = t * math.sqrt(sessions / (sessions - 1))
    tail = math.erfc(z / math.sqrt(2)) / 2
    return _quantile(values, tail), _quantile(values, 1 - tail)


def _student_quantile(p: float, freedom: float) -> float:
    """The t above which a share 1 − p of Student's distribution lies; p > 0.5."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, freedom) < p else (low, middle)
    return low


def _student_below(t: float, freedom: float) -> float:
    """Share below t > 0: with t = √freedom · tan x the density is a power of the cosine, summed by Simpson's rule."""
    end, steps = math.atan(t / math.sqrt(freedom)), 2_000
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    total = 0.0
    for i in range(steps + 1):
        factor = 1 if i in (0, steps) else 4 if i % 2 else 2
        total += factor * math.cos(end * i / steps) ** (freedom - 1)
    return 0.5 + constant * total * end / steps / 3


def _quantile(values: Sequence[float], share: float) -> float:
    """Between the two order statistics around it, by distance."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
