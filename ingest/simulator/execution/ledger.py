"""Rows of the ledger, own fills and balances: what each movement says, and what it does to the accounts."""

from dataclasses import dataclass, field

from ingest.simulator.execution.instruments import Instrument
from ingest.simulator.execution.wire import iso, money, money_or_none

QUOTE = "USDC"
FREE, BORROWED, INTEREST = 0, 1, 2
SPOT, ISOLATED = "SPOT", "ISOLATED_MARGIN"
_CATEGORIES = {
    "SPOT_BUY": "TRADING", "SPOT_SELL": "TRADING", "MARGIN_BUY": "TRADING", "MARGIN_SELL": "TRADING",
    "TRANSFER_SPOT_TO_ISOLATED": "TRANSFER", "TRANSFER_ISOLATED_TO_SPOT": "TRANSFER", "MARGIN_BORROW": "CREDIT",
    "MARGIN_REPAY": "CREDIT", "INTEREST_CHARGED": "CREDIT", "STOP_LOSS_PLACED": "ORDER",
    "TAKE_PROFIT_PLACED": "ORDER", "STOP_LOSS_CANCELLED": "ORDER", "LIQUIDATION": "RISK", "DEPOSIT": "EXTERNAL",
    "WITHDRAWAL": "EXTERNAL",
}  # fmt: skip


@dataclass(frozen=True)
class Posting:
    """``amount`` (1e-8 units, signed) of an asset of an account; ``symbol`` is '' outside isolated margin."""

    client_id: int
    account: str
    symbol: str
    asset: str
    part: int
    amount: int


@dataclass(frozen=True)
class Fill:
    """One own fill. ``fee_quote`` is None where the fee has no price."""

    time_us: int
    trade_id: int
    order_id: int
    is_entry: bool
    ticks: int
    steps: int
    commission: int
    commission_asset: str
    fee_quote: int | None


@dataclass
class Accounts:
    """Balances by (client, account, symbol, asset): free, borrowed, interest, in 1e-8 units."""

    balances: dict[tuple[int, str, str, str], list[int]] = field(default_factory=dict)

    def post(self, posting: Posting) -> None:
        key = (posting.client_id, posting.account, posting.symbol, posting.asset)
        self.balances.setdefault(key, [0, 0, 0])[posting.part] += posting.amount

    def of(self, client_id: int) -> list[tuple[tuple[str, str, str], list[int]]]:
        return sorted((key[1:], held) for key, held in self.balances.items() if key[0] == client_id)


def ledger_row(
    transaction_id: str,
    client_id: int,
    kind: str,
    symbol: str,
    asset: str,
    quantity: int,
    created_us: int,
    *,
    account: str,
    operation_id: int | None = None,
    status: str = "FILLED",
    **other: object,
) -> dict:
    """All columns of ``audit_transactions`` but ``id``, which the source gives as it stores the row."""
    row = {
        "id": None, "transaction_id": transaction_id, "binance_order_id": None, "client_id": client_id,
        "transaction_type": kind, "status": status, "symbol": symbol, "asset": asset, "quantity": money(quantity),
        "price": None, "total_value": None, "stop_price": None, "risk_amount": None, "fee": money(0), "fee_asset": None,
        "side": None, "leverage": None, "is_isolated_margin": account == ISOLATED, "account_type": account,
        "category": _CATEGORIES[kind], "related_operation_id": operation_id, "related_position_id": None,
        "related_order_id": None, "risk_percent": None, "description": kind.replace("_", " ").lower(),
        "source": "bot", "raw_response": None, "created_at": iso(created_us), "executed_at": iso(created_us),
    }  # fmt: skip
    return row | other


def order_response(
    instrument: Instrument, is_buy: bool, fills: list[Fill], account: str, extra_steps: int
) -> dict:
    """A market order as the vendor answers it (FULL). ``extra_steps`` is what executedQty says too much."""
    symbol, order_id, steps = instrument.symbol, fills[0].order_id, sum(f.steps for f in fills)
    response = {
        "symbol": symbol, "orderId": order_id, "orderListId": -1, "clientOrderId": f"th-{order_id}",
        "transactTime": fills[-1].time_us // 1000, "price": money(0), "origQty": money(instrument.quantity(steps)),
        "executedQty": money(instrument.quantity(steps + extra_steps)),
        "cummulativeQuoteQty": money(sum(instrument.notional(f.ticks, f.steps) for f in fills)), "status": "FILLED",
        "timeInForce": "GTC", "type": "MARKET", "side": "BUY" if is_buy else "SELL",
        "fills": [
            {"price": money(instrument.price(f.ticks)), "qty": money(instrument.quantity(f.steps)),
             "commission": money(f.commission), "commissionAsset": f.commission_asset, "tradeId": f.trade_id}
            for f in fills
        ],
    }  # fmt: skip
    return response | ({"isIsolated": True} if account == ISOLATED else {})


def fill_row(instrument: Instrument, fill: Fill, is_buy: bool, account: str) -> dict:
    """An own fill as the REST interface gives it; margin says isIsolated and leaves quoteQty out."""
    row = {
        "symbol": instrument.symbol, "id": fill.trade_id, "orderId": fill.order_id, "orderListId": -1,
        "price": money(instrument.price(fill.ticks)), "qty": money(instrument.quantity(fill.steps)),
    }  # fmt: skip
    if account == SPOT:
        row["quoteQty"] = money(instrument.notional(fill.ticks, fill.steps))
    row |= {
        "commission": money(fill.commission), "commissionAsset": fill.commission_asset, "time": fill.time_us // 1000,
        "isBuyer": is_buy, "isMaker": False, "isBestMatch": True,
    }  # fmt: skip
    return row | ({"isIsolated": True} if account == ISOLATED else {})


def snapshot_row(client_id: int, time_us: int, created_us: int, accounts: Accounts) -> dict:
    """All balances of a client, with the flat columns left to producers that know no others."""
    balances = [
        {"account_type": account, "symbol": symbol or None, "asset": asset, "free": money(held[FREE]),
         "locked": money(0), "borrowed": money(held[BORROWED]), "interest": money(held[INTEREST])}
        for (account, symbol, asset), held in accounts.of(client_id)
    ]  # fmt: skip
    flat = (
        "spot_usdc", "spot_btc", "margin_btc_free", "margin_btc_borrowed", "margin_usdc_free", "margin_usdc_borrowed",
        "btc_price", "total_equity", "margin_level", "total_equity_btc", "spot_btc_value", "margin_btc_value",
    )  # fmt: skip
    return {
        "client_id": client_id, "snapshot_time": iso(time_us), **dict.fromkeys(flat), "balances": balances,
        "created_at": iso(created_us),
    }  # fmt: skip


def reference_row(op, status: str, updated_us: int) -> dict:
    """One version of an operation's reference record."""
    i = op.instrument
    return {
        "operation_id": op.operation_id, "client_id": op.client_id, "strategy_id": op.strategy_id, "symbol": i.symbol,
        "side": "BUY" if op.direction > 0 else "SELL", "account_type": op.account, "status": status,
        "planned_quantity": money(i.quantity(op.planned_steps)), "stop_price": money(i.price(op.stop_ticks)),
        "target_price": money_or_none(i.price(op.target_ticks)), "leverage": op.leverage,
        "created_at": iso(op.created_us), "updated_at": iso(updated_us),
    }  # fmt: skip
