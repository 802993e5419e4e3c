"""One attempt to close an operation at a level: its events as the bot writes them, and what it came to.

Which shape an attempt has is decided here by chance or by a planted fault; the truth follows from the shape, never from
reading the events again. Source: spec/execution.md 3.2, 4.1 to 4.5, 10.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ingest.simulator.execution.faults import FaultSchedule
from ingest.simulator.execution.ledger import Fill
from ingest.simulator.execution.markets import Statistics
from ingest.simulator.execution.positions import Operation
from ingest.simulator.execution.wire import (
    MINUTE_US,
    UNIT,
    cast_double,
    date_text,
    execution_token,
    iso,
    money,
    percent_points,
    product,
    uuid_text,
)

GUARDRAILS = ("BLOCKED", "STALE_PRICE", "KILL_SWITCH", "SLIPPAGE_BREACH", "CIRCUIT_BREAKER")
BLOCK_SHARE = 0.03
SECOND = 1_000_000
# Shapes that a fault gives to an attempt, in the order in which they are chosen when several are due.
SHAPES = (
    "duplicate-report", "null-event-seq", "stream-gap", "late-commit", "partial-fills", "lone-failed",
    "late-fill-after-failure", "late-fill-after-block", "failure-after-fill", "all-event-types", "two-attempts",
    "slippage-at-bound", "slippage-beyond", "executed-without-fill", "wrong-time-order", "nonpositive-price",
    "tenant-mismatch",
)  # fmt: skip
SPOT_ONLY = ("slippage-at-bound", "slippage-beyond")
_PLANTED_TYPES = (*GUARDRAILS, "PENDING", "SUBMITTED")
_RULES = {
    "slippage-beyond": "SLIPPAGE_RANGE", "executed-without-fill": "EXECUTED_NO_FILL", "wrong-time-order": "TIME_ORDER",
    "nonpositive-price": "NONPOSITIVE", "tenant-mismatch": "TENANT_MISMATCH",
}  # fmt: skip


@dataclass
class Outcome:
    """``events``, in the order of their commits: (ingested_us, row, whether it is held back). ``execution`` is the
    row of the truth; ``terminals``: (ended, available, is a failure); ``exit_fills`` close ``order_id``; ``then``:
    nothing, ``retry`` or ``manual``; ``end_us`` is when it was over.
    """

    events: list[tuple[int, dict, bool]]
    execution: dict
    terminals: list[tuple[int, int, bool]]
    exit_fills: list[Fill] = field(default_factory=list)
    order_id: int | None = None
    then: str = "nothing"
    end_us: int = 0


class AttemptMaker:
    """``fees`` gives (commission, asset, value in quote or None) of a fill; ``ids`` numbers orders and trades."""

    def __init__(self, rng: np.random.Generator, schedule: FaultSchedule, fees, ids) -> None:
        self.rng, self.schedule, self.fees, self.ids = rng, schedule, fees, ids
        self._types = 0
        self._bounds = 0

    def play(
        self,
        op: Operation,
        time_us: int,
        trigger_type: str,
        statistics: Statistics,
        failures: int,
        other: int,
    ) -> Outcome:
        """The attempt of ``op`` that is triggered at ``time_us``; ``failures`` is consecutive_failures_1h, ``other`` a
        client that an event may name by mistake."""
        u = self.rng.random(20).tolist()
        z = self.rng.standard_normal(3).tolist()
        op.attempts += 1
        shape = self._shape(op, time_us)
        p = 1 / (
            1
            + math.exp(
                1.6
                - 1000 * ((statistics.volatility_15m or 0.001) - 0.001)
                - 0.5 * min(failures, 3)
            )
        )  # fmt: skip
        planted = shape in SHAPES and shape not in ("partial-fills", "late-commit")
        status = "EXECUTED"
        block = None
        if shape == "all-event-types":
            kind = _PLANTED_TYPES[self._types % len(_PLANTED_TYPES)]
            self._types += 1
            status, block = ("BLOCKED", kind) if kind in GUARDRAILS else (kind, None)
        elif shape in ("lone-failed", "two-attempts"):
            status = "FAILED"
        elif not planted and u[0] < BLOCK_SHARE and shape is None and op.forced_us is None:
            status, block = "BLOCKED", GUARDRAILS[int(u[1] * len(GUARDRAILS))]
        elif not planted and u[2] < p and shape is None and op.forced_us is None:
            status = "FAILED"
        return _Script(self, op, time_us, trigger_type, statistics, u, z, shape, status, block, other).run()

    def _shape(self, op: Operation, time_us: int) -> str | None:
        if op.forced_us is not None:
            return None
        names = [s for s in SHAPES if s not in SPOT_ONLY or (op.account == "SPOT" and op.direction > 0)]
        if name := self.schedule.first_due(names, time_us):
            self.schedule.take(name, time_us)
        return name

    def next_bound(self) -> int:
        """+1 and −1 by turns."""
        self._bounds += 1
        return 1 if self._bounds % 2 else -1


class _Script:
    """The events of one attempt, one after the other."""

    def __init__(
        self, maker, op, time_us, trigger_type, statistics, u, z, shape, status, block, other
    ) -> None:
        self.maker, self.op, self.shape, self.status, self.block, self.other = (
            maker, op, shape, status, block, other,
        )  # fmt: skip
        self.t, self.trigger_type, self.statistics, self.u, self.z = time_us, trigger_type, statistics, u, z
        i, g = op.instrument, op.closing_sign
        self.level = op.stop_ticks if trigger_type == "STOP_LOSS" else op.target_ticks
        volatility = statistics.volatility_15m or 0.001
        gap = -math.log(1 - u[3]) * (0.05 + 20 * volatility)
        if trigger_type == "TAKE_PROFIT":
            gap = -gap  # a target is overshot in our favour
        self.trigger = max(1, round(self.level * (1 - g * gap / 100)))
        ratio = (
            i.quantity(op.left) / UNIT / statistics.median_1m_volume if statistics.median_1m_volume else 1.0
        )
        slip = 0.01 + 40 * volatility + 0.02 * math.log(1 + ratio) + 0.01 * z[0]
        self.fill = max(1, round(self.trigger * (1 - g * slip / 100)))
        self.quantity = op.left
        self.entry = op.avg_entry
        self.token = execution_token(
            op.client_id, op.operation_id, trigger_type, i.price(self.level), op.attempts
        )
        self.source = ("ws", "ws", "cron", "rust")[int(u[4] * 4)]
        self.price_age_ms = int(20 + 900 * u[5]) if self.source != "cron" else int(200 + 20_000 * u[5])
        self.sends_book = self.source == "rust"
        self.spread_bps, self.depth = round(0.2 + 3 * u[6], 4), round(5_000 + 100_000 * u[7], 2)
        self.events: list[tuple[int, dict, bool]] = []
        self.anomalies: list[tuple[str, str | None]] = []
        self.flags: list[str] = []
        self.last_us = 0
        self.truth: dict = {}

    # -- events ------------------------------------------------------------------------------------------------------

    def event(
        self, kind: str, occurred_us: int, payload: dict, *, exchange_us: int | None = None, is_held: bool = False,
        client_id: int | None = None, operation_id: int | None = None, **columns: object,
    ) -> str:  # fmt: skip
        """Write one; its id."""
        op, i = self.op, self.op.instrument
        event_id = uuid_text(self.maker.rng.bytes(16))
        delay = 4_000 + int(180_000 * (hash_fraction(event_id)))
        ingested = max(self.last_us + 1, occurred_us + delay)
        self.last_us = ingested
        is_foreign = client_id is not None
        row = {
            "event_id": event_id, "event_seq": 0, "stream_seq": None if is_foreign else op.stream_seq,
            "occurred_at": iso(occurred_us), "exchange_time": None if exchange_us is None else iso(exchange_us),
            "operation_id": operation_id or op.operation_id, "client_id": client_id or op.client_id,
            "symbol": i.symbol, "event_type": kind, "trigger_price": None, "stop_price": money(i.price(self.level)),
            "quantity": money(i.quantity(self.quantity)), "side": op.closing_side, "execution_token": self.token,
            "payload_json": payload, "exchange_order_id": None, "fill_price": None, "slippage_pct": None,
            "source": self.source, "retry_count": op.attempts - 1, "error_message": None, "ingested_at": iso(ingested),
        }  # fmt: skip
        row.update(columns)
        if self.shape == "null-event-seq":
            row["event_seq"] = None
        if not is_foreign:
            op.stream_seq += 1
            self.truth.setdefault("source_event_ids", []).append(event_id)
        self.events.append((ingested, row, is_held))
        return event_id

    def payload(self, **more: object) -> dict:
        return {"trigger_type": self.trigger_type, "entry_price": money(self.entry), **more}

    def triggered(self) -> None:
        op, i = self.op, self.op.instrument
        expected = op.direction * product(i.price(self.level) - self.entry, i.quantity(self.quantity))
        payload = self.payload(
            expected_pnl=money(expected), entry_placed_at=iso(op.entry_placed_us),
            entry_time=iso(op.entries[0].time_us),
            entry_order_ids=[str(o) for o in op.entry_order_ids], strategy_id=op.strategy_id,
            price_age_ms=self.price_age_ms,
        )  # fmt: skip
        if self.sends_book:
            payload |= {
                "spread_bps_at_trigger": f"{self.spread_bps:.4f}",
                "top_depth_quote": f"{self.depth:.2f}",
            }
        price = 0 if self.shape == "nonpositive-price" else i.price(self.trigger)
        self.event("STOP_TRIGGERED", self.t, payload, trigger_price=money(price))
        self.truth |= {"triggered_us": self.t, "trigger_price": price, "available_us": self.last_us}

    def submitted(self, at_us: int) -> None:
        self.event(
            "EXECUTION_SUBMITTED",
            at_us,
            self.payload(),
            trigger_price=money(self.op.instrument.price(self.trigger)),
        )
        self.truth["submitted_us"] = at_us

    def failed(self, at_us: int, label: bool) -> str:
        message = (
            "code=-2010 insufficient balance",
            "code=-1021 timestamp outside recvWindow",
            "order timed out",
        )[int(self.u[8] * 3)]
        if self.maker.schedule.take("secrets", self.t):
            key = self.maker.rng.bytes(32).hex()
            message = f"code=-2015 key={key} rejected for 10.{int(self.u[9] * 255)}.0.7"
            self.truth["has_secret"] = True
        return self.event("FAILED", at_us, self.payload(canary_outcome=label), error_message=message)

    def executed(
        self, at_us: int, fills: list[Fill], order_id: int, label: bool, *, is_held: bool = False
    ) -> str:
        op, i = self.op, self.op.instrument
        steps = sum(f.steps for f in fills)
        mean = _mean(i, fills)
        fee = sum(f.commission for f in fills)
        pnl = op.direction * product(mean - self.entry, i.quantity(steps))
        payload = self.payload(
            pnl=money(pnl), fee=money(fee), fee_asset=fills[0].commission_asset, fill_imputed=False,
            canary_outcome=label,
            fills=[
                {"price": money(i.price(f.ticks)), "qty": money(i.quantity(f.steps)),
                 "commission": money(f.commission), "commission_asset": f.commission_asset, "trade_id": f.trade_id}
                for f in fills
            ],
        )  # fmt: skip
        level = i.price(self.level)
        slippage = op.closing_sign * (level - mean) / level * 100
        has_fill = self.shape != "executed-without-fill"
        return self.event(
            "EXECUTED", at_us, payload, exchange_us=fills[-1].time_us, is_held=is_held,
            exchange_order_id=str(order_id), quantity=money(i.quantity(steps)),
            fill_price=money(mean) if has_fill else None,
            slippage_pct=f"{min(abs(percent_points(slippage)), 999_999):.4f}" if has_fill else None,
        )  # fmt: skip

    def blocked(self, at_us: int, kind: str) -> str:
        payload = {
            "block_reason": kind if kind != "BLOCKED" else "POSITION_LIMIT", "limit_value": "5.00",
            "observed_value": "6.25",
            "price_age_ms": self.price_age_ms,
        }  # fmt: skip
        self.truth["block_reason"] = payload["block_reason"]
        return self.event(kind, at_us, payload)

    # -- the shapes --------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        op, shape = self.op, self.shape
        submit = self.t + 60_000 + int(340_000 * self.u[10])
        report = submit + 80_000 + int(700_000 * self.u[11])
        if op.forced_us is not None:
            submit, report = self.t + SECOND, self.t + 5 * SECOND
        elif report // MINUTE_US != (report + 100_000) // MINUTE_US:
            report += 100_000  # all clocks of a report show one minute, so that its fee has one price
        is_executed = self.status == "EXECUTED"
        outcome = Outcome([], {}, [])
        times: dict[str, int | None] = {}
        if shape == "lone-failed":
            times["failed_us"] = report
            event_id = self.failed(report, label=False)
            outcome.terminals.append((report, self.last_us, True))
            self.anomalies.append(("MISSING_TRIGGER", event_id))
            outcome.then = "retry"
        else:
            self.triggered()
            if shape == "stream-gap":
                op.stream_seq += 1
                self.anomalies.append(("SEQ_GAP", None))
            if is_executed:
                times |= self._closed(outcome, submit, report)
            elif self.status == "FAILED":
                self.submitted(submit)
                self.failed(report, label=False)
                times["failed_us"] = report
                outcome.terminals.append((report, self.last_us, True))
                outcome.then = "retry" if shape == "two-attempts" or self.u[12] < 0.8 else "manual"
            elif self.status == "BLOCKED":
                self.blocked(submit, self.block)
                times["blocked_us"] = submit
                outcome.then = "retry" if self.u[12] < 0.6 else "manual"
            else:
                if self.status == "SUBMITTED":
                    self.submitted(submit)
                outcome.then = "manual"
        if op.attempts >= 4 and outcome.then == "retry":
            outcome.then = "manual"
        if shape == "tenant-mismatch":
            self._foreign(report)
        if shape == "null-event-seq":
            self.anomalies.append(("NULL_SEQ", None))
        outcome.end_us = self.last_us
        outcome.events = self.events
        outcome.execution = self._truth(outcome, times)
        return outcome

    def _closed(self, outcome: Outcome, submit: int, report: int) -> dict[str, int]:
        """T S X, and its disturbed forms."""
        op, shape = self.op, self.shape
        times: dict[str, int] = {}
        if shape == "late-fill-after-block":
            self.blocked(submit, GUARDRAILS[int(self.u[1] * len(GUARDRAILS))])
            times["blocked_us"] = submit
            report = submit + 100 * SECOND
        else:
            self.submitted(submit)
        if shape == "late-fill-after-failure":
            self.failed(report, label=True)
            times["failed_us"] = report
            outcome.terminals.append((report, self.last_us, True))
            report += 120 * SECOND
        if shape == "wrong-time-order":
            report = submit - 20_000
        self._slip()
        order_id = self.maker.ids.order(op.instrument.symbol)
        fills = self._fills(
            (report // 1000 + 1) * 1000, order_id
        )  # the exchange's clock is one of milliseconds
        reports = [fills]
        if shape == "partial-fills" and len(fills) > 1:
            reports = [fills[:1], fills[1:]]
        for number, part in enumerate(reports):
            at = report + 3_000 + number * 50_000
            event_id = self.executed(
                at, part, order_id, True, is_held=shape == "late-commit" and number == len(reports) - 1
            )
            times["executed_us"] = at
            outcome.terminals.append((at, self.last_us, False))
        if shape == "late-fill-after-failure":
            self.anomalies.append(("LATE_FILL_AFTER_FAILURE", event_id))
        if shape == "late-fill-after-block":
            self.anomalies.append(("LATE_FILL_AFTER_BLOCK", event_id))
        if shape == "duplicate-report":
            again = self.executed(report + 40_000, reports[-1], order_id, True)
            self.anomalies.append(("DUPLICATE_EVENT", again))
        if shape == "failure-after-fill":
            again = self.failed(report + SECOND, label=True)
            self.anomalies.append(("CONFLICTING_TERMINAL", again))
        outcome.exit_fills, outcome.order_id = fills, order_id
        return times

    def _slip(self) -> None:
        """Exactly ±50 percent of the level, or a little beyond."""
        if self.shape not in SPOT_ONLY:
            return
        sign = self.maker.next_bound()
        # A level of an even number of ticks has a half; the stop is the bot's own to choose.
        beyond = 0.012 if self.shape == "slippage-beyond" else 0.0
        self.fill = max(1, round(self.level * (1 - self.op.closing_sign * sign * (0.5 + beyond))))

    def _fills(self, exchange_us: int, order_id: int) -> list[Fill]:
        op, i = self.op, self.op.instrument
        count = 1 if self.shape in SPOT_ONLY else 1 + (self.u[13] < 0.25) + (self.u[13] < 0.08)
        if self.shape == "partial-fills":
            count = max(count, 2)
        parts = _split(self.quantity, count)
        fills = []
        for number, steps in enumerate(parts):
            ticks = max(1, self.fill - number * op.closing_sign * int(1 + 3 * self.u[14 + number]))
            commission, asset, value = self.maker.fees(op, ticks, steps, exchange_us, is_entry=False)
            fills.append(
                Fill(
                    exchange_us,
                    self.maker.ids.trade(i.symbol),
                    order_id,
                    False,
                    ticks,
                    steps,
                    commission,
                    asset,
                    value,
                )
            )
        return fills

    def _foreign(self, at_us: int) -> None:
        operation_id = 900_000_000 + self.op.operation_id
        event_id = self.event(
            "EXECUTION_SUBMITTED",
            at_us + 400_000,
            self.payload(),
            client_id=self.other,
            operation_id=operation_id,
        )
        self.truth |= {
            "foreign_event_id": event_id,
            "foreign_client_id": self.other,
            "foreign_operation_id": operation_id,
        }

    # -- the truth ---------------------------------------------------------------------------------------------------

    def _truth(self, outcome: Outcome, times: dict) -> dict:
        op, i, g = self.op, self.op.instrument, self.op.closing_sign
        level = i.price(self.level)
        row = {
            "client_id": op.client_id, "execution_token": self.token, "operation_id": op.operation_id,
            "symbol": i.symbol, "side": op.closing_side, "strategy_id": op.strategy_id,
            "trigger_type": self.trigger_type, "stop_price": level, "trigger_price": None, "entry_price": self.entry,
            "entry_placed_us": op.entry_placed_us, "entry_us": op.entries[0].time_us,
            "quantity": i.quantity(self.quantity), "executed_quantity": None, "status": self.status,
            "triggered_us": None, "submitted_us": None, "executed_us": None, "failed_us": None, "blocked_us": None,
            "block_reason": None, "exchange_order_id": None, "fill_price": None, "slippage_pct": None,
            "slippage_vs_trigger_pct": None, "detection_gap_pct": None, "fee_quote": None, "gross_pnl": None,
            "net_pnl": None, "source": self.source, "retry_count": op.attempts - 1, "is_fee_unpriced": False,
            "has_secret": False, "foreign_event_id": None, "available_us": None,
        } | self.truth | times  # fmt: skip
        if (
            self.shape == "lone-failed"
        ):  # a FAILED says nothing of the entry: the first order of the ledger does
            row["entry_placed_us"] = op.entry_booked_us
        row["source_event_ids"] = sorted(self.truth["source_event_ids"])
        row["event_count"] = len(row["source_event_ids"])
        row["shape"] = self.shape
        row["failed_rules"] = [_RULES[self.shape]] if self.shape in _RULES else []
        row["anomalies"] = self.anomalies
        row["report_count"] = 0
        if row["triggered_us"] is not None:
            trigger = row["trigger_price"]
            row["detection_gap_pct"] = percent_points(g * (level - trigger) / level * 100)
        if outcome.exit_fills:
            fills = outcome.exit_fills
            row["exchange_order_id"] = str(outcome.order_id)
            row["executed_quantity"] = i.quantity(sum(f.steps for f in fills))
            row["report_count"] = 1 + (self.shape == "partial-fills")
            fees = [f.fee_quote for f in fills]
            row["is_fee_unpriced"] = None in fees
            row["fee_quote"] = None if None in fees else sum(fees)
            if self.shape != "executed-without-fill":
                self._priced(row, fills, level, g)
        first = row["triggered_us"] if row["triggered_us"] is not None else times.get("failed_us")
        row["date"] = date_text(first)
        return row

    def _priced(self, row: dict, fills: list[Fill], level: int, g: int) -> None:
        i = self.op.instrument
        reports = [fills[:1], fills[1:]] if self.shape == "partial-fills" else [fills]
        means = [(_mean(i, part), i.quantity(sum(f.steps for f in part))) for part in reports]
        price = cast_double(sum(m * q for m, q in means) / UNIT**2 / (sum(q for _, q in means) / UNIT))
        row["fill_price"] = price
        row["slippage_pct"] = percent_points(g * (level - price) / level * 100)
        if row["triggered_us"] is not None and row["trigger_price"]:
            trigger = row["trigger_price"]
            row["slippage_vs_trigger_pct"] = percent_points(g * (trigger - price) / trigger * 100)
        row["gross_pnl"] = g * product(price - self.entry, row["executed_quantity"])
        if row["fee_quote"] is not None:
            row["net_pnl"] = row["gross_pnl"] - row["fee_quote"]


def hash_fraction(event_id: str) -> float:
    """In [0, 1), out of the id: how long the database took has no draw of its own."""
    return int(event_id[:6], 16) / 0x1000000


def _mean(instrument, fills: list[Fill]) -> int:
    """Quantity-weighted mean fill, as the producer rounds it."""
    steps = sum(f.steps for f in fills)
    value = sum(f.ticks * f.steps for f in fills) * instrument.tick
    return (2 * value + steps) // (2 * steps)


def _split(steps: int, count: int) -> list[int]:
    count = min(count, steps)
    parts = [steps // count] * count
    parts[0] += steps - sum(parts)
    return parts
