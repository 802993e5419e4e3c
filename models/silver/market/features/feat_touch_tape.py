"""What traded around a level before each observation. Grain: observation_id. Maths: physics.tape."""

import json

from physics.tape import tape

PARAMS = ("W_t", "TAPE_BAND", "SWEEP_MAX_GAP_MS", "SWEEP_MIN_CONTRACTS", "grid_ms")


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    front = dbt.ref("dim_front_month").project("contract").fetchone()
    points = dbt.ref("observation_points").project("observation_id, asof_ns, level_tick, es_spy_ratio")
    trades = dbt.ref("stg_futures__trades").filter(f"contract = '{front[0] if front else ''}'")
    return tape(
        points.to_arrow_table(),
        trades.project("ts_event_ns, sequence, ordinal, tick, size, aggressor").to_arrow_table(),
        **{name: params[name] for name in PARAMS},
    )
