"""A plain reader of simulated files: trades, book changes, touches, outcomes and barrier states by the letter of the
market specification (5.5, 7.1, 7.2, 12), in slow Python that shares no code with the simulator."""

from dataclasses import dataclass

import databento
import numpy as np

TICK_NANO = 250_000_000
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
UNDEF_PRICE = 2**63 - 1
F_LAST, F_SNAPSHOT = 128, 32
BID, ASK = 0, 1
MONITOR, TOUCH, HYSTERESIS, THETA, ZONE = 10, 4, 2, 80, 8


def read(paths) -> np.ndarray:
    """All records of the files, in order of the paths."""
    return np.concatenate([databento.DBNStore.from_file(path).to_ndarray() for path in paths])


@dataclass(frozen=True)
class Touch:
    t0_ns: int
    level_tick: int
    direction: int
    outcome: str | None


def round_touches(trades: np.ndarray, first_ns: int, last_ns: int) -> list[Touch]:
    """Touches of multiples of 40 ticks with t0 in [first_ns, last_ns), machine by machine, and their outcomes."""
    ts, tick = trades["ts_event"].astype(np.int64), trades["price"] // TICK_NANO
    found = []
    for level in range(int(tick.min()) // 40 * 40, int(tick.max()) + 40, 40):
        distance = tick - level
        armed, touched, far_from, side = False, False, None, 0
        for i in np.flatnonzero(np.abs(distance) <= 30):
            # Trades farther off than 30 ticks only lengthen the far run: walk the near ones, look one back.
            before = int(distance[i - 1]) if i else 0
            if i and abs(before) > MONITOR + HYSTERESIS:
                far_from = ts[_run_start(distance, i - 1)] if far_from is None else far_from
                if not touched or ts[i - 1] - far_from >= 30 * SECOND_NS:
                    armed = True
            if i and abs(before) > MONITOR:
                side = before
            d = int(distance[i])
            if abs(d) <= MONITOR + HYSTERESIS:
                far_from = None
            if armed and abs(d) <= TOUCH:
                armed, touched = False, True
                if first_ns <= ts[i] < last_ns:
                    direction = 1 if side < 0 else -1
                    found.append(Touch(int(ts[i]), level, direction, _outcome(ts, distance, i, direction)))
    return sorted(found, key=lambda t: (t.t0_ns, t.level_tick))


def _run_start(distance: np.ndarray, i: int) -> int:
    while i > 0 and abs(distance[i - 1]) > MONITOR + HYSTERESIS:
        i -= 1
    return i


def _outcome(ts: np.ndarray, distance: np.ndarray, i: int, direction: int) -> str:
    end = ts[i] + 480 * SECOND_NS
    while i < len(ts) and ts[i] < end:
        if abs(distance[i]) >= THETA:
            return "BREAK" if distance[i] * direction > 0 else "BOUNCE"
        i += 1
    return "CHOP"


@dataclass(frozen=True)
class BookTape:
    """Changes between consecutive states: (n,) ts_ns, side, tick, delta; and the states themselves."""

    ts_ns: np.ndarray
    side: np.ndarray
    tick: np.ndarray
    delta: np.ndarray
    state_ns: np.ndarray
    price: np.ndarray  # (states, 2, 10) ticks, −1 where there is none
    size: np.ndarray  # (states, 2, 10)


def book_tape(records: np.ndarray) -> BookTape:
    """Changes of displayed size of one contract's records, as market spec 7.1 counts them."""
    is_state = (records["flags"] & F_LAST > 0) & ~np.isin(records["action"], [b"T", b"F", b"N", b"R"])
    states = records[is_state]
    names = [["bid", "ask"][s] for s in (BID, ASK)]
    price = np.stack([np.stack([states[f"{n}_px_{k:02}"] for k in range(10)], 1) for n in names], 1)
    size = np.stack([np.stack([states[f"{n}_sz_{k:02}"] for k in range(10)], 1) for n in names], 1).astype(
        int
    )
    price = np.where(price == UNDEF_PRICE, -1, price // TICK_NANO)
    changed = (price[1:] != price[:-1]).any(2) | (size[1:] != size[:-1]).any(2)
    out = []
    for i, side in np.argwhere(changed):
        if states["flags"][i + 1] & F_SNAPSHOT:
            continue
        was = dict(zip(price[i, side].tolist(), size[i, side].tolist(), strict=True))
        now = dict(zip(price[i + 1, side].tolist(), size[i + 1, side].tolist(), strict=True))
        ends = [book[side, -1] for book in (price[i], price[i + 1]) if book[side, -1] >= 0]
        for tick in (was.keys() | now.keys()) - {-1}:
            in_view = all(tick >= end if side == BID else tick <= end for end in ends)
            if in_view and now.get(tick, 0) != was.get(tick, 0):
                out.append((states["ts_event"][i + 1], side, tick, now.get(tick, 0) - was.get(tick, 0)))
    ts, sides, ticks, deltas = (np.array(column, np.int64) for column in zip(*out, strict=True))
    return BookTape(ts, sides, ticks, deltas, states["ts_event"].astype(np.int64), price, size)


def barrier_state(tape: BookTape, trades: np.ndarray, touch: Touch) -> str:
    """VACUUM, UNKNOWN or OTHER at the touch, with the default param set."""
    asof = touch.t0_ns // 100_000_000 * 100_000_000
    start, side = asof - 240 * SECOND_NS, ASK if touch.direction > 0 else BID
    state = np.searchsorted(tape.state_ns, asof) - 1
    end = tape.price[state, side, -1]
    zone = np.arange(touch.level_tick - ZONE, touch.level_tick + ZONE + 1)
    visible = (zone >= end) if side == BID else (zone <= end)
    if end >= 0 and visible.mean() < 0.5:
        return "UNKNOWN"
    window = slice(*np.searchsorted(tape.ts_ns, [start, asof]))
    mine = (tape.side[window] == side) & (abs(tape.tick[window] - touch.level_tick) <= ZONE)
    delta = tape.delta[window][mine]
    added, lost = delta[delta > 0].sum(), -delta[delta < 0].sum()
    prints = trades[slice(*np.searchsorted(trades["ts_event"].astype(np.int64), [start, asof]))]
    hits = prints["side"] == (b"B" if side == ASK else b"A")
    hits &= abs(prints["price"] // TICK_NANO - touch.level_tick) <= ZONE
    filled = int(prints["size"][hits].sum())
    ratio, canceled = added / (max(lost, filled) + 1e-6), max(0, lost - filled)
    return "VACUUM" if ratio < 0.3 and added - lost < -100 and canceled > filled else "OTHER"
