"""The six pressures (spec §7.7)."""

import math

from .context import liquidity_pressure, tape_pressure
from .rules import DEFAULT, direction_sign


def pressures_row(features: dict, point: dict, p: dict = DEFAULT) -> dict:
    """§7.7: every column of pressure_indicators from the point's other features; a NULL operand gives NULL, except
    the mean of the reversion pressures that are there and the mean of at least three parts."""
    s = direction_sign(point["direction"])
    gamma, accel = features["gamma_exposure"], features["gamma_flow_accel_3m"]
    away = [features[f"mean_reversion_pressure_{n}"] for n in (200, 400)]
    away = [value for value in away if value is not None]
    row = {
        "liquidity_pressure": liquidity_pressure(features, p),
        "tape_pressure": tape_pressure(features, point["direction"], p),
        "gamma_pressure": None if gamma is None else math.tanh(-gamma / p["GAMMA_NORM"]),
        "gamma_pressure_accel": None if accel is None else math.tanh(-accel / p["FLOW_ACCEL_NORM"]),
        "reversion_pressure": math.tanh(-s * sum(away) / len(away)) if away else None,
    }
    stacked = features["confluence_pressure"]
    parts = [row[f"{name}_pressure"] for name in ("liquidity", "tape", "gamma", "reversion")]
    parts.append(None if stacked is None else -stacked)
    parts = [part for part in parts if part is not None]
    row["net_break_pressure"] = sum(parts) / len(parts) if len(parts) >= 3 else None
    return row
