"""Volatility and greeks of option prints: Black and Scholes (1973) in the forward form of Black (1976), by the
algorithm of spec market 7.4.

Everything is written with E = exp(-(x² + s²/4)/2), where h = |ln(F/K)|, s = σ√T and x = h/s: the undiscounted value
of the out-of-the-money option over √(F·K) is E·(erfcx(u) − erfcx(w))/2 with u, w = (x ∓ s/2)/√2, for calls and puts
alike (put-call parity), and its derivative by s is E/√(2π). So a step of Newton's costs one exponential, and the two
tails never vanish beside each other.
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
CHUNK = 512
"""Prices that are solved together; what is kept of them stays in the first cache."""

UNPRICED, SOLVED, CARRIED, DEFAULT = range(4)
YEARS, IV, GAMMA, DELTA, DEALER_GAMMA = range(5)
"""Rows of what `price_prints` fills."""

F64 = read_only(types.float64)
_OUT = types.float64[::1]

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2PI = math.sqrt(2 * math.pi)
_PER_LN_2 = 1 / math.log(2)
_LN_2_HIGH, _LN_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # their sum to 86 bits

# (x + 1.5)·erfcx(x) on [-1, ∞) as a polynomial in t = (x − 3)/(x + 5): Chebyshev's interpolation in 60 digits, cut
# where the rest is below 2e-16. A test holds it to digits from elsewhere.
_C = (
    *(0.8055051803162547, -0.5253921508071004, 0.5694821027767822, -0.5234546761160395),
    *(0.3911038746706283, -0.2092485037399041, 0.03227627685169354, 0.09286047822994985),
    *(-0.14625550804109205, 0.1383850260109907, -0.09774024339342062, 0.05298296120890851),
    *(-0.020880414108488017, 0.0046211839185021164, 0.0006049898457032752, -0.0009529884040415807),
    *(0.0002978424363180236, 4.0536730733854644e-05, -6.1298200309157e-05, 1.069399045314426e-05),
    *(7.661582180576762e-06, -3.279794224526309e-06, -6.889864966590036e-07, 5.362382562227053e-07),
    *(3.62146948201814e-08, -4.588317707577690e-08),
)
_POLYNOMIAL_FROM = -1.0
_PLAIN_S = 2.0 * math.sqrt(2.0)
"""Up to this s, u is at least -1 whatever x is."""


@njit([types.float64(types.float64)], cache=True, inline="always")
def _exp(q):
    """e^q for q in [-700, 708], to two units of the last place; without a call or a branch, so that loops of it are
    vectorised.
    """
    k = math.floor(q * _PER_LN_2 + 0.5)
    r = (q - k * _LN_2_HIGH) - k * _LN_2_LOW
    p = r * (1 / 39916800 + r * (1 / 479001600))
    p = r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + p)))
    p = r * (1 / 120 + r * (1 / 720 + r * (1 / 5040 + p)))
    p = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + p))))
    return p * np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@njit([types.float64(types.float64)], cache=True, inline="always")
def _erfcx(x):
    """e^{x²}·erfc(x) for x ≥ -1, to a few units of the last place; without a call or a branch."""
    t = (x - 3.0) / (x + 5.0)
    u = t * t
    even = _C[16] + u * (_C[18] + u * (_C[20] + u * (_C[22] + u * _C[24])))
    even = _C[8] + u * (_C[10] + u * (_C[12] + u * (_C[14] + u * even)))
    even = _C[0] + u * (_C[2] + u * (_C[4] + u * (_C[6] + u * even)))
    odd = _C[17] + u * (_C[19] + u * (_C[21] + u * (_C[23] + u * _C[25])))
    odd = _C[9] + u * (_C[11] + u * (_C[13] + u * (_C[15] + u * odd)))
    odd = _C[1] + u * (_C[3] + u * (_C[5] + u * (_C[7] + u * odd)))
    return (even + t * odd) / (x + 1.5)


@njit([types.void(F64, F64, F64, _OUT)], cache=True, error_model="numpy")
def _step_all(h, s, wanted, following):
    """One step of Newton's from each ``s``, for s up to `_PLAIN_S`. Branches would cost the vector unit."""
    for i in range(h.size):
        x, half = h[i] / s[i], 0.5 * s[i]
        value = 0.5 * (_erfcx((x - half) * _SQRT_HALF) - _erfcx((x + half) * _SQRT_HALF))
        inverse = _exp(min(0.5 * (x * x + half * half), 708.0))
        following[i] = s[i] - (value - wanted[i] * inverse) * _SQRT_2PI


