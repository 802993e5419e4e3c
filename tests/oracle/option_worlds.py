"""Small random markets beside the ES one: SPY option prints and SPY prints around the same path.

Shapes
    print   dict: ts_event_ns, ordinal, option_symbol, exp_date (date), strike_milli, right ("C" or "P"), price
            (Decimal), size, stated_aggressor (what the vendor says, mostly 0), opt_bid, opt_ask (Decimal or None),
            correction: one row of bronze
    option  the same with `aggressor` (+1, -1, 0) after the tick rule: a row of `stg_options__trades`
    spy     dict: ts_event_ns, ordinal, price (Decimal), size (Decimal), conditions (list of int), correction
Lists are in the order (ts_event_ns, ordinal) of one session. Corners are planted on purpose: ties in one ns with
each other and with ES trades, instants 1 ns around whole minutes and 100 ms cells, prices with no solution, strikes
far in and out of the money, prints that nobody is known to have started, other expiries, prints after expiry,
silences of exactly the time for which a volatility is carried.
"""

import math
import random
from datetime import date, timedelta
from decimal import Decimal

from .options import with_aggressors
from .rules import MINUTE_NS, MS_NS, SECOND_NS

CARRY_NS = 300 * SECOND_NS
YEAR_NS = 365 * 86_400 * SECOND_NS
CENT = Decimal("0.01")
ODD_LOT = 37


def option_symbol(exp_date: date, right: str, strike_milli: int) -> str:
    """`O:` and the OCC symbol: root, YYMMDD, right, strike in thousandths with eight digits."""
    return f"O:SPY{exp_date:%y%m%d}{right}{strike_milli:08d}"


