with

points as (

    select * from {{ ref('observation_points') }}

),

session as (

    select * from {{ ref('dim_session') }}

),

ranges as (

    select * from {{ ref('int_bars__ranges') }}

),

indicators as (

    select * from {{ ref('int_bars__indicators') }}

),

with_atr as (

    select
        points.*,
        indicators.atr
    {{ asof_left(
        'points', 'indicators', on=['session_date'], left_time='asof_ns', right_time='bar_end_ns'
    ) }}

),

with_ranges as (

    select
        with_atr.*,
        with_atr.asof_ns - session.rth_open_ns as since_open_ns,
        (with_atr.level_tick - premarket.high_tick) * cast(0.25 as double) as dist_to_pm_high,
        (with_atr.level_tick - premarket.low_tick) * cast(0.25 as double) as dist_to_pm_low,
        (with_atr.level_tick - opening.high_tick) * cast(0.25 as double) as dist_to_or_high,
        (with_atr.level_tick - opening.low_tick) * cast(0.25 as double) as dist_to_or_low
    from with_atr
    inner join session on with_atr.session_date = session.session_date
    left join ranges as premarket
        on with_atr.session_date = premarket.session_date
        and premarket.level_kind_family = 'PM'
        and with_atr.asof_ns >= premarket.valid_from_ns
        and with_atr.asof_ns < premarket.valid_to_ns
    left join ranges as opening
        on with_atr.session_date = opening.session_date
        and opening.level_kind_family = 'OR'
        and with_atr.asof_ns >= opening.valid_from_ns
        and with_atr.asof_ns < opening.valid_to_ns

)

select
    -- keys
    observation_id,

    -- clock
    since_open_ns / cast(60000000000 as double) as minutes_since_open,
    since_open_ns >= 0 and since_open_ns < 900000000000 as is_first_15m,

    -- measures
    dist_to_pm_high,
    dist_to_pm_low,
    dist_to_or_high,
    dist_to_or_low,
    dist_to_pm_high / (atr + 1e-6) as dist_to_pm_high_atr,
    dist_to_pm_low / (atr + 1e-6) as dist_to_pm_low_atr,

    -- time: no range or bar that ended by then holds a later trade than the spot
    case when coalesce(dist_to_pm_high, dist_to_or_high) is not null then spot_ts_ns end as context_max_input_ts_ns
from with_ranges
