"""SPY's own trades, and a few of other stocks, as the vendor's flat file has them."""

import numpy as np

from ingest.simulator.clock import MINUTE_NS
from ingest.simulator.options import ODD_ROOTS, intensity
from ingest.simulator.path import generator
from ingest.simulator.prints import Prints
from ingest.simulator.spot import Spot, random_times

FULL_SPY = 400_000  # prints of SPY at scale 1
OTHER_STOCKS = 0.10  # so many more of other stocks
OTHER_PRICES = {"QQQ": 600.0, "IWM": 240.0, "SPYG": 100.0}
FOLLOWING = 0.5  # share of SPY's prints in regular hours that come right after an event of ES
FOLLOWING_NS = 150_000_000  # mean; what arbitrage takes
ODD_LOTS, LOT = 0.25, 100
ODD_LOT_CODE = 37
CORRECTED = 0.002
CORRECTIONS = (1, 7, 8, 10, 11, 12)
CORRECTED_OFF = 0.004  # a print that was corrected or cancelled is wrong by up to this share
CONDITIONS = ("", "14", '"14,41"', "41")
CONDITION_SHARES = (0.5, 0.2, 0.2, 0.1)
EXTENDED_HOURS = "12"
EXCHANGES = (4, 4, 4, 7, 8, 10, 11, 12, 15, 18, 19, 20, 21)
TRF = 4  # the venue of what trades off exchange


def stock_prints(seed: int, scale: float, spot: Spot, faults: frozenset[str] = frozenset()) -> Prints:
    """All prints of one stocks file, grouped by ticker and in order of time within each."""
    rng = generator(seed, spot.clock.day, 10)
    count = max(round(FULL_SPY * scale), 1)
    parts = [_spy(rng, count, spot), _others(rng, round(count * OTHER_STOCKS), spot, OTHER_PRICES)]
    if "no-spy-day" in faults:
        parts = parts[1:]
    whole = Prints.joined(rng, parts, CONDITIONS, CONDITION_SHARES, EXCHANGES)
    _mark(rng, whole, spot)
    if "odd-tickers" in faults:
        odd = _others(rng, 20 * len(ODD_ROOTS), spot, dict.fromkeys(ODD_ROOTS, 12.0))
        whole = whole.with_more(Prints.joined(rng, [odd], CONDITIONS, CONDITION_SHARES, EXCHANGES))
    return whole


def _spy(rng: np.random.Generator, count: int, spot: Spot) -> Prints:
    clock = spot.clock
    weight = np.full((spot.last_ns - spot.first_ns) // MINUTE_NS, 0.06)
    opens = (clock.rth_open_ns - spot.first_ns) // MINUTE_NS
    closes = (clock.rth_close_ns - spot.first_ns) // MINUTE_NS
    weight[opens:closes] = intensity(closes - opens)
    weight[closes + 60 :] = 0.03
    ts = random_times(rng, spot.first_ns, weight, MINUTE_NS, count)
    event = spot.event_ns[(spot.event_ns >= clock.rth_open_ns) & (spot.event_ns < clock.rth_close_ns)]
    regular = (ts >= clock.rth_open_ns) & (ts < clock.rth_close_ns)
    follows = np.flatnonzero(regular & (rng.random(count) < FOLLOWING))
    if len(event):
        # The last event before the time drawn for the print: the day's U stays what it was.
        before = event[np.maximum(np.searchsorted(event, ts[follows]) - 1, 0)]
        ts[follows] = before + np.minimum(rng.exponential(FOLLOWING_NS, len(follows)), 900_000_000).astype(
            np.int64
        )
    ts = np.minimum(spot.clear_of_moves(ts, rng), spot.last_ns - 1)
    mid = spot.mid_usd(ts)
    cents = np.floor(mid * 100).astype(np.int64) + rng.integers(0, 2, count)
    size = LOT * np.clip(np.rint(np.exp(0.9 * rng.normal(size=count))), 1, 100).astype(np.int64)
    odd = rng.random(count) < ODD_LOTS
    size[odd] = rng.integers(1, LOT, int(odd.sum()))
    return Prints(["SPY"], np.zeros(count, np.int64), ts, cents, size)


def _others(rng: np.random.Generator, count: int, spot: Spot, prices: dict[str, float]) -> Prints:
    ticker = rng.integers(0, len(prices), count)
    ts = rng.integers(spot.clock.rth_open_ns, spot.clock.rth_close_ns, count)
    level = np.array(list(prices.values()))[ticker]
    cents = np.maximum(np.rint(level * 100 * np.exp(0.005 * rng.normal(size=count))), 1).astype(np.int64)
    return Prints(list(prices), ticker, ts, cents, rng.integers(1, 400, count))


def _mark(rng: np.random.Generator, prints: Prints, spot: Spot) -> None:
    """Say what is an odd lot, what traded outside the regular hours, and what was corrected afterwards."""
    clock = spot.clock
    extended = (prints.ts_ns < clock.rth_open_ns) | (prints.ts_ns >= clock.rth_close_ns)
    for i in np.flatnonzero(extended | (prints.size < LOT)).tolist():
        codes = [EXTENDED_HOURS] * bool(extended[i]) + [str(ODD_LOT_CODE)] * bool(prints.size[i] < LOT)
        own = prints.conditions[i].strip('"')
        codes = ([own] if own else []) + codes
        prints.conditions[i] = (
            codes[0] if codes == codes[:1] and "," not in codes[0] else f'"{",".join(codes)}"'
        )
    wrong = np.flatnonzero(rng.random(len(prints)) < CORRECTED)
    prints.correction[wrong] = rng.choice(CORRECTIONS, len(wrong))
    prints.cents[wrong] += np.rint(
        prints.cents[wrong] * rng.uniform(-CORRECTED_OFF, CORRECTED_OFF, len(wrong))
    ).astype(np.int64)
