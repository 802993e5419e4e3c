"""Volatility and greeks of today's option prints. Grain: ts_event_ns, ordinal. Maths: physics.option_greeks."""

import json

from physics.option_greeks import option_greeks

PRINT = "ts_event_ns, ordinal, option_symbol, cast(strike * 1000 as integer) as strike_milli"


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    close = dbt.ref("dim_session").project("rth_close_ns").fetchone()
    front = dbt.ref("dim_front_month").project("contract").fetchone()
    prints = dbt.ref("stg_options__trades").filter("exp_date = session_date")
    trades = dbt.ref("stg_futures__trades").filter(f"contract = '{front[0] if front else ''}'")
    return option_greeks(
        prints.project(f'{PRINT}, "right", cast(price as double) as price, size, aggressor').to_arrow_table(),
        trades.project("ts_event_ns, sequence, ordinal, tick").to_arrow_table(),
        dbt.ref("dim_es_spy_ratio").project("asof_ns, es_spy_ratio").to_arrow_table(),
        expiry_ns=close[0],  # 16:00 New York, 13:00 on early closes
        RISK_FREE=params["RISK_FREE"],
        SIGMA_DEFAULT=params["SIGMA_DEFAULT"],
    )
