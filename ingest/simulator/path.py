"""The price path of a session: a walk of single ticks in continuous time, the same at every scale.

Ticks arrive as a Poisson process, up and down equally often, so the walk is a martingale whose variance per
second is constant inside the regular hours. Nothing about it depends on books, orders or the scale. A session
opens near the planned close of the one before: the closes form a chain that follows from the seed alone, so any
subset of dates can be simulated, in any order.
"""

import functools
import math
from dataclasses import dataclass
from datetime import date

import numpy as np
from numba import njit

from ingest.simulator.clock import EPOCH, MINUTE_NS, SECOND_NS, SessionClock, is_early_close, trading_sessions

POINT_TICKS = 4
ROUND_TICKS = 40  # ROUND levels: multiples of 10 points
THETA_TICKS = 80  # outcome threshold of the default param set: $2 at ratio 10
OUTCOME_NS = 8 * MINUTE_NS
TOUCH_TICKS, MONITOR_TICKS, HYSTERESIS_TICKS = 4, 10, 2
REARM_NS = 30 * SECOND_NS
CLUSTER_NS = 15 * MINUTE_NS

# 26 ticks a square-root minute: a volatile day, on which ±20 points are left within 8 minutes about every
# other time. A quiet day would resolve nearly all touches as CHOP.
RTH_VARIANCE_TICKS2_PER_S = 26.0**2 / 60.0
OVERNIGHT, PREMARKET, RTH, POSTMARKET = range(4)
VARIANCE_SHARE = (0.06, 0.14, 1.0, 0.09)
SEGMENT_MINUTES = (600, 330, 390, 60)
EARLY_CLOSE_MINUTES = (600, 330, 210, 240)

CENTRE_TICKS = 5_800 * POINT_TICKS
# Share of the distance to the centre that is given back as the opening gap. The pull sits in the gap, where
# nothing trades, so that the session itself stays a martingale.
GAP_SHARE = 0.08
START_TICKS_RANGE = (4_500 * POINT_TICKS, 7_100 * POINT_TICKS)

# Bias of single ticks as a share f: P(wanted direction) = (1 + f)/2. With the walk's odds ratio
# ((1 + f)/(1 − f))^80 between leaving ±80 ticks on one side or the other, f below gives exactly 1.3.
THIRD_ATTEMPT_ODDS = 1.3
THIRD_ATTEMPT_BIAS = math.tanh(math.log(THIRD_ATTEMPT_ODDS) / (2 * THETA_TICKS))
ATTEMPT_LATTICE = 8  # ticks
LEVEL_REPULSION_BIAS = 0.02  # default profile: within 12 ticks of a ROUND level the price is pushed off


@dataclass(frozen=True)
class SessionPath:
    """``jump_ns`` (n,) int64 non-decreasing; ``step`` (n,) int8 ±1 ticks; the walk starts at ``start_tick``."""

    start_tick: int
    jump_ns: np.ndarray
    step: np.ndarray

    def tick(self) -> np.ndarray:
        """(n,) int64: the tick after each jump."""
        return self.start_tick + np.cumsum(self.step, dtype=np.int64)


