"""Tape features of one observation point (spec §7.3, reading 9)."""

from fractions import Fraction

from .rules import DEFAULT, EPS, MS_NS, SECOND_NS, TICK_POINTS, ticks, trades_within


def slope_points_per_s(trades: list[dict]) -> float | None:
    """§7.3: least-squares slope of price on time, one observation per print, by the textbook formula in
    exact arithmetic: sum (t - mean t)(p - mean p) / sum (t - mean t)^2. NULL with < 2 distinct timestamps."""
    if len({trade["ts_event_ns"] for trade in trades}) < 2:
        return None
    times = [Fraction(trade["ts_event_ns"], SECOND_NS) for trade in trades]
    prices = [Fraction(trade["tick"], 4) for trade in trades]
    mean_time = sum(times) / len(times)
    mean_price = sum(prices) / len(prices)
    over = sum((t - mean_time) * (x - mean_price) for t, x in zip(times, prices, strict=True))
    return float(over / sum((t - mean_time) ** 2 for t in times))


def sweep(in_band: list[dict], p: dict) -> dict:
    """§7.3: the largest sweep among in-band prints of known aggressor (tie: the later one).

    A cluster is consecutive prints of one sign, neighbours at most SWEEP_MAX_GAP_MS apart; it is a sweep with
    at least two prints, SWEEP_MIN_CONTRACTS contracts and two distinct ticks.
    """
    clusters: list[list[dict]] = []
    for trade in in_band:
        last = clusters[-1][-1] if clusters else None
        if (
            last is not None
            and last["aggressor"] == trade["aggressor"]
            and trade["ts_event_ns"] - last["ts_event_ns"] <= p["SWEEP_MAX_GAP_MS"] * MS_NS
        ):
            clusters[-1].append(trade)
        else:
            clusters.append([trade])
    best = None
    for cluster in clusters:
        size = sum(trade["size"] for trade in cluster)
        if len(cluster) < 2 or size < p["SWEEP_MIN_CONTRACTS"]:
            continue
        if len({trade["tick"] for trade in cluster}) < 2:
            continue
        if best is None or size >= sum(trade["size"] for trade in best):
            best = cluster
    if best is None:
        return {"sweep_detected": False, "sweep_direction": 0, "sweep_contracts": 0, "sweep_notional": 0.0}
    return {
        "sweep_detected": True,
        "sweep_direction": best[0]["aggressor"],
        "sweep_contracts": sum(trade["size"] for trade in best),
        "sweep_notional": sum(trade["tick"] * trade["size"] for trade in best) * TICK_POINTS * 50,
    }


def tape_row(trades: list[dict], point: dict, p: dict = DEFAULT, ratio: float = 10.0) -> dict:
    """§7.3: every column of tape_physics for one point.

    The band is |tick - L| <= ticks(TAPE_BAND); volumes and sweeps use it over [asof - W_t, asof), slopes and
    rates use all trades of their own window.
    """
    asof = point["asof_ns"]
    band = ticks(p["TAPE_BAND"], ratio)
    window = trades_within(trades, asof - p["W_t"] * SECOND_NS, asof)
    in_band = [trade for trade in window if abs(trade["tick"] - point["level_tick"]) <= band]
    buy = sum(trade["size"] for trade in in_band if trade["aggressor"] == 1)
    sell = sum(trade["size"] for trade in in_band if trade["aggressor"] == -1)
    row = {
        "tape_buy_vol": buy,
        "tape_sell_vol": sell,
        "tape_imbalance": (buy - sell) / (buy + sell + EPS) if buy or sell else None,
    }
    for seconds in (3, 15, 60):
        recent = trades_within(trades, asof - seconds * SECOND_NS, asof)
        row[f"tape_price_slope_{seconds}s"] = slope_points_per_s(recent)
        row[f"tape_trade_rate_{seconds}s"] = len(recent) / seconds
    row["tape_velocity"] = row["tape_price_slope_60s"]
    return row | sweep([trade for trade in in_band if trade["aggressor"] != 0], p)
