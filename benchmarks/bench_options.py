"""Pricing of a day's option prints against the same mathematics vectorised in NumPy: CPU per option, ratio, memory.

`make_day` draws prints at cents over strikes around a wandering spot, as the simulator's flat files hold them. The
cost of an option is that of the whole table: spot and ratio of each print, volatilities that are carried, every column.
The ratio is of the mathematics alone: both sides get price, spot, strike and time ready-made.
"""

from functools import partial

import numpy as np
import pyarrow as pa
from scipy.special import erfc

from benchmarks.bench_physics import ratio
from physics.black_scholes import SIGMA_MAX, SIGMA_MIN, TOLERANCE, YEAR_NS, implied_volatility
from physics.option_greeks import option_greeks
from physics.units import SECOND_NS, TICK_POINTS

OPEN_NS = 1_765_809_000_000_000_000  # 2025-12-15 14:30 UTC
EXPIRY_NS = OPEN_NS + 23_400 * SECOND_NS
ROWS = 1_000_000
TRADES = 500_000
CHUNK = 8_192
RISK_FREE = 0.045
ES_SPY = 10.03

Day = dict[str, pa.Table]


def make_day(rows: int = ROWS, seed: int = 5) -> Day:
    """Prints of ``rows`` options, ES trades and the ratio of each second of one RTH session, in memory."""
    rng = np.random.default_rng(seed)
    trades = TRADES * rows // ROWS
    trade_ns = OPEN_NS + np.sort(rng.integers(0, 23_400 * SECOND_NS, trades))
    tick = (24_000 + np.cumsum(rng.integers(-1, 2, trades))).astype(np.int32)
    ts = np.maximum(OPEN_NS + SECOND_NS + np.sort(rng.integers(0, 23_000 * SECOND_NS, rows)), trade_ns[0] + 1)
    spot = tick[np.searchsorted(trade_ns, ts) - 1] * TICK_POINTS / ES_SPY
    strike = np.round(spot + rng.normal(0, 4, rows))
    is_call = rng.random(rows) < 0.5
    years = (EXPIRY_NS - ts) / YEAR_NS
    sigma = 0.12 + 0.02 * np.abs(strike - spot) / 4
    price = np.maximum(0.01, np.round(_value(spot, strike, years, is_call, sigma), 2))
    names = [f"O:SPY251215{'PC'[int(c)]}{int(k) * 1000:08d}" for c, k in zip(is_call, strike, strict=True)]
    prints = {
        "ts_event_ns": ts,
        "ordinal": np.arange(rows),
        "option_symbol": pa.array(names),
        "strike_milli": (strike * 1000).astype(np.int32),
        "right": pa.array(np.where(is_call, "C", "P")),
        "price": price,
        "size": rng.integers(1, 50, rows).astype(np.int32),
        "aggressor": rng.choice(np.array([-1, 1], np.int8), rows),
    }
    order = np.arange(trades)
    es = {"ts_event_ns": trade_ns, "sequence": order, "ordinal": order, "tick": tick}
    seconds = OPEN_NS - OPEN_NS % SECOND_NS + np.arange(23_400) * SECOND_NS
    ratios = {"asof_ns": seconds, "es_spy_ratio": np.full(seconds.size, ES_SPY)}
    return {"prints": pa.table(prints), "trades": pa.table(es), "ratios": pa.table(ratios)}


def _normal(x: np.ndarray) -> np.ndarray:
    return 0.5 * erfc(x * -np.sqrt(0.5))


