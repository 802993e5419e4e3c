"""Volatility and greeks of option prints: Black and Scholes (1973) in the forward form of Black (1976), by the
algorithm of spec market 7.4.
"""

import math

import numpy as np
from numba import njit, types
from numpy.typing import ArrayLike

from physics.columns import I8, I32, I64, read_only
from physics.units import SECOND_NS, TICK_POINTS

YEAR_NS = 365 * 86_400 * SECOND_NS
SHORTEST_NS = 60 * SECOND_NS
"""Time to expiry is at least this, also for a print after expiry."""
CARRY_NS = 300 * SECOND_NS
CONTRACT_SHARES = 100

SIGMA_MIN, SIGMA_MAX = 0.01, 5.0
ITERATIONS = 50
TOLERANCE = 1e-10
AT_THE_MONEY = 1e-6

UNPRICED, SOLVED, CARRIED, DEFAULT = range(4)
YEARS, IV, GAMMA, DELTA, DEALER_GAMMA = range(5)
"""Rows of what `price_prints` fills."""

F64 = read_only(types.float64)

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2PI = math.sqrt(2 * math.pi)


@njit([types.float64(types.float64)], cache=True)
def _normal(x):
    """Standard normal distribution function, by erfc: its lower tail keeps its relative accuracy."""
    return 0.5 * math.erfc(-_SQRT_HALF * x)


@njit([types.float64(*(types.float64,) * 4)], cache=True)
def _value(h, near, far, s):
    """Undiscounted value of the out-of-the-money option over √(F·K), h = |ln(F/K)|, s = σ√T, near and far = exp(∓h/2).

    One expression for calls and puts, which is what put-call parity says.
    """
    x = h / s
    return near * _normal(0.5 * s - x) - far * _normal(-0.5 * s - x)


@njit([types.float64(*(types.float64,) * 5)], cache=True, error_model="numpy")
def _solve(time_value, forward, strike, h, years):
    """σ in [SIGMA_MIN, SIGMA_MAX] that gives ``time_value`` of the out-of-the-money option, or -1."""
    if not 0.0 < time_value < min(forward, strike):
        return -1.0
    root_t = math.sqrt(years)
    near, far = math.exp(-0.5 * h), math.exp(0.5 * h)
    wanted = time_value / math.sqrt(forward * strike)
    floor, ceiling, tolerance = SIGMA_MIN * root_t, SIGMA_MAX * root_t, TOLERANCE * root_t
    low, high = floor, ceiling
    # Manaster and Koehler's start is the inflection point, from which Newton's steps go one way only.
    s = _SQRT_2PI * time_value / forward if h < AT_THE_MONEY else math.sqrt(2.0 * h)
    s = min(max(s, floor), ceiling)
    for _ in range(ITERATIONS):
        x, half = h / s, 0.5 * s
        excess = near * _normal(half - x) - far * _normal(-half - x) - wanted
        following = s - excess * _SQRT_2PI * math.exp(0.5 * (x * x + half * half))
        if excess > 0.0:
            high = min(high, s)
        else:
            low = max(low, s)
        if abs(following - s) >= tolerance and not low < following < high:  # also a step that is no number
            # A bound that no step has reached yet: is the root inside it at all?
            if excess > 0.0 and low == floor and _value(h, near, far, floor) > wanted:
                return -1.0
            if excess <= 0.0 and high == ceiling and _value(h, near, far, ceiling) < wanted:
                return -1.0
            following = 0.5 * (low + high)
        if abs(following - s) < tolerance:
            return following / root_t if floor <= following <= ceiling else -1.0
        s = following
    return -1.0


@njit([types.float64(*(types.float64,) * 5, types.boolean)], cache=True, error_model="numpy")
def _implied(price, spot, strike, years, rate, is_call):
    """σ of one price, or -1: v = p·e^{rT} − intrinsic(F, K) with F = S·e^{rT}.

    Written with e^{rT} − 1, so that only what has to cancel does: K − S is exact where the two are close.
    """
    growth = math.expm1(rate * years)
    if is_call:
        exercised = price + (strike - spot) + (price - spot) * growth
    else:
        exercised = price + (spot - strike) + (price + spot) * growth
    time_value = min(price + price * growth, exercised)
    h = abs(math.log1p((spot - strike) / strike) + rate * years)
    return _solve(time_value, spot + spot * growth, strike, h, years)


