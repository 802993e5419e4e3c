"""Which components serve: neighbours and gate are used in production only where they win against the trees alone.

Compared on out-of-fold rows inside the training part. A walk forward gives them for nothing: the test rows of earlier
folds lie in the training part of every later one, and those of all folds in that of the model that is kept. What would
have been live in a fold is therefore what the folds before it speak for. Source: spec/market.md 14.5, 14.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml import challenge, datasets, ensemble, splits, walk
from ml.challenge import Verdict
from ml.fitting import Fit
from ml.retrieval import OUTCOMES
from ml.walk import Components

if TYPE_CHECKING:
    from ml import training

WAYS = {
    "trees": Components(use_knn=False, use_gate=False),
    "knn": Components(use_knn=True, use_gate=False),
    "gate": Components(use_knn=False, use_gate=True),
    "both": Components(use_knn=True, use_gate=True),
}
MOST_ROWS = 2_000
"""Test or inner rows of one fold that are compared at most: a neighbour takes a look at every row known before."""
MIN_SESSIONS = 10
"""As many out-of-fold sessions as a claim of skill takes (spec/market.md 14.3)."""


class OtherRows(ValueError):
    """Two models were not asked the same."""


@dataclass(frozen=True)
class Trial:
    """Out-of-fold rows of one stage, in order of fold, by each way of ``WAYS`` that was tried.

    ``session_date`` ISO texts, ``fold`` numbers, ``y`` class numbers of ``OUTCOMES``, ``weight``: (rows,).
    ``raw`` and ``calibrated``: (rows, 3) by way. ``folds`` are those of the plan.
    """

    session_date: np.ndarray
    fold: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    raw: dict[str, np.ndarray]
    calibrated: dict[str, np.ndarray]
    folds: tuple[splits.Fold, ...]
    draws: int
    seed: int

    def rows(self, mask: np.ndarray) -> Trial:
        """Those where ``mask`` (rows,) holds."""
        told = {
            name: {way: p[mask] for way, p in getattr(self, name).items()} for name in ("raw", "calibrated")
        }
        one = {name: getattr(self, name)[mask] for name in ("session_date", "fold", "y", "weight")}
        return Trial(**one, **told, folds=self.folds, draws=self.draws, seed=self.seed)


@dataclass(frozen=True)
class Choice:
    """The way that serves, and each other one against the trees alone; ``why`` they weren't compared, if so."""

    way: str
    against_trees: dict[str, Verdict]
    sessions: int
    why: str | None

    def state(self) -> dict[str, object]:
        components = WAYS[self.way]
        return {
            "use_knn": components.use_knn,
            "use_gate": components.use_gate,
            "sessions": self.sessions,
            "why": self.why,
            "against_trees": {way: verdict.state() for way, verdict in self.against_trees.items()},
        }


def trial(
    table: datasets.TrainingTable,
    config: training.Config,
    stage: str,
    fits: Mapping[tuple[str, int], Fit] | None = None,
    *,
    num_threads: int = 1,
) -> Trial | None:
    """All ways on the test rows of every fold, None where no fold could be fitted.

    With too few sessions to choose by, only the trees. ``fits`` by (head, fold) are those of training.
    """
    folds = splits.plan(table.sessions).folds
    enough = sum(len(f.test) for f in folds) >= MIN_SESSIONS
    ways = WAYS if enough else {"trees": WAYS["trees"]}
    found = [
        *walk.forecasts(
            table,
            config,
            stage,
            folds,
            use_knn=enough,
            fits=fits,
            with_strength=False,
            most_rows=MOST_ROWS,
            num_threads=num_threads,
        )
    ]
    if not found:
        return None
    session, number, y, weight = [], [], [], []
    raw: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    calibrated: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    for forecast in found:
        session.append(datasets.session_dates(forecast.rows))
        number.append(np.full(forecast.rows.num_rows, forecast.fold.number))
        y.append(np.array([OUTCOMES.index(o) for o in forecast.rows["outcome"].to_pylist()]))
        weight.append(forecast.rows["sample_weight"].to_numpy().astype(float))
        for way, components in ways.items():
            raw[way].append(forecast.test.mixed(components))
            calibrated[way].append(ensemble.three_classes(*forecast.calibrated(components)))
    return Trial(
        *(np.concatenate(parts) for parts in (session, number, y, weight)),
        raw={way: np.concatenate(parts) for way, parts in raw.items()},
        calibrated={way: np.concatenate(parts) for way, parts in calibrated.items()},
        folds=folds,
        draws=config.bootstrap_draws,
        seed=config.seed,
    )


