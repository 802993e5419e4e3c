"""Dealer gamma by strike, walls and the gamma flip at whole minutes (spec §7.4, last two bullets).

`greeks` are rows of `options.greeks_rows`: every print of an option that expires on the session's date, in order, with
`dealer_gamma` None where it has none.
"""

import math
from fractions import Fraction
from itertools import pairwise

from .levels import session_close_ns, session_start_ns
from .rules import DEFAULT, MINUTE_NS, SECOND_NS, last_trade_before

WALLS = ("wall_short_call", "wall_short_put", "wall_long_call", "wall_long_put")
REACH_MILLI = 10_000  # $10 around the spot


def gamma_sum(greeks: list[dict], start_ns: int, end_ns: int, strike_milli: int, rights: str) -> float | None:
    """Sum of dealer gamma of a strike's priced prints in [start, end); None without any."""
    found = [
        row["dealer_gamma"]
        for row in greeks
        if row["strike_milli"] == strike_milli
        and row["right"] in rights
        and start_ns <= row["ts_event_ns"] < end_ns
        and row["dealer_gamma"] is not None
    ]
    return math.fsum(found) if found else None


def exposure_rows(greeks: list[dict], session: dict, p: dict = DEFAULT) -> list[dict]:
    """`option_exposure`: one row per whole minute of [session start, session close), strike and right with a priced
    print before the minute, sorted."""
    start = session_start_ns(session, p)
    priced = [row for row in greeks if row["dealer_gamma"] is not None]
    rows = []
    for m in range(start, session_close_ns(session, p), MINUTE_NS):
        before = [row for row in priced if row["ts_event_ns"] < m]
        for strike, right in sorted({(row["strike_milli"], row["right"]) for row in before}):
            own = [row for row in before if (row["strike_milli"], row["right"]) == (strike, right)]
            in_session = [row for row in own if row["ts_event_ns"] >= start]
            rows.append(
                {
                    "minute_ns": m,
                    "strike_milli": strike,
                    "right": right,
                    "dealer_gamma_window": gamma_sum(own, m - p["W_wall"] * SECOND_NS, m, strike, right)
                    or 0.0,
                    "dealer_gamma_session": gamma_sum(own, start, m, strike, right) or 0.0,
                    "dealer_gamma_strike": gamma_sum(before, start, m, strike, "CP") or 0.0,
                    "contracts_session": sum(row["size"] for row in in_session),
                    "max_input_ts_ns": max(row["ts_event_ns"] for row in own),
                }
            )
    return rows


def wall(sums: dict[int, float], spot_milli: int, sign: int, least: float) -> float | None:
    """The strike, in $, whose sum goes furthest towards `sign`, if by `least`; ties: nearest to S, then lower."""
    best = max(sums, key=lambda k: (sign * sums[k], -abs(k - spot_milli), -k), default=None)
    return None if best is None or sign * sums[best] < least else best / 1000


def flip(sums: dict[int, float], spot_milli: int) -> float | None:
    """HVL: of all neighbouring strikes between which g changes its sign, the crossing nearest to S (tie: the lower)."""
    strikes = sorted(sums)
    if len(strikes) < 3:
        return None
    crossings = []
    for k1, k2 in pairwise(strikes):
        g1, g2 = Fraction(sums[k1]), Fraction(sums[k2])
        if g1 * g2 < 0:
            crossings.append(Fraction(k1, 1000) + Fraction(k2 - k1, 1000) * (-g1) / (g2 - g1))
    nearest = min(crossings, key=lambda k: (abs(k - Fraction(spot_milli, 1000)), k), default=None)
    return None if nearest is None else float(nearest)


def wall_rows(
    greeks: list[dict], trades: list[dict], session: dict, p: dict = DEFAULT, *, ratio_asof=lambda t_ns: 10.0
) -> list[dict]:
    """`option_walls`: one row per whole minute of [session start, session close), with options or without."""
    start = session_start_ns(session, p)
    rows = []
    last = dict.fromkeys(WALLS)
    for m in range(start, session_close_ns(session, p), MINUTE_NS):
        spot, ratio = last_trade_before(trades, m), ratio_asof(m)
        row = {"minute_ns": m, "es_spy_ratio": ratio, "spot_tick": None, "spot_spy_milli": None, "hvl": None}
        if spot is not None:
            spot_milli = math.floor(spot["tick"] * 0.25 * 1000 / ratio + 0.5)
            row |= {"spot_tick": spot["tick"], "spot_spy_milli": spot_milli}
            near = {
                row["strike_milli"] for row in greeks if abs(row["strike_milli"] - spot_milli) <= REACH_MILLI
            }
            for right, name in (("C", "call"), ("P", "put")):
                found = {k: gamma_sum(greeks, m - p["W_wall"] * SECOND_NS, m, k, right) for k in near}
                sums = {k: g for k, g in found.items() if g is not None}
                for side, sign in (("short", -1), ("long", 1)):
                    now = wall(sums, spot_milli, sign, p["WALL_MIN_GAMMA"])
                    if now is not None:
                        last[f"wall_{side}_{name}"] = now
            found = {k: gamma_sum(greeks, start, m, k, "CP") for k in near}
            row["hvl"] = flip({k: g for k, g in found.items() if g is not None}, spot_milli)
        rows.append({**row, **last})
    return rows


def walls_row(walls: list[dict], point: dict) -> dict:
    """The walls group of one point: what the last whole minute at or before asof says; `walls` of `wall_rows`."""
    seen = [row for row in walls if row["minute_ns"] <= point["asof_ns"]]
    return {name: seen[-1][name] if seen else None for name in (*WALLS, "hvl")}
