"""The averages of 200 and 400 two-minute closes, and the price against them (spec §5.3, §5.4, §7.7)."""

import itertools
import math
from fractions import Fraction

from .bars import atr_points, ohlcv
from .rules import DEFAULT, EPS, MINUTE_NS, last_trade_before

COUNTS = (200, 400)
CHANGES = 20


def sigma_points(session_trades: list[dict], t_ns: int) -> float | None:
    """§5.3: sample standard deviation, in points, of the last 20 changes between one-minute closes of this session
    whose bars ended by t. NULL with fewer than 20 changes."""
    closes = [bar["close_tick"] for bar in ohlcv(session_trades, 60) if bar["bar_end_ns"] <= t_ns]
    changes = [now - before for before, now in itertools.pairwise(closes)][-CHANGES:]
    if len(changes) < CHANGES:
        return None
    mean = Fraction(sum(changes), CHANGES)
    variance = sum((change - mean) ** 2 for change in changes) / (CHANGES - 1)
    return math.sqrt(variance) / 4


def mean_close_points(closes: list[int], count: int, bars_ago: int = 0) -> Fraction | None:
    """§5.4: the mean of the last `count` closes in points, as it was `bars_ago` bars earlier. NULL until full."""
    seen = closes[: len(closes) - bars_ago] if bars_ago <= len(closes) else []
    return Fraction(sum(seen[-count:]), 4 * count) if len(seen) >= count else None


def averages_row(
    session_trades: list[dict], point: dict, p: dict = DEFAULT, earlier_bars_120s: list[list[dict]] = ()
) -> dict:
    """§7.7: every column of the group mean_reversion.

    `earlier_bars_120s`: two-minute bars of the same contract in the sessions before, one list for each, oldest first,
    of which the last SMA_WARMUP_DAYS are used.
    """
    asof = point["asof_ns"]
    then = asof - 10 * MINUTE_NS
    warmup = [bar for bars in list(earlier_bars_120s)[-p["SMA_WARMUP_DAYS"] :] for bar in bars]
    bars = warmup + ohlcv(session_trades, 120)
    closes_now = [bar["close_tick"] for bar in bars if bar["bar_end_ns"] <= asof]
    closes_then = [bar["close_tick"] for bar in bars if bar["bar_end_ns"] <= then]
    level = Fraction(point["level_tick"], 4)
    spot = Fraction(last_trade_before(session_trades, asof)["tick"], 4)
    trade_then = last_trade_before(session_trades, then)
    sigma = sigma_points(session_trades, asof)
    atr = atr_points(session_trades, asof)

    row = {}
    now = {count: mean_close_points(closes_now, count) for count in COUNTS}
    for count in COUNTS:
        sma, earlier = now[count], mean_close_points(closes_then, count)
        five, ten = (mean_close_points(closes_now, count, bars_ago) for bars_ago in (5, 10))
        row[f"sma_{count}"] = None if sma is None else float(sma)
        row[f"dist_to_sma_{count}"] = None if sma is None else float(level - sma)
        row[f"dist_to_sma_{count}_atr"] = (
            None if sma is None or atr is None else float(level - sma) / (atr + EPS)
        )
        row[f"sma_{count}_slope"] = None if ten is None else float((sma - ten) / 20)
        row[f"sma_{count}_slope_5bar"] = None if five is None else float((sma - five) / 10)
        row[f"mean_reversion_pressure_{count}"] = (
            float(spot - sma) / sigma if sma is not None and sigma else None
        )
        row[f"mean_reversion_velocity_{count}"] = None
        if earlier is not None and trade_then is not None:
            gap_then = Fraction(trade_then["tick"], 4) - earlier
            row[f"mean_reversion_velocity_{count}"] = float((spot - sma - gap_then) / 10)
    row["sma_spread"] = None if now[400] is None else float(now[200] - now[400])
    return row