def generator(seed: int, day: date, purpose: int) -> np.random.Generator:
    """A random stream of its own for each (seed, session date, purpose)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, day.toordinal(), purpose])))


def _jump_counts(seed: int, day: date) -> np.ndarray:
    """(2, 4) numbers of up and down ticks by segment of the session."""
    minutes = np.array(EARLY_CLOSE_MINUTES if is_early_close(day) else SEGMENT_MINUTES)
    mean = RTH_VARIANCE_TICKS2_PER_S * 60 * minutes * np.array(VARIANCE_SHARE) / 2
    return generator(seed, day, 1).poisson(mean, size=(2, 4))


@functools.lru_cache(maxsize=8)
def _start_ticks(seed: int, year: int) -> dict[date, int]:
    """Start tick of every session from the first one up to the end of ``year``."""
    starts, tick = {}, CENTRE_TICKS
    for day in trading_sessions(EPOCH, date(year, 12, 31)):
        tick += round((CENTRE_TICKS - tick) * GAP_SHARE)
        starts[day] = tick = min(max(tick, START_TICKS_RANGE[0]), START_TICKS_RANGE[1])
        ups, downs = _jump_counts(seed, day).sum(axis=1)
        tick += int(ups - downs)
    return starts


def expected_variance(clock: SessionClock, from_minute: np.ndarray) -> np.ndarray:
    """Expected squared ticks from each of the minutes ``from_minute`` (since the Globex open) to the close."""
    minutes = EARLY_CLOSE_MINUTES if is_early_close(clock.day) else SEGMENT_MINUTES
    per_minute = np.repeat(VARIANCE_SHARE, minutes) * RTH_VARIANCE_TICKS2_PER_S * 60
    remaining = np.concatenate([np.cumsum(per_minute[::-1])[::-1], [0.0]])
    return remaining[from_minute]


def session_path(seed: int, clock: SessionClock, profile: str) -> SessionPath:
    """The walk of one session.

    ``null`` is the plain walk. ``planted`` leans it by the odds ratio 1.3 towards a break after the third and
    later attempts at a ROUND level (market spec 17). ``default`` pushes the price off ROUND levels nearby.
    """
    bounds = (
        clock.globex_open_ns + SECOND_NS,
        clock.premarket_open_ns,
        clock.rth_open_ns,
        clock.rth_close_ns,
        clock.globex_close_ns - SECOND_NS,
    )
    counts = _jump_counts(seed, clock.day)
    rng = generator(seed, clock.day, 2)
    times, steps = [], []
    for segment, (ups, downs) in enumerate(counts.T):
        # Given the two Poisson counts, times are uniform and the order of ups and downs is a shuffle.
        times.append(np.sort(rng.integers(bounds[segment], bounds[segment + 1], ups + downs)))
        step = np.ones(ups + downs, np.int8)
        step[ups:] = -1
        rng.shuffle(step)
        steps.append(step)
    jump_ns, step = np.concatenate(times), np.concatenate(steps)
    start = _start_ticks(seed, clock.day.year)[clock.day]
    if profile == "planted":
        uniform = rng.random(len(step))
        emit_end_ns = clock.rth_close_ns - 2 * OUTCOME_NS
        _lean_on_attempts(jump_ns, step, start, uniform, clock.rth_open_ns, emit_end_ns, THIRD_ATTEMPT_BIAS)
    elif profile == "default":
        _push_off_levels(step, start, rng.random(len(step)), LEVEL_REPULSION_BIAS)
    return SessionPath(start, jump_ns, step)


@njit(cache=True)
def _push_off_levels(step, start_tick, uniform, bias):
    """Flip steps in place so that within 12 ticks of a ROUND level P(away from it) = (1 + bias)/2."""
    near = MONITOR_TICKS + HYSTERESIS_TICKS
    x = start_tick
    for i in range(step.shape[0]):
        d = (x + ROUND_TICKS // 2) % ROUND_TICKS - ROUND_TICKS // 2
        if d != 0 and abs(d) <= near and step[i] * d < 0 and uniform[i] < bias:
            step[i] = -step[i]
        x += step[i]


@njit(cache=True)
def _lean_on_attempts(jump_ns, step, start_tick, uniform, emit_from_ns, emit_to_ns, bias):
    """Flip steps in place so that after a 3rd or later attempt P(towards the break) = (1 + bias)/2.

    Attempts are counted by the touch machine of market spec 5.5, ROUND levels only, on the walk as a market sees it
    that follows in steps of 8 ticks: the prints of a thinned session, whatever the scale. The lean lasts until the
    walk is 80 ticks off the level or the 8 minutes of the outcome are over.
    """
    span = np.int64(4096)  # ticks to either side that a session can reach
    n_levels = 2 * span // ROUND_TICKS + 2
    first_level = (start_tick - span) // ROUND_TICKS
    machine = new_machine(n_levels)
    attempts = np.zeros((2, 4), np.int64)
    lean_sign, lean_level, lean_end = 0, np.int64(0), np.int64(0)
    x, at = np.int64(start_tick), np.int64(start_tick // ATTEMPT_LATTICE * ATTEMPT_LATTICE)
    prior_ns, prior_tick, moves = jump_ns[0], at, 0
    for i in range(step.shape[0]):
        t = jump_ns[i]
        if lean_sign != 0:
            if t >= lean_end or abs(x - lean_level) >= THETA_TICKS:
                lean_sign = 0
            elif step[i] != lean_sign and uniform[i] < bias:
                step[i] = -step[i]
        x += step[i]
        if abs(x - at) < ATTEMPT_LATTICE:
            continue
        at = x
        level, direction = machine_step(machine, first_level, t, at, prior_ns, prior_tick, moves)
        prior_ns, prior_tick, moves = t, at, moves + 1
        if direction != 0 and emit_from_ns <= t < emit_to_ns:
            side = 1 if direction > 0 else 0
            index = count_attempt(attempts[side], t, level * ROUND_TICKS)
            if index >= 3:
                lean_sign, lean_level, lean_end = direction, level * ROUND_TICKS, t + OUTCOME_NS


@njit(cache=True)
def count_attempt(state, t0_ns, level_tick):
    """Attempt index of a touch (from 1) given its direction's ``state`` (4,): last t0, last level, index, seen."""
    if state[3] == 0 or t0_ns - state[0] > CLUSTER_NS or abs(level_tick - state[1]) > TOUCH_TICKS:
        state[2] = 0
    state[0], state[1], state[2], state[3] = t0_ns, level_tick, state[2] + 1, 1
    return state[2]


