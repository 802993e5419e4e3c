"""Volatility and greeks against digits from elsewhere, and at the edges of what can be solved (spec 7.4, 19.6)."""

import csv
import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from physics import black_scholes
from physics.black_scholes import implied_volatility
from tests.conftest import PROJECT_DIR

RATE = 0.045
MINUTE = 60 / (365 * 86_400)
with open(PROJECT_DIR / "seeds" / "golden" / "black_scholes_cases.csv", newline="") as f:
    CASES = list(csv.DictReader(f))


def exact_erfcx(x: float) -> float:
    """e^{x²}·erfc(x) in 60 digits: the series of erf, or Laplace's continued fraction far out."""
    with localcontext() as context:
        context.prec = 60
        x = Decimal(x)
        root_pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494").sqrt()
        if x > 4:
            rest = Decimal(0)
            for k in range(400, 0, -1):
                rest = (Decimal(k) / 2) / (x + rest)
            return float(1 / (root_pi * (x + rest)))
        term = total = x
        n = 0
        while abs(term) > Decimal(10) ** -58:
            n += 1
            term *= 2 * x * x / (2 * n + 1)
            total += term
        return float((x * x).exp() - 2 / root_pi * total)


def test_the_scaled_tail_is_right_to_a_few_units_of_the_last_place():
    points = [*np.linspace(-1, 8, 300), 12.0, 30.0, 200.0, 1e6]
    worst = max(abs(black_scholes._erfcx(x) / exact_erfcx(x) - 1) for x in points)
    assert worst < 2e-15


def test_the_exponential_is_right_to_two_units_of_the_last_place():
    for q in (*np.linspace(-700, 708, 2001), 0.0, 1e-300, 0.5 * math.log(2)):
        assert black_scholes._exp(q) == pytest.approx(math.exp(q), rel=5e-16, abs=0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case_id"])
def test_golden_cases(case):
    given = (float(case[name]) for name in ("price_usd", "spot_usd", "strike_usd", "time_to_expiry_years"))
    iv, gamma, delta = implied_volatility(*given, case["right"] == "C", RISK_FREE=RATE)
    if not case["iv"]:
        assert np.isnan([iv[0], gamma[0], delta[0]]).all()
        return
    assert iv[0] == pytest.approx(float(case["iv"]), rel=1e-9)
    assert gamma[0] == pytest.approx(float(case["gamma"]), rel=1e-8)
    assert delta[0] == pytest.approx(float(case["delta"]), rel=1e-8)


def test_the_golden_cases_are_many_and_some_unsolvable():
    assert len(CASES) > 100
    assert 5 < sum(not case["iv"] for case in CASES) < len(CASES) / 4


def normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def worth(spot: float, strike: float, years: float, sigma: float, is_call: bool) -> float:
    s = sigma * math.sqrt(years)
    d1 = (math.log(spot / strike) + RATE * years) / s + s / 2
    sign = 1 if is_call else -1
    return sign * (spot * normal(sign * d1) - strike * math.exp(-RATE * years) * normal(sign * (d1 - s)))


def test_round_trip_from_one_minute_to_thirty_days():
    """Put a volatility in, get it back to 1e-8, wherever the price still holds it (19.6)."""
    tried = 0
    for minutes, offset, sigma, is_call in itertools.product(
        (1, 5, 60, 390, 1440, 10_080, 43_200),
        np.linspace(-0.08, 0.08, 33),
        (0.05, 0.12, 0.3, 1.0, 3.0),
        (True, False),
    ):
        spot, years = 600.0, minutes * MINUTE
        strike = round(spot * (1 + offset), 1)
        price = worth(spot, strike, years, sigma, is_call)
        forward = spot * math.exp(RATE * years)
        out = worth(spot, strike, years, sigma, strike > forward)
        s = sigma * math.sqrt(years)
        d1 = (math.log(spot / strike) + RATE * years) / s + s / 2
        vega = spot * math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi) * math.sqrt(years)
        # a double holds the price to 1e-13; where that is worth more than 1e-8 of volatility, nothing can bring it back
        if out < 1e-5 or 4e-13 / vega > 1e-9:
            continue
        iv, _, delta = implied_volatility(price, spot, strike, years, is_call, RISK_FREE=RATE)
        assert abs(iv[0] - sigma) < 1e-8, (minutes, strike, sigma, is_call)
        assert delta[0] == pytest.approx(normal(d1) - (not is_call), rel=1e-6, abs=1e-9)
        tried += 1
    assert tried > 1000


