with

points as (

    select * from {{ ref('observation_points') }}

),

indicators as (

    select * from {{ ref('int_bars__indicators') }}

),

with_atr as (

    select
        points.observation_id,
        points.spot_tick,
        points.spot_ts_ns,
        (points.level_tick - points.spot_tick) * cast(0.25 as double) as distance_signed,
        indicators.atr
    {{ asof_left(
        'points', 'indicators', on=['session_date'], left_time='asof_ns', right_time='bar_end_ns'
    ) }}

)

select
    -- keys
    observation_id,

    -- measures
    distance_signed,
    abs(distance_signed) / (spot_tick * cast(0.25 as double)) as distance_pct,
    abs(distance_signed) / (atr + 1e-6) as distance_atr,
    distance_signed / (atr + 1e-6) as distance_signed_atr,
    atr,

    -- time: no bar that ended by then holds a later trade than the spot
    spot_ts_ns as geometry_max_input_ts_ns
from with_atr
