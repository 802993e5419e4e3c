with

points as (

    select
        *,
        asof_ns - 600000000000 as earlier_ns
    from {{ ref('observation_points') }}

),

averages as (

    select * from {{ ref('int_bars__averages') }}

),

indicators as (

    select * from {{ ref('int_bars__indicators') }}

),

front_trades as (

    select
        trades.session_date,
        trades.ts_event_ns,
        trades.tick,
        {{ file_order(['trades.ts_event_ns', 'trades.sequence', 'trades.ordinal']) }} as event_position
    from {{ ref('stg_futures__trades') }} as trades
    inner join {{ ref('dim_front_month') }} as front
        on trades.session_date = front.session_date
        and trades.contract = front.contract

),

-- one row per instant, its last print: an as-of join must not meet ties
spots as (

    select
        session_date,
        ts_event_ns,
        max_by(tick, event_position) as earlier_spot_tick
    from front_trades
    group by session_date, ts_event_ns

),

with_indicators as (

    select
        points.*,
        indicators.atr,
        nullif(indicators.sigma_20, 0) as sigma_20
    {{ asof_left(
        'points', 'indicators', on=['session_date'], left_time='asof_ns', right_time='bar_end_ns'
    ) }}

),

with_earlier_spot as (

    select
        with_indicators.*,
        spots.earlier_spot_tick
    {{ asof_left(
        'with_indicators', 'spots', on=['session_date'], left_time='earlier_ns', right_time='ts_event_ns', strict=true
    ) }}

),

earlier_averages as (

    select
        session_date,
        bar_end_ns,
        sum_200_ticks as earlier_sum_200_ticks,
        sum_400_ticks as earlier_sum_400_ticks
    from averages

),

with_earlier_average as (

    select
        with_earlier_spot.*,
        earlier_averages.earlier_sum_200_ticks,
        earlier_averages.earlier_sum_400_ticks
    {{ asof_left(
        'with_earlier_spot',
        'earlier_averages',
        on=['session_date'],
        left_time='earlier_ns',
        right_time='bar_end_ns'
    ) }}

),

with_average as (

    select
        with_earlier_average.*,
        averages.sum_200_ticks,
        averages.sum_400_ticks,
        averages.sum_200_5_bars_ago_ticks,
        averages.sum_200_10_bars_ago_ticks,
        averages.sum_400_5_bars_ago_ticks,
        averages.sum_400_10_bars_ago_ticks
    {{ asof_left(
        'with_earlier_average', 'averages', on=['session_date'], left_time='asof_ns', right_time='bar_end_ns'
    ) }}

)

-- Differences are taken between whole numbers of ticks and divided last: nothing cancels.
select
    -- keys
    observation_id,

    -- measures
    {%- for count in (200, 400) %}
        sum_{{ count }}_ticks / cast({{ 4 * count }} as double) as sma_{{ count }},
    {%- endfor %}
    {%- for count in (200, 400) %}
        ({{ count }} * level_tick - sum_{{ count }}_ticks) / cast({{ 4 * count }} as double) as dist_to_sma_{{ count }},
    {%- endfor %}
    {%- for count in (200, 400) %}
        ({{ count }} * level_tick - sum_{{ count }}_ticks) / cast({{ 4 * count }} as double) / (atr + 1e-6)
            as dist_to_sma_{{ count }}_atr,
    {%- endfor %}
    {%- for count in (200, 400) %}
        (sum_{{ count }}_ticks - sum_{{ count }}_10_bars_ago_ticks) / cast({{ 4 * count }} as double) / 20
            as sma_{{ count }}_slope,
    {%- endfor %}
    {%- for count in (200, 400) %}
        (sum_{{ count }}_ticks - sum_{{ count }}_5_bars_ago_ticks) / cast({{ 4 * count }} as double) / 10
            as sma_{{ count }}_slope_5bar,
    {%- endfor %}
    (2 * sum_200_ticks - sum_400_ticks) / cast(1600 as double) as sma_spread,
    {%- for count in (200, 400) %}
        ({{ count }} * spot_tick - sum_{{ count }}_ticks) / cast({{ 4 * count }} as double) / sigma_20
            as mean_reversion_pressure_{{ count }},
    {%- endfor %}
    {%- for count in (200, 400) %}
        (
            ({{ count }} * spot_tick - sum_{{ count }}_ticks)
            - ({{ count }} * earlier_spot_tick - earlier_sum_{{ count }}_ticks)
        ) / cast({{ 4 * count }} as double) / 10 as mean_reversion_velocity_{{ count }},
    {%- endfor %}

    -- time: no bar that ended by then holds a later trade than the spot
    case when coalesce(sum_200_ticks, sum_400_ticks) is not null then spot_ts_ns end as mean_reversion_max_input_ts_ns
from with_average
