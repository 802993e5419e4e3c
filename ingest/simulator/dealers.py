"""What dealers are to hold: wanted dealer gamma by strike and minute, and how a planted market leans on it.

Customers' trades leave dealers long or short gamma. By blocks of strikes and by spells of time a target says how much;
the trades of a minute bring the strikes around the spot nearer to it. Targets are drawn without a look at the path and
the flow sees only where the spot stands, so it tells nothing about the future, unless the path is made to lean on it:
`play` does that for the planted profile, cause first, effect after.

Nothing here depends on the scale; `options` realizes the wanted sums with as many trades as the scale leaves.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from ingest.simulator.clock import MINUTE_NS, SessionClock
from ingest.simulator.levels import (
    CLUSTER_NS,
    OUTCOME_NS,
    ROUND_TICKS,
    THETA_TICKS,
    TOUCH_TICKS,
    machine_step,
    new_machine,
)
from ingest.simulator.ratio import ratio_at

STRIKES = 221  # whole dollars, this many around the first spot: more than a session can reach
BLOCK_STRIKES = 5
SPELL_MINUTES = 40  # mean length of a spell with one target
TARGET_SHARES = (11_000.0, 0.7)  # of one strike, in shares per $1: median and sigma of a log-normal
PULL_PER_MINUTE = (
    0.12  # share of the distance to the target that a minute of usual activity covers at the spot
)
REACH_USD = 4.0  # the pull falls off with the distance from the spot by e every so many dollars
NOISE_SHARES = 1_200.0  # standard deviation a minute at the spot
NEAR_MILLI = 2_000  # FUEL_STRIKE_RANGE of the default param set
ATTEMPT_LATTICE = 8  # ticks
MAX_LEANS = 64


@dataclass(frozen=True)
class DealerFlow:
    """``gamma`` (minutes + 1, strikes) float64: wanted dealer gamma (shares per $1) since the regular open of each
    strike, at the start of each minute; strikes are whole dollars from ``first_strike`` on."""

    first_strike: int
    start_ns: int
    gamma: np.ndarray


@dataclass(frozen=True)
class Leans:
    """Log odds by which a touch leans to its break: after dealers short gamma (and as much to the bounce after long),
    and after a third or later attempt."""

    gamma: float = 0.0
    attempt: float = 0.0


def play_dealers(
    rng: np.random.Generator,
    seed: int,
    clock: SessionClock,
    jump_ns: np.ndarray,
    step: np.ndarray,
    start_tick: int,
    leans: Leans,
) -> DealerFlow:
    """The flow along a walk; with ``leans`` its steps are flipped in place so that touches lean as asked for.

    Attempts and touches are those of ROUND levels by the touch machine of market spec 5.5, on the walk as a market
    sees it that follows in steps of 8 ticks: the prints of a thinned session, whatever the scale. A lean lasts until
    the walk is 80 ticks off the level or the 8 minutes of the outcome are over; leans of several touches add up.
    """
    minutes = (clock.rth_close_ns - clock.rth_open_ns) // MINUTE_NS
    ratio = ratio_at(seed, clock.rth_open_ns + MINUTE_NS * np.arange(minutes))
    first_strike = int(start_tick / 4 / ratio[0]) - STRIKES // 2
    x = np.arange(minutes) / minutes * 2 - 1
    gamma = np.zeros((minutes + 1, STRIKES))
    play(
        jump_ns, step, start_tick, rng.random(len(step)),
        (clock.rth_open_ns, clock.rth_close_ns - 2 * OUTCOME_NS), ratio, first_strike,
        _targets(rng, minutes), rng.normal(0.0, NOISE_SHARES, (minutes, STRIKES)),
        PULL_PER_MINUTE * (0.7 + 0.9 * x**2), (leans.gamma, leans.attempt), gamma,
    )  # fmt: skip
    return DealerFlow(first_strike, clock.rth_open_ns, gamma)


def _targets(rng: np.random.Generator, minutes: int) -> np.ndarray:
    """(minutes, STRIKES) wanted dealer gamma of each strike: alike within a block, of either sign, by spells."""
    blocks = STRIKES // BLOCK_STRIKES + 2
    starts = rng.random((minutes, blocks)) < 1 / SPELL_MINUTES
    starts[0] = True
    spell = np.cumsum(starts, axis=0) - 1
    median, sigma = TARGET_SHARES
    sizes = median * np.exp(sigma * rng.normal(size=(minutes, blocks)))
    signs = rng.choice([-1.0, 1.0], (minutes, blocks))
    by_block = np.take_along_axis(sizes * signs, spell, axis=0)
    block = (np.arange(STRIKES) + int(rng.integers(BLOCK_STRIKES))) // BLOCK_STRIKES
    own = np.exp(0.4 * rng.normal(size=(1, STRIKES)))
    return by_block[:, block] * own


@njit(cache=True)
def play(
    jump_ns, step, start_tick, uniform, emits, ratio, first_strike, target, noise, pull, leans, gamma
):  # fmt: skip
    """Fill ``gamma`` along the walk and, with ``leans`` (gamma, attempt) other than 0, flip steps in place.

    ``emits``: touches from ``emits[0]`` (the regular open, where the flow begins) to ``emits[1]`` lean.
    P(step up) = (1 + tanh(s / 160)) / 2 with s the sum of the signed log odds in force.
    """
    span = np.int64(4096)  # ticks to either side that a session can reach
    first_level = (start_tick - span) // ROUND_TICKS
    machine = new_machine(2 * span // ROUND_TICKS + 2)
    attempts = np.zeros((2, 4), np.int64)
    in_force = np.zeros((MAX_LEANS, 2), np.int64)  # level tick, end
    odds = np.zeros(MAX_LEANS)
    n_leans = 0
    leaning = leans[0] != 0.0 or leans[1] != 0.0
    x, at = np.int64(start_tick), np.int64(start_tick // ATTEMPT_LATTICE * ATTEMPT_LATTICE)
    prior_ns, prior_tick, moves = jump_ns[0], at, 0
    minute, minutes = np.int64(-1), ratio.shape[0]
    for i in range(step.shape[0]):
        t = jump_ns[i]
        while minute + 1 < minutes and t >= emits[0] + (minute + 1) * MINUTE_NS:
            minute += 1
            spot = x * 0.25 / ratio[minute]
            for k in range(gamma.shape[1]):
                weight = math.exp(-abs(first_strike + k - spot) / REACH_USD)
                wanted = (target[minute, k] - gamma[minute, k]) * pull[minute] + noise[minute, k]
                gamma[minute + 1, k] = gamma[minute, k] + weight * wanted
        if n_leans:
            total, kept = 0.0, 0
            for j in range(n_leans):
                if t < in_force[j, 1] and abs(x - in_force[j, 0]) < THETA_TICKS:
                    total += odds[j]
                    in_force[kept], odds[kept] = in_force[j], odds[j]
                    kept += 1
            n_leans = kept
            bias = math.tanh(total / (2 * THETA_TICKS))
            if bias * step[i] < 0 and uniform[i] < abs(bias):
                step[i] = -step[i]
        x += step[i]
        if not leaning or abs(x - at) < ATTEMPT_LATTICE:
            continue
        at = x
        level, direction = machine_step(machine, first_level, t, at, prior_ns, prior_tick, moves)
        prior_ns, prior_tick, moves = t, at, moves + 1
        if direction == 0 or not emits[0] <= t < emits[1]:
            continue
        tick = level * ROUND_TICKS
        index = count_attempt(attempts[1 if direction > 0 else 0], t, tick)
        lean = leans[1] if index >= 3 else 0.0
        near = near_gamma(
            gamma, minute, (t - emits[0]) / MINUTE_NS - minute, first_strike, tick, ratio[minute]
        )
        lean += leans[0] if near < 0 else -leans[0]
        if n_leans < MAX_LEANS:
            in_force[n_leans, 0], in_force[n_leans, 1] = tick, t + OUTCOME_NS
            odds[n_leans] = lean * direction
            n_leans += 1
    while minute + 1 < minutes:
        minute += 1
        gamma[minute + 1] = gamma[minute]


@njit(cache=True)
def near_gamma(gamma, minute, share, first_strike, tick, ratio):
    """Wanted dealer gamma within $2 of a level, ``share`` of a minute after the start of ``minute``."""
    spy_milli, near = math.floor(tick * 250 / ratio + 0.5), 0.0
    for k in range(gamma.shape[1]):
        if abs((first_strike + k) * 1000 - spy_milli) <= NEAR_MILLI:
            near += gamma[minute, k] + share * (gamma[minute + 1, k] - gamma[minute, k])
    return near


@njit(cache=True)
def count_attempt(state, t0_ns, level_tick):
    """Attempt index of a touch (from 1) given its direction's ``state`` (4,): last t0, last level, index, seen."""
    if state[3] == 0 or t0_ns - state[0] > CLUSTER_NS or abs(level_tick - state[1]) > TOUCH_TICKS:
        state[2] = 0
    state[0], state[1], state[2], state[3] = t0_ns, level_tick, state[2] + 1, 1
    return state[2]
