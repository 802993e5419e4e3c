"""Writes black_scholes_cases.csv: volatilities and greeks of option prices worked out in 50 digits.

Nothing of the project enters: N(x) by its power series, the volatility by bisection. Inputs are binary doubles, taken
exactly, so a kernel has to give the doubles nearest to these outputs, however its price came about.
"""

import csv
import itertools
from decimal import Decimal, getcontext
from pathlib import Path

getcontext().prec = 70
PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"
)
RATE = Decimal.from_float(0.045)  # the double
MINUTE = Decimal(60) / (365 * 86_400)
YEARS = {
    name: float(MINUTE * n)
    for name, n in (("1min", 1), ("1h", 60), ("1d", 1440), ("7d", 10_080), ("30d", 43_200))
}
COLUMNS = (
    "case_id",
    "spot_usd",
    "strike_usd",
    "right",
    "time_to_expiry_years",
    "price_usd",
    "iv",
    "gamma",
    "delta",
)


def normal(x: Decimal) -> Decimal:
    """N(x) = 1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …)."""
    if abs(x) > 15:
        return Decimal(int(x > 0))
    term = total = x
    n = 1
    while abs(term) > Decimal(10) ** -68:
        n += 2
        term *= x * x / n
        total += term
    return Decimal("0.5") + density(x) * total


def density(x: Decimal) -> Decimal:
    return (-x * x / 2).exp() / (2 * PI).sqrt()


def d1(spot: Decimal, strike: Decimal, years: Decimal, sigma: Decimal) -> Decimal:
    return ((spot / strike).ln() + (RATE + sigma * sigma / 2) * years) / (sigma * years.sqrt())


def value(spot: Decimal, strike: Decimal, years: Decimal, sigma: Decimal, right: str) -> Decimal:
    """Black and Scholes' price of the option itself, in the money or not."""
    sign = 1 if right == "C" else -1
    d = d1(spot, strike, years, sigma)
    discounted = strike * (-RATE * years).exp()
    return sign * (spot * normal(sign * d) - discounted * normal(sign * (d - sigma * years.sqrt())))


def solve(spot: Decimal, strike: Decimal, years: Decimal, price: Decimal, right: str) -> Decimal | None:
    low, high = Decimal.from_float(0.01), Decimal(5)
    discounted = strike * (-RATE * years).exp()
    time_value = price - max(Decimal(0), spot - discounted if right == "C" else discounted - spot)
    if not 0 < time_value < min(spot, discounted):
        return None
    if not value(spot, strike, years, low, right) <= price <= value(spot, strike, years, high, right):
        return None
    for _ in range(90):
        middle = (low + high) / 2
        if value(spot, strike, years, middle, right) < price:
            low = middle
        else:
            high = middle
    return middle


def row(name: str, spot: float, strike: float, right: str, years: float, price: float) -> dict:
    exact = [Decimal(number) for number in (spot, strike, years)]
    sigma = solve(*exact, Decimal(price), right)
    found = {}
    if sigma is not None:
        d = d1(*exact, sigma)
        delta = normal(d) - (0 if right == "C" else 1)
        gamma = density(d) / (exact[0] * sigma * exact[2].sqrt())
        found = {"iv": float(sigma), "gamma": float(gamma), "delta": float(delta)}
    inputs = (name, spot, strike, right, years, price)
    return dict(zip(COLUMNS, inputs, strict=False)) | found


def cases() -> list[dict]:
    rows = []
    spot = 598.7038384845464  # 24 020 ticks at a ratio of 10.03
    for term, strike, sigma, right in itertools.product(
        YEARS, (540, 590, 598, 599, 605, 650), (0.08, 0.25, 0.9), "CP"
    ):
        years = YEARS[term]
        fair = value(Decimal(spot), Decimal(strike), Decimal(years), Decimal(sigma), right)
        out_of_the_money = value(
            Decimal(spot), Decimal(strike), Decimal(years), Decimal(sigma), "C" if strike > spot else "P"
        )
        if out_of_the_money > Decimal("0.0001"):  # below that a price says nothing
            rows.append(row(f"{term}_{strike}{right}_{sigma}", spot, strike, right, years, float(fair)))
    year = YEARS["1d"]
    rows += [
        row("at_the_money_forward", 600.0, 600.0, "C", year, 2.5),
        row("below_exercise", 600.0, 550.0, "C", year, 49.9),
        row("at_exercise", 600.0, 650.0, "P", year, 49.9),
        row("worth_nothing", 600.0, 610.0, "C", year, 0.0),
        row("worth_the_share", 600.0, 610.0, "C", year, 600.0),
        row("worth_the_strike", 600.0, 590.0, "P", year, 590.0),
        row("below_the_bracket", 600.0, 600.0, "C", year, 0.1),
        row("above_the_bracket", 600.0, 600.0, "P", year, 200.0),
        row("deep_out_of_the_money", 600.0, 450.0, "P", YEARS["1h"], 0.01),
        row("deep_in_the_money", 600.0, 450.0, "C", YEARS["1h"], 150.01),
    ]
    return rows


if __name__ == "__main__":
    with open(Path(__file__).with_name("black_scholes_cases.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(cases())
