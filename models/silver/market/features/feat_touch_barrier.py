"""What the defending side of a level does before each observation. Grain: observation_id. Maths: physics.barrier."""

import json

from physics.barrier import barrier

PARAMS = (
    *("W_b", "BARRIER_ZONE_ES_TICKS", "R_vac", "R_wall", "F_thresh", "BARRIER_MIN_VISIBLE", "GAP_S"),
    *("WEAK_PERCENTILE", "WEAK_LOOKBACK", "grid_ms"),
)


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    front = dbt.ref("dim_front_month").project("contract").fetchone()
    points = dbt.ref("observation_points").project("observation_id, asof_ns, level_tick, direction_sign")
    trades = dbt.ref("stg_futures__trades").filter(f"contract = '{front[0] if front else ''}'")
    states = dbt.ref("book_states")
    tape = dbt.ref("book_tape").project("ts_event_ns, sequence, ordinal, side, tick, delta")
    return barrier(
        points.to_arrow_table(),
        tape.to_arrow_reader(65_536),
        states.to_arrow_table(),
        trades.project("ts_event_ns, sequence, ordinal, tick, size, aggressor").to_arrow_table(),
        **{name: params[name] for name in PARAMS},
    )
