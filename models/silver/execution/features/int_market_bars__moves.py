"""Median volume and realised volatility before each minute. Grain: symbol, minute. Maths: physics.bar_windows."""

from physics.bar_windows import bar_moves


def model(dbt, session):
    dbt.config(materialized="dataset")
    built = session.sql("select getvariable('build_date')").fetchone()[0]
    bars = dbt.ref("market_bars_1m").project(
        "symbol, epoch_us(open_time) // 60000000 as open_minute, cast(close as double) as close, volume"
    )
    return bar_moves(bars.to_arrow_table(), built)