def choose(known: Trial) -> Choice:
    """The way that the rows of ``known`` speak for: the trees alone, unless another wins against them.

    Both components together have to win as well as each of them; else the one of the smaller loss serves.
    """
    sessions = len(np.unique(known.session_date))
    if sessions < MIN_SESSIONS:
        return Choice(
            "trees",
            {},
            sessions,
            f"{sessions} out-of-fold sessions, at least {MIN_SESSIONS} are needed to compare",
        )
    trees = known.calibrated["trees"]
    verdicts = {
        way: challenge.compared(known, trees, p) for way, p in known.calibrated.items() if way != "trees"
    }
    won = [way for way in ("knn", "gate") if verdicts[way].wins]
    if len(won) == 2:
        won = ["both"] if verdicts["both"].wins else [min(won, key=lambda way: verdicts[way].order)]
    return Choice(won[0] if won else "trees", verdicts, sessions, None)


def live(whole: Trial) -> tuple[np.ndarray, dict[int, Choice]]:
    """(rows, 3) of the way that would have been live in each fold, and by fold how it was chosen.

    A fold's way is chosen on the out-of-fold rows of earlier folds that lie in its training sessions.
    """
    p = np.empty_like(whole.calibrated["trees"])
    choices = {}
    for fold in whole.folds:
        mine = whole.fold == fold.number
        if mine.any():
            known = (whole.fold < fold.number) & np.isin(whole.session_date, fold.training)
            choices[fold.number] = choose(whole.rows(known))
            p[mine] = whole.calibrated[choices[fold.number].way][mine]
    return p, choices


def paired(champion: Trial, challenger: Trial) -> Verdict:
    """Two ways of training, each with what would have been live. Raises OtherRows unless both are of the same rows."""
    same = len(champion.y) == len(challenger.y) and all(
        np.array_equal(getattr(champion, name), getattr(challenger, name))
        for name in ("y", "weight", "session_date", "fold")
    )
    if not same:
        raise OtherRows(
            f"champion had {len(champion.y)} out-of-fold rows, challenger {len(challenger.y)}, expected the same rows "
            "and folds; build both versions for the same dates"
        )
    return challenge.compared(challenger, live(champion)[0], live(challenger)[0])


def record(whole: Trial | None, stage: str) -> dict[str, object]:
    """What ``metrics.json`` keeps of a stage: the choice for production, and the scalers that go with it.

    The scalers are fitted on all out-of-fold rows with the components in use (spec/market.md 14.4, 14.7).
    """
    if whole is None:
        why = "tradeable_2 and direction were not both fitted in any fold"
        return {"stage": stage, **Choice("trees", {}, 0, why).state(), "folds": [], "calibration": None}
    chosen = choose(whole)
    outcome = np.array(OUTCOMES)[whole.y]
    scalers = walk.scalers_of(whole.raw[chosen.way], outcome, whole.weight)
    return {
        "stage": stage,
        **chosen.state(),
        "folds": [
            {"fold": number, **{k: choice.state()[k] for k in ("use_knn", "use_gate", "sessions")}}
            for number, choice in live(whole)[1].items()
        ],
        "calibration": {
            name: scaler.state() for name, scaler in zip(("tradeable_2", "direction"), scalers, strict=True)
        },
    }
