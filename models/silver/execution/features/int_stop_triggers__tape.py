"""Public tape right before each trigger. Grain: client_id, execution_token. Maths: physics.tape_flow."""

from physics.tape_flow import tape_flow


def model(dbt, session):
    dbt.config(materialized="dataset")
    triggers = (
        dbt.ref("stop_triggers")
        .order("symbol, event_time")
        .project("date, client_id, execution_token, symbol, epoch_us(event_time) as event_us")
    )
    trades = (
        dbt.ref("stg_binance__agg_trades")
        .filter("market = 'spot'")
        .order("symbol, exchange_time, agg_id")
        .project(
            "symbol, epoch_us(exchange_time) as exchange_us, cast(price as double) as price, quantity, is_buyer_maker"
        )
    )
    return tape_flow(triggers.to_arrow_table(), trades.to_arrow_table()).drop_columns(["symbol"])