@njit(cache=True)
def new_machine(n_levels):
    """State of the touch machine, one row a level: armed, side of the last far trade, far run began at, last near.

    A level that has seen no near trade yet is far since birth and arms without a dwell (``far_from`` = −1).
    """
    machine = np.zeros((n_levels, 4), np.int64)
    machine[:, 2] = -1
    machine[:, 3] = -2
    return machine


@njit(cache=True)
def machine_step(machine, first_level, ts_ns, tick, prior_ns, prior_tick, i):
    """Feed trade number ``i`` to the ROUND levels; return (level, direction) of a touch, else (level, 0).

    ``level`` is the level's tick / 40; direction +1 for UP (from below), −1 for DOWN. ``prior_*`` is trade i − 1.
    Levels are 40 ticks apart, so only the nearest can have this trade within the re-arm distance; the far runs
    of all others just go on, which is why one step costs the same however many levels there are.
    Source: market spec 5.5.
    """
    near = MONITOR_TICKS + HYSTERESIS_TICKS
    level = (tick + ROUND_TICKS // 2) // ROUND_TICKS
    # The trade before was the last of its run at the level it was near to: that level's far run starts here.
    before = (prior_tick + ROUND_TICKS // 2) // ROUND_TICKS
    if before != level or abs(tick - level * ROUND_TICKS) > near:
        row = before - first_level
        if 0 <= row < machine.shape[0] and machine[row, 3] == i - 1:
            machine[row, 2] = ts_ns
    d = tick - level * ROUND_TICKS
    row = level - first_level
    if abs(d) > near or row < 0 or row >= machine.shape[0]:
        return level, 0
    if machine[row, 3] != i - 1 and i > 0:  # comes from afar
        if machine[row, 2] < 0 or prior_ns - machine[row, 2] >= REARM_NS:
            machine[row, 0] = 1
        machine[row, 1] = -1 if prior_tick < level * ROUND_TICKS else 1
    machine[row, 3] = i
    if abs(d) > MONITOR_TICKS:
        machine[row, 1] = -1 if d < 0 else 1
    if machine[row, 0] == 1 and abs(d) <= TOUCH_TICKS:
        machine[row, 0] = 0
        return level, (1 if machine[row, 1] < 0 else -1)
    return level, 0
