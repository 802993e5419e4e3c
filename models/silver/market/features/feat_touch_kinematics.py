"""How the mid moved before each observation. Grain: observation_id. Maths: physics.kinematics."""

import json

from physics.kinematics import STATE_COLUMNS, kinematics


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    points = dbt.ref("observation_points").project("observation_id, asof_ns, direction_sign").to_arrow_table()
    states = dbt.ref("book_states").project(", ".join(STATE_COLUMNS)).to_arrow_table()
    return kinematics(points, states, grid_ms=params["grid_ms"])
