"""Order flow imbalance of the book before each observation. Grain: observation_id. Maths: physics.ofi."""

import json

from physics.ofi import STATE_COLUMNS, ofi

PARAMS = ("BARRIER_ZONE_ES_TICKS", "GAP_S", "grid_ms")


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    points = dbt.ref("observation_points").project("observation_id, asof_ns, level_tick").to_arrow_table()
    states = dbt.ref("book_states").project(", ".join(STATE_COLUMNS)).to_arrow_table()
    # The reader comes last: DuckDB empties an open one, without a word, when its connection runs the next query.
    tape = (
        dbt.ref("book_tape")
        .project("ts_event_ns, sequence, ordinal, side, tick, delta")
        .to_arrow_reader(65_536)
    )
    return ofi(points, tape, states, **{name: params[name] for name in PARAMS})
