"""What is left of a score once one counts how often it was tried.

The best of N scores that are nothing but noise is not 0: it is about σ · E[max of N standard normal draws]. A score is
deflated by that much before it is held against its own uncertainty.

Source: Bailey and López de Prado 2014, "The deflated Sharpe ratio", equation 6 for the expected maximum.
"""

from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtr

EULER_MASCHERONI = 0.5772156649015329
NORMAL = NormalDist()


@dataclass(frozen=True)
class Deflated:
    """``deflated`` is ``score`` less ``luck``; ``probability`` by Student's t that the true score is above 0, all tries
    counted."""

    score: float
    standard_error: float
    tries: int
    luck: float
    deflated: float
    probability: float

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


def expected_maximum(tries: int) -> float:
    """About the expected maximum of ``tries`` standard normal draws; 0 for one. Raises ValueError below 1."""
    if tries < 1:
        raise ValueError(f"tries was {tries}, expected at least 1; count this one")
    if tries == 1:
        return 0.0
    inverse = NORMAL.inv_cdf
    return (1 - EULER_MASCHERONI) * inverse(1 - 1 / tries) + EULER_MASCHERONI * inverse(
        1 - 1 / (tries * np.e)
    )


def deflate(score: float, error: float, tries: int, freedom: float) -> Deflated | None:
    """Deflate a score whose no-skill value is 0, such as a Brier skill, by its standard ``error``, which was estimated
    with so many degrees of ``freedom``; None when the error is 0 and says nothing.
    """
    if error <= 0:
        return None
    luck = error * expected_maximum(tries)
    return Deflated(score, error, tries, luck, score - luck, float(stdtr(freedom, (score - luck) / error)))