def test_what_no_volatility_gives_is_unsolvable():
    day = 1440 * MINUTE
    for price, strike, is_call in (
        (0.0, 610, True),  # nothing
        (49.9, 550, True),  # less than exercise
        (600.1, 610, True),  # more than the share
        (610.0, 610, False),  # the strike itself
        (0.1, 600, True),  # a volatility below 0.01
        (200.0, 600, True),  # and one above 5
    ):
        assert np.isnan(implied_volatility(price, 600.0, strike, day, is_call, RISK_FREE=RATE)[0]), (
            price,
            strike,
        )


def test_both_bounds_of_the_bracket_are_inside_it():
    for sigma, nudge in ((0.01, 1 + 1e-9), (5.0, 1 - 1e-9)):
        price = worth(600.0, 601.0, 30 * 1440 * MINUTE, sigma * nudge, True)
        assert implied_volatility(price, 600.0, 601.0, 30 * 1440 * MINUTE, True, RISK_FREE=RATE)[
            0
        ] == pytest.approx(sigma, rel=1e-6)
    for sigma in (0.0099, 5.01):
        price = worth(600.0, 601.0, 30 * 1440 * MINUTE, sigma, True)
        assert np.isnan(implied_volatility(price, 600.0, 601.0, 30 * 1440 * MINUTE, True, RISK_FREE=RATE)[0])


@pytest.mark.parametrize("sigma", [black_scholes.SIGMA_MIN, black_scholes.SIGMA_MAX])
def test_a_root_exactly_on_a_bound_counts(sigma):
    """Values that Newton's step from the bound leaves where it is, to the last bit."""
    root_t, found = math.sqrt(1440 * MINUTE), []
    s = sigma * root_t
    for h in np.linspace(0.0, 2 * s, 50):
        inverse = math.exp(0.5 * ((h / s) ** 2 + 0.25 * s * s))
        value = (s - black_scholes._step(h, s, 0.0)) / math.sqrt(2 * math.pi) / inverse
        if black_scholes._step(h, s, value) == s:
            found.append(black_scholes._bracketed(h, value, s, root_t))
    assert len(found) > 10
    assert found == pytest.approx([s] * len(found), rel=1e-6)


def test_at_the_money_of_the_forward_there_is_no_moneyness_to_start_from():
    years = 60 * MINUTE
    strike = 600.0 * math.exp(RATE * years)
    price = worth(600.0, strike, years, 0.17, True)
    assert implied_volatility(price, 600.0, strike, years, True, RISK_FREE=RATE)[0] == pytest.approx(
        0.17, abs=1e-8
    )


def test_years_at_high_volatility_leave_the_polynomial_and_are_right():
    """σ√T above what the branchless step is made for: the same answer by the plain one."""
    for sigma in (2.9, 4.9):
        price = worth(600.0, 700.0, 2.0, sigma, False)
        found = implied_volatility(price, 600.0, 700.0, 2.0, False, RISK_FREE=RATE)[0]
        assert found == pytest.approx(sigma, rel=1e-8)


def test_prices_are_solved_alike_alone_and_among_others():
    """More than a chunk of them, in any company: to the bit."""
    rng = np.random.default_rng(3)
    n = 1500
    spot, strike = 600 + rng.normal(0, 2, n), np.round(600 + rng.normal(0, 6, n))
    years = rng.uniform(1, 390, n) * MINUTE
    price = np.maximum(np.round(np.abs(rng.normal(0, 3, n)), 2), 0.01)
    calls = rng.random(n) < 0.5
    whole = implied_volatility(price, spot, strike, years, calls, RISK_FREE=RATE)
    for k in (0, 511, 512, 1499):
        alone = implied_volatility(price[k], spot[k], strike[k], years[k], calls[k], RISK_FREE=RATE)
        assert [a[0] for a in alone] == pytest.approx([w[k] for w in whole], rel=0, abs=0, nan_ok=True)
    assert 0.2 < np.isnan(whole[0]).mean() < 0.8


@pytest.mark.parametrize("sigma", [0.0101, 0.05, 0.3, 2.0, 4.99])
@pytest.mark.parametrize("h", [0.0, 1e-4, 0.01])
def test_a_step_that_leaves_the_bracket_bisects(h, sigma):
    """From a bad start, where Newton's steps leave the bracket on either side: the same root, or that there is none."""
    root_t = math.sqrt(1440 * MINUTE)
    s = sigma * root_t
    wanted = math.exp(-h / 2) * normal(s / 2 - h / s) - math.exp(h / 2) * normal(-s / 2 - h / s)
    if wanted < 1e-7:
        return
    for start in np.linspace(0.01, 5.0, 40):
        found = black_scholes._bracketed(h, wanted, start * root_t, root_t) / root_t
        assert found == pytest.approx(sigma, abs=1e-8), start
    if h == 0.0:
        low, high = (2 * normal(bound * root_t / 2) - 1 for bound in (0.01, 5.0))
        for outside in (low * 0.99, high * 1.01):
            assert black_scholes._bracketed(h, outside, s, root_t) == -1.0
