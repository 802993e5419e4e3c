"""Dealers' gamma by option and whole minute. Grain: minute_ns, strike_milli, right. Maths: physics.exposure."""

import json

from physics.exposure import exposure


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    day = dbt.ref("dim_session").to_arrow_table().to_pylist()[0]
    start, end = (
        ("globex_open_ns", "globex_close_ns")
        if params["event_hours"] == "all"
        else ("rth_open_ns", "rth_close_ns")
    )
    prints = dbt.ref("option_greeks").filter("dealer_gamma is not null")
    is_call = "cast(\"right\" = 'C' as tinyint) as is_call"
    return exposure(
        prints.project(f"ts_event_ns, strike_milli, {is_call}, size, dealer_gamma").to_arrow_table(),
        session_start_ns=day[start],
        session_end_ns=day[end],
        **{name: params[name] for name in ("W_wall", "grid_ms")},
    )
