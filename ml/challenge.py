"""Champion against challenger on the same rows: paired, by whole sessions (spec/market.md 14.5)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ml import metrics


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

    def told(self) -> str:
        interval = "no interval" if self.low is None else f"[{self.low:+.5f}, {self.high:+.5f}]"
        return f"{self.loss} {self.mean:+.5f} {interval}"


@dataclass(frozen=True)
class Verdict:
    """``wins``: better on the primary loss and not worse on the secondary; ``holds``: not worse on either."""

    primary: Difference
    secondary: Difference | None

    @property
    def wins(self) -> bool:
        return self.primary.is_better and not (self.secondary and self.secondary.is_worse)

    @property
    def holds(self) -> bool:
        return not self.primary.is_worse and not (self.secondary and self.secondary.is_worse)

    def told(self) -> str:
        return ", ".join(d.told() for d in (self.primary, self.secondary) if d)


Oof = Mapping[str, np.ndarray]


def brier(champion: Oof, challenger: Oof, *, draws: int = metrics.DRAWS, seed: int = 42) -> Difference:
    """Of the binary predictions ``model`` of the same out-of-fold rows, weighted. Raises ValueError for other rows."""
    require_same_rows(champion, challenger)
    y = champion["y"]
    loss = (challenger["model"] - y) ** 2 - (champion["model"] - y) ** 2
    return difference("brier", loss, champion["weight"], champion["session_date"], draws=draws, seed=seed)


def log_loss(champion: Oof, challenger: Oof, *, draws: int = metrics.DRAWS, seed: int = 42) -> Difference:
    """Of the binary predictions ``model`` of the same out-of-fold rows, weighted. Raises ValueError for other rows."""
    require_same_rows(champion, challenger)
    one, two = (_log_loss(champion["y"], oof["model"]) for oof in (challenger, champion))
    return difference(
        "log_loss", one - two, champion["weight"], champion["session_date"], draws=draws, seed=seed
    )


def difference(
    name: str, loss: np.ndarray, weight: np.ndarray, session: np.ndarray, *, draws: int, seed: int
) -> Difference:
    """Weighted mean of per-row differences ``loss`` (rows,), its interval over draws of whole sessions."""
    mean = float((weight * loss).sum() / weight.sum())
    if len(np.unique(session)) < 2:
        return Difference(name, mean, None, None)
    boot = metrics.SessionBootstrap.of(session, draws=draws, seed=seed, weight=weight)
    return Difference(name, mean, *boot.interval(boot.ratio(weight * loss, weight)))


def require_same_rows(champion: Oof, challenger: Oof) -> None:
    """Raise ValueError unless both are of the same rows in the same order."""
    same = len(champion["y"]) == len(challenger["y"]) and all(
        np.array_equal(champion[k], challenger[k]) for k in ("y", "weight", "session_date", "fold")
    )
    if not same:
        raise ValueError(
            f"champion had {len(champion['y'])} out-of-fold rows, challenger {len(challenger['y'])}, expected the same "
            "rows and folds; evaluate both on one table"
        )


def _log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    p = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    return -np.where(y == 1, np.log(p), np.log1p(-p))
