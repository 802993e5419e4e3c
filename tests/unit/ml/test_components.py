"""Neighbours and gate serve only where they win, and what they are chosen by is never what they are judged on."""

import dataclasses

import numpy as np
import pytest

from ml import challenge, components, datasets, training
from ml.components import Trial
from ml.splits import Fold
from tests.unit.ml.promoted_worlds import QUICK, contract, world

SESSIONS, ROWS, FOLDS = 24, 40, 4


def made(better: set[str] = frozenset(), seed: int = 1) -> Trial:
    """24 sessions in four folds, each trained on all before. ``better``: ways that know more than the trees.

    ``knn`` would know more of p_tradeable, ``gate`` more of the direction.
    """
    rng = np.random.default_rng(seed)
    n = SESSIONS * ROWS
    days = np.array([f"2025-11-{d + 1:02d}" for d in range(SESSIONS)])
    block = SESSIONS // FOLDS
    y = rng.integers(0, 3, n)
    went, broke = (y != 2).astype(float), (y == 0).astype(float)

    def vector(tradeable: np.ndarray, direction: np.ndarray) -> np.ndarray:
        return np.column_stack([tradeable * direction, tradeable * (1 - direction), 1 - tradeable])

    blind, half = np.full(n, 2 / 3), np.full(n, 0.5)
    knows_tradeable = blind + (0.2 * (went - blind) if {"knn"} & better else 0.0)
    knows_direction = half + (0.2 * (broke - half) if {"gate"} & better else 0.0)
    ways = {
        "trees": vector(blind, half),
        "knn": vector(knows_tradeable, half),
        "gate": vector(blind, knows_direction),
        "both": vector(knows_tradeable, knows_direction),
    }
    return Trial(
        session_date=days.repeat(ROWS),
        fold=np.repeat(np.arange(1, FOLDS + 1), block * ROWS),
        y=y,
        weight=rng.uniform(0.2, 1, n),
        raw=ways,
        calibrated=ways,
        folds=tuple(
            Fold(f + 1, tuple(days[: f * block]), (), tuple(days[f * block : (f + 1) * block]))
            for f in range(FOLDS)
        ),
        draws=300,
        seed=42,
    )


@pytest.mark.parametrize(
    ("better", "way"), [(set(), "trees"), ({"knn"}, "knn"), ({"gate"}, "gate"), ({"knn", "gate"}, "both")]
)
def test_a_component_serves_only_where_it_wins(better: set[str], way: str) -> None:
    chosen = components.choose(made(better))
    assert chosen.way == way
    assert {w for w, v in chosen.against_trees.items() if v.wins} >= better
    told = components.record(made(better), "touch")
    assert (told["use_knn"], told["use_gate"]) == ("knn" in better, "gate" in better)
    assert told == components.record(made(better), "touch")


def test_with_few_sessions_the_trees_serve_alone() -> None:
    whole = made({"knn", "gate"})
    few = whole.rows(whole.session_date < "2025-11-10")
    chosen = components.choose(few)
    assert (chosen.way, chosen.sessions) == ("trees", 9)
    assert chosen.why == "9 out-of-fold sessions, at least 10 are needed to compare"


def test_a_fold_is_judged_by_what_earlier_folds_speak_for() -> None:
    whole = made({"knn"})
    p, choices = components.live(whole)
    assert [choices[f].way for f in range(1, FOLDS + 1)] == ["trees", "trees", "knn", "knn"]
    for fold, choice in choices.items():
        mine = whole.fold == fold
        assert np.array_equal(p[mine], whole.calibrated[choice.way][mine])
    # What came out in a fold and later says nothing about its own choice.
    turned = dataclasses.replace(whole, y=np.where(whole.fold >= 3, (whole.y + 1) % 3, whole.y))
    assert components.live(turned)[1][3] == choices[3]


def test_rows_outside_the_training_sessions_are_left_out() -> None:
    """A session between training and test belongs to neither side."""
    whole = made({"knn"})
    third = whole.folds[2]
    shorter = dataclasses.replace(third, train=third.train[:9])
    folds = (*whole.folds[:2], shorter, whole.folds[3])
    assert components.live(dataclasses.replace(whole, folds=folds))[1][3].sessions == 9


def test_the_vector_is_compared_by_brier_of_tradeable_and_log_loss_of_three() -> None:
    whole = made()
    one, two = whole.calibrated["trees"], made({"knn"}).calibrated["knn"]
    found = challenge.compared(whole, one, two)
    brier = log_loss = 0.0
    for y, weight, a, b in zip(whole.y, whole.weight, one, two, strict=True):
        went = 1.0 if y < 2 else 0.0
        brier += weight * ((b[0] + b[1] - went) ** 2 - (a[0] + a[1] - went) ** 2)
        log_loss += weight * (np.log(a[y]) - np.log(b[y]))
    assert found.primary.mean == pytest.approx(brier / whole.weight.sum(), abs=1e-12)
    assert found.secondary.mean == pytest.approx(log_loss / whole.weight.sum(), abs=1e-12)
    assert found.wins
    assert not challenge.compared(whole, two, one).holds


def test_other_rows_are_not_compared() -> None:
    with pytest.raises(components.OtherRows, match="expected the same rows"):
        components.paired(made(), made(seed=2))


def test_training_records_the_choice_and_makes_it_again() -> None:
    table = datasets.check(world(), contract())
    config = training.Config(**QUICK, stages=("touch",))
    found = training.evaluate(table, config)
    (chosen,) = found.metrics["components"]
    assert (chosen["stage"], chosen["sessions"], chosen["why"]) == ("touch", 10, None)
    assert set(chosen["against_trees"]) == {"knn", "gate", "both"}
    assert [f["fold"] for f in chosen["folds"]] == [1, 2, 3, 4, 5]
    whole = found.trials["touch"]
    # The fits of training, and fits made anew, say the same.
    again = components.trial(table, config, "touch")
    for way, p in whole.calibrated.items():
        assert np.array_equal(p, again.calibrated[way])
        assert np.allclose(p.sum(axis=1), 1)
    alone = training.evaluate(table, training.Config(**QUICK, stages=("touch",), heads=("tradeable_2",)))
    assert alone.metrics["components"][0]["why"].startswith("tradeable_2 and direction were not both fitted")
