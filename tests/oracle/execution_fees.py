"""Exit fees of an execution in its quote asset, by the sentences of spec/execution.md 4.4 and 4.6."""

import datetime
from decimal import ROUND_HALF_UP, Decimal

ASSETS = {"BTCUSDC": ("BTC", "USDC"), "ETHUSDC": ("ETH", "USDC")}
OLDEST = datetime.timedelta(minutes=60)


def exit_fees(reports: list[dict], symbol: str | None, closes: dict) -> tuple[Decimal | None, set]:
    """Sum over the distinct reports, and flags. None where no report says a fee, or one of them has no price."""
    paid = []
    for event in reports:
        at = event["exchange_time"] or event["occurred_at"]
        payload = event["payload_json"]
        said = [f for f in payload.get("fills") or [] if f.get("commission") is not None]
        for fill in said:
            price = fill.get("price") or event["fill_price"]
            paid.append((fill.get("commission_asset"), fill["commission"], price, at))
        if not said and payload.get("fee") is not None:
            paid.append((payload.get("fee_asset"), payload["fee"], event["fill_price"], at))
    if not paid:
        return None, ({"FEE_MISSING"} if reports else set())
    total = Decimal(0)
    for asset, amount, price, at in paid:
        rate = fee_rate(asset, symbol, price, at, closes)
        if rate is None:
            return None, {"FEE_UNPRICED"}
        total += Decimal(amount) * rate
    return total.quantize(Decimal("1e-8"), ROUND_HALF_UP), set()


def fee_rate(
    asset: str | None, symbol: str, price: Decimal | str | None, at: datetime.datetime, closes: dict
) -> Decimal | None:
    """Quote asset per unit of ``asset`` at an instant. ``closes`` by (symbol, bar_end)."""
    base, quote = ASSETS[symbol]
    if asset is None or asset == quote:
        return Decimal(1)
    if asset == base:
        return None if price is None else Decimal(price)
    ends = [end for pair, end in closes if pair == f"{asset}{quote}" and at - OLDEST <= end <= at]
    return closes[f"{asset}{quote}", max(ends)] if ends else None
