"""The clients' money: ledger rows, own fills and what they do to balances. One row is one movement.

Source: spec/execution.md 3.3, 4.6, 10.
"""

import bisect
from collections import Counter

import numpy as np

from ingest.simulator.execution.faults import FaultSchedule
from ingest.simulator.execution.instruments import FEE_SYMBOL
from ingest.simulator.execution.ledger import (
    BORROWED,
    FREE,
    INTEREST,
    ISOLATED,
    QUOTE,
    SPOT,
    Accounts,
    Fill,
    Posting,
    fill_row,
    ledger_row,
    order_response,
)
from ingest.simulator.execution.markets import Markets
from ingest.simulator.execution.portfolio import PortfolioBook
from ingest.simulator.execution.positions import Operation
from ingest.simulator.execution.wire import HOUR_US, UNIT, divide, iso, money, product

SECOND = 1_000_000
LEVERAGE = 3


class Stream:
    """Rows that wait for their hour, in order of time and then of coming."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, object]] = []
        self._count = 0

    def add(self, time_us: int, row: object) -> None:
        self._count += 1
        self._rows.append((time_us, self._count, row))

    def take_until(self, time_us: int) -> list[tuple[int, object]]:
        """Everything before an instant."""
        self._rows.sort(key=lambda entry: entry[:2])
        end = bisect.bisect_left(self._rows, (time_us, 0), key=lambda entry: entry[:2])
        taken, self._rows = self._rows[:end], self._rows[end:]
        return [(at, row) for at, _, row in taken]

    def __len__(self) -> int:
        return len(self._rows)


class Numbers:
    """Ids as the exchange gives them: by symbol, so that two symbols share them."""

    def __init__(self) -> None:
        self._orders: Counter[str] = Counter()
        self._trades: Counter[str] = Counter()

    def order(self, symbol: str) -> int:
        self._orders[symbol] += 1
        return 1_000_000 + self._orders[symbol]

    def trade(self, symbol: str) -> int:
        self._trades[symbol] += 1
        return 500_000 + self._trades[symbol]


class Desk:
    """Books movements: ``orders`` are rows of the ledger, ``fills`` (client, row), both by their time; ``accounts`` and
    ``book`` follow when `settle` says so.
    """

    def __init__(self, seed: int, markets: Markets, schedule: FaultSchedule) -> None:
        self.markets, self.schedule = markets, schedule
        self.ids = Numbers()
        self.accounts, self.book = Accounts(), PortfolioBook(markets)
        self.orders, self.fills, self.effects = Stream(), Stream(), Stream()
        self.counts: Counter[str] = Counter()
        self._rng = np.random.default_rng([seed, 5])
        self._next_transaction: Counter[int] = Counter()

    def settle(self, until_us: int) -> None:
        """Let the accounts know every movement before an instant."""
        for _, effect in self.effects.take_until(until_us):
            if isinstance(effect, Posting):
                self.accounts.post(effect)
            else:
                op, fill = effect
                op.play(fill)
                self.book.hold(op)

    def external(self, client: int, kind: str, asset: str, quantity: int, at: int) -> None:
        sign = 1 if kind == "DEPOSIT" else -1
        symbol = FEE_SYMBOL if asset == "BNB" else "USDCUSDC"
        row = self.ledger(client, kind, symbol, asset, quantity, at, account=SPOT, source="exchange")
        if asset == QUOTE and self.schedule.take("secrets", at):
            secret = self._rng.bytes(32).hex()
            row["description"] = "deposit of jane.doe@example.com from 192.168.7.21"
            address = "0x52908400098527886E0F7030069857D2E4169EE7"
            row["raw_response"] = {"apiKey": secret, "coin": asset, "address": address}
        self.post(at, client, SPOT, "", asset, FREE, sign * quantity)
        self.book.flow(client, at, asset, sign * quantity)

    def ledger(
        self, client: int, kind: str, symbol: str, asset: str, quantity: int, at: int, **other: object
    ) -> dict:
        self._next_transaction[client] += 1
        row = ledger_row(
            f"{client}-{self._next_transaction[client]}", client, kind, symbol, asset, quantity, at, **other
        )
        self.orders.add(at, row)
        return row

    def post(
        self, at: int, client: int, account: str, symbol: str, asset: str, part: int, amount: int
    ) -> None:
        if amount:
            symbol = symbol if account == ISOLATED else ""
            self.effects.add(at, Posting(client, account, symbol, asset, part, amount))

    def fee(
        self, op: Operation, ticks: int, steps: int, at: int, *, is_entry: bool
    ) -> tuple[int, str, int | None]:
        """(commission, its asset, its value in quote or None where nobody can price it) of a fill."""
        i = op.instrument
        notional = i.notional(ticks, steps)
        if op.fee_mode == "base" and is_entry:
            commission = i.quantity(steps) // 1000
            return commission, i.base_asset, product(commission, i.price(ticks))
        close = self.markets.close_before(FEE_SYMBOL, at)
        if close is None and not is_entry and self.schedule.take("unpriced-fee", at):
            return 100, "BNB", None
        if op.fee_mode == "bnb" and close is not None:
            commission = divide(notional * 75 * UNIT, 100_000 * close)
            return commission, "BNB", product(commission, close)
        return notional // 1000, QUOTE, notional // 1000

    def place_levels(self, op: Operation, at: int) -> None:
        """The two levels as the bot keeps them, in the ledger."""
        i = op.instrument
        for kind, ticks in (("STOP_LOSS_PLACED", op.stop_ticks), ("TAKE_PROFIT_PLACED", op.target_ticks)):
            self.ledger(
                op.client_id, kind, i.symbol, i.base_asset, i.quantity(op.left), at, account=op.account,
                operation_id=op.operation_id, status="PENDING", stop_price=money(i.price(ticks)),
                side=op.closing_side, leverage=op.leverage, executed_at=None,
            )  # fmt: skip

    def fund(self, op: Operation, placed: int) -> None:
        """Collateral to the isolated account, and what is borrowed."""
        i, client, symbol = op.instrument, op.client_id, op.instrument.symbol
        cost = sum(i.notional(f.ticks, f.steps) for f in op.entries)
        fees = sum(f.commission for f in op.entries if f.commission_asset == QUOTE)
        cents = UNIT // 100
        op.collateral = (cost // LEVERAGE // cents + 1) * cents
        kwargs = {"account": ISOLATED, "operation_id": op.operation_id, "leverage": op.leverage}
        self.ledger(
            client, "TRANSFER_SPOT_TO_ISOLATED", symbol, QUOTE, op.collateral, placed - 800_000, **kwargs
        )
        self.post(placed - 800_000, client, SPOT, "", QUOTE, FREE, -op.collateral)
        self.post(placed - 800_000, client, ISOLATED, symbol, QUOTE, FREE, op.collateral)
        op.isolated_quote = op.collateral
        if op.direction > 0:
            op.borrowed_quote = ((cost + fees - op.collateral) // cents + 1) * cents
            op.isolated_quote += op.borrowed_quote
            asset, quantity = QUOTE, op.borrowed_quote
        else:
            op.borrowed_base = i.quantity(op.planned_steps)
            asset, quantity = i.base_asset, op.borrowed_base
        self.ledger(client, "MARGIN_BORROW", symbol, asset, quantity, placed - 400_000, **kwargs)
        self.post(placed - 400_000, client, ISOLATED, symbol, asset, FREE, quantity)
        self.post(placed - 400_000, client, ISOLATED, symbol, asset, BORROWED, quantity)

    def order(self, op: Operation, fills: list[Fill], *, is_entry: bool, extra_steps: int = 0) -> None:
        """The ledger row of a filled order, its own fills, and what they do to the accounts."""
        i, client, symbol = op.instrument, op.client_id, op.instrument.symbol
        is_buy = (op.direction > 0) == is_entry
        steps, value = sum(f.steps for f in fills), sum(i.notional(f.ticks, f.steps) for f in fills)
        fee, asset, at = sum(f.commission for f in fills), fills[0].commission_asset, fills[-1].time_us
        kind = ("SPOT" if op.account == SPOT else "MARGIN") + ("_BUY" if is_buy else "_SELL")
        side = "BUY" if is_buy else "SELL"
        if is_entry and not op.entry_booked_us:
            op.entry_booked_us = at + 20_000
        response = order_response(i, is_buy, fills, op.account, extra_steps)
        self.ledger(
            client, kind, symbol, i.base_asset, i.quantity(steps), at + 20_000, account=op.account,
            operation_id=op.operation_id, binance_order_id=str(fills[0].order_id), side=side, fee=money(fee),
            fee_asset=asset, price=money(divide(value * UNIT, i.quantity(steps))), total_value=money(value),
            leverage=op.leverage, raw_response=response, executed_at=iso(at), source="bot",
        )  # fmt: skip
        sign = 1 if is_buy else -1
        self.post(at, client, op.account, symbol, i.base_asset, FREE, sign * i.quantity(steps))
        self.post(at, client, op.account, symbol, QUOTE, FREE, -sign * value)
        if op.account == ISOLATED:
            op.isolated_quote -= sign * value + (fee if asset == QUOTE else 0)
        if asset == "BNB":
            # BNB is credited as it is needed: a stock of it would gain and lose outside of any operation.
            if fills[0].fee_quote is not None:
                self.external(client, "DEPOSIT", "BNB", fee, at)
            self.post(at, client, SPOT, "", "BNB", FREE, -fee)
        else:
            self.post(at, client, op.account, symbol, asset, FREE, -fee)
        for fill in fills:
            self.fills.add(fill.time_us, (client, fill_row(i, fill, is_buy, op.account)))
            self.effects.add(fill.time_us, (op, fill))
            self.counts["own_fills"] += 1
        self.counts["filled_orders"] += 1

    def pay_back(self, op: Operation, at: int) -> None:
        """What was borrowed, with interest; the rest goes home to the spot account."""
        client, symbol = op.client_id, op.instrument.symbol
        kwargs = {"account": ISOLATED, "operation_id": op.operation_id, "leverage": op.leverage}
        debt = op.borrowed_quote or op.collateral * (LEVERAGE - 1)
        hours = (at - op.entries[0].time_us) // HOUR_US + 1
        # Also a short pays in the quote asset: what it borrowed it gives back to the unit.
        op.interest = divide(debt * hours * 8, 1_000_000)
        for kind, asset, quantity, after in (
            ("INTEREST_CHARGED", QUOTE, op.interest, 400_000),
            ("MARGIN_REPAY", QUOTE, op.borrowed_quote + op.interest, 800_000),
            ("MARGIN_REPAY", op.instrument.base_asset, op.borrowed_base, 900_000),
        ):
            if quantity:
                self.ledger(client, kind, symbol, asset, quantity, at + after, **kwargs)
        self.post(at + 400_000, client, ISOLATED, symbol, QUOTE, INTEREST, op.interest)
        self.post(at + 800_000, client, ISOLATED, symbol, QUOTE, INTEREST, -op.interest)
        self.post(at + 800_000, client, ISOLATED, symbol, QUOTE, BORROWED, -op.borrowed_quote)
        self.post(at + 800_000, client, ISOLATED, symbol, QUOTE, FREE, -op.borrowed_quote - op.interest)
        base = op.instrument.base_asset
        self.post(at + 900_000, client, ISOLATED, symbol, base, BORROWED, -op.borrowed_base)
        self.post(at + 900_000, client, ISOLATED, symbol, base, FREE, -op.borrowed_base)
        op.isolated_quote -= op.borrowed_quote + op.interest
        home = max(op.isolated_quote, 0)
        if home:
            self.ledger(client, "TRANSFER_ISOLATED_TO_SPOT", symbol, QUOTE, home, at + SECOND, **kwargs)
        self.post(at + SECOND, client, ISOLATED, symbol, QUOTE, FREE, -home)
        self.post(at + SECOND, client, SPOT, "", QUOTE, FREE, home)
