"""Champion against challenger on the same rows: paired, by whole sessions (spec/market.md 14.5)."""

from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from ml import metrics, scoring

CHOP = 2
"""Place of the class that is none of break and bounce, in a vector of three."""


@dataclass(frozen=True)
class Difference:
    """Challenger − champion of one loss, with its 95 % interval over draws of sessions; below 0 is better."""

    loss: str
    mean: float
    low: float | None
    high: float | None

    @property
    def is_better(self) -> bool:
        return self.high is not None and self.high < 0

    @property
    def is_worse(self) -> bool:
        return self.low is None or self.low > 0

    @property
    def is_none(self) -> bool:
        """Whether both lose the same in every draw: nothing that this loss sees was changed."""
        return self.mean == self.low == self.high == 0

    def told(self) -> str:
        interval = "no interval" if self.low is None else f"[{self.low:+.5f}, {self.high:+.5f}]"
        return f"{self.loss} {self.mean:+.5f} {interval}"


@dataclass(frozen=True)
class Verdict:
    """Brier of p_tradeable_2 decides, log loss of (break, bounce, chop) must not be worse; spec/market.md 14.5.

    ``wins``: better on the first and not worse on the second; ``holds``: not worse on either. What leaves p_tradeable
    as it is, as the gate does, is decided by the second.
    """

    primary: Difference
    secondary: Difference

    @property
    def wins(self) -> bool:
        if self.primary.is_none:
            return self.secondary.is_better
        return self.primary.is_better and not self.secondary.is_worse

    @property
    def holds(self) -> bool:
        return not self.primary.is_worse and not self.secondary.is_worse

    @property
    def order(self) -> tuple[float, float]:
        """The smaller, the better."""
        return self.primary.mean, self.secondary.mean

    def told(self) -> str:
        return f"{self.primary.told()}, {self.secondary.told()}"

    def state(self) -> dict[str, object]:
        """As builtins, for a registry."""
        return {
            "wins": self.wins,
            "holds": self.holds,
            "told": self.told(),
            "primary": asdict(self.primary),
            "secondary": asdict(self.secondary),
        }


class Rows(Protocol):
    """Out-of-fold rows: ``y`` class numbers, ``weight`` and ``session_date``, (rows,) each, and how to draw them."""

    y: np.ndarray
    weight: np.ndarray
    session_date: np.ndarray
    draws: int
    seed: int


def compared(rows: Rows, champion: np.ndarray, challenger: np.ndarray) -> Verdict:
    """Of calibrated vectors (break, bounce, chop) of the same rows, (rows, 3) each."""
    went = (rows.y != CHOP).astype(float)
    brier = ((1 - challenger[:, CHOP]) - went) ** 2 - ((1 - champion[:, CHOP]) - went) ** 2
    log_loss = scoring.log_loss(rows.y, challenger) - scoring.log_loss(rows.y, champion)
    found = (
        difference(name, loss, rows.weight, rows.session_date, draws=rows.draws, seed=rows.seed)
        for name, loss in (("brier", brier), ("log_loss", log_loss))
    )
    return Verdict(*found)


def difference(
    name: str, loss: np.ndarray, weight: np.ndarray, session: np.ndarray, *, draws: int, seed: int
) -> Difference:
    """Weighted mean of per-row differences ``loss`` (rows,), its interval over draws of whole sessions."""
    mean = float((weight * loss).sum() / weight.sum())
    if len(np.unique(session)) < 2:
        return Difference(name, mean, None, None)
    boot = metrics.SessionBootstrap.of(session, draws=draws, seed=seed, weight=weight)
    return Difference(name, mean, *boot.interval(boot.ratio(weight * loss, weight)))
