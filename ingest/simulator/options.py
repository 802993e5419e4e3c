"""Option trades of a session's date as the vendor's flat file has them: SPY of all expiries, and other roots.

A trade of a customer is two prints of one option within milliseconds: one contract at the far side of the quote, then
the trade itself at the side it takes. So the aggressor stands nowhere in the file, and the tick test finds it, however
far the price has moved since the option last traded. Who buys follows from what dealers are to hold (`dealers`): each
trade brings its strike's sum nearer to the wanted one. Fewer trades carry larger sizes, so that sums of dealer gamma
keep their magnitude at each scale.
"""

import math
from datetime import date, time, timedelta

import numpy as np
from numba import njit

from ingest.polygon.occ_ticker import symbol
from ingest.simulator.clock import EARLY_CLOSE, MINUTE_NS, is_early_close, trading_sessions, wall_ns
from ingest.simulator.dealers import DealerFlow
from ingest.simulator.path import generator
from ingest.simulator.prints import Prints
from ingest.simulator.spot import Spot, random_times
from ingest.simulator.surface import RISK_FREE, black_scholes, noise_by_minute, volatility, years_to

FULL_TODAY = 750_000  # prints of SPY options that expire on the date, at scale 1
OTHER_EXPIRIES, OTHER_ROOTS = 0.30, 0.20  # so many more, as shares of these
OTHER_ROOT_PRICES = {"SPXW": 5_800, "QQQ": 600, "IWM": 240, "SPYG": 100, "SPYV": 55, "XSP": 580}
ODD_ROOTS = ("NA", "NULL", "nan")  # tickers that careless readers take for missing values
IDENTICAL_ONE_IN = 100
LATE_MINUTES = 15  # options on SPY trade this long beyond the close of their stock
REACH_USD, MAX_REACH_USD, DEEP_USD = 3.5, 28, 12
CALL_SHARE_ABOVE = 0.72  # of the trades at strikes above the spot; below it as many are puts
SIZE, MAX_SIZE = (3.0, 0.8), 500  # contracts: median and sigma of a log-normal, most, at scale 1
SIZE_EXPONENT = 0.6  # sizes grow by this power of what the scale thins: enough to steer the sums at any scale
MOST_TIMES_SIZE = 6.0  # a trade that lags far behind is larger, up to so many times
CONDITIONS = ("", "209", "219", "227", '"209,232"', '"227,219"')
CONDITION_SHARES = (0.05, 0.55, 0.15, 0.15, 0.06, 0.04)
EXCHANGES = (300, 301, 302, 303, 304, 307, 309, 312, 313, 316, 318, 319, 322, 323, 325)


