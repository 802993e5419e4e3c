"""The ledger, fills, operations and tax lots in plain loops over fractions. Source: spec/execution.md 3.3, 4.6, 4.8.

Rows are dicts with the columns of bronze; amounts are `Fraction`, times aware datetimes in UTC, what is left out is
None. A movement, a state, a trade comes once for each of its landings, with ``loaded_at`` and the bronze ``date``.
Executions are those of the fold that passed its rules; a bar has symbol, open_time, bar_end, high, low, close.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from fractions import Fraction
from math import floor

ACCOUNTS = {
    "SPOT_BUY": "SPOT", "SPOT_SELL": "SPOT", "MARGIN_BUY": "margin", "MARGIN_SELL": "margin",
    "TRANSFER_SPOT_TO_ISOLATED": "ISOLATED_MARGIN", "TRANSFER_TO_MARGIN": "ISOLATED_MARGIN",
    "TRANSFER_ISOLATED_TO_SPOT": "SPOT", "TRANSFER_FROM_MARGIN": "SPOT", "MARGIN_BORROW": "margin",
    "MARGIN_REPAY": "margin", "INTEREST_CHARGED": "margin", "FUNDING_FEE": "FUTURES", "LIQUIDATION": "margin",
    "MARGIN_CALL": "margin", "DEPOSIT": "SPOT", "WITHDRAWAL": "SPOT",
}  # fmt: skip
ECONOMIC = (
    "client_id", "transaction_type", "status", "binance_order_id", "symbol", "asset", "quantity", "price",
    "total_value", "stop_price", "risk_amount", "risk_percent", "fee", "fee_asset", "side", "leverage",
    "is_isolated_margin",
    "related_operation_id", "related_position_id", "related_order_id", "executed_at", "exchange_time",
)  # fmt: skip
HOUR = timedelta(hours=1)


def half_away(value: Fraction, digits: int) -> Fraction:
    scaled = abs(value) * 10**digits
    return (1 if value >= 0 else -1) * Fraction(floor(scaled + Fraction(1, 2)), 10**digits)


def half_even(value: Fraction, digits: int) -> Fraction:
    scaled = value * 10**digits
    whole = floor(scaled)
    rest = scaled - whole
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2):
        whole += 1
    return Fraction(whole, 10**digits)


def category(transaction_type: str) -> str:
    if transaction_type in ("SPOT_BUY", "SPOT_SELL", "MARGIN_BUY", "MARGIN_SELL"):
        return "TRADING"
    if transaction_type.startswith(("STOP_LOSS", "TAKE_PROFIT", "LIMIT_ORDER")):
        return "ORDER"
    return "OTHER"


def account_type(row: dict) -> str:
    inferred = ACCOUNTS.get(row["transaction_type"], row["account_type"])
    if inferred == "margin":
        return "ISOLATED_MARGIN" if row.get("is_isolated_margin") else "CROSS_MARGIN"
    return inferred


def trade_ids(row: dict) -> object:
    answer = row.get("raw_response") or {}
    if answer.get("fills"):
        return tuple(f["tradeId"] for f in answer["fills"])
    return answer.get("tradeId") or (answer.get("id") if "orderId" in answer else None)


def event_time(row: dict) -> object:
    return row.get("exchange_time") or row.get("executed_at") or row["created_at"]


def ledger(landings: Iterable[dict]) -> list[dict]:
    """One row a movement: the first landing of an id, the earliest of copies."""
    first: dict[tuple, dict] = {}
    for row in sorted(landings, key=lambda r: (r["loaded_at"], r["date"])):
        first.setdefault((row["client_id"], row["transaction_id"]), row)
    kept: dict[tuple, dict] = {}
    for row in sorted(first.values(), key=lambda r: (r["created_at"], r["transaction_id"])):
        if category(row["transaction_type"]) == "TRADING":
            told_by = trade_ids(row) or row["transaction_id"]
        elif not (row.get("binance_order_id") or row.get("executed_at") or row.get("exchange_time")):
            told_by = row["transaction_id"]
        else:
            told_by = None
        answer = row.get("raw_response") or {}
        said = (answer.get("executedQty"), answer.get("cummulativeQuoteQty"))
        key = (
            told_by,
            said,
            event_time(row).date(),
            account_type(row),
            *(row.get(name) for name in ECONOMIC),
        )
        kept.setdefault(key, row)
    return [row | {"account_type": account_type(row)} for row in kept.values()]


def last_bar(bars: list[dict], symbol: str, at: object) -> dict | None:
    closed = [b for b in bars if b["symbol"] == symbol and b["bar_end"] <= at]
    best = max(closed, key=lambda b: b["bar_end"], default=None)
    return best if best and at - best["bar_end"] <= HOUR else None


def price_of(asset: str, quote: str, bars: list[dict], at: object) -> Fraction | None:
    if asset == quote:
        return Fraction(1)
    bar = last_bar(bars, asset + quote, at)
    return bar and bar["close"]


def fills(
    trades: Iterable[dict],
    movements: list[dict],
    executions: list[dict],
    bars: list[dict],
    symbols: dict[str, dict],
) -> list[dict]:
    """Own fills once each, then one for every order that was filled and has none; each with its operation and fee."""
    found: dict[tuple, dict] = {}
    for trade in trades:
        key = (trade["client_id"], trade["account_type"], trade["symbol"], trade["trade_id"])
        found.setdefault(key, trade | {"is_ledger_fill": False, "fill_id": str(trade["trade_id"])})
    rows = list(found.values())
    orders: dict[tuple, list[dict]] = defaultdict(list)
    for row in movements:
        if category(row["transaction_type"]) != "OTHER" and row.get("symbol"):
            order = row.get("binance_order_id") or row["transaction_id"]
            orders[row["client_id"], row["account_type"], row["symbol"], order].append(row)
    with_fills = {(r["client_id"], r["account_type"], r["symbol"], r["order_id"]) for r in rows}
    for key, of_order in orders.items():
        if key not in with_fills and (row := _said_to_be_filled(of_order)) is not None:
            pseudo = _pseudo_fill(row, key[3])
            if pseudo["price"] is not None:
                rows.append(pseudo)
    for row in rows:
        of_order = orders.get((row["client_id"], row["account_type"], row["symbol"], row["order_id"]), [])
        linked = sorted(
            (r for r in of_order if r.get("related_operation_id") is not None),
            key=lambda r: (event_time(r), r["transaction_id"]),
        )
        closing = sorted(
            (
                e
                for e in executions
                if (e["client_id"], e["symbol"], e.get("exchange_order_id"))
                == (row["client_id"], row["symbol"], row["order_id"])
            ),
            key=lambda e: (e["first_event_at"], e["execution_token"]),
        )
        row["operation_id"] = (
            linked[0]["related_operation_id"] if linked else closing[0]["operation_id"] if closing else None
        )
        row["is_order_in_ledger"] = bool(of_order)
        row["fee_quote"] = _fee(row, bars, symbols.get(row["symbol"]))
    return rows


def _said_to_be_filled(of_order: list[dict]) -> dict | None:
    said = []
    for row in of_order:
        is_trade = category(row["transaction_type"]) == "TRADING"
        quantity = _filled_quantity(row)
        if row["status"] not in ("FILLED", "PARTIALLY_FILLED") or quantity == 0:
            continue
        if not is_trade and not row.get("binance_order_id"):
            continue
        said.append(
            (
                (not is_trade, row["status"] != "FILLED", -quantity, event_time(row), row["transaction_id"]),
                row,
            )
        )
    return min(said, key=lambda pair: pair[0])[1] if said else None


def _filled_quantity(row: dict) -> Fraction:
    executed = (row.get("raw_response") or {}).get("executedQty")
    return Fraction(executed) if executed is not None else row["quantity"]


def _pseudo_fill(row: dict, order: str) -> dict:
    answer = row.get("raw_response") or {}
    executed, quote = answer.get("executedQty"), answer.get("cummulativeQuoteQty")
    if executed and quote and Fraction(executed) > 0 and Fraction(quote) > 0:
        price = half_away(Fraction(quote) / Fraction(executed), 8)
    elif row.get("price"):
        price = row["price"]
    else:
        price = row.get("total_value") and half_away(row["total_value"] / row["quantity"], 8)
    side = row.get("side") or ("SELL" if row["transaction_type"].endswith("_SELL") else "BUY")
    return {
        "client_id": row["client_id"], "account_type": row["account_type"], "symbol": row["symbol"], "trade_id": None,
        "fill_id": f"ledger:{row['transaction_id']}", "order_id": order, "side": side, "price": price,
        "quantity": _filled_quantity(row), "commission": row.get("fee") or Fraction(0),
        "commission_asset": row.get("fee_asset"), "exchange_time": event_time(row), "is_ledger_fill": True,
    }  # fmt: skip


def _fee(fill: dict, bars: list[dict], pair: dict | None) -> Fraction | None:
    if fill["commission"] == 0:
        return Fraction(0)
    if pair is None:
        return None
    asset = fill["commission_asset"] or (pair["quote_asset"] if fill["is_ledger_fill"] else None)
    if asset is None:
        return None
    rate = (
        fill["price"]
        if asset == pair["base_asset"]
        else price_of(asset, pair["quote_asset"], bars, fill["exchange_time"])
    )
    return None if rate is None else half_away(fill["commission"] * rate, 8)


def average_cost(position: list[dict], side: str) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """(realised by average cost, realised by first in first out, quantity left, its cost)."""
    sign = 1 if side == "BUY" else -1
    cost = held = realised = fifo = Fraction(0)
    units: list[tuple[Fraction, Fraction]] = []
    for fill in position:
        price, quantity = fill["price"], fill["quantity"]
        if fill["side"] == side:
            cost, held = cost + price * quantity, held + quantity
            units.append((price, quantity))
            continue
        out = min(quantity, held)
        removed = cost if out == held else half_away(cost * out / held, 8)
        realised += sign * (price * out - removed)
        cost, held = cost - removed, held - out
        while out > 0:
            bought, there = units.pop(0)
            taken = min(out, there)
            fifo += sign * (price - bought) * taken
            out -= taken
            if there > taken:
                units.insert(0, (bought, there - taken))
    return realised, fifo, held, cost


def operations(
    states: Iterable[dict],
    movements: list[dict],
    executions: list[dict],
    fill_rows: list[dict],
    bars: list[dict],
    symbols: dict[str, dict],
) -> dict[tuple[int, int], dict]:
    """Every operation by (client_id, operation_id)."""
    linked = [m for m in movements if m.get("related_operation_id") is not None]
    keys = {(s["client_id"], s["operation_id"]) for s in states}
    keys |= {(e["client_id"], e["operation_id"]) for e in executions}
    keys |= {(m["client_id"], m["related_operation_id"]) for m in linked}
    keys |= {(f["client_id"], f["operation_id"]) for f in fill_rows if f["operation_id"] is not None}
    return {
        (client, number): _operation(
            [s for s in states if (s["client_id"], s["operation_id"]) == (client, number)],
            [m for m in linked if (m["client_id"], m["related_operation_id"]) == (client, number)],
            [e for e in executions if (e["client_id"], e["operation_id"]) == (client, number)],
            [f for f in fill_rows if (f["client_id"], f["operation_id"]) == (client, number)],
            bars,
            symbols,
        )
        for client, number in keys
    }


def _operation(
    states: list[dict],
    movements: list[dict],
    executions: list[dict],
    fill_rows: list[dict],
    bars: list[dict],
    symbols: dict[str, dict],
) -> dict:
    states = sorted(states, key=lambda s: (s["loaded_at"], s["date"]))
    reference = max(reversed(states), key=lambda s: s["updated_at"], default={})
    reference = next((s for s in states if s["updated_at"] == reference.get("updated_at")), {})
    executions = sorted(executions, key=lambda e: (e["first_event_at"], e["execution_token"]))
    current = executions[-1] if executions else {}
    first = sorted(
        movements,
        key=lambda m: (category(m["transaction_type"]) != "TRADING", event_time(m), m["transaction_id"]),
    )
    first_movement = first[0] if first else {}
    is_trade = bool(first) and category(first_movement["transaction_type"]) == "TRADING"
    position = sorted(fill_rows, key=lambda f: (f["exchange_time"], f["trade_id"] or 0, f["fill_id"]))

    symbol = reference.get("symbol") or current.get("symbol") or first_movement.get("symbol")
    symbol = symbol or (position[0]["symbol"] if position else None)
    side = reference.get("side") or {"SELL": "BUY", "BUY": "SELL"}.get(current.get("side"))
    side = side or (first_movement.get("side") if is_trade else None)
    side = side or (position[0]["side"] if position else None)
    strategies = [reference.get("strategy_id"), *(e.get("payload_strategy_id") for e in reversed(executions))]
    stop = reference.get("stop_price")
    stop = current.get("stop_price") if stop is None else stop

    sign = -1 if side == "SELL" else 1
    entries = [f for f in position if f["side"] == side]
    exits = [f for f in position if f["side"] != side]
    entry_quantity, exit_quantity = (sum((f["quantity"] for f in fs), Fraction(0)) for fs in (entries, exits))
    entry_notional = sum((f["price"] * f["quantity"] for f in entries), Fraction(0))
    exit_notional = sum((f["price"] * f["quantity"] for f in exits), Fraction(0))
    remaining = entry_quantity - exit_quantity
    pair = symbols.get(symbol)
    dust = pair["step_size"] if pair else Fraction(0)
    for fill in position:
        if symbols.get(fill["symbol"]) and fill["commission_asset"] == symbols[fill["symbol"]]["base_asset"]:
            dust += fill["commission"]

    if not position:
        status = "CANCELLED" if reference.get("status") == "CANCELLED" else "PLANNED"
    else:
        status = "CLOSED" if exits and remaining <= dust else "ACTIVE"
    opened = entries[0]["exchange_time"] if entries else None
    closed = exits[-1]["exchange_time"] if status == "CLOSED" else None

    fees = [f["fee_quote"] for f in position]
    fees_quote = None if None in fees else sum(fees, Fraction(0))
    interest = _interest(movements, bars, symbols)
    funding = _funding(movements, bars, symbols)
    realised, fifo, held, cost = average_cost(position, side)
    net = None
    if status == "CLOSED" and None not in (fees_quote, interest, funding):
        net = realised - fees_quote - interest + funding

    of_symbol = [b for b in bars if b["symbol"] == symbol]
    lived = [
        b
        for b in of_symbol
        if opened and b["open_time"] >= opened and (closed is None or b["bar_end"] <= closed)
    ]
    mae = mfe = None
    if entry_quantity:
        mean = entry_notional / entry_quantity
        moves = [
            sign * (price - mean) / mean * 100
            for price in [
                *(f["price"] for f in position),
                *(b["low"] for b in lived),
                *(b["high"] for b in lived),
            ]
        ]
        mae, mfe = half_even(min(Fraction(0), *moves), 4), half_even(max(Fraction(0), *moves), 4)
    marks = [b for b in of_symbol if opened and b["open_time"].date() >= opened.date()]
    mark = max(marks, key=lambda b: b["bar_end"], default=None) if status == "ACTIVE" else None
    risk = abs(entry_notional - stop * entry_quantity) if entry_quantity and stop is not None else None

    running, notionals = Fraction(0), []
    for fill in position:
        running += fill["quantity"] if fill["side"] == side else -fill["quantity"]
        notionals.append(running * fill["price"])
    times = [s["created_at"] for s in states] + [event_time(m) for m in movements]
    times += [f["exchange_time"] for f in position]
    dates = [t.date() for t in times] + [e["home_date"] for e in executions]
    return {
        "date": min(dates), "strategy_id": next((s for s in strategies if s), 0),
        "symbol": symbol, "side": side, "status": status, "stop_price": stop,
        "account_type": reference.get("account_type") or first_movement.get("account_type")
        or (position[0]["account_type"] if position else None),
        "opened_at": opened, "closed_at": closed,
        "holding_sec": (closed - opened) // timedelta(seconds=1) if closed and opened else None,
        "entry_order_count": len({f["order_id"] for f in entries}),
        "exit_order_count": len({f["order_id"] for f in exits}),
        "entry_quantity": entry_quantity, "exit_quantity": exit_quantity, "remaining_quantity": remaining,
        "dust_quantity": remaining if status == "CLOSED" else None,
        "max_position_notional": half_away(max(notionals), 8) if notionals else None,
        "avg_entry_price": half_away(entry_notional / entry_quantity, 8) if entry_quantity else None,
        "avg_exit_price": half_away(exit_notional / exit_quantity, 8) if exit_quantity else None,
        "initial_risk_quote": half_away(risk, 8) if risk is not None else None,
        "stop_distance_pct": half_even(risk / entry_notional * 100, 4) if risk is not None else None,
        "gross_pnl": half_away(realised, 8), "gross_pnl_fifo": half_away(fifo, 8),
        "unrealized_pnl": half_away(sign * (mark["close"] * held - cost), 8) if mark else None,
        "mark_price": mark and mark["close"], "mark_time": mark and mark["bar_end"],
        "fees_quote": fees_quote, "interest_quote": interest, "funding_quote": funding,
        "net_pnl": half_away(net, 8) if net is not None else None,
        "return_pct": half_even(net / entry_notional * 100, 4) if net is not None and entry_notional else None,
        "r_multiple": half_away(net / risk, 4) if net is not None and risk else None,
        "mae_pct": mae, "mfe_pct": mfe,
        "exit_reason": _exit_reason(status, movements, executions, exits),
        "current_execution_id": current.get("execution_id"),
        "reconciled": _reconciled(movements, position),
        "source_transaction_ids": sorted(m["transaction_id"] for m in movements),
        "source_trade_ids": sorted({f["trade_id"] for f in position if f["trade_id"] is not None}),
    }  # fmt: skip


def _interest(movements: list[dict], bars: list[dict], symbols: dict[str, dict]) -> Fraction | None:
    total = Fraction(0)
    for row in movements:
        if row["transaction_type"] == "INTEREST_CHARGED":
            price = price_of(row["asset"], _quote(row, symbols), bars, event_time(row))
            if price is None:
                return None
            total += half_away(row["quantity"] * price, 8)
    return total


def _funding(movements: list[dict], bars: list[dict], symbols: dict[str, dict]) -> Fraction | None:
    total = Fraction(0)
    for row in movements:
        if row["transaction_type"] == "FUNDING_FEE":
            if row.get("total_value") is not None:
                total += row["total_value"]
                continue
            price = price_of(row["asset"], _quote(row, symbols), bars, event_time(row))
            if price is None:
                return None
            total -= half_away(row["quantity"] * price, 8)
    return total


def _quote(row: dict, symbols: dict[str, dict]) -> str:
    return symbols[row["symbol"]]["quote_asset"] if row.get("symbol") in symbols else "USDC"


def _exit_reason(status: str, movements: list[dict], executions: list[dict], exits: list[dict]) -> str | None:
    if status != "CLOSED":
        return None
    if any(m["transaction_type"] == "LIQUIDATION" for m in movements):
        return "LIQUIDATION"
    last = exits[-1]
    for execution in sorted(executions, key=lambda e: e["execution_token"], reverse=True):
        if (execution["status"], execution.get("exchange_order_id")) == ("EXECUTED", last["order_id"]):
            return execution["trigger_type"]
    return "MANUAL" if last["is_order_in_ledger"] else "UNKNOWN"


def _reconciled(movements: list[dict], position: list[dict]) -> bool | None:
    answers: dict[tuple, list[dict]] = defaultdict(list)
    for row in movements:
        answer = row.get("raw_response") or {}
        if row.get("binance_order_id") and answer.get("executedQty") is not None:
            answers[row["account_type"], row["symbol"], row["binance_order_id"]].append(answer)
    verdicts = []
    for order, of_order in answers.items():
        mine = [f for f in position if (f["account_type"], f["symbol"], f["order_id"]) == order]
        quantity = sum((f["quantity"] for f in mine), Fraction(0))
        notional = sum((f["price"] * f["quantity"] for f in mine), Fraction(0))
        quotes = [
            Fraction(a["cummulativeQuoteQty"]) for a in of_order if a.get("cummulativeQuoteQty") is not None
        ]
        limit = Fraction(1, 10**8)
        verdicts.append(
            abs(max(Fraction(a["executedQty"]) for a in of_order) - quantity) <= limit
            and (not quotes or abs(max(quotes) - notional) <= limit)
        )
    return all(verdicts) if verdicts else None


def tax_lots(fill_rows: list[dict], symbols: dict[str, dict]) -> list[dict]:
    """Oldest first: what is held, or owed, of a base asset is closed by the next fill of the other side."""
    lots: list[dict] = []
    open_lots: dict[tuple, list[list]] = defaultdict(list)
    known = [f for f in fill_rows if f["symbol"] in symbols and f["quantity"] > 0]
    for fill in sorted(
        known, key=lambda f: (f["exchange_time"], f["symbol"], f["trade_id"] or 0, f["fill_id"])
    ):
        account = (fill["client_id"], fill["account_type"], symbols[fill["symbol"]]["base_asset"])
        queue, left = open_lots[account], fill["quantity"]
        while left and queue and queue[0][0]["side"] != fill["side"]:
            other = queue[0]
            taken = min(left, other[1])
            bought, sold = (fill, other[0]) if fill["side"] == "BUY" else (other[0], fill)
            lots.append(
                {
                    "account": account, "disposal": (sold["symbol"], sold["fill_id"]),
                    "acquisition": (bought["symbol"], bought["fill_id"]), "quantity": taken,
                    "cost_quote": half_away(bought["price"] * taken, 8),
                    "proceeds_quote": half_away(sold["price"] * taken, 8),
                    "gain_quote": half_away((sold["price"] - bought["price"]) * taken, 8),
                    "acquired_at": bought["exchange_time"], "disposed_at": sold["exchange_time"],
                }
            )  # fmt: skip
            left -= taken
            other[1] -= taken
            if not other[1]:
                queue.pop(0)
        if left:
            queue.append([fill, left])
    return lots
