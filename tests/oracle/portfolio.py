"""Balances, portfolios and their returns, in plain loops over `Decimal`. Source: spec/execution.md 4.9, 2.2.

Inputs are dicts as producers write them; times are aware datetimes in UTC. ``bars`` maps (symbol, bar_end) to a close,
``pairs`` (base, quote) to a symbol.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, getcontext
from fractions import Fraction

getcontext().prec = 60
HOUR = timedelta(minutes=60)
BANDS = (
    (Fraction(2), "SAFE"),
    (Fraction(3, 2), "CAUTION"),
    (Fraction(13, 10), "WARNING"),
    (Fraction(11, 10), "CRITICAL"),
)
MARGIN = ("ISOLATED_MARGIN", "CROSS_MARGIN")
Bars = Mapping[tuple[str, datetime], Decimal]


def cast(value: Decimal | Fraction | None, digits: int) -> Decimal | None:
    """Half away from zero."""
    return None if value is None else _decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def percent(value: Decimal | Fraction | None) -> Decimal | None:
    """Percent points, half to even; what DECIMAL(10,4) can't hold stands at its end."""
    if value is None:
        return None
    end = Decimal("999999.9999")
    return max(-end, min(end, _decimal(value).quantize(Decimal("0.0001"), ROUND_HALF_EVEN)))


def _decimal(value: Decimal | Fraction) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(value.numerator) / Decimal(value.denominator)


class Prices:
    def __init__(self, bars: Bars, pairs: Mapping[tuple[str, str], str], quote: str = "USDC") -> None:
        self.pairs, self.quote = pairs, quote
        self.of_symbol = defaultdict(list)
        for (symbol, bar_end), close in sorted(bars.items()):
            self.of_symbol[symbol].append((bar_end, close))

    def at(self, asset: str, time: datetime) -> tuple[Decimal, datetime] | None:
        """Price and its time: 1, or the last bar that ended at or before ``time``, unless it is over an hour old."""
        if asset == self.quote:
            return Decimal(1), time
        ended = [b for b in self.of_symbol[self.pairs.get((asset, self.quote))] if b[0] <= time]
        if not ended or time - ended[-1][0] > HOUR:
            return None
        return ended[-1][1], ended[-1][0]

    def beside(self, snapshot: Mapping) -> "Prices":
        """These and, for the flat form, the price of bitcoin that the snapshot brings, where there is no other."""
        own = Decimal(str(snapshot.get("btc_price") or 0))
        if snapshot.get("balances") is not None or own <= 0 or self.at("BTC", snapshot["snapshot_time"]):
            return self
        bars = {(s, t): c for s, of_one in self.of_symbol.items() for t, c in of_one}
        bars[self.pairs["BTC", self.quote], snapshot["snapshot_time"]] = own
        return Prices(bars, self.pairs, self.quote)


def holdings(snapshot: Mapping) -> list[dict]:
    """Rows of one snapshot: account_type, symbol, asset, free, locked, borrowed, interest, unknown_parts."""
    if snapshot.get("balances") is None:
        return _flat(snapshot)
    found: dict[tuple[str, str, str], dict] = {}
    for entry in snapshot["balances"]:
        account = entry["account_type"]
        key = (account, (entry.get("symbol") or "") if account == "ISOLATED_MARGIN" else "", entry["asset"])
        row = found.setdefault(
            key, {"free": 0, "locked": 0, "borrowed": 0, "interest": 0, "unknown_parts": False}
        )
        for part in ("free", "locked", "borrowed", "interest"):
            given = entry.get(part)
            if given is not None:
                row[part] = None if row[part] is None else row[part] + Decimal(str(given))
            elif part == "free" or (part == "borrowed" and account in MARGIN):
                row[part] = None
            elif part == "locked" or (part == "interest" and account in MARGIN):
                row["unknown_parts"] = True
    return [
        dict(zip(("account_type", "symbol", "asset"), key, strict=True)) | row for key, row in found.items()
    ]


def _flat(snapshot: Mapping) -> list[dict]:
    found = []
    for account, symbol, asset, free, borrowed in (
        ("SPOT", "", "USDC", "spot_usdc", None),
        ("SPOT", "", "BTC", "spot_btc", None),
        ("ISOLATED_MARGIN", "BTCUSDC", "BTC", "margin_btc_free", "margin_btc_borrowed"),
        ("ISOLATED_MARGIN", "BTCUSDC", "USDC", "margin_usdc_free", "margin_usdc_borrowed"),
    ):
        amounts = [snapshot.get(free), 0 if borrowed is None else snapshot.get(borrowed)]
        if amounts[0] is not None or (borrowed and amounts[1] is not None):
            free_amount, borrowed_amount = (None if a is None else Decimal(str(a)) for a in amounts)
            found.append(
                {
                    "account_type": account, "symbol": symbol, "asset": asset, "free": free_amount,
                    "locked": 0, "borrowed": borrowed_amount, "interest": 0, "unknown_parts": True,
                }
            )  # fmt: skip
    return found