@njit([types.float64(*(types.float64,) * 3)], cache=True, error_model="numpy")
def _step(h, s, wanted):
    """One step of Newton's from any ``s``."""
    x, half = h / s, 0.5 * s
    u, w = (x - half) * _SQRT_HALF, (x + half) * _SQRT_HALF
    near = _erfcx(u) if u >= _POLYNOMIAL_FROM else math.exp(u * u) * math.erfc(u)
    inverse = math.exp(min(0.5 * (x * x + half * half), 708.0))
    return s - (0.5 * (near - _erfcx(w)) - wanted * inverse) * _SQRT_2PI


@njit([types.float64(*(types.float64,) * 4)], cache=True, error_model="numpy")
def _bracketed(h, wanted, s, root_t):
    """σ√T by Newton inside the bracket from ``s``, bisection when a step leaves it; -1 without a root in it."""
    low, high, tolerance = SIGMA_MIN * root_t, SIGMA_MAX * root_t, TOLERANCE * root_t
    # The value grows with s: a step down from the lower bound, or up from the upper one, means the root is outside.
    if _step(h, low, wanted) < low or _step(h, high, wanted) > high:
        return -1.0
    for _ in range(ITERATIONS):
        following = _step(h, s, wanted)
        if following < s:
            high = min(high, s)
        else:
            low = max(low, s)
        if abs(following - s) >= tolerance and not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - s) < tolerance:
            return following
        s = following
    return -1.0


@njit(
    [
        types.void(
            F64, F64, F64, F64, types.float64, I8, *(_OUT,) * 3, types.float64[:, ::1], types.int64[::1]
        )
    ],
    cache=True,
    error_model="numpy",
)
def _imply(price, spot, strike, years, rate, is_call, sigma, log, root_t, scratch, active):
    """Fill ``sigma`` of (n,) prices, -1 where there is none, with ln(F/K) and √T. ``scratch`` (4, n) and ``active``
    (n,) are room to work in.

    v = p·e^{rT} − intrinsic(F, K) with F = S·e^{rT} is written with e^{rT} − 1, so that only what has to cancel does:
    K − S is exact where the two are close. All rows take a step, then those that are left another.
    """
    h, s, wanted, following = scratch[0], scratch[1], scratch[2], scratch[3]
    n = 0
    for i in range(price.size):
        growth = math.expm1(rate * years[i])
        forward = spot[i] + spot[i] * growth
        if is_call[i]:
            exercised = price[i] + (strike[i] - spot[i]) + (price[i] - spot[i]) * growth
        else:
            exercised = price[i] + (spot[i] - strike[i]) + (price[i] + spot[i]) * growth
        value = min(price[i] + price[i] * growth, exercised)
        sigma[i] = -1.0
        root_t[i] = math.sqrt(years[i])
        log[i] = math.log1p((spot[i] - strike[i]) / strike[i]) + rate * years[i]
        if not 0.0 < value < min(forward, strike[i]):
            continue
        h[n] = abs(log[i])
        wanted[n] = value / math.sqrt(forward * strike[i])
        # Manaster and Koehler's start is the inflection point, from which Newton's steps go one way only.
        start = _SQRT_2PI * value / forward if h[n] < AT_THE_MONEY else math.sqrt(2.0 * h[n])
        s[n] = min(max(start, SIGMA_MIN * root_t[i]), SIGMA_MAX * root_t[i])
        active[n] = i
        n += 1
    for _ in range(ITERATIONS):
        _step_all(h[:n], s[:n], wanted[:n], following[:n])
        left = 0
        for j in range(n):
            i = active[j]
            new = following[j] if s[j] <= _PLAIN_S else _step(h[j], s[j], wanted[j])
            if not SIGMA_MIN * root_t[i] <= new <= SIGMA_MAX * root_t[i]:  # also a step that is no number
                new = _bracketed(h[j], wanted[j], s[j], root_t[i])
                sigma[i] = new / root_t[i] if new > 0.0 else -1.0
            elif abs(new - s[j]) < TOLERANCE * root_t[i]:
                sigma[i] = new / root_t[i]
            else:
                h[left], s[left], wanted[left], active[left] = h[j], new, wanted[j], i
                left += 1
        n = left
        if n == 0:
            break