@njit(
    [types.UniTuple(types.float64, 2)(*(types.float64,) * 5, types.boolean)], cache=True, error_model="numpy"
)
def _gamma_delta(sigma, spot, strike, years, rate, is_call):
    s = sigma * math.sqrt(years)
    d1 = (math.log1p((spot - strike) / strike) + rate * years) / s + 0.5 * s
    gamma = math.exp(-0.5 * d1 * d1) / (_SQRT_2PI * spot * s)
    return gamma, _normal(d1) if is_call else -_normal(-d1)


@njit(
    [types.void(F64, F64, F64, F64, types.float64, I8, *(types.float64[::1],) * 3)],
    cache=True,
    error_model="numpy",
)
def _each(price, spot, strike, years, rate, is_call, sigma, gamma, delta):
    for i in range(price.size):
        sigma[i] = _implied(price[i], spot[i], strike[i], years[i], rate, is_call[i] != 0)
        if sigma[i] >= 0.0:
            gamma[i], delta[i] = _gamma_delta(sigma[i], spot[i], strike[i], years[i], rate, is_call[i] != 0)


def implied_volatility(
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    is_call: ArrayLike,
    *,
    RISK_FREE: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(σ, gamma, delta) of option prices, each (n,) float64; NaN where no σ in [0.01, 5] gives the price.

    Shapes:   scalars or arrays that broadcast to (n,).
    Units:    USD per share, years of 365 days; gamma per USD.
    Source:   spec market 7.4.
    """
    arrays = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(a, np.float64)) for a in (price, spot, strike, years))
    )
    price, spot, strike, years = (np.ascontiguousarray(a) for a in arrays)
    calls = np.ascontiguousarray(np.broadcast_to(np.asarray(is_call, np.int8), price.shape))
    sigma, gamma, delta = (np.full(price.size, np.nan) for _ in range(3))
    _each(price, spot, strike, years, RISK_FREE, calls, sigma, gamma, delta)
    sigma[sigma < 0] = np.nan
    return sigma, gamma, delta


@njit(
    [
        types.void(
            *(I64, I32, I8, F64, I32, I8, I32, types.int64),  # prints; how many options there are
            *(
                I32,
                I64,
                F64,
            ),  # ES ticks, the last row of them before each print, ES/SPY ratio as of each print
            *(types.int64, types.float64, types.float64),
            *(types.int8[::1], types.float64[:, ::1]),
        )
    ],
    cache=True,
    error_model="numpy",
)
def price_prints(
    ts,
    strike_milli,
    is_call,
    price,
    size,
    aggressor,
    option,
    options,
    tick,
    before,
    ratio,
    expiry_ns,
    risk_free,
    sigma_default,
    source,
    out,
):
    """Fill ``source`` (n,) and ``out`` (5, n) of prints in order; ``option`` numbers what each is a print of.

    A print without an aggressor, or before the first ES trade, stays UNPRICED and is nothing to carry from.
    """
    solved_ns = np.full(options, -(2**62))
    solved = np.zeros(options)
    for i in range(ts.size):
        if aggressor[i] == 0 or before[i] < 0:
            continue
        spot = tick[before[i]] * TICK_POINTS / ratio[i]
        strike = strike_milli[i] / 1000.0
        years = max(expiry_ns - ts[i], SHORTEST_NS) / YEAR_NS
        call = is_call[i] != 0
        k = option[i]
        sigma = _implied(price[i], spot, strike, years, risk_free, call)
        if sigma >= 0.0:
            source[i] = SOLVED
            solved[k], solved_ns[k] = sigma, ts[i]
        elif ts[i] - solved_ns[k] <= CARRY_NS:
            source[i], sigma = CARRIED, solved[k]
        else:
            source[i], sigma = DEFAULT, sigma_default
        gamma, delta = _gamma_delta(sigma, spot, strike, years, risk_free, call)
        out[YEARS, i], out[IV, i], out[GAMMA, i], out[DELTA, i] = years, sigma, gamma, delta
        out[DEALER_GAMMA, i] = -np.int64(aggressor[i]) * size[i] * gamma * CONTRACT_SHARES
