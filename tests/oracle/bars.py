"""Bars and the average true range (spec §5.3, reading 2)."""

from fractions import Fraction

from .rules import SECOND_NS


def ohlcv(trades: list[dict], bar_s: int) -> list[dict]:
    """§5.3: bars of 1, 60 or 120 s on the UTC grid; first and last by total order; empty bars are absent."""
    bars: dict[int, dict] = {}
    width = bar_s * SECOND_NS
    for trade in trades:
        start = trade["ts_event_ns"] // width * width
        tick, size = trade["tick"], trade["size"]
        if start not in bars:
            bars[start] = {
                "bar_s": bar_s,
                "bar_start_ns": start,
                "bar_end_ns": start + width,
                "open_tick": tick,
                "high_tick": tick,
                "low_tick": tick,
                "close_tick": tick,
                "volume": 0,
                "notional_ticks": 0,
                "buy_vol": 0,
                "sell_vol": 0,
                "n_trades": 0,
            }
        bar = bars[start]
        bar["high_tick"] = max(bar["high_tick"], tick)
        bar["low_tick"] = min(bar["low_tick"], tick)
        bar["close_tick"] = tick
        bar["volume"] += size
        bar["notional_ticks"] += tick * size
        bar["buy_vol"] += size if trade["aggressor"] == 1 else 0
        bar["sell_vol"] += size if trade["aggressor"] == -1 else 0
        bar["n_trades"] += 1
    return [bars[start] for start in sorted(bars)]


def atr_points(session_trades: list[dict], t_ns: int) -> float | None:
    """§5.3: mean true range, in points, of the last 14 one-minute bars of this session that ended by t.

    True range = max(high - low, |high - previous close|, |low - previous close|); the session's first bar has
    high - low. Minutes without trades are skipped. NULL with fewer than 14 bars.
    """
    done = [bar for bar in ohlcv(session_trades, 60) if bar["bar_end_ns"] <= t_ns]
    ranges = []
    previous_close = None
    for bar in done:
        candidates = [bar["high_tick"] - bar["low_tick"]]
        if previous_close is not None:
            candidates += [abs(bar["high_tick"] - previous_close), abs(bar["low_tick"] - previous_close)]
        ranges.append(max(candidates))
        previous_close = bar["close_tick"]
    if len(ranges) < 14:
        return None
    return float(Fraction(sum(ranges[-14:]), 14 * 4))