def _value(
    spot: np.ndarray, strike: np.ndarray, years: np.ndarray, is_call: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    s = sigma * np.sqrt(years)
    sign = np.where(is_call, 1, -1)
    d1 = (np.log(spot / strike) + RISK_FREE * years) / s + s / 2
    discounted = strike * np.exp(-RISK_FREE * years)
    return sign * (spot * _normal(sign * d1) - discounted * _normal(sign * (d1 - s)))


def vectorised(
    price: np.ndarray, spot: np.ndarray, strike: np.ndarray, years: np.ndarray, is_call: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(σ, gamma) with NaN where unsolvable, by the same start and steps, in NumPy at its best: chunks that stay in the
    cache, and rows that have converged leave.
    """
    sigma, gamma = np.full(price.size, np.nan), np.full(price.size, np.nan)
    for first in range(0, price.size, CHUNK):
        rows = slice(first, first + CHUNK)
        p, s, k, t = price[rows], spot[rows], strike[rows], years[rows]
        growth = np.expm1(RISK_FREE * t)
        forward = s + s * growth
        log = np.log1p((s - k) / k) + RISK_FREE * t
        sign = np.where(is_call[rows], 1.0, -1.0)
        value = np.minimum(p + p * growth, p + sign * (k - s) + (p - sign * s) * growth)
        found = _solve(value, forward, k, np.abs(log), np.sqrt(t))
        sigma[rows] = found
        deviation = found * np.sqrt(t)
        d1 = log / deviation + deviation / 2
        gamma[rows] = np.exp(-d1 * d1 / 2) / (np.sqrt(2 * np.pi) * s * deviation)
    return sigma, gamma


def _solve(
    value: np.ndarray, forward: np.ndarray, strike: np.ndarray, h: np.ndarray, root_t: np.ndarray
) -> np.ndarray:
    result = np.full(value.size, np.nan)
    at = np.flatnonzero((value > 0) & (value < np.minimum(forward, strike)))
    h, root_t = h[at], root_t[at]
    wanted = value[at] / np.sqrt(forward[at] * strike[at])
    near = np.exp(-h / 2)
    far = 1 / near
    s = np.where(h < 1e-6, np.sqrt(2 * np.pi) * value[at] / forward[at], np.sqrt(2 * h))
    s = np.clip(s, SIGMA_MIN * root_t, SIGMA_MAX * root_t)
    for _ in range(50):
        if not at.size:
            break
        x, half = h / s, s / 2
        excess = near * _normal(half - x) - far * _normal(-half - x) - wanted
        step = excess * np.sqrt(2 * np.pi) * np.exp((x * x + half * half) / 2)
        s -= step
        stays = np.abs(step) >= TOLERANCE * root_t
        done = ~stays
        result[at[done]] = s[done] / root_t[done]
        # a step out of the bracket gives the row up: the rival need not bisect
        stays &= (s > SIGMA_MIN * root_t) & (s < SIGMA_MAX * root_t)
        at, h, root_t, wanted, near, far, s = (a[stays] for a in (at, h, root_t, wanted, near, far, s))
    return np.where((result >= SIGMA_MIN) & (result <= SIGMA_MAX), result, np.nan)


def bench(day: Day, *, runs: int = 3) -> dict[str, float]:
    """CPU µs of an option on one thread, from prints to the table; and the rival's CPU over ours for the mathematics
    alone, the same arrays in and the same out.
    """
    prints, trades = day["prints"], day["trades"]
    ts = prints["ts_event_ns"].to_numpy()
    before = np.searchsorted(trades["ts_event_ns"].to_numpy(), ts) - 1
    spot = trades["tick"].to_numpy()[before] * TICK_POINTS / ES_SPY
    strike = prints["strike_milli"].to_numpy() / 1000
    years = np.maximum(EXPIRY_NS - ts, 60 * SECOND_NS) / YEAR_NS
    is_call = np.array([right == "C" for right in prints["right"].to_pylist()])
    arrays = (prints["price"].to_numpy(), spot, strike, years, is_call)
    whole = partial(option_greeks, **day, expiry_ns=EXPIRY_NS, RISK_FREE=RISK_FREE, SIGMA_DEFAULT=0.2)
    ours = partial(implied_volatility, *arrays, RISK_FREE=RISK_FREE)
    rival = partial(vectorised, *arrays)

    for name, mine, theirs in zip(("iv", "gamma"), ours(), rival(), strict=False):
        both = ~np.isnan(mine) & ~np.isnan(theirs)
        wrong = float(np.max(np.abs(mine[both] - theirs[both]) / np.abs(mine[both])))
        if wrong > 1e-7 or both.mean() < 0.8:
            raise ValueError(
                f"{name} of the two sides differed by {wrong} in {both.mean():.0%} of the prints"
            )
    mathematics, table = ratio(ours, rival, runs), ratio(whole, ours, runs)
    return {
        "rows": prints.num_rows,
        "solved": float(both.mean()),
        "us_per_option": table["cpu_s"] / prints.num_rows * 1e6,
        "us_of_the_mathematics": mathematics["cpu_s"] / prints.num_rows * 1e6,
        "rival_us": mathematics["scan_cpu_s"] / prints.num_rows * 1e6,
        "rival_over_ours": 1 / mathematics["ratio"],
        "peak_mb": mathematics["peak_mb"],
    }
