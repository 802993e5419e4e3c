"""What the tape of a session will print, before any order exists: moves of the market, trades, touches, flags.

The walk of `path` is too fine for a thinned book. The market follows it from lattice point to lattice point, each
time the walk has reached the next one, so that a coarser lattice is the same path seen at fewer instants and stays a
martingale. ROUND levels are 40 ticks apart and every lattice divides 40: the last stop before a touch is always
close enough for the ten visible levels to cover the barrier zone, at every scale.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from ingest.simulator.clock import MINUTE_NS, SECOND_NS, SessionClock
from ingest.simulator.levels import OUTCOME_NS, ROUND_TICKS, THETA_TICKS, machine_step, new_machine
from ingest.simulator.path import SessionPath, expected_variance, generator

FULL_RECORDS, FULL_TRADES = 8_000_000, 500_000  # of a session at scale 1
LATTICES = (1, 2, 4, 8)
MOVE_SHARE = 0.7  # share of the record budget that moves may take before a coarser lattice is chosen
# Lattices for tiny sessions: touches and outcomes as ever, but the last stop before a level is so far off that the
# ten levels don't show its zone. Down to this scale sessions rather have more records than asked for.
TINY_LATTICES, TINY_SCALE = (20, 40), 0.004
TRADES_PER_MOVE = 2.0
TRADE_SILENCE_NS = 40 * SECOND_NS  # a trade at least this often, so that no label window has a 60 s gap
MOVE, TRADE = 0, 1
CHOP, BREAK, BOUNCE = 0, 1, 2

# Shares of the outcomes of touches on the plain walk (measured over 60 sessions), and how often the defending side
# is a VACUUM over all touches.
OUTCOME_SHARES = {BREAK: 0.27, BOUNCE: 0.27, CHOP: 0.46}
VACUUM_SHARE = 0.30
BREAK_ODDS, THETA_ODDS = 6.0, 3.0  # market spec 17


@dataclass(frozen=True)
class TapePlan:
    """Prints and touches of one session.

    Events, (n,) in order of time: ``ts_ns``; ``kind`` MOVE or TRADE; ``to_tick``: best bid after a move, before and
    after a trade; ``aggressor`` ±1; ``follows``: a move ends with a small trade at the new touch.
    Touches of ROUND levels, (m,) in order of time: ``touch_event`` index into the events, ``touch_level`` tick / 40,
    ``touch_direction`` ±1, ``touch_outcome`` CHOP, BREAK, BOUNCE or −1 when its 8 minutes leave the session,
    ``touch_is_vacuum``.
    """

    lattice_ticks: int
    start_tick: int
    ts_ns: np.ndarray
    kind: np.ndarray
    to_tick: np.ndarray
    aggressor: np.ndarray
    follows: np.ndarray
    touch_event: np.ndarray
    touch_level: np.ndarray
    touch_direction: np.ndarray
    touch_outcome: np.ndarray
    touch_is_vacuum: np.ndarray


def records_per_move(lattice_ticks: int) -> float:
    """Expected mbp-10 records of one move of ``lattice_ticks`` (measured, ±15 %)."""
    return 2.5 * lattice_ticks + 5.0


def choose_lattice(scale: float, clock: SessionClock) -> int:
    """The finest lattice (ticks) whose moves leave room for other records at this scale, else the coarsest.

    At 8 ticks the moves of a full session take about 120,000 records, so scales from 0.004 to 0.016 have about 130,000.
    """
    variance = float(expected_variance(clock, np.array([0]))[0])
    lattices = TINY_LATTICES if scale < TINY_SCALE else LATTICES
    for lattice in lattices:
        if variance / lattice**2 * records_per_move(lattice) <= MOVE_SHARE * FULL_RECORDS * scale:
            return lattice
    return lattices[-1]


def activity(clock: SessionClock) -> np.ndarray:
    """Relative intensity of orders by minute since the Globex open: U-shaped in regular hours, thin around them."""
    minute = clock.globex_open_ns + MINUTE_NS * np.arange(
        (clock.globex_close_ns - clock.globex_open_ns) // MINUTE_NS
    )
    x = (minute - clock.rth_open_ns) / (clock.rth_close_ns - clock.rth_open_ns) * 2 - 1
    weight = np.where(minute < clock.premarket_open_ns, 0.10, 0.30)
    weight[minute >= clock.rth_close_ns] = 0.2
    return np.where(abs(x) <= 1, 0.7 + 1.2 * x**2, weight)


def plan_tape(
    seed: int,
    scale: float,
    clock: SessionClock,
    path: SessionPath,
    profile: str,
    lattice_ticks: int | None = None,
) -> TapePlan:
    """Lay out moves, trades, touches and the VACUUM flags of one session.

    ``planted`` draws a touch's flag given its outcome, so that the joint odds are those of the market spec; in the
    other profiles it is drawn at the same rate whatever the outcome.
    """
    lattice = lattice_ticks or choose_lattice(scale, clock)
    move_ns, move_to = follow(path.jump_ns, path.step, path.start_tick, lattice)
    start = path.start_tick // lattice * lattice
    rng = generator(seed, clock.day, 3)
    trade_ns = _trade_times(rng, scale, clock, move_ns, lattice)
    ts = np.concatenate([move_ns, trade_ns])
    order = np.argsort(ts, kind="stable")
    kind = np.repeat([MOVE, TRADE], [len(move_ns), len(trade_ns)])[order].astype(np.int8)
    is_move = kind == MOVE
    to_tick = np.concatenate([[start], move_to])[np.cumsum(is_move)]
    from_tick = np.concatenate([[start], to_tick[:-1]])
    aggressor = np.where(is_move, np.sign(to_tick - from_tick), rng.choice([-1, 1], len(ts))).astype(np.int8)
    # A fall ends at the new bid, so that both thresholds of an outcome are reached by a move of equal length.
    follows = is_move & ((aggressor < 0) | (rng.random(len(ts)) < 0.5))

    prints = _prints(is_move, to_tick, aggressor, follows, ts[order])
    event, level, direction, outcome = _touches(*prints, clock.globex_close_ns)
    vacuum = draw_flags(generator(seed, clock.day, 4), outcome, profile)
    return TapePlan(
        lattice,
        int(start),
        ts[order],
        kind,
        to_tick,
        aggressor,
        follows,
        event,
        level,
        direction,
        outcome,
        vacuum,
    )


def flag_rates(
    shares: dict[int, float], share: float, break_odds: float, theta_odds: float
) -> dict[int, float]:
    """P(VACUUM | outcome) that has the wanted odds ratios and the wanted overall ``share``.

    Odds ratios are symmetric, so they may be planted by drawing the cause given the effect:
    [v_B/(1 − v_B)]/[v_N/(1 − v_N)] = ``break_odds`` for BREAK against BOUNCE, and the same with ``theta_odds`` for
    touches that reach θ2 against CHOP. Solved by bisection: all three rates rise with the rate of BOUNCE.
    """

    def rates(v_bounce: float) -> dict[int, float]:
        v_break = _odds_times(v_bounce, break_odds)
        reach = (shares[BREAK] * v_break + shares[BOUNCE] * v_bounce) / (shares[BREAK] + shares[BOUNCE])
        return {BREAK: v_break, BOUNCE: v_bounce, CHOP: _odds_times(reach, 1 / theta_odds)}

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if sum(shares[o] * v for o, v in rates(middle).items()) < share:
            low = middle
        else:
            high = middle
    return rates(low)


def _odds_times(p: float, factor: float) -> float:
    return factor * p / (1 - p + factor * p)


def draw_flags(rng: np.random.Generator, outcome: np.ndarray, profile: str) -> np.ndarray:
    """(m,) bool: which touches find the defending side pulled."""
    rate = np.full(len(outcome), VACUUM_SHARE)
    if profile == "planted":
        for name, p in flag_rates(OUTCOME_SHARES, VACUUM_SHARE, BREAK_ODDS, THETA_ODDS).items():
            rate[outcome == name] = p
    return rng.random(len(outcome)) < rate


def _trade_times(
    rng: np.random.Generator, scale: float, clock: SessionClock, move_ns: np.ndarray, lattice: int
) -> np.ndarray:
    """Times of the trades that don't move the market: what the scale leaves, and never a long silence."""
    minutes = np.arange((clock.globex_close_ns - clock.globex_open_ns) // MINUTE_NS)
    # By the moves a session is expected to have, never by those it will have: a rate must not know the future.
    moves = float(expected_variance(clock, np.array([0]))[0]) / lattice**2
    weight = activity(clock)
    mean = max(0.0, FULL_TRADES * scale - TRADES_PER_MOVE * moves) * weight / weight.sum()
    count = rng.poisson(mean)
    inside = rng.integers(SECOND_NS, MINUTE_NS - SECOND_NS, count.sum())
    ts = np.sort(clock.globex_open_ns + np.repeat(minutes, count) * MINUTE_NS + inside)
    first, last = clock.globex_open_ns + SECOND_NS, clock.globex_close_ns - SECOND_NS
    known = np.sort(np.concatenate([[first], ts, move_ns, [last]]))
    return np.sort(np.concatenate([ts, _heartbeats(known, rng.random(4096))]))


@njit(cache=True)
def _heartbeats(known_ns, uniform):
    """Times to add so that no silence in ``known_ns`` is longer than TRADE_SILENCE_NS.

    Each stands 0.6 to 1 of that time after the event before it, and knows nothing of the one after it.
    """
    out = np.empty(8192, np.int64)
    n, k = 0, 0
    for i in range(known_ns.shape[0] - 1):
        t = known_ns[i]
        while True:
            t += np.int64(TRADE_SILENCE_NS * (0.6 + 0.4 * uniform[k % uniform.shape[0]]))
            k += 1
            if t >= known_ns[i + 1] or n == out.shape[0]:
                break
            out[n] = t
            n += 1
    return out[:n]


@njit(cache=True)
def follow(jump_ns, step, start_tick, lattice):
    """(times, best bids) of the market's moves: one each time the walk reaches a neighbouring lattice point."""
    n = jump_ns.shape[0]
    out_ns, out_to = np.empty(n, np.int64), np.empty(n, np.int64)
    x, at, m = np.int64(start_tick), np.int64(start_tick // lattice * lattice), 0
    for i in range(n):
        x += step[i]
        if abs(x - at) >= lattice:
            at += lattice if x > at else -lattice
            out_ns[m], out_to[m] = jump_ns[i], at
            m += 1
    return out_ns[:m].copy(), out_to[:m].copy()


def _prints(
    is_move: np.ndarray, to_tick: np.ndarray, aggressor: np.ndarray, follows: np.ndarray, ts_ns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(event index, time, tick) of every print that can matter to a level: the last of each move, and the trades."""
    index = np.arange(len(is_move))
    touch = np.where(aggressor > 0, to_tick + 1, to_tick)  # buyers pay the ask, one tick above the bid
    last_taken = np.where(aggressor > 0, to_tick, to_tick + 1)
    small = ~is_move | follows
    event = np.concatenate([index[is_move], index[small]])
    tick = np.concatenate([last_taken[is_move], touch[small]])
    order = np.argsort(event, kind="stable")
    return event[order], ts_ns[event[order]], tick[order]


@njit(cache=True)
def _touches(event, ts_ns, tick, session_end_ns):
    """Touches of ROUND levels among the prints, and what each came to within 8 minutes (market spec 5.5 and 12)."""
    n = ts_ns.shape[0]
    low, high = tick.min() // ROUND_TICKS - 1, tick.max() // ROUND_TICKS + 2
    machine = new_machine(high - low + 1)
    out = np.empty((n, 4), np.int64)
    m = 0
    for i in range(n):
        j = max(i - 1, 0)
        level, direction = machine_step(machine, low, ts_ns[i], tick[i], ts_ns[j], tick[j], i)
        if direction == 0:
            continue
        outcome = -1
        if ts_ns[i] + OUTCOME_NS <= session_end_ns:
            outcome = CHOP
            k = i
            while k < n and ts_ns[k] < ts_ns[i] + OUTCOME_NS:
                d = (tick[k] - level * ROUND_TICKS) * direction
                if abs(d) >= THETA_TICKS:
                    outcome = BREAK if d > 0 else BOUNCE
                    break
                k += 1
        out[m, 0], out[m, 1], out[m, 2], out[m, 3] = event[i], level, direction, outcome
        m += 1
    return out[:m, 0].copy(), out[:m, 1].copy(), out[:m, 2].copy(), out[:m, 3].copy()


def expected_moves(clock: SessionClock, lattice_ticks: int) -> np.ndarray:
    """(minutes + 1,) moves still expected from each minute of the session to its end."""
    minutes = (clock.globex_close_ns - clock.globex_open_ns) // MINUTE_NS
    return expected_variance(clock, np.arange(minutes + 1)) / lattice_ticks**2


def moves_of(plan: TapePlan) -> tuple[np.ndarray, np.ndarray]:
    """(times, best bids after) of the market's moves in a plan."""
    is_move = plan.kind == MOVE
    return plan.ts_ns[is_move], plan.to_tick[is_move]