def valued(snapshot: Mapping, prices: Prices) -> list[dict]:
    """`silver.balance_snapshots` of one snapshot."""
    found = []
    is_flat = snapshot.get("balances") is None
    for row in holdings(snapshot):
        amounts = [row[p] for p in ("free", "locked", "borrowed", "interest")]
        net = None if None in amounts else amounts[0] + amounts[1] - amounts[2] - amounts[3]
        price, flags = prices.at(row["asset"], snapshot["snapshot_time"]), []
        if (
            price is None
            and row["asset"] == "BTC"
            and is_flat
            and Decimal(str(snapshot.get("btc_price") or 0)) > 0
        ):
            price = (Decimal(str(snapshot["btc_price"])), snapshot["snapshot_time"])
            flags.append("PRICE_OF_SNAPSHOT")
        if row.pop("unknown_parts"):
            flags.append("LOCKED_INTEREST_UNKNOWN")
        if net is None:
            flags.append("BALANCE_UNKNOWN")
        if price is None:
            flags.append("UNPRICED")
        found.append(
            row
            | {
                "net": net,
                "price_quote": price and price[0],
                "price_time": price and price[1],
                "value_quote": cast(net * price[0], 8) if price and net is not None else None,
                "quality_flags": sorted(flags),
            }
        )
    return found


def totals(snapshot: Mapping, prices: Prices) -> dict:
    """Sums of one snapshot that need no other: equity, margin, completeness."""
    rows = valued(snapshot, prices)
    time = snapshot["snapshot_time"]

    def value(of: Iterable[dict]) -> Decimal | None:
        held = [r for r in of if r["net"] is None or r["net"] != 0]
        known = all(r["value_quote"] is not None for r in held)
        return sum((r["value_quote"] for r in held), Decimal(0)) if known else None

    unpriced = {r["asset"] for r in rows if r["net"] is None or (r["net"] != 0 and r["price_quote"] is None)}
    equity = None if unpriced else value(rows)
    bitcoin = prices.at("BTC", time)
    btc_price = bitcoin and bitcoin[0]
    if btc_price is None and snapshot.get("balances") is None:
        btc_price = Decimal(str(snapshot.get("btc_price") or 0)) or None
    debts = [r for r in rows if r["borrowed"] is None or r["borrowed"] + r["interest"] != 0]
    debt = None
    if all(r["borrowed"] is not None and r["price_quote"] is not None for r in debts):
        debt = sum(((r["borrowed"] + r["interest"]) * r["price_quote"] for r in debts), Decimal(0))
    return {
        "total_equity_quote": equity,
        "total_equity_btc": cast(Fraction(equity) / Fraction(btc_price), 8)
        if equity is not None and btc_price
        else None,
        "spot_value": value(r for r in rows if r["account_type"] == "SPOT"),
        "margin_net_value": value(r for r in rows if r["account_type"] in MARGIN),
        "margin_debt": cast(debt, 8),
        **margin_level([r for r in rows if r["account_type"] in MARGIN]),
        "unpriced_assets": len(unpriced),
        "is_complete": not unpriced,
    }


def margin_level(rows: Iterable[dict]) -> dict:
    accounts = defaultdict(list)
    for row in rows:
        accounts[row["account_type"], row["symbol"]].append(row)
    levels: list[Fraction | None] = []
    for held in accounts.values():
        if all(r["borrowed"] is not None and r["borrowed"] + r["interest"] == 0 for r in held):
            continue
        unknown = any(
            None in (r["free"], r["borrowed"])
            or (
                r["price_quote"] is None
                and (r["free"] + r["locked"] != 0 or r["borrowed"] + r["interest"] != 0)
            )
            for r in held
        )
        if unknown:
            levels.append(None)
            continue
        priced = [r for r in held if r["price_quote"] is not None]
        assets = sum(Fraction(r["free"] + r["locked"]) * Fraction(r["price_quote"]) for r in priced)
        debt = sum(Fraction(r["borrowed"] + r["interest"]) * Fraction(r["price_quote"]) for r in priced)
        levels.append(assets / debt)
    if not levels or None in levels:
        return {"margin_level_min": None, "margin_band": None, "margin_level_unknown": None in levels}
    least = min(levels)
    band = next((name for bound, name in BANDS if least >= bound), "DANGER")
    level = min(cast(least, 4), Decimal("999999.9999"))  # of a debt of nearly nothing the end of the type
    return {"margin_level_min": level, "margin_band": band, "margin_level_unknown": False}


