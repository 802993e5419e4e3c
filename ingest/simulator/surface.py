"""The volatility surface that option prices come from, and Black-Scholes on it (Black and Scholes 1973)."""

import math

import numpy as np
from numba import njit

RISK_FREE = 0.045
YEAR_NS = 365 * 86_400 * 1_000_000_000
LEAST_TIME_NS = 60 * 1_000_000_000
# A simulated day moves by 2.2 % in its regular hours and hardly overnight: an option that dies today has twice the
# volatility a year of one that lives for weeks.
LONG_RUN, TODAY, TERM_DAYS = 0.38, 0.42, 1.0
SKEW, SMILE, WINGS = -0.06, 0.035, 4.0
NOISE, NOISE_MINUTES = 0.05, 45.0


def noise_by_minute(rng: np.random.Generator, minutes: int) -> np.ndarray:
    """(minutes,) factors by which the surface rises and falls over a day: exp of a mean-reverting walk."""
    keep = math.exp(-1 / NOISE_MINUTES)
    return np.exp(_reverting(rng.normal(0.0, NOISE, minutes), keep))


@njit(cache=True)
def _reverting(normal, keep):
    out = np.empty_like(normal)
    level = normal[0]
    for i in range(normal.shape[0]):
        out[i] = level
        level = keep * level + math.sqrt(1 - keep * keep) * normal[i]
    return out


def years_to(expiry_ns: np.ndarray, ts_ns: np.ndarray) -> np.ndarray:
    """(n,) time to expiry, at least a minute. Source: spec/market.md 7.4."""
    return np.maximum(expiry_ns - ts_ns, LEAST_TIME_NS) / YEAR_NS


def volatility(spot: np.ndarray, strike: np.ndarray, years: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(n,) volatility a year: term structure, skew and smile in standard deviations of moneyness, times ``noise``."""
    at_the_money = (LONG_RUN + TODAY * np.exp(-years * 365 / TERM_DAYS)) * noise
    x = np.clip(np.log(strike / spot) / (at_the_money * np.sqrt(years)), -WINGS, WINGS)
    return at_the_money * (1 + SKEW * x + SMILE * x**2)


@njit(cache=True)
def black_scholes(spot, strike, years, sigma, is_call):
    """(n,) value in USD and (n,) gamma per USD of European options without dividends."""
    n = spot.shape[0]
    value, gamma = np.empty(n), np.empty(n)
    for i in range(n):
        s, k, width = spot[i], strike[i], sigma[i] * math.sqrt(years[i])
        discounted = k * math.exp(-RISK_FREE * years[i])
        d1 = math.log(s / discounted) / width + width / 2
        n1 = 0.5 * math.erfc(-d1 / math.sqrt(2.0))
        n2 = 0.5 * math.erfc(-(d1 - width) / math.sqrt(2.0))
        call = s * n1 - discounted * n2
        value[i] = call if is_call[i] else call - s + discounted
        gamma[i] = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi) / (s * width)
    return value, gamma
