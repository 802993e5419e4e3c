"""The features of a stop, from the sentences of spec/execution.md 5.1, 5.2 and 5.4: plain, slow, one point at a time.

Times are aware datetimes. A bar is a dict with open_time, close, volume, quote_volume; a trade one with exchange_time,
price, quantity, is_buyer_maker; an event one of bronze.events, its payload a dict. Decimals are `Decimal`.
"""

import math
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise
from statistics import median

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GUARDRAILS = ("STALE_PRICE", "KILL_SWITCH", "SLIPPAGE_BREACH", "CIRCUIT_BREAKER")
RANKS = {"STOP_TRIGGERED": 0, "EXECUTION_SUBMITTED": 1, "BLOCKED": 2, "EXECUTED": 3, "FAILED": 4}


def percent_points(numerator: Decimal, denominator: Decimal) -> Decimal:
    """Decimals up to here, one division, in DOUBLE; then four decimals, halves to even."""
    return (
        (Decimal(float(numerator) / float(denominator) * 1e4))
        .quantize(Decimal(1), ROUND_HALF_EVEN)
        .scaleb(-4)
    )


def minute_of(t: datetime) -> datetime:
    return t.replace(second=0, microsecond=0)


# -- bars ------------------------------------------------------------------------------------------------------------


def bars_between(bars: list[dict], t: datetime, minutes: int) -> dict[datetime, dict]:
    """Bars with open_time in [m − minutes, m − 1 min], by open_time."""
    m = minute_of(t)
    return {b["open_time"]: b for b in bars if m - minutes * MINUTE <= b["open_time"] <= m - MINUTE}


def returns(bars: list[dict], t: datetime, minutes: int) -> list[float]:
    """Log returns of the bars of a window; one needs the bar exactly one minute earlier."""
    earlier = bars_between(bars, t, minutes + 1)
    window = bars_between(bars, t, minutes)
    return [
        math.log(float(window[at]["close"]) / float(earlier[at - MINUTE]["close"]))
        for at in sorted(window)
        if at - MINUTE in earlier
    ]


def volatility_15m(bars: list[dict], t: datetime) -> Decimal | None:
    found = returns(bars, t, 15)
    if len(found) < 10:
        return None
    mean = math.fsum(found) / len(found)
    deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in found) / (len(found) - 1))
    return Decimal(deviation).quantize(Decimal("0.000001"), ROUND_HALF_UP)


def volume(bars: list[dict], t: datetime, column: str) -> Decimal | None:
    window = bars_between(bars, t, 1440)
    return sum((b[column] for b in window.values()), Decimal(0)) if len(window) >= 1368 else None


def median_volume(bars: list[dict], t: datetime) -> Decimal | None:
    window = bars_between(bars, t, 1440)
    return median(b["volume"] for b in window.values()) if len(window) >= 1368 else None


def realised(bars: list[dict], t: datetime, minutes: int) -> float | None:
    found = returns(bars, t, minutes)
    return math.sqrt(math.fsum(r * r for r in found)) if len(found) == minutes else None


def last_minute_return(bars: list[dict], t: datetime) -> float | None:
    found = returns(bars, t, 1)
    return found[0] if found else None


# -- tape ------------------------------------------------------------------------------------------------------------


def trades_between(trades: list[dict], t: datetime, window: timedelta) -> list[dict]:
    return [x for x in trades if t - window <= x["exchange_time"] < t]


def imbalance(trades: list[dict], t: datetime, window: timedelta) -> float | None:
    found = trades_between(trades, t, window)
    total = sum((x["quantity"] for x in found), Decimal(0))
    if total == 0:
        return None
    signed = sum((-x["quantity"] if x["is_buyer_maker"] else x["quantity"] for x in found), Decimal(0))
    return float(Fraction(signed) / Fraction(total))


def tape_volatility(trades: list[dict], t: datetime) -> float | None:
    prices = [float(x["price"]) for x in trades_between(trades, t, MINUTE)]
    if len(prices) < 2:
        return None
    return math.sqrt(math.fsum(math.log(b / a) ** 2 for a, b in pairwise(prices)))


# -- own events ------------------------------------------------------------------------------------------------------


def available(event: dict) -> datetime:
    return max(event["occurred_at"], event["ingested_at"])


