"""The trading of a run, instant by instant: operations open, scale, are stopped, retried and closed.

What happens is taken from one queue in order of time, an hour at a time; rows wait in their streams until their own
hour is over. So memory holds what is open, never what was. Source: spec/execution.md 10.
"""

import bisect
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np

from ingest.simulator.execution.attempts import AttemptMaker, Outcome
from ingest.simulator.execution.desk import LEVERAGE, SECOND, Desk, Stream
from ingest.simulator.execution.faults import FaultSchedule
from ingest.simulator.execution.instruments import CANARY_CLIENT, CANARY_SYMBOL, INSTRUMENTS
from ingest.simulator.execution.ledger import ISOLATED, QUOTE, SPOT, Fill, reference_row, snapshot_row
from ingest.simulator.execution.markets import Markets
from ingest.simulator.execution.positions import Operation
from ingest.simulator.execution.wire import DAY_US, HOUR_US, MINUTE_US, UNIT

QUIET_US = 6 * MINUTE_US  # before the end nothing new happens, so that all that began is over


class Engine:
    """Plays the clients' trading on ``markets``; ``hour`` gives the rows of an hour to the caller.

    Streams: ``events`` (row, is held back), ``operations``, ``balances``; ``desk`` has those of money. `take_truth`
    gives what is over.
    """

    def __init__(
        self, seed: int, clients: int, ops_per_day: int, markets: Markets, symbols: list[str], days: int,
        schedule: FaultSchedule,
    ) -> None:  # fmt: skip
        self.markets, self.schedule = markets, schedule
        self.start_us, self.end_us = markets.start_us, markets.start_us + days * DAY_US
        self.rng = np.random.default_rng([seed, 2])
        self.desk = Desk(seed, markets, schedule)
        self.clients = dict.fromkeys(range(1, clients + 1), (symbols, ops_per_day))
        self.clients[CANARY_CLIENT] = ([CANARY_SYMBOL], max(2, ops_per_day // 10))
        self.attempts = AttemptMaker(np.random.default_rng([seed, 3]), schedule, self.desk.fee, self.desk.ids)
        self.events, self.operations, self.balances = Stream(), Stream(), Stream()
        self.executions: list[dict] = []
        self.closed: list[dict] = []
        # By key: what is closed is not held by what it was to do hours later.
        self._queue: list[tuple[int, int, str, tuple[int, int] | int]] = []
        self._pushed = 0
        self._waiting: list[tuple[int, int]] = []
        self._positions: dict[tuple[int, int], Operation] = {}
        self._terminals: dict[tuple[int, str], list[tuple[int, int, bool]]] = defaultdict(list)
        self._next_operation: Counter[int] = Counter()

    # -- the clock ---------------------------------------------------------------------------------------------------

    def begin_day(self, number: int) -> None:
        """Call before the hours of day ``number``."""
        day_us = self.start_us + number * DAY_US
        self._shares = {
            client: self.rng.multinomial(ops, [1 / 24] * 24) for client, (_, ops) in self.clients.items()
        }
        waiting, self._waiting = self._waiting, []
        for op in filter(None, map(self._positions.get, waiting)):
            if op.is_open and not op.is_busy:
                self._watch(op, day_us)
        self._cash_flows(number, day_us)

    def hour(self, start_us: int, steps: int = 1, take: Callable[[int], None] = lambda _: None) -> None:
        """Play one hour in ``steps``, and its snapshots; ``take`` gets each instant before which all is known."""
        end_us = start_us + HOUR_US
        for client in self.clients:
            share = self._shares[client][(start_us - self.start_us) // HOUR_US % 24]
            for at in np.sort(self.rng.integers(start_us, end_us, share)).tolist():
                self._push(at, "open", client)
        self._midnight(start_us)
        for step in range(1, steps + 1):
            until_us = start_us + HOUR_US * step // steps
            self._play(until_us)
            if step == steps and end_us < self.end_us:
                self._snapshots(end_us)
            take(until_us)

    def _play(self, until_us: int) -> None:
        last_us = min(until_us, self.end_us - QUIET_US)
        while self._queue and self._queue[0][0] < last_us:
            at, _, what, subject = heapq.heappop(self._queue)
            if isinstance(subject, tuple):
                subject = self._positions.get(subject)  # what is closed has nothing to come
            if subject is not None:
                getattr(self, f"_on_{what}")(subject, at)
        self.desk.settle(until_us)

    def _snapshots(self, at: int) -> None:
        for client in self.clients:
            self.balances.add(at, snapshot_row(client, at, at + 2 * SECOND, self.desk.accounts))
            self.desk.book.snapshot(client, at, self.desk.accounts)

    def finish(self) -> None:
        """Tell what is still open at the end."""
        for op in list(self._positions.values()):
            self._tell(op)

    def take_truth(self) -> tuple[list[dict], list[dict], list[dict]]:
        """Executions and operations that are over, and portfolio rows, since the last call."""
        taken = self.executions, self.closed, self.desk.book.rows
        self.executions, self.closed, self.desk.book.rows = [], [], []
        return taken

    def _push(self, at: int, what: str, subject: Operation | int) -> None:
        self._pushed += 1
        key = (subject.client_id, subject.operation_id) if isinstance(subject, Operation) else subject
        heapq.heappush(self._queue, (at, self._pushed, what, key))

    # -- money -------------------------------------------------------------------------------------------------------

    def _cash_flows(self, number: int, day_us: int) -> None:
        for client, (_, ops) in self.clients.items():
            if number == 0:
                self.desk.external(client, "DEPOSIT", QUOTE, max(ops, 30) * 4_000 * UNIT, day_us + SECOND)
            elif number % 5 == 4:
                self.desk.external(
                    client, "DEPOSIT", QUOTE, 1_000 * UNIT, day_us + 12 * HOUR_US + client * SECOND
                )
            elif number % 7 == 6:
                self.desk.external(
                    client, "WITHDRAWAL", QUOTE, 500 * UNIT, day_us + 15 * HOUR_US + client * SECOND
                )
        hole = self.markets.hole
        if hole and day_us <= hole[0] < day_us + DAY_US and "unpriced-fee" in self.schedule.faults:
            for client in self.clients:
                self.desk.external(client, "DEPOSIT", "BNB", 100 * 3, hole[0] - 5 * MINUTE_US)

    # -- what happens ------------------------------------------------------------------------------------------------

    def _on_open(self, client: int, at: int, *, forced: tuple[int, str] | None = None) -> None:
        """Plan an operation and, mostly, enter it; ``forced`` is when it shall be triggered, and its symbol."""
        u = self.rng.random(20).tolist()
        symbols, _ = self.clients[client]
        symbol = forced[1] if forced else symbols[int(u[0] * len(symbols))]
        i = INSTRUMENTS[symbol]
        account = SPOT if u[1] < 0.5 or forced else ISOLATED
        direction = 1 if account == SPOT or u[2] < 0.5 else -1
        if forced:
            account, direction = self._side_of(symbol, at, forced[0])
        fee_mode = "bnb" if u[3] < 0.2 else "base" if u[3] < 0.32 and account == SPOT else "quote"
        self._next_operation[client] += 1
        op = Operation(
            client, self._next_operation[client], int(u[4] * 4), i, direction, account, fee_mode,
            1 if account == SPOT else LEVERAGE, at,
        )  # fmt: skip
        price = self.markets.price_ticks(symbol, at)
        count = 1 + (u[5] < 0.45) + (u[5] < 0.15)
        if fee_mode == "base":
            # A commission of whole steps, so that what is left of the base asset can be sold.
            parts = [1000] * count
        else:
            steps = max(count, round((200 + 1_800 * u[6]) * UNIT / i.notional(price, 1)))
            parts = [steps // count + (k < steps % count) for k in range(count)]
        op.planned_steps = sum(parts)
        stop, target = 0.002 + 0.010 * u[7], 0.003 + 0.017 * u[8]
        op.stop_ticks = _even(price * (1 - direction * stop))
        op.target_ticks = _even(price * (1 + direction * target))
        self.operations.add(at, reference_row(op, "PLANNED", at))
        self.desk.counts["planned_operations"] += 1
        if not forced and u[9] < 0.04:
            if u[9] < 0.03:
                self.operations.add(at + 90 * SECOND, reference_row(op, "CANCELLED", at + 90 * SECOND))
                op.status = "CANCELLED"
            self._tell(op)
            return
        self._enter(op, at, parts, u)
        average = sum(f.ticks * f.steps for f in op.entries) / op.planned_steps
        if forced:
            op.forced_us = forced[0]
            op.stop_ticks = _even(self.markets.price_ticks(symbol, forced[0]), up=direction > 0)
            op.target_ticks = _even(average * (1 + direction * 0.02))
        else:
            op.stop_ticks = _even(average * (1 - direction * stop))
            op.target_ticks = _even(average * (1 + direction * target))
        last = op.entries[-1].time_us
        self.desk.place_levels(op, last + SECOND)
        op.status = "ACTIVE"
        self.operations.add(last + SECOND, reference_row(op, "ACTIVE", last + SECOND))
        self._positions[client, op.operation_id] = op
        if forced:
            op.is_busy = True
            self._push(forced[0], "forced", op)
            return
        if u[10] < 0.15:
            self._push(last + int((5 + 55 * u[11]) * MINUTE_US), "scale_out", op)
        after = 0.2 + 3 * u[13] if u[12] < 0.08 else 6 + 14 * u[13]
        self._push(last + int(after * HOUR_US), "leave", op)
        self._watch(op, last)

    def _enter(self, op: Operation, at: int, parts: list[int], u: list[float]) -> None:
        """Entry orders within two minutes: the first two fills may share an order, a third is a scale-in."""
        symbol, i, d = op.instrument.symbol, op.instrument, op.direction
        placed = at + int((1 + 8 * u[14]) * SECOND)
        op.entry_placed_us = placed
        shares = len(parts) > 1 and u[15] < 0.6
        orders = [[0, 1], [2]] if shares else [[k] for k in range(len(parts))]
        fills: list[list[Fill]] = []
        time_us = placed + 150_000
        for number, places in enumerate(k for k in ([p for p in o if p < len(parts)] for o in orders) if k):
            time_us += (number > 0) * int((15 + 25 * u[16]) * SECOND)
            at_ms = time_us // 1000 * 1000
            order_id = self.desk.ids.order(symbol)
            ticks = self.markets.price_ticks(symbol, at_ms)
            made = []
            for k, place in enumerate(places):
                paid = ticks + d * (1 + 2 * k)
                commission, asset, value = self.desk.fee(op, paid, parts[place], at_ms, is_entry=True)
                made.append(
                    Fill(
                        at_ms,
                        self.desk.ids.trade(symbol),
                        order_id,
                        True,
                        paid,
                        parts[place],
                        commission,
                        asset,
                        value,
                    )
                )
            fills.append(made)
            op.entry_order_ids.append(order_id)
        op.entries = [f for made in fills for f in made]
        base_fee = sum(f.commission for f in op.entries if f.commission_asset == i.base_asset)
        op.left = op.planned_steps - base_fee // i.step
        if op.account == ISOLATED:
            self.desk.fund(op, placed)
        mismatch = self.schedule.take("order-mismatch", at)
        for number, made in enumerate(fills):
            self.desk.order(op, made, is_entry=True, extra_steps=int(mismatch and number == 0))
        op.is_mismatched = mismatch

    def _watch(self, op: Operation, after_us: int) -> None:
        found = self.markets.first_crossing(
            op.instrument.symbol, after_us, op.direction, op.stop_ticks, op.target_ticks
        )
        if found is None:
            self._waiting.append((op.client_id, op.operation_id))
            return
        at, trigger_type = found
        delay = 40_000 + (op.operation_id * 7919 + at // 1000) % 1_400_000
        self._push(at + delay, "stop" if trigger_type == "STOP_LOSS" else "target", op)

    def _on_scale_out(self, op: Operation, at: int) -> None:
        if op.is_open and not op.is_busy and op.left >= 4:
            self._exit_by_hand(op, at, op.left * 2 // 5)

    def _on_leave(self, op: Operation, at: int) -> None:
        if op.is_open and not op.is_busy:
            self._exit_by_hand(op, at, op.left)

    def _on_hand(self, op: Operation, at: int) -> None:
        self._exit_by_hand(op, at, op.left)

    def _on_stop(self, op: Operation, at: int) -> None:
        if op.is_open and not op.is_busy:
            self._attempt(op, at, "STOP_LOSS")

    def _on_target(self, op: Operation, at: int) -> None:
        if op.is_open and not op.is_busy:
            self._attempt(op, at, "TAKE_PROFIT")

    def _on_forced(self, op: Operation, at: int) -> None:
        self._attempt(op, at, "STOP_LOSS")

    def _on_retry(self, op: Operation, at: int) -> None:
        self._attempt(op, at, op.executions[-1]["trigger_type"])

    def _exit_by_hand(self, op: Operation, at: int, steps: int) -> None:
        i, at = op.instrument, at // 1000 * 1000
        ticks = max(1, self.markets.price_ticks(i.symbol, at) - op.direction)
        order_id = self.desk.ids.order(i.symbol)
        commission, asset, value = self.desk.fee(op, ticks, steps, at, is_entry=False)
        fill = Fill(
            at, self.desk.ids.trade(i.symbol), order_id, False, ticks, steps, commission, asset, value
        )
        op.exit_reasons[order_id] = "MANUAL"
        self._exit(op, [fill])

    def _attempt(self, op: Operation, at: int, trigger_type: str) -> None:
        symbol = op.instrument.symbol
        statistics = self.markets.statistics(symbol, at)
        failures = self._failures(op.client_id, symbol, at)
        op.is_busy = True
        other = next(c for c in self.clients if c != op.client_id)
        outcome = self.attempts.play(op, at, trigger_type, statistics, failures, other)
        op.forced_us = None
        outcome.execution |= {
            "consecutive_failures_1h": failures, "volatility_15m": statistics.volatility_15m,
            "volume_24h": statistics.volume_24h, "volume_24h_base": statistics.volume_24h_base,
            "median_1m_volume": statistics.median_1m_volume, "last_return": statistics.last_return,
        }  # fmt: skip
        op.executions.append(outcome.execution)
        self._remember(op, outcome)
        for ingested, row, is_held in outcome.events:
            self.events.add(ingested, (row, is_held))
        if outcome.exit_fills:
            is_good = not outcome.execution["failed_rules"]
            op.exit_reasons[outcome.order_id] = trigger_type if is_good else "MANUAL"
            self._exit(op, outcome.exit_fills)
        elif outcome.then == "retry":
            self._push(outcome.end_us + (20 + op.operation_id * 37 % 100) * SECOND, "retry", op)
        else:
            self._push(outcome.end_us + (30 + op.operation_id * 53 % 200) * SECOND, "hand", op)

    def _failures(self, client: int, symbol: str, at: int) -> int:
        """consecutive_failures_1h: what was known before ``at``. Source: spec/execution.md 5.1, 5.2."""
        run = 0
        for ended, available, is_failed in reversed(self._terminals[client, symbol]):
            if ended >= at or available >= at:
                continue
            if ended < at - HOUR_US or not is_failed:
                break
            run += 1
        return run

    def _remember(self, op: Operation, outcome: Outcome) -> None:
        """Also what ends in quarantine ended: at its time nobody knew of a rule that it would break."""
        known = self._terminals[op.client_id, op.instrument.symbol]
        for terminal in outcome.terminals:
            bisect.insort(known, terminal)
        if len(known) > 64 and known[32][0] < known[-1][0] - 2 * HOUR_US:
            del known[:32]

    def _exit(self, op: Operation, fills: list[Fill]) -> None:
        op.exits += fills
        op.left -= sum(f.steps for f in fills)
        self.desk.order(op, fills, is_entry=False)
        if not op.left:
            self._close(op, max(f.time_us for f in fills))

    def _close(self, op: Operation, at: int) -> None:
        """Nothing is left of it."""
        if op.account == ISOLATED:
            self.desk.pay_back(op, at)
        op.status = "CLOSED"
        self.operations.add(at + 2 * SECOND, reference_row(op, "CLOSED", at + 2 * SECOND))
        self._positions.pop((op.client_id, op.operation_id))
        self._tell(op)

    # -- planted by the clock ----------------------------------------------------------------------------------------

    def _midnight(self, hour_us: int) -> None:
        """At the last hour of a day, an operation that will be triggered two seconds before its end."""
        midnight = hour_us + HOUR_US
        is_last_hour = (midnight - self.start_us) % DAY_US == 0 and midnight < self.end_us
        if is_last_hour and self.schedule.take("midnight-crossing", hour_us):
            client = 1
            self._push(midnight - 20 * MINUTE_US, "crossing", client)

    def _on_crossing(self, client: int, at: int) -> None:
        midnight = (at // DAY_US + 1) * DAY_US
        self._on_open(client, at, forced=(midnight - 2 * SECOND, self.clients[client][0][0]))

    def _side_of(self, symbol: str, at: int, forced_us: int) -> tuple[str, int]:
        """The side that loses until ``forced_us``."""
        falls = self.markets.price_ticks(symbol, forced_us) < self.markets.price_ticks(symbol, at + MINUTE_US)
        return (SPOT, 1) if falls else (ISOLATED, -1)

    # -- the truth ---------------------------------------------------------------------------------------------------

    def _tell(self, op: Operation) -> None:
        """An operation is over, or the run is: its rows of the truth."""
        extremes = None
        if op.entries:
            closed_us = max(f.time_us for f in op.exits) if op.status == "CLOSED" else self.end_us
            extremes = self.markets.extremes(
                op.instrument.symbol, min(f.time_us for f in op.entries), closed_us
            )
        row = op.truth(extremes, op.status)
        self.closed.append(row)
        with_events = {e["exchange_order_id"] for e in op.executions}
        by_hand = [f.time_us for f in op.exits if str(f.order_id) not in with_events]
        for execution in op.executions:
            began = execution["triggered_us"]
            execution["has_fill_without_event"] = (
                began is not None and execution["status"] != "EXECUTED" and any(at > began for at in by_hand)
            )
            execution["is_current"] = False
        good = [e for e in op.executions if not e["failed_rules"]]
        if good:
            first = max(good, key=lambda e: (e["triggered_us"] or e["failed_us"], e["execution_token"]))
            first["is_current"] = True
        self.executions += op.executions


def _even(ticks: float, *, up: bool | None = None) -> int:
    """A level of an even number of ticks: half of it is whole; ``up`` or down where that is asked for."""
    half = ticks / 2
    rounded = round(half) if up is None else -int(-half // 1) if up else int(half // 1)
    return max(2, 2 * rounded)
