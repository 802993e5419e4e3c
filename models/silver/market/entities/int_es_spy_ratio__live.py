"""The ES/SPY ratio of the seconds that have enough pairs of trades. Grain: asof_ns. Maths: physics.ratio."""

from physics.ratio import live_ratio


def model(dbt, session):
    dbt.config(materialized="dataset")
    day = dbt.ref("dim_session").to_arrow_table().to_pylist()[0]
    front = dbt.ref("dim_front_month").project("contract").fetchone()
    trades = dbt.ref("stg_futures__trades").filter(f"contract = '{front[0] if front else ''}'")
    spy = dbt.ref("stg_stocks__trades").filter("not is_odd_lot and correction = 0")
    return live_ratio(
        spy.project("ts_event_ns, ordinal, cast(price as double) as price").to_arrow_table(),
        trades.project("ts_event_ns, sequence, ordinal, tick").to_arrow_table(),
        **{name: day[name] for name in ("globex_open_ns", "premarket_open_ns", "globex_close_ns")},
    )
