"""What a client is worth at its snapshots, by plain sums over its balances. Source: spec/execution.md 4.9."""

from collections import defaultdict

from ingest.simulator.execution.ledger import BORROWED, FREE, INTEREST, QUOTE, SPOT, Accounts
from ingest.simulator.execution.markets import Markets
from ingest.simulator.execution.positions import Operation
from ingest.simulator.execution.wire import UNIT, divide, product


class PortfolioBook:
    """Rows of truth/portfolio, one for each snapshot; money in 1e-8 units, returns in doubles."""

    def __init__(self, markets: Markets) -> None:
        self.markets = markets
        self.rows: list[dict] = []
        self._held: dict[int, dict[int, Operation]] = defaultdict(dict)
        self._flows: dict[int, list[tuple[int, int | None]]] = defaultdict(list)
        self._last: dict[int, int] = {}
        self._value: dict[int, float] = defaultdict(lambda: 1.0)
        self._peak: dict[int, float] = defaultdict(lambda: 1.0)

    def hold(self, op: Operation) -> None:
        """An operation has another quantity now."""
        held = self._held[op.client_id]
        if op.held > op.dust:
            held[op.operation_id] = op
        else:
            held.pop(op.operation_id, None)

    def flow(self, client: int, at: int, asset: str, quantity: int) -> None:
        """A deposit (positive) or a withdrawal, valued at its own time."""
        price = self._price(asset, at)
        self._flows[client].append((at, None if price is None else product(quantity, price)))

    def _price(self, asset: str, at: int) -> int | None:
        if asset == QUOTE:
            return UNIT
        symbol = f"{asset}{QUOTE}"
        return self.markets.close_before(symbol, at) if symbol in self.markets.days else None

    def snapshot(self, client: int, at: int, accounts: Accounts) -> None:
        row = {
            "client_id": client, "snapshot_us": at, "spot_value": 0, "margin_net_value": 0, "margin_debt": 0,
            "unpriced_assets": 0, "total_equity_quote": 0,
        }  # fmt: skip
        margins: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        unpriced: set[str] = set()
        for (account, symbol, asset), held in accounts.of(client):
            net, price = held[FREE] - held[BORROWED] - held[INTEREST], self._price(asset, at)
            if price is None:
                if net:
                    row["unpriced_assets"] += 1
                    unpriced.add("spot_value" if account == SPOT else "margin_net_value")
                continue
            value = product(net, price)
            row["total_equity_quote"] += value
            row["spot_value" if account == SPOT else "margin_net_value"] += value
            if account != SPOT:
                debt = product(held[BORROWED] + held[INTEREST], price)
                row["margin_debt"] += debt
                margins[symbol][0] += product(held[FREE], price)
                margins[symbol][1] += debt
        row |= dict.fromkeys(unpriced)
        row["is_complete"] = not row["unpriced_assets"]
        levels = [gross / debt for gross, debt in margins.values() if debt]
        row["margin_level_min"] = min(levels) if levels else None
        marks = [
            op.unrealised(mark)
            for op in self._held[client].values()
            if (mark := self.markets.close_before(op.instrument.symbol, at)) is not None
        ]
        row["unrealized_pnl"] = sum(marks)
        row["open_operations"] = len(self._held[client])
        self._returns(client, at, row)
        self.rows.append(row)

    def _returns(self, client: int, at: int, row: dict) -> None:
        row["net_external_flow_since_prev"] = row["twr_period_return"] = row["drawdown_pct"] = None
        flows = [(when, value) for when, value in self._flows[client] if when <= at]
        known = all(value is not None for _, value in flows)
        flow = sum(value for _, value in flows) if known else None
        row["net_external_flow_since_prev"] = flow if client in self._last else None
        if not row["is_complete"]:
            row["total_equity_quote"] = None
            return
        self._flows[client] = [entry for entry in self._flows[client] if entry[0] > at]
        before, equity = self._last.get(client), row["total_equity_quote"]
        self._last[client] = equity
        btc = self._price("BTC", at)
        row["total_equity_btc"] = None if btc is None else divide(equity * UNIT, btc)
        if before is not None and before > 0 and flow is not None:
            row["twr_period_return"] = (equity - flow) / before - 1
            self._value[client] *= 1 + row["twr_period_return"]
        self._peak[client] = max(self._peak[client], self._value[client])
        row["drawdown_pct"] = (self._value[client] / self._peak[client] - 1) * 100