def random_prints(
    rng: random.Random, session: dict, trades: list[dict], ratio: float = 10.0, n: int = 120
) -> list[dict]:
    """About `n` prints of SPY options as the vendor sends them, between the first and a little after the last trade.

    `trades` are the front contract's of the session (not empty); `ratio` makes SPY prices of their ticks.
    Every standing print has its own (ts_event_ns, ordinal).
    """
    today = date.fromisoformat(str(session["session_date"]))
    centre = round(trades[len(trades) // 2]["tick"] * 0.25 / ratio)
    reach = rng.choice((3, 8, 12))
    strikes = [centre + k for k in range(-reach, reach + 1)] + [centre - 150, centre + 150]
    volatility = rng.choice((0.08, 0.2, 0.2, 0.9))
    quoted = rng.choice((0.0, 0.5))
    stated = rng.choice((0.0, 0.0, 0.7))
    prints: list[dict] = []
    at = 0
    for _ in range(n):
        draw = rng.random()
        if draw < 0.1 and prints:  # the same option again, where a carried volatility may just end
            like = rng.choice(prints)
            ts_ns = like["ts_event_ns"] + rng.choice((0, 1, CARRY_NS - 1, CARRY_NS, CARRY_NS + 1))
            expiry, right, strike_milli = like["exp_date"], like["right"], like["strike_milli"]
        else:
            at = min(len(trades) - 1, at + int(rng.expovariate(n / len(trades))))
            ts_ns = trades[at]["ts_event_ns"] + _offset_ns(rng)
            if rng.random() < 0.1:
                ts_ns = ts_ns // MINUTE_NS * MINUTE_NS + rng.choice((-1, 0, 0, 1, MINUTE_NS))
            elif rng.random() < 0.1:
                ts_ns = ts_ns // (100 * MS_NS) * (100 * MS_NS) + rng.choice((-1, 0, 1))
            expiry = today + timedelta(rng.choice((0, 0, 0, 0, 0, 0, 0, 1, 3, 30)))
            right = rng.choice("CP")
            strike_milli = rng.choice(strikes) * 1000 + rng.choice((0, 0, 0, 0, 500))
        ts_ns = min(max(ts_ns, session["globex_open_ns"]), session["globex_close_ns"] - 1)
        spot = trades[at]["tick"] * 0.25 / ratio
        price = _some_price(
            rng, spot, strike_milli / 1000, right, session["rth_close_ns"] - ts_ns, volatility
        )
        # A print beside the market's: at a quote, through it or between the two.
        has_quote = rng.random() < quoted
        bid = max(Decimal(0), price + rng.choice((-2, -1, -1, 0, 1)) * CENT)
        prints.append(
            {
                "ts_event_ns": ts_ns,
                "option_symbol": option_symbol(expiry, right, strike_milli),
                "exp_date": expiry,
                "strike_milli": strike_milli,
                "right": right,
                "price": price,
                "size": rng.choice((1, 1, 2, 5, 10, 100, 2000)),
                "stated_aggressor": rng.choice((-1, 1)) if rng.random() < stated else 0,
                "opt_bid": bid if has_quote else None,
                "opt_ask": bid + rng.randrange(3) * CENT if has_quote else None,
                "correction": rng.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7, 12)),
            }
        )
    # One print may be sent twice in a delivery, and then it was made twice.
    prints += [dict(rng.choice(prints)) for _ in range(max(1, n // 40))]
    rng.shuffle(prints)
    # Ordinals are row numbers of a file that is grouped by ticker, so they do not follow time.
    prints.sort(key=lambda row: row["option_symbol"])
    for ordinal, row in enumerate(prints):
        row["ordinal"] = ordinal
    return sorted(prints, key=lambda row: (row["ts_event_ns"], row["ordinal"]))


def random_options(
    rng: random.Random, session: dict, trades: list[dict], ratio: float = 10.0, n: int = 120
) -> list[dict]:
    """`random_prints` without the cancelled ones, each with its aggressor by the rule of spec 5.1."""
    return with_aggressors(random_prints(rng, session, trades, ratio, n))


def random_spy(
    rng: random.Random, session: dict, trades: list[dict], ratio: float = 10.0, n: int = 200
) -> list[dict]:
    """About `n` SPY prints around the ES trades: near `ratio`, now and then far from it.

    Some lie at an ES trade's own ns (it is not before them), exactly 1 s or 1 s + 1 ns after the last one, or on
    whole seconds; some worlds are so thin that fewer than five pairs of a minute are the rule. Odd lots, corrected
    and (rarely) cancelled prints are among them.
    """
    found = []
    drift = 0.0
    pool = trades if rng.random() < 0.7 else trades[:: rng.randrange(2, 12)]
    for _ in range(n):
        trade = rng.choice(pool)
        ts_ns = trade["ts_event_ns"] + _offset_ns(rng)
        if rng.random() < 0.1:
            ts_ns = ts_ns // SECOND_NS * SECOND_NS + rng.choice((-1, 0, 1))
        ts_ns = min(max(ts_ns, session["globex_open_ns"]), session["globex_close_ns"] - 1)
        drift += rng.uniform(-0.002, 0.002)
        price = trade["tick"] * 0.25 / (ratio + drift) * (1 + rng.choice((0, 0, 0, 0, 0.01, -0.02)))
        found.append(
            {
                "ts_event_ns": ts_ns,
                "price": Decimal(str(round(price, rng.choice((2, 2, 2, 4))))),
                "size": Decimal(rng.choice(("100", "100", "300", "7", "0.5"))),
                "conditions": rng.choice(([], [], [12], [14, 41], [ODD_LOT], [14, ODD_LOT, 41])),
                "correction": rng.choice((0,) * 20 + (1, 7, 12)),
            }
        )
    found.sort(key=lambda row: row["ts_event_ns"])
    for ordinal, row in enumerate(found):
        row["ordinal"] = ordinal
    return found


def _offset_ns(rng: random.Random) -> int:
    """Time after an ES trade: none at all, a ns, up to a second, just at its edge, or more."""
    few, some = rng.randrange(1, SECOND_NS), rng.randrange(1, 20 * SECOND_NS)
    return rng.choice((0, 0, 1, few, few, few, few, SECOND_NS - 1, SECOND_NS, SECOND_NS + 1, some))


def _some_price(
    rng: random.Random, spot: float, strike: float, right: str, left_ns: int, volatility: float
) -> Decimal:
    """Mostly a fair price rounded to cents; sometimes one that no volatility gives."""
    draw = rng.random()
    intrinsic = max(0.0, spot - strike if right == "C" else strike - spot)
    if draw < 0.04:
        return Decimal(0)
    if draw < 0.08:  # below what exercise is worth
        return max(Decimal(0), Decimal(str(round(intrinsic - 0.05, 2))))
    if draw < 0.10:  # above everything it can be worth
        return Decimal(str(round(spot + strike, 2)))
    if draw < 0.12:  # solvable only outside the bracket
        return Decimal(str(round(min(spot, strike) * 0.97, 2)))
    t = max(left_ns, MINUTE_NS) / YEAR_NS
    s = volatility * rng.uniform(0.7, 1.4) * math.sqrt(t)
    d1 = (math.log(spot / strike) + 0.045 * t) / s + s / 2
    sign = 1 if right == "C" else -1
    fair = sign * (spot * _normal(sign * d1) - strike * math.exp(-0.045 * t) * _normal(sign * (d1 - s)))
    return max(Decimal("0.01"), Decimal(str(round(fair, 2))))


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
