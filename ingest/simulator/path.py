"""The price path of a session: a walk of single ticks in continuous time, the same at every scale.

Ticks arrive as a Poisson process, up and down equally often, so the walk is a martingale whose variance per
second is constant inside the regular hours. Nothing about it depends on books, orders or the scale. A session
opens near the planned close of the one before: the closes form a chain that follows from the seed alone, so any
subset of dates can be simulated, in any order.
"""

import functools
import math
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numba import njit

from ingest.simulator.clock import (
    EPOCH,
    SECOND_NS,
    SessionClock,
    is_early_close,
    is_open_holiday,
    session_clock,
    trading_sessions,
)
from ingest.simulator.dealers import DealerFlow, Leans, play_dealers
from ingest.simulator.levels import HYSTERESIS_TICKS, MONITOR_TICKS, POINT_TICKS, ROUND_TICKS

# 26 ticks a square-root minute: a volatile day, on which ±20 points are left within 8 minutes about every
# other time. A quiet day would resolve nearly all touches as CHOP.
RTH_VARIANCE_TICKS2_PER_S = 26.0**2 / 60.0
OVERNIGHT, PREMARKET, RTH, POSTMARKET = range(4)
VARIANCE_SHARE = (0.06, 0.14, 1.0, 0.09)
SEGMENT_MINUTES = (600, 330, 390, 60)
EARLY_CLOSE_MINUTES = (600, 330, 210, 240)
HOLIDAY_MINUTES, HOLIDAY_SHARE = (600, 330, 210, 0), (0.06, 0.14, 0.15, 0.0)

CENTRE_TICKS = 5_800 * POINT_TICKS
# Share of the distance to the centre that is given back as the opening gap. The pull sits in the gap, where
# nothing trades, so that the session itself stays a martingale.
GAP_SHARE = 0.08
START_TICKS_RANGE = (4_500 * POINT_TICKS, 7_100 * POINT_TICKS)

# Log odds by which a touch of a ROUND level leans in the planted profile (see `dealers`), such that the odds of BREAK
# against BOUNCE come out as market spec 17 wants them, 1.5 and 1.3: leans of neighbouring levels add up.
PLANTED_LEANS = Leans(gamma=math.log(1.5) / 2, attempt=math.log(1.3))
LEVEL_REPULSION_BIAS = 0.02  # default profile: within 12 ticks of a ROUND level the price is pushed off


@dataclass(frozen=True)
class SessionPath:
    """``jump_ns`` (n,) int64 non-decreasing; ``step`` (n,) int8 ±1 ticks; the walk starts at ``start_tick``.
    ``dealers``: what the option flow along it adds up to.
    """

    start_tick: int
    jump_ns: np.ndarray
    step: np.ndarray
    dealers: DealerFlow | None = None

    def tick(self) -> np.ndarray:
        """(n,) int64: the tick after each jump."""
        return self.start_tick + np.cumsum(self.step, dtype=np.int64)


def generator(seed: int, day: date, purpose: int) -> np.random.Generator:
    """A random stream of its own for each (seed, session date, purpose)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, day.toordinal(), purpose])))


def _segments(day: date) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Minutes and share of the variance of the regular hours, by segment of the session."""
    if is_open_holiday(day):
        return HOLIDAY_MINUTES, HOLIDAY_SHARE
    return EARLY_CLOSE_MINUTES if is_early_close(day) else SEGMENT_MINUTES, VARIANCE_SHARE


def _jump_counts(seed: int, day: date) -> np.ndarray:
    """(2, 4) numbers of up and down ticks by segment of the session."""
    minutes, share = (np.array(values) for values in _segments(day))
    mean = RTH_VARIANCE_TICKS2_PER_S * 60 * minutes * share / 2
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
    minutes, share = _segments(clock.day)
    per_minute = np.repeat(share, minutes) * RTH_VARIANCE_TICKS2_PER_S * 60
    remaining = np.concatenate([np.cumsum(per_minute[::-1])[::-1], [0.0]])
    return remaining[from_minute]


@functools.lru_cache(maxsize=2)  # the end of a stock file's day is the evening of the next session
def session_path(seed: int, day: date, profile: str) -> SessionPath:
    """The walk of session ``day``; callers leave its arrays as they are.

    ``null`` is the plain walk. ``planted`` leans it after touches of ROUND levels, towards a break where dealers are
    short gamma and at third and later attempts (market spec 17). ``default`` pushes the price off ROUND levels nearby.
    """
    clock = session_clock(day)
    bounds = (
        clock.globex_open_ns + SECOND_NS,
        clock.premarket_open_ns,
        clock.rth_open_ns,
        clock.rth_close_ns,
        clock.globex_close_ns - SECOND_NS,
    )
    counts = _jump_counts(seed, day)
    rng = generator(seed, day, 2)
    times, steps = [], []
    for segment, (ups, downs) in enumerate(counts.T):
        if ups + downs == 0:
            continue
        # Given the two Poisson counts, times are uniform and the order of ups and downs is a shuffle.
        times.append(np.sort(rng.integers(bounds[segment], bounds[segment + 1], ups + downs)))
        step = np.ones(ups + downs, np.int8)
        step[ups:] = -1
        rng.shuffle(step)
        steps.append(step)
    jump_ns, step = np.concatenate(times), np.concatenate(steps)
    # A holiday is no link of the chain: it begins where the session after it will.
    after = trading_sessions(day, day + timedelta(days=7))[0]
    start = _start_ticks(seed, after.year)[after]
    if profile == "default":
        _push_off_levels(step, start, rng.random(len(step)), LEVEL_REPULSION_BIAS)
    leans = PLANTED_LEANS if profile == "planted" else Leans()
    dealers = play_dealers(generator(seed, day, 8), seed, clock, jump_ns, step, start, leans)
    return SessionPath(start, jump_ns, step, dealers)


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
