"""SPY option prints: who started them, and what they are worth (spec market 5.1 and 7.4, first three bullets)."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

from .rules import SECOND_NS, last_trade_before

CANCELLED = (7, 8, 10, 11)
YEAR_NS = 365 * 86_400 * SECOND_NS


def with_aggressors(prints: list[dict]) -> list[dict]:
    """§5.1: the standing prints of one session, each with `aggressor` and `aggressor_method`.

    The vendor's word first; then the quote that stood beside the print; then the tick test of Lee and Ready per
    option: above the previous different price a buyer, below it a seller, 0 until a first change. Cancelled prints
    (3.2) never were and move no state. `prints`: (ts_event_ns, ordinal) order, shape of `option_worlds`.
    """
    last_price: dict = {}
    last_sign: dict = {}
    rows = []
    for print_ in prints:
        if print_["correction"] in CANCELLED:
            continue
        symbol, price = print_["option_symbol"], print_["price"]
        if symbol in last_price and price != last_price[symbol]:
            last_sign[symbol] = 1 if price > last_price[symbol] else -1
        last_price[symbol] = price
        if print_["stated_aggressor"] != 0:
            aggressor, method = print_["stated_aggressor"], "vendor"
        elif print_["opt_ask"] is not None and price >= print_["opt_ask"]:
            aggressor, method = 1, "quote"
        elif print_["opt_bid"] is not None and price <= print_["opt_bid"]:
            aggressor, method = -1, "quote"
        elif symbol in last_sign:
            aggressor, method = last_sign[symbol], "tick"
        else:
            aggressor, method = 0, "none"
        rows.append({**print_, "aggressor": aggressor, "aggressor_method": method})
    return rows


def normal(x: float) -> float:
    """N(x). From the side on which it is small, so that a tail keeps its digits."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


def density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def time_value(
    price: Decimal, spot: Fraction, strike: Fraction, right: str, rt: Fraction
) -> tuple[float, float]:
    """§7.4: v = p·e^{rT} − intrinsic(F, K) and F = S·e^{rT}, in 50 digits before they become floats."""
    with localcontext() as context:
        context.prec = 50
        growth = (Decimal(rt.numerator) / rt.denominator).exp()
        forward = Decimal(spot.numerator) / spot.denominator * growth
        k = Decimal(strike.numerator) / strike.denominator
        intrinsic = max(Decimal(0), forward - k if right == "C" else k - forward)
        return float(price * growth - intrinsic), float(forward)


def out_of_the_money(
    forward: float, strike: float, log_moneyness: float, sigma: float, years: float
) -> float:
    """Black 1976, undiscounted: the call when K >= F, else the put."""
    s = sigma * math.sqrt(years)
    d1 = log_moneyness / s + s / 2
    if log_moneyness <= 0:
        return forward * normal(d1) - strike * normal(d1 - s)
    return strike * normal(s - d1) - forward * normal(-d1)


def implied_volatility(
    price: Decimal, spot: Fraction, strike: Fraction, years: Fraction, right: str, rate: float
) -> float | None:
    """§7.4: the σ of [0.01, 5] at which the out-of-the-money option is worth v; None when there is none.

    Plain bisection until the interval no longer shrinks: the value grows with σ, so there is one root at most.
    """
    rt = Fraction(rate) * years
    value, forward = time_value(price, spot, strike, right, rt)
    k, t = float(strike), float(years)
    if value <= 0 or value >= min(forward, k):
        return None
    # ln(F/K) near 0 from the exact quotient, not from a rounded one
    log_moneyness = math.log1p(float((spot - strike) / strike)) + float(rt)
    low, high = 0.01, 5.0
    if not (
        out_of_the_money(forward, k, log_moneyness, low, t)
        <= value
        <= out_of_the_money(forward, k, log_moneyness, high, t)
    ):
        return None
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        if out_of_the_money(forward, k, log_moneyness, middle, t) < value:
            low = middle
        else:
            high = middle


def gamma_delta(
    sigma: float, spot: Fraction, strike: Fraction, years: Fraction, right: str, rate: float
) -> tuple[float, float]:
    """§7.4: gamma = φ(d1)/(S σ √T); delta = N(d1) or N(d1) − 1."""
    s, t = float(spot), float(years)
    log = math.log1p(float((spot - strike) / strike))
    d1 = (log + (rate + sigma**2 / 2) * t) / (sigma * math.sqrt(t))
    gamma = density(d1) / (s * sigma * math.sqrt(t))
    return gamma, normal(d1) if right == "C" else -normal(-d1)


def greeks_rows(
    options: list[dict],
    trades: list[dict],
    ratio_asof,
    session: dict,
    rate: float = 0.045,
    default: float = 0.20,
) -> list[dict]:
    """§7.4, first three bullets: every print of an option that expires on the session's date.

    `ratio_asof(t_ns)` is the ES/SPY ratio as of an instant. Prints of an unknown aggressor, and prints without an ES
    trade before them, have neither volatility nor greeks.
    """
    rows = []
    last_solved: dict = {}
    for option in options:
        if str(option["exp_date"]) != str(session["session_date"]):
            continue
        t = option["ts_event_ns"]
        es = last_trade_before(trades, t)
        ratio = ratio_asof(t)
        row = {
            **{
                k: option[k]
                for k in ("ts_event_ns", "ordinal", "option_symbol", "strike_milli", "right", "size")
            },
            "price": float(option["price"]),
            "aggressor": option["aggressor"],
            "spot_tick": None if es is None else es["tick"],
            "es_spy_ratio": ratio,
            **dict.fromkeys(("time_to_expiry_years", "iv", "iv_source", "gamma", "delta", "dealer_gamma")),
            "max_input_ts_ns": t,
        }
        if option["aggressor"] != 0 and es is not None:
            spot = Fraction(es["tick"] * 0.25 / ratio)
            strike = Fraction(option["strike_milli"], 1000)
            years = Fraction(max(session["rth_close_ns"] - t, 60 * SECOND_NS), YEAR_NS)
            symbol, right = option["option_symbol"], option["right"]
            sigma = implied_volatility(option["price"], spot, strike, years, right, rate)
            if sigma is not None:
                source = "solved"
                last_solved[symbol] = (t, sigma)
            elif symbol in last_solved and t - last_solved[symbol][0] <= 300 * SECOND_NS:
                source, sigma = "carried", last_solved[symbol][1]
            else:
                source, sigma = "default", default
            gamma, delta = gamma_delta(sigma, spot, strike, years, right, rate)
            row |= {
                "time_to_expiry_years": float(years),
                "iv": sigma,
                "iv_source": source,
                "gamma": gamma,
                "delta": delta,
                "dealer_gamma": -option["aggressor"] * option["size"] * gamma * 100,
            }
        rows.append(row)
    return rows
