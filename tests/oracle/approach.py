"""How the price came to a level, by completed one-minute closes (spec §7.7, approach)."""

from .bars import atr_points, ohlcv
from .rules import DEFAULT, EPS, MINUTE_NS, direction_sign


def approach_row(session_trades: list[dict], point: dict, p: dict = DEFAULT) -> dict:
    """§7.7: approach_velocity, _bars, _distance and _distance_atr over closes with bar end in
    (asof - LOOKBACK_MINUTES, asof]; all NULL below two closes."""
    asof = point["asof_ns"]
    start = asof - p["LOOKBACK_MINUTES"] * MINUTE_NS
    closes = [bar["close_tick"] / 4 for bar in ohlcv(session_trades, 60) if start < bar["bar_end_ns"] <= asof]
    if len(closes) < 2:
        names = ("approach_velocity", "approach_bars", "approach_distance", "approach_distance_atr")
        return dict.fromkeys(names)
    sign = direction_sign(point["direction"])
    run = 0
    while run < len(closes) - 1 and sign * (closes[-1 - run] - closes[-2 - run]) > 0:
        run += 1
    distance = abs(closes[-1] - closes[0])
    atr = atr_points(session_trades, asof)
    return {
        "approach_velocity": sign * (closes[-1] - closes[0]) / (len(closes) - 1),
        "approach_bars": run,
        "approach_distance": distance,
        "approach_distance_atr": None if atr is None else distance / (atr + EPS),
    }
