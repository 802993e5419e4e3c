with

points as (

    select
        *,
        asof_ns - {{ param('LOOKBACK_MINUTES') }} * 60000000000 as lookback_start_ns
    from {{ ref('observation_points') }}

),

indicators as (

    select * from {{ ref('int_bars__indicators') }}

),

last_bars as (

    select
        session_date,
        bar_end_ns,
        bar_number as last_number,
        close_tick as last_close_tick,
        rising_closes,
        falling_closes,
        atr
    from indicators

),

with_last_bar as (

    select
        points.*,
        last_bars.last_number,
        last_bars.last_close_tick,
        last_bars.atr,
        case when points.direction_sign = 1 then last_bars.rising_closes else last_bars.falling_closes end
            as approaching_closes
    {{ asof_left(
        'points', 'last_bars', on=['session_date'], left_time='asof_ns', right_time='bar_end_ns'
    ) }}

),

-- The window is open at its start: a bar that ended right then is the last one outside.
with_bar_before as (

    select
        with_last_bar.*,
        coalesce(indicators.bar_number, 0) + 1 as first_number
    {{ asof_left(
        'with_last_bar',
        'indicators',
        on=['session_date'],
        left_time='lookback_start_ns',
        right_time='bar_end_ns'
    ) }}

),

with_first_bar as (

    select
        with_bar_before.*,
        with_bar_before.last_number - with_bar_before.first_number as change_count,
        with_bar_before.last_close_tick - indicators.close_tick as move_ticks
    from with_bar_before
    -- two bars at least: where fewer end in the window no first one is found, and every column stays NULL
    left join indicators
        on with_bar_before.session_date = indicators.session_date
        and with_bar_before.first_number = indicators.bar_number
        and with_bar_before.first_number < with_bar_before.last_number

)

select
    -- keys
    observation_id,

    -- measures
    direction_sign * move_ticks * cast(0.25 as double) / change_count as approach_velocity,
    case when move_ticks is not null then least(approaching_closes, change_count) end as approach_bars,
    abs(move_ticks) * cast(0.25 as double) as approach_distance,
    abs(move_ticks) * cast(0.25 as double) / (atr + 1e-6) as approach_distance_atr,

    -- time: no bar that ended by then holds a later trade than the spot
    case when move_ticks is not null then spot_ts_ns end as approach_max_input_ts_ns
from with_first_bar
