"""One operation, from its plan to its last exit, and what it came to. Prices in ticks, quantities in steps, money in
1e-8 units; every division is the last step of its formula. Source: spec/execution.md 4.8.
"""

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

from ingest.simulator.execution.instruments import Instrument
from ingest.simulator.execution.ledger import Fill
from ingest.simulator.execution.wire import UNIT, divide, percent_points, product


@dataclass
class Operation:
    """``direction`` is +1 long, −1 short; ``left`` are the steps that are still to be closed. ``stop_ticks`` and
    ``target_ticks`` are the levels. ``forced_us`` is when a planted one is triggered, ``entry_booked_us`` when
    the ledger knew the first entry order.
    """

    client_id: int
    operation_id: int
    strategy_id: int
    instrument: Instrument
    direction: int
    account: str
    fee_mode: str
    leverage: int
    created_us: int
    planned_steps: int = 0
    stop_ticks: int = 0
    target_ticks: int = 0
    status: str = "PLANNED"
    entries: list[Fill] = field(default_factory=list)
    exits: list[Fill] = field(default_factory=list)
    entry_order_ids: list[int] = field(default_factory=list)
    entry_placed_us: int = 0
    entry_booked_us: int = 0
    left: int = 0
    attempts: int = 0
    is_busy: bool = False
    stream_seq: int = 1
    forced_us: int | None = None
    collateral: int = 0
    borrowed_quote: int = 0
    borrowed_base: int = 0
    isolated_quote: int = 0
    interest: int = 0
    is_mismatched: bool = False
    executions: list[dict] = field(default_factory=list)
    exit_reasons: dict[int, str] = field(default_factory=dict)
    # Moving average, played forward as snapshots need it.
    cost: int = 0
    held: int = 0
    realised: int = 0

    @property
    def is_open(self) -> bool:
        return self.status == "ACTIVE"

    @property
    def closing_sign(self) -> int:
        """+1 when it is closed by SELL."""
        return self.direction

    @property
    def closing_side(self) -> str:
        return "SELL" if self.direction > 0 else "BUY"

    @property
    def avg_entry(self) -> int:
        """Mean entry price, 1e-8 units, as the producer has it."""
        return divide(
            sum(f.ticks * f.steps for f in self.entries) * self.instrument.tick,
            sum(f.steps for f in self.entries),
        )

    @property
    def dust(self) -> int:
        """What may be left of a closed operation, 1e-8 base units."""
        base = self.instrument.base_asset
        return self.instrument.step + sum(
            f.commission for f in self.entries + self.exits if f.commission_asset == base
        )

    def fills(self) -> list[Fill]:
        return sorted([*self.entries, *self.exits], key=lambda f: (f.time_us, f.trade_id))

    def play(self, fill: Fill) -> None:
        """Move cost and quantity held by one fill."""
        i = self.instrument
        quantity, value = i.quantity(fill.steps), i.notional(fill.ticks, fill.steps)
        if fill.is_entry:
            self.cost += value
            self.held += quantity
            return
        removed = self.cost if quantity == self.held else divide(self.cost * quantity, self.held)
        self.realised += self.direction * (value - removed)
        self.cost -= removed
        self.held -= quantity

    def unrealised(self, mark: int) -> int:
        """d × (mark − cost / held) × held, 1e-8 units."""
        return self.direction * (product(mark, self.held) - self.cost)

    def fifo(self) -> int:
        """Realised by first in, first out, 1e-8 units."""
        lots: deque[list[int]] = deque()
        realised = 0
        for fill in self.fills():
            if fill.is_entry:
                lots.append([fill.steps, fill.ticks])
                continue
            steps = fill.steps
            while steps and lots:
                part = min(steps, lots[0][0])
                realised += self.direction * self.instrument.notional(fill.ticks - lots[0][1], part)
                steps -= part
                lots[0][0] -= part
                if not lots[0][0]:
                    lots.popleft()
        return realised

    def truth(self, extremes: tuple[int, int] | None, reference_status: str) -> dict:
        """One row of truth/operations: ``extremes`` are the lowest and highest price of its full bars, ticks.

        Nothing of the cost is left of what a snapshot has played: it is played again from the first fill.
        """
        i, d = self.instrument, self.direction
        entry_steps, exit_steps = sum(f.steps for f in self.entries), sum(f.steps for f in self.exits)
        remaining = i.quantity(entry_steps - exit_steps)
        if not self.entries:
            status = "CANCELLED" if reference_status == "CANCELLED" else "PLANNED"
        else:
            status = "CLOSED" if remaining <= self.dust else "ACTIVE"
        closed = status == "CLOSED"
        again = Operation(0, 0, 0, i, d, "", "", 1, 0)
        largest = 0
        for fill in self.fills():
            again.play(fill)
            largest = max(largest, product(again.held, i.price(fill.ticks)))
        fees = [f.fee_quote for f in self.entries + self.exits]
        fees_quote = None if None in fees else sum(fees)
        gross = again.realised
        net = gross - fees_quote - self.interest if closed and fees_quote is not None else None
        notional = sum(i.notional(f.ticks, f.steps) for f in self.entries)
        row = {
            "client_id": self.client_id, "operation_id": self.operation_id, "strategy_id": self.strategy_id,
            "symbol": i.symbol, "side": "BUY" if d > 0 else "SELL", "account_type": self.account, "status": status,
            "leverage": self.leverage, "created_us": self.created_us,
            "opened_us": min((f.time_us for f in self.entries), default=None),
            "closed_us": max((f.time_us for f in self.exits), default=None) if closed else None,
            "entry_order_count": len({f.order_id for f in self.entries}),
            "exit_order_count": len({f.order_id for f in self.exits}),
            "planned_quantity": i.quantity(self.planned_steps), "stop_price": i.price(self.stop_ticks),
            "target_price": i.price(self.target_ticks), "entry_quantity": i.quantity(entry_steps),
            "exit_quantity": i.quantity(exit_steps), "remaining_quantity": remaining,
            "dust_quantity": remaining if closed else None,
            "max_position_notional": largest if self.entries else None,
            "gross_pnl": gross, "gross_pnl_fifo": self.fifo(),
            "fees_quote": fees_quote, "interest_quote": self.interest, "net_pnl": net,
            "is_reconciled": not self.is_mismatched,
        }  # fmt: skip
        row |= dict.fromkeys(
            ("avg_entry_price", "avg_exit_price", "initial_risk_quote", "stop_distance_pct", "return_pct", "r_multiple",
             "mae_pct", "mfe_pct", "exit_reason")
        )  # fmt: skip
        if self.entries:
            average = Fraction(notional, i.quantity(entry_steps))  # quote units for a base unit
            row["avg_entry_price"] = divide(average.numerator * UNIT, average.denominator)
            risk = abs(average - Fraction(i.price(self.stop_ticks), UNIT))
            row["initial_risk_quote"] = _cast(risk * i.quantity(entry_steps))
            row["stop_distance_pct"] = percent_points(float(risk / average * 100))
            if net is not None:
                row["return_pct"] = percent_points(float(Fraction(net, notional) * 100))
                at_risk = risk * i.quantity(entry_steps)
                row["r_multiple"] = percent_points(float(net / at_risk)) if risk else None
        if self.exits:
            paid = sum(i.notional(f.ticks, f.steps) for f in self.exits)
            row["avg_exit_price"] = _cast(Fraction(paid, i.quantity(exit_steps)) * UNIT)
        if self.entries:
            prices = [f.ticks for f in self.fills()] + list(extremes or ())
            moves = [float(d * (Fraction(i.price(p), UNIT) - average) / average * 100) for p in prices]
            row["mae_pct"], row["mfe_pct"] = (
                percent_points(min(0.0, *moves)),
                percent_points(max(0.0, *moves)),
            )
        if closed:
            row["exit_reason"] = self.exit_reasons[self.fills()[-1].order_id]
        return row


def _cast(value: Fraction) -> int:
    return divide(value.numerator, value.denominator)
