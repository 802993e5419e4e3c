"""ROUND levels and the touch machine of market spec 5.5, with the default param set at a ratio near 10."""

import numpy as np
from numba import njit

from ingest.simulator.clock import MINUTE_NS, SECOND_NS

POINT_TICKS = 4
ROUND_TICKS = 40  # ROUND levels: multiples of 10 points
THETA_TICKS = 80  # outcome threshold of the default param set: $2 at ratio 10
OUTCOME_NS = 8 * MINUTE_NS
TOUCH_TICKS, MONITOR_TICKS, HYSTERESIS_TICKS = 4, 10, 2
REARM_NS = 30 * SECOND_NS
CLUSTER_NS = 15 * MINUTE_NS


@njit(cache=True)
def new_machine(n_levels):
    """State of the touch machine, one row a level: armed, side of the last far trade, far run began at, last near.

    A level that has seen no near trade yet is far since birth and arms without a dwell (``far_from`` = −1).
    """
    machine = np.zeros((n_levels, 4), np.int64)
    machine[:, 2] = -1
    machine[:, 3] = -2
    return machine


@njit(cache=True)
def machine_step(machine, first_level, ts_ns, tick, prior_ns, prior_tick, i):
    """Feed trade number ``i`` to the ROUND levels; return (level, direction) of a touch, else (level, 0).

    ``level`` is the level's tick / 40; direction +1 for UP (from below), −1 for DOWN. ``prior_*`` is trade i − 1.
    Levels are 40 ticks apart, so only the nearest can have this trade within the re-arm distance; the far runs
    of all others just go on, which is why one step costs the same however many levels there are.
    Source: market spec 5.5.
    """
    near = MONITOR_TICKS + HYSTERESIS_TICKS
    level = (tick + ROUND_TICKS // 2) // ROUND_TICKS
    # The trade before was the last of its run at the level it was near to: that level's far run starts here.
    before = (prior_tick + ROUND_TICKS // 2) // ROUND_TICKS
    if before != level or abs(tick - level * ROUND_TICKS) > near:
        row = before - first_level
        if 0 <= row < machine.shape[0] and machine[row, 3] == i - 1:
            machine[row, 2] = ts_ns
    d = tick - level * ROUND_TICKS
    row = level - first_level
    if abs(d) > near or row < 0 or row >= machine.shape[0]:
        return level, 0
    if machine[row, 3] != i - 1 and i > 0:  # comes from afar
        if machine[row, 2] < 0 or prior_ns - machine[row, 2] >= REARM_NS:
            machine[row, 0] = 1
        machine[row, 1] = -1 if prior_tick < level * ROUND_TICKS else 1
    machine[row, 3] = i
    if abs(d) > MONITOR_TICKS:
        machine[row, 1] = -1 if d < 0 else 1
    if machine[row, 0] == 1 and abs(d) <= TOUCH_TICKS:
        machine[row, 0] = 0
        return level, (1 if machine[row, 1] < 0 else -1)
    return level, 0