def portfolios(snapshots: Iterable[Mapping], ledger: Iterable[Mapping], prices: Prices) -> list[dict]:
    """Every snapshot of one client in time: totals, flow, return, index and drawdown."""
    moved = [
        m
        for m in ledger
        if m["transaction_type"] in ("DEPOSIT", "WITHDRAWAL")
        and m["status"] in ("FILLED", "PARTIALLY_FILLED")
    ]
    found, previous, index, peak = [], None, Fraction(1), Fraction(1)
    for snapshot in sorted(snapshots, key=lambda s: s["snapshot_time"]):
        row = {"snapshot_time": snapshot["snapshot_time"], **totals(snapshot, prices)}
        flow, period, flags = None, None, []
        if previous:
            flow = flow_between(moved, previous["snapshot_time"], row["snapshot_time"], prices)
            if flow is None:
                flags.append("FLOW_UNPRICED")
            if previous["total_equity_quote"] <= 0:
                flags.append("NO_EQUITY_BEFORE")
            elif flow is not None and row["is_complete"]:
                period = Fraction(row["total_equity_quote"] - flow) / Fraction(previous["total_equity_quote"])
                if abs(period) >= 99_999_999:  # DECIMAL(18,10)
                    flags.append("RETURN_RANGE")
                    period = None
        if not row["is_complete"]:
            flags.append("INCOMPLETE")
        if row.pop("margin_level_unknown"):
            flags.append("MARGIN_LEVEL_UNKNOWN")
        index *= 1 if period is None else period
        if row["is_complete"]:
            peak = max(peak, index)
            previous = row
        found.append(
            row
            | {
                "net_external_flow_since_prev": cast(flow, 8),
                "twr_period_return": None if period is None else cast(period - 1, 10),
                "index": index if row["is_complete"] else None,
                "drawdown_pct": percent((index / peak - 1) * 100) if row["is_complete"] else None,
                "quality_flags": sorted(flags),
            }
        )
    return found


def flow_between(
    moved: Iterable[Mapping], after: datetime, until: datetime, prices: Prices
) -> Decimal | None:
    """Deposits less withdrawals in (after, until], each at the price of its own time; None when one has none."""
    total = Decimal(0)
    for movement in moved:
        if after < movement["event_time"] <= until:
            price = prices.at(movement["asset"], movement["event_time"])
            if price is None:
                return None
            sign = 1 if movement["transaction_type"] == "DEPOSIT" else -1
            total += sign * cast(Decimal(movement["quantity"]) * price[0], 8)
    return total


def unrealized(
    fills: Iterable[Mapping], time: datetime, prices: Prices, steps: Mapping[str, Decimal]
) -> Decimal | None:
    """Σ of the operations open at ``time``: their fills up to then, cost by moving average, at the same prices.

    A fill: operation_id, symbol, base_asset, quote_asset, is_long, is_entry, price, quantity, commission,
    commission_asset, exchange_time, trade_id. Closed is what has sold something back and holds no more than dust.
    """
    operations = defaultdict(list)
    for fill in fills:
        if fill["exchange_time"] <= time:
            operations[fill["operation_id"]].append(fill)
    total = Decimal(0)
    for of_one in operations.values():
        of_one.sort(key=lambda f: (f["exchange_time"], f["trade_id"]))
        first = of_one[0]
        cost = held = position = Decimal(0)
        dust = steps.get(first["symbol"], Decimal(0))
        for fill in of_one:
            position += fill["quantity"] if fill["is_entry"] else -fill["quantity"]
            if fill["commission_asset"] == fill["base_asset"]:
                dust += fill["commission"]
            if fill["is_entry"]:
                cost, held = cost + fill["price"] * fill["quantity"], held + fill["quantity"]
                continue
            sold = min(fill["quantity"], held)
            cost -= cost if sold == held else cast(cost * sold / held, 8)
            held -= sold
        if position <= dust and not all(f["is_entry"] for f in of_one):
            continue
        base, quote = prices.at(first["base_asset"], time), prices.at(first["quote_asset"], time)
        if base is None or quote is None:
            return None
        sign = 1 if first["is_long"] else -1
        total += sign * (held * base[0] - cost * quote[0])
    return cast(total, 8)


def daily(rows: Iterable[Mapping]) -> dict[date, Mapping]:
    """The last complete snapshot of each UTC day."""
    found = {}
    for row in sorted(rows, key=lambda r: r["snapshot_time"]):
        if row["is_complete"]:
            found[row["snapshot_time"].date()] = row
    return found


def performance(days: Mapping[date, Mapping]) -> dict:
    """ROI, Sharpe ratio and the largest drawdown over some days."""
    indexes = [days[day]["index"] for day in sorted(days)]
    returns = [now / before - 1 for before, now in itertools.pairwise(indexes) if before > 0]
    peaks = list(itertools.accumulate(indexes, max))
    falls = [now / peak - 1 for now, peak in zip(indexes, peaks, strict=True) if peak > 0]
    sharpe = None
    if len(returns) >= 30:
        mean = sum(returns) / len(returns)
        spread = _decimal(sum((r - mean) ** 2 for r in returns) / (len(returns) - 1)).sqrt()
        sharpe = float(_decimal(mean) / spread * Decimal(365).sqrt()) if spread else None
    return {
        "roi_pct": percent((indexes[-1] / indexes[0] - 1) * 100) if indexes[0] > 0 else None,
        "sharpe": sharpe,
        "max_drawdown_pct": percent(min(falls) * 100) if falls else None,
    }
