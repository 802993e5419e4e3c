"""Mix, gate, decision and rank by hand."""

import numpy as np
import pytest

from ml import ensemble

TREE = np.array([[0.6, 0.2, 0.2]])
KNN = np.array([[0.1, 0.6, 0.3]])
BASE = np.array([[0.3, 0.3, 0.4]])


def one(value: float) -> np.ndarray:
    return np.array([value])


def state(barrier: str, effect: str, imbalance: float, gamma: float, sign: int = 1) -> ensemble.State:
    return ensemble.State(
        np.array([barrier]), np.array([effect]), one(imbalance), one(gamma), np.array([sign])
    )


def test_two_heads_make_three_classes() -> None:
    assert ensemble.three_classes(one(0.8), one(0.25))[0] == pytest.approx([0.2, 0.6, 0.2])


@pytest.mark.parametrize(
    ("similarity", "entropy", "mix"),
    [(0.5, 0.5, 0.7), (1.0, 0.0, 0.3), (0.0, 1.0, 0.8), (np.nan, np.nan, 1.0), (0.25, 0.0, 0.6)],
)
def test_trees_weigh_more_where_neighbours_are_far_or_disagree(
    similarity: float, entropy: float, mix: float
) -> None:
    assert ensemble.mix_weight(one(similarity), one(entropy))[0] == pytest.approx(mix)


def test_a_contradiction_of_similar_events_goes_to_the_base_rate() -> None:
    # mix = 0.7 − 0.4·0.6 + 0.4·0.5 = 0.66; |0.6 − 0.1| = 0.5 ≥ 0.4, so λ = 0.25
    p = ensemble.ensemble(TREE, KNN, one(0.6), one(0.5), BASE)[0]
    mixed = 0.66 * TREE[0] + 0.34 * KNN[0]
    assert p == pytest.approx(0.75 * mixed + 0.25 * BASE[0])
    less_similar = ensemble.ensemble(TREE, KNN, one(0.59), one(0.5), BASE)[0]
    mix = 0.7 - 0.4 * 0.59 + 0.2
    assert less_similar == pytest.approx(mix * TREE[0] + (1 - mix) * KNN[0])


def test_without_neighbours_the_trees_stand() -> None:
    nothing = np.full((1, 3), np.nan)
    assert ensemble.ensemble(TREE, nothing, one(np.nan), one(np.nan), BASE)[0] == pytest.approx(TREE[0])


@pytest.mark.parametrize(
    ("barrier", "effect", "imbalance", "gamma", "sign", "bias"),
    [
        ("WALL", "DAMPEN", -0.21, 0, 1, -1),
        ("ABSORPTION", "DAMPEN", 0.21, 0, -1, -1),
        ("WALL", "DAMPEN", -0.20, 0, 1, 0),
        ("VACUUM", "AMPLIFY", 0.21, 0, 1, 1),
        ("CONSUMED", "AMPLIFY", 0.20, 0, 1, 0),
        ("VACUUM", "DAMPEN", 0.5, 0, 1, 0),
        ("VACUUM", "AMPLIFY", 0.5, -50_001, 1, 2),
        ("WALL", "DAMPEN", -0.5, 50_001, 1, -2),
        ("NEUTRAL", "AMPLIFY", 0.0, -50_000, 1, 0),
        ("NEUTRAL", "AMPLIFY", np.nan, -60_000, 1, 1),
        ("WALL", "DAMPEN", -0.5, np.nan, 1, -1),
    ],
)
def test_the_gate_by_hand(
    barrier: str, effect: str, imbalance: float, gamma: float, sign: int, bias: int
) -> None:
    assert ensemble.gate_bias(state(barrier, effect, imbalance, gamma, sign))[0] == bias


def test_the_gate_moves_log_odds_and_leaves_chop() -> None:
    p = ensemble.gated(
        np.array([[0.3, 0.3, 0.4], [0.6, 0.0, 0.4], [0.0, 0.0, 1.0]]), np.array([1.0, -2.0, 1.0])
    )
    assert p[0] == pytest.approx([0.6 / (1 + np.exp(-1)), 0.6 - 0.6 / (1 + np.exp(-1)), 0.4])
    assert p[1] == pytest.approx([0.6, 0.0, 0.4])
    assert p[2] == pytest.approx([0.0, 0.0, 1.0])


@pytest.mark.parametrize(
    ("p", "told"),
    [
        ([0.5, 0.1, 0.4], "GO"),
        ([0.1, 0.5, 0.4], "GO"),
        ([0.49, 0.11, 0.4], "WAIT"),
        ([0.3, 0.1, 0.6], "WAIT"),
        ([0.29, 0.29, 0.42], "NO_GO"),
        ([0.3, 0.09, 0.61], "NO_GO"),
    ],
)
def test_decisions(p: list[float], told: str) -> None:
    tradeable = np.array([round(p[0] + p[1], 10)])
    assert ensemble.decision(np.array([p]), tradeable)[0] == told


def test_ranks_start_anew_with_each_session_and_ties_go_by_id() -> None:
    session = np.array(["b", "a", "a", "a", "b"])
    score = np.array([1.0, 2.0, 3.0, 2.0, 5.0])
    ids = np.array(["1", "9", "3", "4", "5"])
    assert ensemble.ranks(session, score, ids).tolist() == [2, 3, 1, 2, 1]
