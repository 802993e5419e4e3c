"""Small random worlds: order-by-order books written as mbp-10 records, trades, sessions and points.

`random_book` keeps real orders in a price-indexed book and writes a record for each action that shows in the
ten best levels, the way the exchange's feed does: a trade is one or more `T` records that show the book
before it, then the `C`/`M` that take the size away, with F_LAST on the last record of the event only.
Everything is drawn from the `random.Random` it is given, so a seed names a world.
"""

import random
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from .book import F_LAST, F_MAYBE_BAD_BOOK, F_SNAPSHOT
from .rules import MINUTE_NS, MS_NS, SECOND_NS

CONTRACT = "ESH6"
OPEN_NS = 1_765_893_600_000_000_000  # 2025-12-16T14:00:00Z, a whole hour


def seeded(seed: int) -> random.Random:
    """The generator of one world."""
    return random.Random(seed)  # noqa: S311 (worlds, not secrets)


class _Book:
    """Orders by side (0 bid, 1 ask) and tick; shows the ten best levels of each side."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})

    def add(self, side: int, tick: int, size: int) -> None:
        self.sides[side].setdefault(tick, []).append(size)

    def by_depth(self, side: int) -> list[int]:
        return sorted(self.sides[side], reverse=side == 0)

    def best(self, side: int) -> int | None:
        ticks = self.by_depth(side)
        return ticks[0] if ticks else None

    def drop(self, side: int, tick: int, index: int = 0) -> int:
        """Take one order away and return its size; an empty price leaves the book."""
        size = self.sides[side][tick].pop(index)
        if not self.sides[side][tick]:
            del self.sides[side][tick]
        return size

    def levels(self, side: int) -> list[tuple]:
        shown = [(tick, sum(self.sides[side][tick])) for tick in self.by_depth(side)[:10]]
        return shown + [(None, 0)] * (10 - len(shown))


class _World:
    """A book, a clock and the records written so far; one method for each kind of exchange event."""

    def __init__(self, rng: random.Random, start_ns: int, mid_tick: int) -> None:
        self.rng = rng
        # A third of the worlds has a coarse clock: there every edge of a window or a limit is hit exactly.
        self.step_ns = rng.choice((1, 1, 100 * MS_NS))
        self.now_ns = start_ns
        self.wait(rng.randrange(SECOND_NS))
        self.mid = mid_tick
        self.sequence = rng.randrange(1, 1000)
        # The character of this world: depth (thin books show fewer than ten levels), holes, order sizes.
        self.depth = rng.choice((4, 9, 12, 16, 24, 24))
        self.holes = rng.choice((0.0, 0.1, 0.4))
        self.largest = rng.choice((4, 20, 60))
        # Adds, cancels, modifies, trades: a calm mix, one that builds up, one that drains, one that is eaten.
        self.mix = rng.choice(((50, 28, 7, 15), (80, 10, 5, 5), (15, 70, 5, 10), (30, 5, 5, 60)))
        self.book = _Book()
        self.records: list[dict] = []
        self.event: list[dict] = []  # records of the event under way

    def put(self, action: str, side: str, tick: int | None, size: int, *, flags: int = 0) -> None:
        """Write one record that shows the book as it is now."""
        self.event.append(
            {
                "ts_event_ns": self.now_ns,
                "sequence": self.sequence,
                "ordinal": len(self.records) + len(self.event),
                "action": action,
                "side": side,
                "flags": flags,
                "tick": tick,
                "size": size,
                "bids": self.book.levels(0),
                "asks": self.book.levels(1),
            }
        )

    def end_event(self) -> None:
        """F_LAST goes on the last record of the event, and on no other."""
        if self.event:
            self.event[-1]["flags"] |= F_LAST
            self.records += self.event
            self.event = []
        self.sequence += self.rng.choice((0, 1, 1, 1, 2))  # sequence is not unique

    def wait(self, ns: int) -> None:
        self.now_ns = -(-(self.now_ns + ns) // self.step_ns) * self.step_ns

    def pass_time(self, mean_gap_ns: int) -> None:
        """Mostly exponential; sometimes no time at all, sometimes up to a whole 100 ms or second, where the
        edges of windows and grids lie."""
        draw = self.rng.random()
        if draw > 0.15:
            self.wait(int(self.rng.expovariate(1 / mean_gap_ns)) + 1)
        if draw > 0.98:
            self.now_ns = -(-self.now_ns // SECOND_NS) * SECOND_NS
        elif draw > 0.95:
            self.now_ns = -(-self.now_ns // (100 * MS_NS)) * (100 * MS_NS)

    def some_size(self) -> int:
        return self.rng.randrange(1, self.largest)

    def some_tick(self, side: int) -> int | None:
        """A price of the side that has orders, mostly near the best."""
        ticks = self.book.by_depth(side)
        return ticks[min(int(self.rng.expovariate(1 / 3)), len(ticks) - 1)] if ticks else None

    def fill_book(self, depth: int) -> None:
        """Replace the whole book by a fresh one around the mid."""
        self.book = _Book()
        for side in (0, 1):
            for distance in range(depth):
                if distance and self.rng.random() < self.holes:
                    continue
                for _ in range(self.rng.randrange(1, 4)):
                    tick = self.mid - distance if side == 0 else self.mid + 1 + distance
                    self.book.add(side, tick, self.some_size())

    def clear_and_snapshot(self) -> None:
        """An R, then the book as SNAPSHOT records in one event or in several."""
        self.book = _Book()
        self.put("R", "N", None, 0, flags=self.rng.choice((0, F_SNAPSHOT)))
        if self.rng.random() < 0.5:
            self.end_event()
        self.fill_book(self.depth)
        for _ in range(self.rng.choice((1, 1, 3))):
            self.put("A", self.rng.choice("AB"), self.mid, 1, flags=F_SNAPSHOT)
            if self.rng.random() < 0.5:
                self.end_event()
        self.end_event()

    def add_order(self) -> None:
        """An order near the mid, kept on its own side of the spread."""
        side = self.rng.randrange(2)
        distance = min(int(self.rng.expovariate(1 / 4)), self.depth + 4)
        tick = self.mid - distance if side == 0 else self.mid + 1 + distance
        other = self.book.best(1 - side)
        if other is not None:
            tick = min(tick, other - 1) if side == 0 else max(tick, other + 1)
        size = self.some_size()
        self.book.add(side, tick, size)
        self.put("A", "BA"[side], tick, size)
        self.end_event()

    def cancel_orders(self) -> None:
        """One cancel, or several in one event, whose inner records are no states."""
        side = self.rng.randrange(2)
        for _ in range(self.rng.choice((1, 1, 1, 1, 4))):
            tick = self.some_tick(side)
            if tick is None:
                break
            size = self.book.drop(side, tick, self.rng.randrange(len(self.book.sides[side][tick])))
            self.put("C", "BA"[side], tick, size)
        self.end_event()

    def modify_order(self) -> None:
        side = self.rng.randrange(2)
        tick = self.some_tick(side)
        if tick is None:
            return
        orders = self.book.sides[side][tick]
        orders[self.rng.randrange(len(orders))] = self.some_size()
        self.put("M", "BA"[side], tick, sum(orders))
        self.end_event()

    def trade(self) -> None:
        """A market order: its T (and F) records first, all showing the book before it, then the C and M that
        take the size away; sometimes an iceberg refills its price inside the same event."""
        hit = self.rng.randrange(2)
        left = self.some_size() * self.rng.choice((1, 1, 1, 4))
        aggressor = "BA"[1 - hit] if self.rng.random() < 0.93 else "N"
        fills = []
        for tick in self.book.by_depth(hit):
            for order in self.book.sides[hit][tick]:
                if left > 0:
                    fills.append((tick, min(order, left)))
                    left -= min(order, left)
        if not fills:
            return
        for tick, taken in fills:
            self.put("T", aggressor, tick, taken)
            if self.rng.random() < 0.2:
                self.put("F", "BA"[hit], tick, taken)
        for tick, taken in fills:
            orders = self.book.sides[hit][tick]
            whole = orders[0] == taken
            if whole:
                self.book.drop(hit, tick)
            else:
                orders[0] -= taken
            self.put("C" if whole else "M", "BA"[hit], tick, taken)
        if self.rng.random() < 0.1:
            tick, size = fills[0][0], self.some_size()
            self.book.add(hit, tick, size)
            self.put("A", "BA"[hit], tick, size)
        self.end_event()

    def refill_empty_side(self) -> None:
        """An empty side gets orders again, so that one-sided books are spells and not the rule."""
        for side in (0, 1):
            if self.book.sides[side]:
                continue
            other = self.book.best(1 - side)
            best = self.mid if side == 0 else self.mid + 1
            if other is not None:
                best = min(best, other - 1) if side == 0 else max(best, other + 1)
            for deeper in range(self.rng.randrange(1, 12)):
                self.book.add(side, best - deeper if side == 0 else best + deeper, self.some_size())
            self.put("A", "BA"[side], best, 1)
            self.end_event()

    # Faults from here on.

    def clear_quietly(self) -> None:
        """An R in the stream after which the book comes back by ordinary records, at once or later."""
        self.book = _Book()
        self.put("R", "N", None, 0)
        if self.rng.random() < 0.5:
            self.end_event()
            self.wait(self.rng.randrange(1, 3 * SECOND_NS))
        self.fill_book(self.rng.randrange(1, self.depth))
        self.put("A", "B", self.mid, 1)
        self.end_event()

    def silence(self) -> None:
        self.wait(self.rng.randrange(61 * SECOND_NS, 200 * SECOND_NS))

    def silence_at_the_limit(self) -> None:
        """1 ns below, at, or 1 ns above GAP_S after the last record."""
        resume = self.records[-1]["ts_event_ns"] + 60 * SECOND_NS + self.rng.choice((-1, 0, 1))
        self.now_ns = max(self.now_ns, resume)

    def crossed_spell(self) -> None:
        """An order locks or crosses the book, some life goes on meanwhile, and it leaves again: after less
        than 1 s, exactly 1 s, or more."""
        if self.book.best(0) is None or self.book.best(1) is None:
            return
        side = self.rng.randrange(2)
        through = self.rng.randrange(0, 3)
        tick = self.book.best(1) + through if side == 0 else self.book.best(0) - through
        self.book.add(side, tick, self.some_size())
        self.put("A", "BA"[side], tick, 1)
        self.end_event()
        for _ in range(self.rng.randrange(1, 4)):
            short, long = self.rng.randrange(300 * MS_NS), self.rng.randrange(SECOND_NS)
            self.wait(self.rng.choice((0, short, long, SECOND_NS, 2 * SECOND_NS)))
            deep = min(self.book.sides[0]) - self.rng.randrange(2)
            self.book.add(0, deep, self.some_size())
            self.put("A", "B", deep, 1)
            self.end_event()
        for other in self.book.by_depth(side):
            while (other >= tick if side == 0 else other <= tick) and other in self.book.sides[side]:
                self.put("C", "BA"[side], other, self.book.drop(side, other))
                # `put` shows the book after the drop: its arguments are worked out first.
        self.end_event()

    def one_sided(self) -> None:
        """A side is cancelled away, in one event or in several, and stays empty for a while."""
        side = self.rng.randrange(2)
        while self.book.sides[side]:
            tick = self.book.best(side)
            self.put("C", "BA"[side], tick, self.book.drop(side, tick))
            if self.rng.random() < 0.3:
                self.end_event()
        self.end_event()
        self.wait(self.rng.randrange(1, 2 * SECOND_NS))
        self.put("N", "N", None, 0)
        self.end_event()

    def jump(self) -> None:
        """The whole book moves in one event."""
        self.mid += self.rng.choice((-30, -8, 8, 30))
        self.fill_book(self.depth)
        self.put("M", "B", self.mid, 1)
        self.end_event()

    def odd_end(self) -> None:
        """An event whose last record is no book action: its change shows at the next event end."""
        side = self.rng.randrange(2)
        tick = self.some_tick(side)
        if tick is not None:
            self.book.add(side, tick, self.some_size())
            self.put("A", "BA"[side], tick, 1)
            self.put(self.rng.choice("TFN"), "N", tick, self.rng.randrange(1, 5))
            self.end_event()

    def fault(self) -> None:
        self.rng.choice(
            (
                self.clear_and_snapshot,
                self.clear_quietly,
                self.silence,
                self.silence_at_the_limit,
                self.crossed_spell,
                self.crossed_spell,
                self.one_sided,
                self.jump,
                self.odd_end,
            )
        )()

    def sprinkle_flags(self) -> None:
        """Rare SNAPSHOT and MAYBE_BAD_BOOK flags on any record, rare levels with a price but no size."""
        for record in self.records:
            if self.rng.random() < 0.001:
                record["flags"] |= F_MAYBE_BAD_BOOK
            if self.rng.random() < 0.001:
                record["flags"] |= F_SNAPSHOT
            if self.rng.random() < 0.002:
                name = self.rng.choice(("bids", "asks"))
                at = self.rng.randrange(10)
                record[name][at] = (record[name][at][0], 0)


def random_book(
    rng: random.Random,
    n_events: int,
    faults: bool = True,
    *,
    start_ns: int = OPEN_NS,
    mean_gap_ns: int = 400 * MS_NS,
    mid_tick: int = 24_000,
) -> list[dict]:
    """About `n_events` exchange events as mbp-10 records (dicts, see the package docstring), in total order.

    Each world draws its own character: depth of the book (thin ones show fewer than ten levels), share of
    empty prices, sizes, mix of events, and whether its clock moves in steps of 100 ms. With `faults` the
    stream also has R clears with and without a snapshot after them, SNAPSHOT and MAYBE_BAD_BOOK flags,
    silences around and above 60 s, books crossed for less and for more than 1 s, one-sided books, events that
    end on a T, F or N record, levels with a price and size 0.
    `trades_of` gives the trades of the stream.
    """
    world = _World(rng, start_ns, mid_tick)
    fault_share = rng.choice((0.002, 0.01, 0.03)) if faults else 0.0
    world.clear_and_snapshot()
    usual = (world.add_order, world.cancel_orders, world.modify_order, world.trade)
    for _ in range(n_events):
        world.mid += rng.choice((-1, 0, 0, 0, 0, 0, 0, 1))
        event = world.fault if rng.random() < fault_share else rng.choices(usual, world.mix)[0]
        event()
        if not faults or rng.random() < 0.9:
            world.refill_empty_side()
        world.pass_time(mean_gap_ns)
    if faults:
        world.sprinkle_flags()
    return world.records


def trades_of(records: Iterable[dict]) -> list[dict]:
    """The front trades a trades feed would carry for these records: every T with a price and a size."""
    return [
        {
            "ts_event_ns": record["ts_event_ns"],
            "sequence": record["sequence"],
            "ordinal": record["ordinal"],
            "tick": record["tick"],
            "size": record["size"],
            "aggressor": {"B": 1, "A": -1, "N": 0}[record["side"]],
        }
        for record in records
        if record["action"] == "T" and record["tick"] is not None and record["size"] > 0
    ]


def random_trades(
    rng: random.Random,
    n: int,
    *,
    start_ns: int = OPEN_NS,
    mean_gap_ns: int = 2 * SECOND_NS,
    tick: int = 24_000,
    swing_ticks: int = 60,
    silences: bool = True,
) -> list[dict]:
    """`n` trades around a price that wanders and is pulled back within `swing_ticks` of its start.

    Bursts share one ns or follow within SWEEP_MAX_GAP_MS, few prints jump over a level; `silences` adds
    stretches of more than a minute. A third of the worlds moves its clock in steps of 100 ms or 1 s, so that
    limits are hit exactly.
    """
    centre = tick
    step_ns = rng.choice((1, 1, 1, 1, 100 * MS_NS, SECOND_NS))
    now = start_ns + rng.randrange(SECOND_NS)
    drift = 0
    trades = []
    for ordinal in range(n):
        draw = rng.random()
        if draw < 0.25:
            now += rng.choice((0, 1, 20 * MS_NS, 100 * MS_NS, 100 * MS_NS + 1))
        elif draw < 0.998 or not silences:
            now += int(rng.expovariate(1 / mean_gap_ns)) + 1
        else:
            now += rng.choice((60 * SECOND_NS, 60 * SECOND_NS + 1, rng.randrange(60, 240) * SECOND_NS))
        draw = rng.random()
        if draw < 0.01:
            now = -(-now // MINUTE_NS) * MINUTE_NS
        elif draw < 0.03:
            now = -(-now // (100 * MS_NS)) * (100 * MS_NS)
        now = -(-now // step_ns) * step_ns
        if rng.random() < 0.05:
            drift = rng.choice((-2, -1, 0, 0, 1, 2))
        tick += drift + rng.choice((-1, 0, 0, 1))
        if rng.random() < 0.01:
            tick += rng.choice((-25, -16, 16, 25))
        if abs(tick - centre) > swing_ticks:
            drift = -1 if tick > centre else 1
        trades.append(
            {
                "ts_event_ns": now,
                "sequence": ordinal // 2,
                "ordinal": ordinal,
                "tick": tick,
                "size": rng.choice((1, 1, 2, 3, 5, 10, 30, 60)),
                "aggressor": rng.choice((1, 1, 1, -1, -1, -1, 0)),
            }
        )
    return trades


def random_points(rng: random.Random, n: int, instants: list[int], ticks: list[int]) -> list[dict]:
    """`n` observation points with asof on the 100 ms grid, around times and prices that occurred.

    `instants` are event times to aim at: most points lie shortly after one, some exactly 1, 5, 60 or 240 s
    after, some anywhere from just before the first to just after the last. `ticks` are prices to aim
    at. Sorted by asof. Some instants repeat with another level or direction.
    """
    grid = 100 * MS_NS
    offsets = (0, 0, 1, rng.randrange(5 * SECOND_NS), SECOND_NS, SECOND_NS + grid)
    offsets += (5 * SECOND_NS, 60 * SECOND_NS, 60 * SECOND_NS, 60 * SECOND_NS + grid, 240 * SECOND_NS)
    points = []
    for i in range(n):
        draw = rng.random()
        if points and draw < 0.1:
            asof = points[-1]["asof_ns"]
        elif draw < 0.25:
            asof = rng.randrange(min(instants) - SECOND_NS, max(instants) + 65 * SECOND_NS)
        elif draw < 0.35:
            asof = rng.choice(instants) // SECOND_NS * SECOND_NS
        else:
            asof = rng.choice(instants) + rng.choice(offsets)
        asof = -(-asof // grid) * grid
        points.append(
            {
                "observation_id": f"point-{i}",
                "asof_ns": asof,
                "anchor_ns": asof,
                "level_id": f"L{i}",
                "level_kind_name": "ROUND",
                "level_tick": rng.choice(ticks) + rng.choice((-40, -6, -2, -1, 0, 0, 0, 1, 3, 12)),
                "direction": rng.choice(("UP", "DOWN")),
                "stage": "touch",
            }
        )
    return sorted(points, key=lambda point: point["asof_ns"])


def random_levels(rng: random.Random, session: dict, ticks: list[int], monitor_ticks: int) -> list[dict]:
    """Level rows no market would give: they jump by the monitor band and one tick less or more, pause and
    return, hold for a minute or for long. Each has a kind of its own, so that ties of two levels have an order.
    """
    rows = []
    steps = (0, 0, 0, 1, -1, 3, -3, monitor_ticks, -monitor_ticks, monitor_ticks + 1, -monitor_ticks - 1)
    for kind in range(8):
        tick = rng.choice(ticks) + rng.choice((-20, 0, 5, 20))
        start = session["globex_open_ns"] + rng.randrange(10) * MINUTE_NS
        is_static = rng.random() < 0.3
        while start < session["globex_close_ns"]:
            end = start + (rng.randrange(10, 60) if is_static else 1) * MINUTE_NS
            end = min(end, session["globex_close_ns"])
            rows.append(
                {
                    "level_id": f"L{kind}",
                    "level_kind": kind,
                    "level_kind_name": f"L{kind}",
                    "level_tick": tick,
                    "valid_from_ns": start,
                    "valid_to_ns": end,
                }
            )
            start = end + rng.choice((0, 0, 0, 0, 0, 0, 0, 1)) * MINUTE_NS
            tick += rng.choice(steps)
    return rows


def random_session(rng: random.Random, start_ns: int = OPEN_NS, minutes: int = 90) -> dict:
    """A dim_session row squeezed into `minutes`, on whole minutes: pre-market, RTH and a tail after it."""
    premarket = start_ns + rng.randrange(0, 4) * MINUTE_NS
    rth_open = premarket + rng.randrange(2, 12) * MINUTE_NS
    rth_close = start_ns + (minutes - rng.randrange(0, 6)) * MINUTE_NS
    return {
        "session_date": "2025-12-16",
        "globex_open_ns": start_ns,
        "premarket_open_ns": premarket,
        "rth_open_ns": rth_open,
        "rth_close_ns": rth_close,
        "globex_close_ns": start_ns + minutes * MINUTE_NS,
        "is_holiday": False,
        "is_early_close": False,
    }


def _decimal_prices(ticks: list[int | None]) -> pa.Array:
    """DECIMAL(18,9) prices of ticks, by mantissa (tick * 250,000,000), without a float on the way."""
    low = np.array([0 if tick is None else tick * 250_000_000 for tick in ticks], dtype=np.int64)
    words = np.stack([low, low >> 63], axis=1)  # two's complement, little end first
    mask = np.array([tick is not None for tick in ticks])
    buffers = [pa.py_buffer(np.packbits(mask, bitorder="little").tobytes()), pa.py_buffer(words.tobytes())]
    return pa.Array.from_buffers(pa.decimal128(18, 9), len(ticks), buffers)


def mbp10_table(records: list[dict], contract: str = CONTRACT) -> pa.Table:
    """The records as `stg_futures__mbp10` holds them: every column of `futures.mbp10.v1`."""
    n = len(records)

    def column(name: str, dtype: pa.DataType) -> pa.Array:
        return pa.array([record[name] for record in records], dtype)

    columns = {
        "ts_event_ns": column("ts_event_ns", pa.int64()),
        "ts_recv_ns": pa.array([record["ts_event_ns"] + 1000 for record in records], pa.int64()),
        "source": pa.array(["sim"] * n, pa.string()),
        "delivery_id": pa.array(["0123456789abcdef"] * n, pa.string()),
        "ordinal": column("ordinal", pa.int64()),
        "_extra": pa.nulls(n, pa.string()),
        "sequence": column("sequence", pa.int64()),
        "publisher_id": pa.array([1] * n, pa.int16()),
        "instrument_id": pa.array([17077] * n, pa.int32()),
        "contract": pa.array([contract] * n, pa.string()),
        "price": _decimal_prices([record["tick"] for record in records]),
        "size": column("size", pa.int32()),
        "side": column("side", pa.string()),
        "aggressor": pa.array(
            [
                {"B": 1, "A": -1, "N": 0}[record["side"]] if record["action"] == "T" else 0
                for record in records
            ],
            pa.int8(),
        ),
        "flags": column("flags", pa.uint8()),
        "depth": pa.array([0] * n, pa.uint8()),
        "ts_in_delta": pa.array([0] * n, pa.int32()),
        "action": column("action", pa.string()),
    }
    for side, name in (("bid", "bids"), ("ask", "asks")):
        for k in range(10):
            columns[f"{side}_px_{k:02d}"] = _decimal_prices([record[name][k][0] for record in records])
    for what in ("sz", "ct"):
        for side, name in (("bid", "bids"), ("ask", "asks")):
            for k in range(10):
                sizes = [record[name][k][1] for record in records]
                if what == "ct":
                    sizes = [min(size, 1) for size in sizes]
                columns[f"{side}_{what}_{k:02d}"] = pa.array(sizes, pa.int32())
    return pa.table(columns)


def trades_table(trades: list[dict], contract: str = CONTRACT) -> pa.Table:
    """The trades as `stg_futures__trades` holds them."""
    n = len(trades)

    def column(name: str, dtype: pa.DataType) -> pa.Array:
        return pa.array([trade[name] for trade in trades], dtype)

    return pa.table(
        {
            "contract": pa.array([contract] * n, pa.string()),
            "ts_event_ns": column("ts_event_ns", pa.int64()),
            "sequence": column("sequence", pa.int64()),
            "ordinal": column("ordinal", pa.int64()),
            "tick": column("tick", pa.int32()),
            "size": column("size", pa.int32()),
            "aggressor": column("aggressor", pa.int8()),
            "flags": pa.array([0] * n, pa.uint8()),
        }
    )
