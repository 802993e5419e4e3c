"""SPY as the ES market implies it, from 04:00 to 20:00 New York time of a session's date."""

from dataclasses import dataclass
from datetime import date, time, timedelta

import numpy as np

from ingest.simulator.clock import SessionClock, session_clock, trading_sessions, wall_ns
from ingest.simulator.path import session_path
from ingest.simulator.plan import TapePlan, choose_lattice, follow, moves_of
from ingest.simulator.ratio import ratio_at

# A move of the ES market takes up to this long around its planned time; nothing else prints meanwhile, so that SPY
# and options always see the same ES price as whoever pairs them with the last ES trade.
BEFORE_MOVE_NS, AFTER_MOVE_NS = 4_500_000, 6_000_000
EARLY_END, LATE_END = time(17), time(20)


@dataclass(frozen=True)
class Spot:
    """A step function: ``bid_tick[k]`` is ES's best bid from ``move_ns[k − 1]`` on; beside it the session's clock,
    ``event_ns`` of all its planned prints, and [``first_ns``, ``last_ns``) in which stocks trade.
    """

    seed: int
    clock: SessionClock
    move_ns: np.ndarray
    bid_tick: np.ndarray
    event_ns: np.ndarray
    first_ns: int
    last_ns: int

    def clear_of_moves(self, ts_ns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n,) the same instants, but for those during a move of ES: they come right after it."""
        for _ in range(3):
            following = np.searchsorted(self.move_ns, ts_ns - AFTER_MOVE_NS)
            near = self.move_ns[np.minimum(following, len(self.move_ns) - 1)]
            during = (near - BEFORE_MOVE_NS <= ts_ns) & (ts_ns <= near + AFTER_MOVE_NS)
            ts_ns = np.where(during, near + AFTER_MOVE_NS + rng.integers(1, 2_000_000, len(ts_ns)), ts_ns)
        return ts_ns

    def mid_usd(self, ts_ns: np.ndarray) -> np.ndarray:
        """(n,) SPY's fair price: the middle of ES's market over the ratio."""
        bid = self.bid_tick[np.searchsorted(self.move_ns, ts_ns, side="right")]
        return (bid + 0.5) * 0.25 / ratio_at(self.seed, ts_ns)


def open_spot(seed: int, day: date, scale: float, profile: str, plan: TapePlan) -> Spot:
    """SPY's price for the files of ``day``: after 18:00 by the next session's first hours, if one opens."""
    clock = session_clock(day)
    move_ns, to_tick = moves_of(plan)
    times, ticks = [move_ns], [[plan.start_tick], to_tick]
    following = day + timedelta(days=1)
    if trading_sessions(following, following):
        path = session_path(seed, following, profile)
        lattice = choose_lattice(scale, session_clock(following))
        evening_ns, evening_to = follow(path.jump_ns, path.step, path.start_tick, lattice)
        opening = [wall_ns(day, time(18))], [path.start_tick // lattice * lattice]
        times += [opening[0], evening_ns]
        ticks += [opening[1], evening_to]
    end = EARLY_END if clock.rth_close_ns < wall_ns(day, time(16)) else LATE_END
    return Spot(
        seed,
        clock,
        np.concatenate(times).astype(np.int64),
        np.concatenate(ticks).astype(np.int64),
        plan.ts_ns,
        clock.premarket_open_ns,
        wall_ns(day, end),
    )


def random_times(
    rng: np.random.Generator, first_ns: int, weight: np.ndarray, minute_ns: int, count: int
) -> np.ndarray:
    """(count,) sorted instants in whole minutes from ``first_ns`` on, by the ``weight`` of each minute."""
    by_minute = rng.multinomial(count, weight / weight.sum())
    inside = rng.integers(0, minute_ns, count)
    return np.sort(first_ns + np.repeat(np.arange(len(weight)), by_minute) * minute_ns + inside)
