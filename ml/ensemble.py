"""From the trees' probabilities to a decision: mixed with what became of similar events, gated by state, ranked.

Formulas of spec/market.md 14.2 and 14.7. All functions take and give (rows,) or (rows, 3) arrays; the three classes are
(break, bounce, chop) in this order and add up to 1 in every row.
"""

from dataclasses import dataclass

import numpy as np

GATE_LIMIT = 2.5
FLOW_IMBALANCE = 0.20
LARGE_GAMMA = 50_000
DISAGREEMENT = 0.4
SIMILAR = 0.6


@dataclass(frozen=True)
class State:
    """What the gate looks at, (rows,) each: texts of the enums, ``tape_imbalance`` and ``gamma_exposure`` with NaN for
    NULL, and ``sign`` +1 where the level is approached from below (UP), −1 where from above.
    """

    barrier_state: np.ndarray
    fuel_effect: np.ndarray
    tape_imbalance: np.ndarray
    gamma_exposure: np.ndarray
    sign: np.ndarray


def three_classes(p_tradeable: np.ndarray, p_direction: np.ndarray) -> np.ndarray:
    """(rows, 3) of the two binary heads: tradeable at all, and through the level given that it is."""
    return np.column_stack([p_tradeable * p_direction, p_tradeable * (1 - p_direction), 1 - p_tradeable])


def mix_weight(similarity: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """Share of the trees, in [0.2, 0.8]: more where neighbours are far or disagree, 1 where there are none (NaN)."""
    mix = np.clip(0.7 - 0.4 * similarity + 0.4 * entropy, 0.2, 0.8)
    return np.where(np.isnan(similarity), 1.0, mix)


def ensemble(
    tree: np.ndarray, knn: np.ndarray, similarity: np.ndarray, entropy: np.ndarray, base: np.ndarray
) -> np.ndarray:
    """Trees and neighbours by `mix_weight`; where similar neighbours contradict the trees, shrunk to the base rate.

    ``tree``, ``knn``, ``base``: (rows, 3); ``knn`` is NaN where retrieval is unavailable.
    """
    mix = mix_weight(similarity, entropy)[:, None]
    available = ~np.isnan(similarity)
    neighbours = np.where(available[:, None], knn, tree)
    p = mix * tree + (1 - mix) * neighbours
    apart = np.abs(tree[:, 0] - neighbours[:, 0])
    contradicts = available & (np.nan_to_num(similarity) >= SIMILAR) & (apart >= DISAGREEMENT)
    shrink = np.where(contradicts, np.minimum(0.5, 0.5 * apart), 0.0)[:, None]
    return (1 - shrink) * p + shrink * base


def gate_bias(state: State) -> np.ndarray:
    """Shift of the direction's log odds, in [−2.5, 2.5]: a defended level under dampening dealers holds."""
    flow = state.tape_imbalance * state.sign
    dampens, amplifies = state.fuel_effect == "DAMPEN", state.fuel_effect == "AMPLIFY"
    holds = np.isin(state.barrier_state, ("WALL", "ABSORPTION")) & dampens & (flow < -FLOW_IMBALANCE)
    gives = np.isin(state.barrier_state, ("VACUUM", "CONSUMED")) & amplifies & (flow > FLOW_IMBALANCE)
    bias = gives.astype(float) - holds.astype(float)
    large = np.abs(state.gamma_exposure) > LARGE_GAMMA
    bias += large & (state.gamma_exposure < 0) & amplifies
    bias -= large & (state.gamma_exposure > 0) & dampens
    return np.clip(bias, -GATE_LIMIT, GATE_LIMIT)


def gated(p: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Move the direction's log odds by ``bias`` and leave the chance of chop as it is. ``p``: (rows, 3)."""
    tradeable = p[:, 0] + p[:, 1]
    # With odds b/a shifted by e**bias nothing has to be divided by a direction that is 0 or 1.
    up = p[:, 0] * np.exp(bias / 2)
    down = p[:, 1] * np.exp(-bias / 2)
    total = up + down
    share = np.divide(up, total, out=np.full(len(p), 0.5), where=total > 0)
    return np.column_stack([tradeable * share, tradeable * (1 - share), p[:, 2]])


def utility_score(p_tradeable: np.ndarray, strength_hat: np.ndarray) -> np.ndarray:
    """Chance that it is tradeable times how far it is expected to go, points."""
    return p_tradeable * np.abs(strength_hat)


def decision(p: np.ndarray, p_tradeable: np.ndarray) -> np.ndarray:
    """``GO``, ``WAIT`` or ``NO_GO`` of each row. ``p``: (rows, 3)."""
    side = np.maximum(p[:, 0], p[:, 1])
    go = (p_tradeable >= 0.60) & (side >= 0.50)
    wait = (p_tradeable >= 0.40) & (side >= 0.30)
    return np.where(go, "GO", np.where(wait, "WAIT", "NO_GO"))


def ranks(session: np.ndarray, score: np.ndarray, observation_id: np.ndarray) -> np.ndarray:
    """Place of each row within its session, 1 for the highest score; of equal ones the smaller id comes first."""
    order = np.lexsort([observation_id, -score, session])
    _, starts, counts = np.unique(session[order], return_index=True, return_counts=True)
    ranked = np.empty(len(session), dtype=np.int64)
    ranked[order] = np.arange(len(session)) - np.repeat(starts, counts) + 1
    return ranked
