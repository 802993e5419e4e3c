"""Dealers' gamma that flowed near a level before each observation. Grain: observation_id. Maths: physics.fuel."""

import json

from physics.fuel import gamma_flows

PARAMS = ("W_g", "FUEL_STRIKE_RANGE", "grid_ms")


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    day = dbt.ref("dim_session").to_arrow_table().to_pylist()[0]
    points = dbt.ref("observation_points").project("observation_id, asof_ns, level_tick, es_spy_ratio")
    prints = dbt.ref("option_greeks").project("ts_event_ns, strike_milli, dealer_gamma")
    return gamma_flows(
        points.to_arrow_table(),
        prints.to_arrow_table(),
        session_start_ns=day["globex_open_ns" if params["event_hours"] == "all" else "rth_open_ns"],
        **{name: params[name] for name in PARAMS},
    )
