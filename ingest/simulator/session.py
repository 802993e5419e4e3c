"""One ES session as a stream of mbp-10 records: the front contract, with the next one and their spread mixed in."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from ingest.simulator.book import (
    ASK,
    BID,
    NATURAL,
    R_OUT,
    VACUUM,
    WEAK_LATER,
    Market,
    new_book,
    new_tape,
    run,
    set_regimes,
)
from ingest.simulator.clock import SECOND_NS, SessionClock, session_clock
from ingest.simulator.contracts import ContractSet, contracts_of
from ingest.simulator.levels import ROUND_TICKS
from ingest.simulator.path import SessionPath, generator, session_path
from ingest.simulator.plan import (
    FULL_RECORDS,
    MOVE,
    VACUUM_SHARE,
    TapePlan,
    follow,
    plan_tape,
)

CHUNK_RECORDS = 8192
POINT_NANO = 1_000_000_000
TICK_NANO = 250_000_000
SPREAD_TICK_NANO = 50_000_000
CARRY_POINTS = 52  # the next contract stands this far above the front one
# The next outright is quoted in whole points and follows in steps of ten of them; the spread hardly moves at all.
NEXT_STEP_POINTS = 10
# At least this many orders an hour keep a book alive: the front one is never silent for more than 20 s.
FRONT_FILLS_PER_HOUR, OTHER_FILLS_PER_HOUR = 360, 30
OTHER_SIZE_PERCENT = 12  # so that the front contract has most of the volume at any scale
WEAK_SHARE = 0.35  # of the touches that find no VACUUM
OTHER_SHARE = {"next": 0.01, "spread": 0.005}
MANY_OTHERS = {"next": 0.027, "spread": 0.013}  # of a session with the fault `other-contracts`
ROLL_SHARE = 0.8  # of the front contract's volume, which the next one trades on the day of a roll
TRADE_ACTION = ord("T")


@dataclass(frozen=True)
class SessionStream:
    """A session about to be written: its plan (the truth behind it) and its records, block by block."""

    clock: SessionClock
    contracts: ContractSet
    plan: TapePlan
    blocks: Iterator[np.ndarray]


def open_session(
    seed: int, day: date, scale: float, profile: str, faults: frozenset[str] = frozenset()
) -> SessionStream:
    """Plan session ``day`` and return its stream; same arguments, same records. Of the ``faults``, those that are in
    the market itself come true here: other contracts that trade a lot.

    ``blocks`` yields (n ≤ 8192, 46) int64 views of mbp-10 records as they lie in a DBN file, in order of ts_recv and
    of ts_event; each view is overwritten by the next. No event is cut between two blocks.
    """
    clock, contracts = session_clock(day), contracts_of(day)
    path = session_path(seed, day, profile)
    plan = plan_tape(seed, scale, clock, path, profile)
    return SessionStream(clock, contracts, plan, _blocks(seed, scale, clock, contracts, path, plan, faults))


def _blocks(
    seed: int,
    scale: float,
    clock: SessionClock,
    contracts: ContractSet,
    path: SessionPath,
    plan: TapePlan,
    faults: frozenset[str],
) -> Iterator[np.ndarray]:
    share = MANY_OTHERS if "other-contracts" in faults else OTHER_SHARE
    next_records = _next_records(seed, scale * share["next"], clock, contracts, path)
    spread_records = _spread_records(seed, scale * share["spread"], clock, contracts)
    other = np.concatenate([next_records, spread_records])
    other = other[np.argsort(other[:, 1], kind="stable")]
    target = round(FULL_RECORDS * scale) - len(other)
    front_id, next_id = contracts.front.instrument_id, contracts.next.instrument_id
    market = Market(front_id, TICK_NANO, target, FRONT_FILLS_PER_HOUR, 100, has_barriers=True)

    def played() -> Iterator[np.ndarray]:
        rng = generator(seed, clock.day, 5)
        return _play(market, clock, plan, _regimes(plan, rng), other, rng)

    if "roll-day" in faults:
        # Sizes of other contracts don't reach the front one's book: it is played once to see what it will trade.
        wanted = ROLL_SHARE * sum(int(_sizes(block[_trades_of(block, front_id)]).sum()) for block in played())
        mine = _trades_of(other, next_id)
        size = _sizes(other[mine])
        other[mine, 3] += np.maximum(np.rint(size * (wanted / size.sum())), 1).astype(np.int64) - size
    yield from played()


def _play(
    market: Market,
    clock: SessionClock,
    plan: TapePlan,
    regimes: tuple[int, np.ndarray, np.ndarray],
    other: np.ndarray,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    low = min(int(plan.to_tick.min()), plan.start_tick)
    high = max(int(plan.to_tick.max()), plan.start_tick)
    book = new_book(market, clock, plan.start_tick, (low, high), rng, CHUNK_RECORDS)
    set_regimes(book, *regimes[:2])
    tape = new_tape(plan, clock, book, regimes[2], other)
    records = book.rows.view(np.int64)
    over = False
    while not over:
        book.reg[R_OUT] = 0
        over = run(book, tape)
        yield records[: book.reg[R_OUT]]


def _regimes(plan: TapePlan, rng: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray]:
    """First level, (2, L) regimes for the first touch of each side and level, (m,) regime for the touch after each.

    Some of the touches without a VACUUM find a weak zone. A level and side that is not touched (any more) has each
    regime at the common rate, so that a regime doesn't tell whether a touch will come.
    """
    low = int(min(plan.to_tick.min(), plan.start_tick)) // ROUND_TICKS - 3
    high = int(max(plan.to_tick.max(), plan.start_tick)) // ROUND_TICKS + 4

    def drawn(is_vacuum: np.ndarray) -> np.ndarray:
        return np.where(
            is_vacuum, VACUUM, np.where(rng.random(is_vacuum.shape) < WEAK_SHARE, WEAK_LATER, NATURAL)
        )

    regime = drawn(plan.touch_is_vacuum)
    pending = drawn(rng.random((2, high - low)) < VACUUM_SHARE)
    following = np.empty(len(regime), np.int64)
    for k in range(len(following) - 1, -1, -1):
        side, row = ASK if plan.touch_direction[k] > 0 else BID, plan.touch_level[k] - low
        following[k] = pending[side, row]
        pending[side, row] = regime[k]
    return low, pending, following


def _trades_of(records: np.ndarray, instrument_id: int) -> np.ndarray:
    """(k,) rows of the trades of one contract."""
    return np.flatnonzero(
        (records[:, 0] >> 32 == instrument_id) & ((records[:, 3] >> 32 & 0xFF) == TRADE_ACTION)
    )


def _sizes(records: np.ndarray) -> np.ndarray:
    return records[:, 3] & 0xFFFFFFFF


def _next_records(
    seed: int, scale: float, clock: SessionClock, contracts: ContractSet, path: SessionPath
) -> np.ndarray:
    """(k, 46) records of the next outright: whole points, following in wide steps."""
    step_ticks = NEXT_STEP_POINTS * 4
    move_ns, to = follow(path.jump_ns, path.step, path.start_tick, step_ticks)
    start = path.start_tick // step_ticks * step_ticks // 4 + CARRY_POINTS
    rng = generator(seed, clock.day, 6)
    plan = _quiet_plan(rng, clock, start, move_ns, to // 4 + CARRY_POINTS, step_ticks)
    target = round(FULL_RECORDS * scale)
    market = Market(
        contracts.next.instrument_id,
        POINT_NANO,
        target,
        OTHER_FILLS_PER_HOUR,
        OTHER_SIZE_PERCENT,
        has_barriers=False,
    )
    return _collect(market, clock, plan, rng)


def _spread_records(seed: int, scale: float, clock: SessionClock, contracts: ContractSet) -> np.ndarray:
    """(k, 46) records of the calendar spread: ticks of 0.05 points around the carry."""
    rng = generator(seed, clock.day, 7)
    empty = np.empty(0, np.int64)
    plan = _quiet_plan(rng, clock, CARRY_POINTS * 20 + int(rng.integers(-10, 11)), empty, empty, 10**6)
    target = round(FULL_RECORDS * scale)
    market = Market(
        contracts.spread.instrument_id,
        SPREAD_TICK_NANO,
        target,
        OTHER_FILLS_PER_HOUR,
        OTHER_SIZE_PERCENT,
        has_barriers=False,
    )
    return _collect(market, clock, plan, rng)


def _quiet_plan(
    rng: np.random.Generator,
    clock: SessionClock,
    start_tick: int,
    move_ns: np.ndarray,
    move_to: np.ndarray,
    lattice_ticks: int,
) -> TapePlan:
    """A plan without touches and with a trade every ten minutes or so. ``lattice_ticks`` in ticks of the path."""
    first, last = clock.globex_open_ns + 5 * SECOND_NS, clock.globex_close_ns - 5 * SECOND_NS
    trade_ns = np.sort(rng.integers(first, last, 140))
    ts = np.concatenate([move_ns, trade_ns])
    order = np.argsort(ts, kind="stable")
    is_move = order < len(move_ns)
    to_tick = np.concatenate([[start_tick], move_to])[np.cumsum(is_move)]
    none, no = np.empty(0, np.int64), np.zeros(len(ts), bool)
    return TapePlan(
        lattice_ticks=lattice_ticks,
        start_tick=start_tick,
        ts_ns=ts[order],
        kind=np.where(is_move, MOVE, 1 - MOVE).astype(np.int8),
        to_tick=to_tick,
        aggressor=rng.choice([-1, 1], len(ts)).astype(np.int8),
        follows=no,
        touch_event=none,
        touch_level=none,
        touch_direction=none,
        touch_outcome=none,
        touch_is_vacuum=none.astype(bool),
    )


def _collect(market: Market, clock: SessionClock, plan: TapePlan, rng: np.random.Generator) -> np.ndarray:
    none = np.empty((0, 46), np.int64)
    no_regimes = 0, np.zeros((2, 0), np.int64), np.empty(0, np.int64)
    blocks = _play(market, clock, plan, no_regimes, none, rng)
    return np.concatenate([block.copy() for block in blocks])