def terminals(events: list[dict]) -> list[tuple[datetime, bool]]:
    """What the events of one execution, all that are known, say of its end: (time, failed). Of a filled execution each
    distinct report, of a failed one its first failure, of one that a guardrail refused nothing."""
    kinds = [("BLOCKED" if e["event_type"] in GUARDRAILS else e["event_type"], e) for e in events]
    ordered = sorted(kinds, key=lambda k: (k[1]["occurred_at"], RANKS[k[0]], k[1]["event_id"]))
    reports: dict[tuple, datetime] = {}
    for kind, e in ordered:
        if kind == "EXECUTED":
            ids = tuple(sorted(f["trade_id"] for f in e["payload"].get("fills", [])))
            report = (e.get("exchange_order_id"), ids or (e["quantity"], e["fill_price"]))
            reports.setdefault(report, e["occurred_at"])
    if reports:
        return [(at, False) for at in reports.values()]
    submitted = False
    for kind, e in ordered:
        if kind == "EXECUTION_SUBMITTED":
            submitted = True
        elif kind == "BLOCKED" and not submitted:
            return []
        elif kind == "FAILED":
            return [(e["occurred_at"], True)]
    return []


def consecutive_failures_1h(events: list[dict], client_id: int, symbol: str, t: datetime) -> int:
    """Among FAILED and EXECUTED terminal times in [t − 1 h, t) of the same client and symbol, the length of the
    unbroken run of FAILED ending last before t; of events that were available before t."""
    known: dict[str, list[dict]] = {}
    for e in events:
        if e["client_id"] == client_id and e["symbol"] == symbol and available(e) < t:
            known.setdefault(e["execution_token"], []).append(e)
    ends = [end for of in known.values() for end in terminals(of) if t - HOUR <= end[0] < t]
    run = 0
    for _, failed in sorted(ends, reverse=True):  # of equal times the failure comes last
        if not failed:
            break
        run += 1
    return run


# -- one stop --------------------------------------------------------------------------------------------------------


def stop_distance_pct(entry: Decimal | None, stop: Decimal | None) -> Decimal | None:
    if entry is None or stop is None:
        return None
    return percent_points(abs(entry - stop) * 100, entry)


def whole_seconds(since: datetime | None, t: datetime) -> int | None:
    return None if since is None or since > t else (t - since) // timedelta(seconds=1)


def stop_outcome(trigger: dict, bars: list[dict], events: list[dict]) -> dict:
    """Features of one STOP_TRIGGERED event. ``bars`` are of its symbol, ``events`` all there are."""
    t, payload = trigger["occurred_at"], trigger["payload"]
    return {
        "stop_distance_pct": stop_distance_pct(payload.get("entry_price"), trigger["stop_price"]),
        "time_to_trigger_sec": whole_seconds(payload.get("entry_placed_at"), t),
        "time_in_position_sec": whole_seconds(payload.get("entry_time"), t),
        "volatility_15m": volatility_15m(bars, t),
        "volume_24h": volume(bars, t, "quote_volume"),
        "volume_24h_base": volume(bars, t, "volume"),
        "hour_of_day": t.hour,
        "day_of_week": t.weekday(),
        "consecutive_failures_1h": consecutive_failures_1h(
            events, trigger["client_id"], trigger["symbol"], t
        ),
    }


def slippage(trigger: dict, bars: list[dict], trades: list[dict]) -> dict:
    """What slippage_prediction has beside those. ``trades`` are of the trigger's symbol, in order."""
    t, payload = trigger["occurred_at"], trigger["payload"]
    g = 1 if trigger["side"] == "SELL" else -1
    stop, price, quantity = trigger["stop_price"], trigger["trigger_price"], trigger["quantity"]
    middle, last = median_volume(bars, t), last_minute_return(bars, t)
    return {
        "side": trigger["side"],
        "trigger_type": trigger["trigger_type"],
        "source": trigger["source"],
        "order_notional_quote": None
        if price is None
        else (price * quantity).quantize(Decimal("0.00000001"), ROUND_HALF_UP),
        "order_qty_to_median_1m_volume": float(Fraction(quantity) / Fraction(middle)) if middle else None,
        "detection_gap_pct": None if price is None else percent_points(g * (stop - price) * 100, stop),
        "price_age_ms": payload.get("price_age_ms"),
        "spread_bps_at_trigger": payload.get("spread_bps_at_trigger"),
        "top_depth_quote": payload.get("top_depth_quote"),
        "signed_imbalance_1m": imbalance(trades, t, MINUTE),
        "signed_imbalance_5m": imbalance(trades, t, 5 * MINUTE),
        "rv_1m": tape_volatility(trades, t),
        "rv_5m": realised(bars, t, 5),
        "rv_1h": realised(bars, t, 60),
        "last_minute_return_closing": None if last is None else g * last,
    }
