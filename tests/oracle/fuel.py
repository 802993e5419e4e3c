"""Fuel and dealer velocity of one observation point (spec §7.4)."""

import math
from fractions import Fraction

from .levels import session_start_ns
from .rules import DEFAULT, MINUTE_NS, SECOND_NS, TICK_POINTS

FUEL = (
    *("gamma_exposure", "gamma_exposure_wg", "gamma_exposure_5m", "gamma_exposure_20m"),
    *("dealer_pressure", "fuel_effect", "gamma_bucket"),
)
VELOCITY = (
    *("gamma_flow_velocity", "gamma_flow_impulse", "gamma_flow_accel_1m", "gamma_flow_accel_3m"),
    "dealer_pressure_accel",
)


def level_spy_milli(level_tick: int, ratio: float) -> int:
    """§1.5: round(level_price / ratio · 1000), halves up as everywhere."""
    return math.floor(level_tick * TICK_POINTS / ratio * 1000 + 0.5)


def fuel_row(greeks: list[dict], session: dict, point: dict, p: dict = DEFAULT, ratio: float = 10.0) -> dict:
    """§7.4: every column of fuel_physics and dealer_velocity. `greeks`: rows of `options.greeks_rows`; `ratio` as of
    asof."""
    asof = point["asof_ns"]
    start = session_start_ns(session, p)
    if not any(start <= row["ts_event_ns"] < asof for row in greeks):
        row = dict.fromkeys((*FUEL, *VELOCITY))
        return row | {"fuel_effect": "UNKNOWN", "gamma_bucket": "UNKNOWN"}
    level = level_spy_milli(point["level_tick"], ratio)

    def flow(a_ns: int, b_ns: int) -> float:
        """F(a, b): dealer gamma of near prints in [a, b)."""
        return math.fsum(
            row["dealer_gamma"]
            for row in greeks
            if a_ns <= row["ts_event_ns"] < b_ns
            and abs(row["strike_milli"] - level) <= 1000 * Fraction(str(p["FUEL_STRIKE_RANGE"]))
            and row["dealer_gamma"] is not None
        )

    def last(minutes: int, until: int = 0) -> float:
        return flow(asof - minutes * MINUTE_NS, asof - until * MINUTE_NS)

    exposure = flow(start, asof)
    velocity, baseline = last(5) / 5, last(20) / 20
    accel_1m = last(1) - last(2, 1)
    threshold = p["FUEL_EFFECT_THRESHOLD"]
    return {
        "gamma_exposure": exposure,
        "gamma_exposure_wg": flow(asof - p["W_g"] * SECOND_NS, asof),
        "gamma_exposure_5m": last(5),
        "gamma_exposure_20m": last(20),
        "fuel_effect": "AMPLIFY"
        if exposure < -threshold
        else "DAMPEN"
        if exposure > threshold
        else "NEUTRAL",
        "gamma_bucket": "SHORT_GAMMA" if exposure < 0 else "LONG_GAMMA",
        "dealer_pressure": math.tanh(-velocity / p["GAMMA_FLOW_NORM"]),
        "gamma_flow_velocity": velocity,
        "gamma_flow_impulse": (velocity - baseline) / abs(baseline) if abs(baseline) > 1e-6 else None,
        "gamma_flow_accel_1m": accel_1m,
        "gamma_flow_accel_3m": (last(3) - last(6, 3)) / 3,
        "dealer_pressure_accel": math.tanh(-accel_1m / p["FLOW_ACCEL_NORM"]),
    }