@njit([types.void(F64, F64, F64, F64, I8, _OUT, _OUT)], cache=True, error_model="numpy")
def _gamma_delta(sigma, log, root_t, spot, is_call, gamma, delta):
    """gamma = φ(d1)/(S σ √T), delta = N(d1), for puts N(d1) − 1; both from e^{-d1²/2}."""
    for i in range(sigma.size):
        s = sigma[i] * root_t[i]
        d1 = log[i] / s + 0.5 * s
        half_square = 0.5 * d1 * d1
        density = _exp(-half_square) if half_square < 700.0 else 0.0
        tail = 0.5 * density * _erfcx(_SQRT_HALF * abs(d1))
        upper = 1.0 - tail if d1 > 0.0 else tail
        lower = tail if d1 > 0.0 else 1.0 - tail
        gamma[i] = density / (_SQRT_2PI * spot[i] * s)
        delta[i] = upper if is_call[i] else -lower


@njit([types.void(F64, F64, F64, F64, types.float64, I8, _OUT, _OUT, _OUT)], cache=True, error_model="numpy")
def _each(price, spot, strike, years, rate, is_call, sigma, gamma, delta):
    scratch, active, log, root_t = (
        np.empty((4, CHUNK)),
        np.empty(CHUNK, np.int64),
        np.empty(CHUNK),
        np.empty(CHUNK),
    )
    for a in range(0, price.size, CHUNK):
        b = min(a + CHUNK, price.size)
        n = b - a
        _imply(
            *(price[a:b], spot[a:b], strike[a:b], years[a:b], rate, is_call[a:b]),
            *(sigma[a:b], log[:n], root_t[:n], scratch, active),
        )
        _gamma_delta(sigma[a:b], log[:n], root_t[:n], spot[a:b], is_call[a:b], gamma[a:b], delta[a:b])


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
    given = (np.atleast_1d(np.asarray(a, np.float64)) for a in (price, spot, strike, years))
    arrays = np.broadcast_arrays(*given, np.asarray(is_call, np.int8))
    price, spot, strike, years, calls = (np.array(a, order="C") for a in arrays)
    sigma, gamma, delta = np.empty(price.size), np.empty(price.size), np.empty(price.size)
    _each(price, spot, strike, years, RISK_FREE, calls, sigma, gamma, delta)
    unsolved = sigma < 0
    sigma[unsolved] = gamma[unsolved] = delta[unsolved] = np.nan
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

    A print without an aggressor, before the first ES trade, or of a strike of 0, stays UNPRICED and is nothing to carry
    from.
    """
    solved_ns = np.full(options, -(2**62))
    solved = np.zeros(options)
    real, scratch = np.empty((9, CHUNK)), np.empty((4, CHUNK))
    call, row, active = np.empty(CHUNK, np.int8), np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
    i = 0
    while i < ts.size:
        n = 0
        while i < ts.size and n < CHUNK:
            if aggressor[i] != 0 and before[i] >= 0 and strike_milli[i] > 0:
                real[0, n] = price[i]
                real[1, n] = tick[before[i]] * TICK_POINTS / ratio[i]
                real[2, n] = strike_milli[i] / 1000.0
                real[3, n] = max(expiry_ns - ts[i], SHORTEST_NS) / YEAR_NS
                call[n], row[n] = is_call[i], i
                n += 1
            i += 1
        paid, spot, strike, years = real[0, :n], real[1, :n], real[2, :n], real[3, :n]
        sigma, log, root_t, gamma, delta = real[4, :n], real[5, :n], real[6, :n], real[7, :n], real[8, :n]
        _imply(paid, spot, strike, years, risk_free, call[:n], sigma, log, root_t, scratch, active)
        for j in range(n):
            at = row[j]
            k = option[at]
            if sigma[j] >= 0.0:
                source[at], solved[k], solved_ns[k] = SOLVED, sigma[j], ts[at]
            elif ts[at] - solved_ns[k] <= CARRY_NS:
                source[at], sigma[j] = CARRIED, solved[k]
            else:
                source[at], sigma[j] = DEFAULT, sigma_default
        _gamma_delta(sigma, log, root_t, spot, call[:n], gamma, delta)
        for j in range(n):
            at = row[j]
            out[YEARS, at], out[IV, at], out[GAMMA, at], out[DELTA, at] = (
                years[j],
                sigma[j],
                gamma[j],
                delta[j],
            )
            out[DEALER_GAMMA, at] = -np.int64(aggressor[at]) * size[at] * gamma[j] * CONTRACT_SHARES
