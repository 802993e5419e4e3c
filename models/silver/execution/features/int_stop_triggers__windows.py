"""Volatility and volume of the bars before each trigger's minute. Grain: symbol, minute. Maths: physics.bar_windows."""

from physics.bar_windows import bar_windows

ROW_GROUP = 122_880  # rows handed over at once: with a million the reading took a fifth more CPU


def model(dbt, session):
    dbt.config(materialized="dataset")
    asked = dbt.ref("stop_triggers").project("symbol, epoch_us(event_time) // 60000000 as minute")
    bars = dbt.ref("market_bars_1m").project(
        "symbol, epoch_us(open_time) // 60000000 as open_minute, cast(close as double) as close, volume, quote_volume"
    )
    return bar_windows(bars.to_arrow_table(ROW_GROUP), asked=asked.to_arrow_table())
