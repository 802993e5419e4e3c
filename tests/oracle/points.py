"""Observation points of touch events (spec §6)."""

import hashlib

from .rules import DEFAULT, MS_NS, SECOND_NS, last_trade_before


def observation_id(event_id: str, stage: str) -> str:
    """§6: first 32 hex of sha256(`event_id|stage`)."""
    return hashlib.sha256(f"{event_id}|{stage}".encode()).hexdigest()[:32]


def observation_points(touches: list[dict], session_trades: list[dict], p: dict = DEFAULT) -> list[dict]:
    """§6: one point per (event, stage): `touch` at t0 and `confirm_h` at t0 + h, asof floored to the grid.

    A point without a trade of the session before its asof does not exist. Order: that of the touches, the
    stages of each by horizon.
    """
    grid = p["grid_ms"] * MS_NS
    points = []
    for touch in touches:
        stages = [("touch", 0)] + [(f"confirm_{h}", h) for h in p["CONFIRMATION_WINDOWS"]]
        for stage, horizon_s in stages:
            t1 = touch["ts_ns"] + horizon_s * SECOND_NS
            asof = t1 // grid * grid
            if last_trade_before(session_trades, asof) is None:
                continue
            points.append(
                {
                    "observation_id": observation_id(touch["event_id"], stage),
                    "event_id": touch["event_id"],
                    "stage": stage,
                    "ts_ns": touch["ts_ns"],
                    "anchor_ns": touch["ts_ns"],
                    "asof_ns": asof,
                    "label_start_ns": t1,
                    "level_id": touch["level_id"],
                    "level_kind_name": touch["level_kind_name"],
                    "level_tick": touch["level_tick"],
                    "direction": touch["direction"],
                    "attempt_cluster_id": touch["attempt_cluster_id"],
                }
            )
    return points