def option_prints(
    seed: int, scale: float, spot: Spot, flow: DealerFlow, faults: frozenset[str] = frozenset()
) -> Prints:
    """All prints of one options file, grouped by ticker and in order of time within each."""
    day = spot.clock.day
    rng = generator(seed, day, 9)
    trades = max(round(FULL_TODAY * scale / 2), 1)
    noise = noise_by_minute(
        rng, (spot.clock.rth_close_ns - spot.clock.rth_open_ns) // MINUTE_NS + LATE_MINUTES
    )
    today = _today(rng, trades, scale, spot, flow, noise)
    later = _later(rng, round(2 * trades * OTHER_EXPIRIES), spot, noise)
    parts = [today, later, _other_roots(rng, round(2 * trades * OTHER_ROOTS), spot, OTHER_ROOT_PRICES)]
    whole = Prints.joined(rng, parts, CONDITIONS, CONDITION_SHARES, EXCHANGES)
    if "odd-tickers" in faults:
        odd = _other_roots(rng, 20 * len(ODD_ROOTS), spot, dict.fromkeys(ODD_ROOTS, 12))
        whole = whole.with_more(Prints.joined(rng, [odd], CONDITIONS, CONDITION_SHARES, EXCHANGES))
    if "identical-prints" in faults:
        again = np.arange(IDENTICAL_ONE_IN - 1, len(whole), IDENTICAL_ONE_IN)
        whole = whole.taken(np.sort(np.concatenate([np.arange(len(whole)), again])))
    if "fractional-size" in faults:
        rows = whole.rows_of(symbol("SPY", day, "C", 0)[:-8])
        # not one that printed twice: its twin would be a whole one
        rows = rows[
            np.isin(whole.ts_ns[rows], whole.ts_ns[rows[:-1]][np.diff(whole.ts_ns[rows]) == 0], invert=True)
        ]
        whole.halved = frozenset(rows[[len(rows) // 3, len(rows) // 2]].tolist())
    return whole


def intensity(minutes: int) -> np.ndarray:
    """(minutes,) relative intensity from the open to the close: a U."""
    return 0.7 + 1.2 * (np.arange(minutes) / minutes * 2 - 1) ** 2


def _today(
    rng: np.random.Generator, trades: int, scale: float, spot: Spot, flow: DealerFlow, noise: np.ndarray
) -> Prints:
    clock = spot.clock
    minutes = (clock.rth_close_ns - clock.rth_open_ns) // MINUTE_NS
    ts = random_times(rng, clock.rth_open_ns, intensity(minutes), MINUTE_NS, trades)
    ts = np.minimum(spot.clear_of_moves(ts, rng), clock.rth_close_ns - 50_000_000)
    price = spot.mid_usd(ts)
    offset = np.clip(np.rint(rng.laplace(0.0, REACH_USD, trades)), -MAX_REACH_USD, MAX_REACH_USD)
    strike = np.rint(price + offset)
    is_call = rng.random(trades) < np.where(
        np.abs(strike - price) < 0.5, 0.5, np.where(strike > price, CALL_SHARE_ABOVE, 1 - CALL_SHARE_ABOVE)
    )
    is_call = np.where(strike > price + DEEP_USD, True, is_call & ~(strike < price - DEEP_USD))
    minute = (ts - clock.rth_open_ns) // MINUTE_NS
    years = years_to(np.int64(clock.rth_close_ns), ts)
    sigma = volatility(price, strike, years, noise[minute])
    value, gamma = black_scholes(price, strike, years, sigma, is_call)
    bid, ask = quote_cents(value, price, strike, years, is_call)
    median, spread = SIZE
    wanted = median * scale**-SIZE_EXPONENT * np.exp(spread * rng.normal(size=trades))
    row = strike.astype(np.int64) - flow.first_strike
    buys, size = steer(
        flow.gamma, row, minute, (ts - clock.rth_open_ns) / MINUTE_NS - minute, gamma,
        np.clip(wanted, 1, MAX_SIZE * scale**-SIZE_EXPONENT), rng.random(trades),
    )  # fmt: skip
    main_ns = ts + rng.integers(200_000, 4_000_000, trades)
    ticker, names = _tickers("SPY", [clock.day], np.zeros(trades, np.int64), is_call, strike)
    return Prints(
        names,
        np.concatenate([ticker, ticker]),
        np.concatenate([ts, main_ns]),
        np.concatenate([np.where(buys, bid, ask), np.where(buys, ask, bid)]),
        np.concatenate([np.ones(trades, np.int64), size]),
    )


@njit(cache=True)
def steer(wanted_gamma, row, minute, share, gamma, size, uniform):
    """Side (True: the customer buys) and size in contracts of each trade, in order of time.

    A customer who buys leaves the dealer short gamma. A side is the likelier the farther its strike's sum is behind
    ``wanted_gamma`` (minutes + 1, strikes) on that side; where it is far behind, the trade is larger.
    """
    n = row.shape[0]
    buys, contracts = np.empty(n, np.bool_), np.empty(n, np.int64)
    have = np.zeros(wanted_gamma.shape[1])
    for i in range(n):
        k, m = min(max(row[i], 0), have.shape[0] - 1), minute[i]
        wanted = wanted_gamma[m, k] + share[i] * (wanted_gamma[m + 1, k] - wanted_gamma[m, k])
        behind = wanted - have[k]
        one = max(gamma[i] * 100.0, 1e-9)
        contracts[i] = max(
            1, math.floor(size[i] * min(max(abs(behind) / (one * size[i]), 0.5), MOST_TIMES_SIZE) + 0.5)
        )
        amount = contracts[i] * one
        buys[i] = uniform[i] * (1.0 + math.exp(min(max(3.0 * behind / amount, -30.0), 30.0))) < 1.0
        have[k] += -amount if buys[i] else amount
    return buys, contracts


def quote_cents(
    value: np.ndarray, spot: np.ndarray, strike: np.ndarray, years: np.ndarray, is_call: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bid and (n,) ask in cents: a spread of a cent or two per cent, never below the least an option is worth."""
    discounted = strike * np.exp(-RISK_FREE * years)
    least = np.maximum(np.where(is_call, spot - discounted, discounted - spot), 0.0)
    spread = np.maximum(np.rint(value * 2.0), 1.0)
    bid = np.maximum(np.floor(value * 100 - spread / 2 + 0.5), np.maximum(np.ceil(least * 100), 1.0))
    return bid.astype(np.int64), (bid + spread).astype(np.int64)


def _later(rng: np.random.Generator, count: int, spot: Spot, noise: np.ndarray) -> Prints:
    """Prints of later expiries, sides at random."""
    clock = spot.clock
    sessions = trading_sessions(clock.day, clock.day + timedelta(days=45))
    expiries = [sessions[k] for k in (1, 2, 3, 5, 10, 21) if k < len(sessions)]
    expiry_ns = np.array([wall_ns(d, EARLY_CLOSE if is_early_close(d) else time(16)) for d in expiries])
    ts = np.minimum(
        random_times(rng, clock.rth_open_ns, intensity(len(noise)), MINUTE_NS, count),
        clock.rth_open_ns + len(noise) * MINUTE_NS - 1,
    )
    ts = spot.clear_of_moves(ts, rng)
    price = spot.mid_usd(ts)
    which = rng.integers(0, len(expiries), count)
    strike = np.rint(price + rng.normal(0.0, 12.0, count))
    is_call = np.where(strike > price, rng.random(count) < 0.75, rng.random(count) < 0.25)
    years = years_to(expiry_ns[which], ts)
    minute = np.minimum((ts - clock.rth_open_ns) // MINUTE_NS, len(noise) - 1)
    value, _ = black_scholes(price, strike, years, volatility(price, strike, years, noise[minute]), is_call)
    bid, ask = quote_cents(value, price, strike, years, is_call)
    size = np.clip(np.rint(3 * np.exp(0.9 * rng.normal(size=count))), 1, MAX_SIZE).astype(np.int64)
    ticker, names = _tickers("SPY", expiries, which, is_call, strike)
    return Prints(names, ticker, ts, np.where(rng.random(count) < 0.5, bid, ask), size)


def _other_roots(rng: np.random.Generator, count: int, spot: Spot, prices: dict[str, int]) -> Prints:
    """Prints of other roots, some of which begin like SPY: whoever reads prefixes is wrong."""
    clock = spot.clock
    roots = list(prices)
    minutes = (clock.rth_close_ns - clock.rth_open_ns) // MINUTE_NS
    ts = random_times(rng, clock.rth_open_ns, intensity(minutes), MINUTE_NS, count)
    which = rng.integers(0, len(roots), count)
    level = np.array(list(prices.values()))[which]
    strike = np.rint(level * (1 + 0.01 * rng.normal(size=count)))
    is_call = rng.random(count) < 0.5
    cents = np.maximum(np.rint(level * rng.exponential(0.4, count)), 1).astype(np.int64)
    size = np.clip(np.rint(3 * np.exp(0.9 * rng.normal(size=count))), 1, MAX_SIZE).astype(np.int64)
    parts = [
        _tickers(
            root, [clock.day], np.zeros((which == k).sum(), np.int64), is_call[which == k], strike[which == k]
        )
        for k, root in enumerate(roots)
    ]
    ticker, names = np.empty(count, np.int64), []
    for k, (own, own_names) in enumerate(parts):
        ticker[which == k] = own + len(names)
        names += own_names
    return Prints(names, ticker, ts, cents, size)


def _tickers(
    root: str, expiries: list[date], which: np.ndarray, is_call: np.ndarray, strike: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """(n,) index of each print's ticker, and the tickers."""
    key = (which * 2 + ~np.asarray(is_call, bool)) * 10_000_000 + strike.astype(np.int64)
    known, index = np.unique(key, return_inverse=True)
    names = [
        symbol(root, expiries[k // 20_000_000], "CP"[k // 10_000_000 % 2], k % 10_000_000 * 1000)
        for k in known.tolist()
    ]
    return index, names
