"""Hand-made and random books, and the slow twin of the book pass: plain dictionaries, one record at a
time.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from physics.book import BOOK_COLUMNS, DEPTH
from physics.units import SECOND_NS, TICK_MANTISSA

T0 = 1_703_548_800_000_000_000
"""A whole minute; the tests count from here."""

LAST, SNAPSHOT, BAD = 128, 32, 4
DECIMAL = pa.decimal128(18, 9)


@dataclass(frozen=True)
class Record:
    ts: int
    bids: tuple = ()
    asks: tuple = ()
    action: str = "M"
    flags: int = LAST
    sequence: int = 0
    ordinal: int = 0


def decimals(mantissas, arrow_type=DECIMAL):
    """Exact decimals from int64 mantissas and None."""
    words = np.zeros((len(mantissas), arrow_type.byte_width // 8), np.int64)
    words[:, 0] = [0 if m is None else m for m in mantissas]
    words[:, 1:] = (words[:, :1] < 0) * -1
    mask = np.packbits(np.array([m is not None for m in mantissas], bool), bitorder="little")
    return pa.Array.from_buffers(
        arrow_type, len(mantissas), [pa.py_buffer(mask.tobytes()), pa.py_buffer(words.tobytes())]
    )


def records_table(records, arrow_type=DECIMAL):
    """The mbp-10 columns of ``records``; a level is (tick, size), None stands for an undefined price."""
    columns = {
        "ts_event_ns": pa.array([r.ts for r in records], pa.int64()),
        "sequence": pa.array([r.sequence for r in records], pa.int64()),
        "ordinal": pa.array([r.ordinal for r in records], pa.int64()),
        "action": pa.array([r.action for r in records], pa.string()),
        "flags": pa.array([r.flags for r in records], pa.uint8()),
    }
    for side, name in (("bid", "bids"), ("ask", "asks")):
        for k in range(DEPTH):
            levels = [getattr(r, name)[k] if k < len(getattr(r, name)) else (None, 0) for r in records]
            px = [None if t is None else t * TICK_MANTISSA for t, _ in levels]
            columns[f"{side}_px_{k:02d}"] = decimals(px, arrow_type)
            columns[f"{side}_sz_{k:02d}"] = pa.array([s for _, s in levels], pa.int32())
    return pa.table({name: columns[name] for name in BOOK_COLUMNS})


def cut(table, rows):
    """The table as batches of ``rows`` rows."""
    whole = table.combine_chunks().to_batches()
    return [b.slice(i, rows) for b in whole for i in range(0, b.num_rows, rows)]


@dataclass
class Twin:
    """Everything that was known after a list of records, replayed naively."""

    gap_ns: int = 60 * SECOND_NS
    gaps: tuple = ()
    last_record: int | None = None
    state: tuple | None = None  # (ts, {tick: size}, {tick: size}) of the last valid state
    is_reference_due: bool = True
    invalid_since: int | None = None
    segments: list = field(default_factory=list)  # [start, end] of every segment, the last may be open
    tape: list = field(default_factory=list)

    def replay(self, records):
        for r in records:
            self.step(r)
        return self

    def step(self, r):
        if self.last_record is not None:
            if r.ts - self.last_record > self.gap_ns:
                self.is_reference_due = True
            if any(a < r.ts and b > self.last_record for a, b in self.gaps):
                self.is_reference_due = True
        self.last_record = r.ts
        if r.action == "R" or r.flags & (SNAPSHOT | BAD):
            self.is_reference_due = True
        if r.action in "RTFN" or not r.flags & LAST:
            return
        bids = {t: s for t, s in r.bids if t is not None and s > 0}
        asks = {t: s for t, s in r.asks if t is not None and s > 0}
        if bids and asks and max(bids) >= min(asks):
            if self.invalid_since is None:
                self.invalid_since = r.ts
            return
        if self.invalid_since is not None and r.ts - self.invalid_since > SECOND_NS:
            self.is_reference_due = True
        self.invalid_since = None
        if self.is_reference_due:
            self.segments.append([r.ts, r.ts])
            self.is_reference_due = False
        else:
            self.segments[-1][1] = r.ts
            for side, old, new in ((0, self.state[1], bids), (1, self.state[2], asks)):
                for tick in sorted(old.keys() | new.keys()):
                    delta = new.get(tick, 0) - old.get(tick, 0)
                    if delta and sees(side, old, tick) and sees(side, new, tick):
                        self.tape.append((r.ts, r.sequence, r.ordinal, side, tick, delta))
        self.state = (r.ts, bids, asks)

    def is_open(self, asof):
        return (
            self.state is not None
            and not self.is_reference_due
            and asof <= self.last_record + self.gap_ns
            and (self.invalid_since is None or asof - self.invalid_since <= SECOND_NS)
        )

    def cover(self, asof, window_ns):
        """Covered nanoseconds of [asof - window, asof)."""
        total = 0
        for k, (start, end) in enumerate(self.segments):
            is_running = k == len(self.segments) - 1 and self.is_open(asof)
            total += max(0, (asof if is_running else end) - max(start, asof - window_ns))
        return total


def sees(side, levels, tick):
    """Whether a state with these levels shows the price ``tick``."""
    if len(levels) < DEPTH:
        return True
    return tick >= min(levels) if side == 0 else tick <= max(levels)


def before(records, asof):
    return [r for r in records if r.ts < asof]


def random_records(rng, count, *, start=T0, step_ns=40_000_000, mid=19_200, faults=0.15):
    """Book events around ``mid``: small changes, and a share ``faults`` of clears, crossed books, silences,
    ...

    Times repeat, so ties are common; deep books make levels enter and leave view.
    """
    bids = {mid - 1 - k: int(rng.integers(1, 60)) for k in range(13)}
    asks = {mid + 1 + k: int(rng.integers(1, 60)) for k in range(13)}
    records, ts, sequence = [], start, 1
    for ordinal in range(count):
        ts += int(rng.choice([0, 1, step_ns, 3 * step_ns]))
        sequence += int(rng.integers(0, 2))
        flags, action, crossed = LAST, "M", False
        fault = rng.choice(FAULTS) if rng.random() < faults else None
        if fault is None and rng.random() < 0.9:
            side = bids if rng.random() < 0.5 else asks
            best = max(bids) if side is bids else min(asks)
            tick = best + int(rng.integers(0, 13)) * (-1 if side is bids else 1)
            side[tick] = int(rng.integers(0, 60))
            if side[tick] == 0:
                del side[tick]
        elif fault is None:
            shift = int(rng.integers(-2, 3))
            bids = {t + shift: s for t, s in bids.items()}
            asks = {t + shift: s for t, s in asks.items()}
        elif fault == "trade":
            action, flags = "T", int(rng.choice([0, LAST]))
        elif fault == "unfinished":
            flags = int(rng.choice([0, 8]))
        elif fault == "clear":
            action, flags = "R", int(rng.choice([0, LAST]))
        elif fault == "doubt":
            flags = LAST | int(rng.choice([SNAPSHOT, BAD]))
        elif fault == "silence":
            ts += int(rng.choice([59, 60, 61])) * SECOND_NS
        elif fault == "crossed":
            crossed = True
        elif fault == "thin":
            side = bids if rng.random() < 0.5 else asks
            for tick in list(side)[3:]:
                del side[tick]
        if not bids or not asks:
            bids = {min(asks, default=mid) - 1 - k: 20 for k in range(13)}
            asks = {max(bids) + 1 + k: 20 for k in range(13)}
        shown_bids = sorted(bids.items(), reverse=True)[:DEPTH]
        shown_asks = sorted(asks.items())[:DEPTH]
        if crossed:
            shown_asks = [(shown_bids[0][0], 5), *shown_asks[:9]]
        if action == "R":
            shown_bids = shown_asks = ()
        records.append(Record(ts, tuple(shown_bids), tuple(shown_asks), action, flags, sequence, ordinal))
    return records


FAULTS = ("trade", "unfinished", "clear", "doubt", "silence", "crossed", "crossed", "thin")


def trades_table(rows):
    """Front trades from (ts, tick, size, aggressor), numbered in their order."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    n = len(rows)
    return pa.table(
        {
            "ts_event_ns": pa.array(columns[0], pa.int64()),
            "sequence": pa.array(range(n), pa.int64()),
            "ordinal": pa.array(range(n), pa.int64()),
            "tick": pa.array(columns[1], pa.int32()),
            "size": pa.array(columns[2], pa.int32()),
            "aggressor": pa.array(columns[3], pa.int8()),
        }
    )


def random_trades(rng, count, *, start=T0, mean_step_ns=100_000_000, mid=19_200, stride=2):
    """A random walk of prints in which times repeat and sides are known or not: (ts, tick, size,
    aggressor).
    """
    ts, tick, rows = start, mid, []
    for _ in range(count):
        ts += int(rng.choice([0, 1, int(rng.exponential(mean_step_ns)) + 1]))
        tick += int(rng.integers(-stride, stride + 1))
        rows.append((ts, tick, int(rng.integers(1, 40)), int(rng.integers(-1, 2))))
    return rows


def points_table(rows):
    """Observation points from (asof, level_tick, direction_sign)."""
    columns = list(zip(*rows, strict=True)) or [()] * 3
    return pa.table(
        {
            "observation_id": pa.array([f"p{k}" for k in range(len(rows))], pa.string()),
            "asof_ns": pa.array(columns[0], pa.int64()),
            "level_tick": pa.array(columns[1], pa.int32()),
            "direction_sign": pa.array(columns[2], pa.int8()),
        }
    )
