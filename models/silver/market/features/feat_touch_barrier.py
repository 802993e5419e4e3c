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
    trades = dbt.ref("stg_futures__trades").filter(f"contract = '{front[0] if front else ''}'")
    trades = trades.project("ts_event_ns, sequence, ordinal, tick, size, aggressor").to_arrow_table()
    points = (
        dbt.ref("observation_points")
        .project("observation_id, asof_ns, level_tick, direction_sign")
        .to_arrow_table()
    )
    states = dbt.ref("book_states").to_arrow_table()
    # The reader comes last: DuckDB empties an open one, without a word, when its connection runs the next query.
    tape = (
        dbt.ref("book_tape")
        .project("ts_event_ns, sequence, ordinal, side, tick, delta")
        .to_arrow_reader(65_536)
    )
    return barrier(points, tape, states, trades, **{name: params[name] for name in PARAMS})
