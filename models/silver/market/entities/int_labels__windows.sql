with

points as (

    select * from {{ ref('observation_points') }}

),

session as (

    select * from {{ ref('dim_session') }}

),

ratios as (

    select
        session_date,
        asof_ns as ratio_asof_ns,
        es_spy_ratio as label_ratio
    from {{ ref('dim_es_spy_ratio') }}

),

minute_bars as (

    select bars.*
    from {{ ref('ohlcv') }} as bars
    inner join {{ ref('dim_front_month') }} as front
        on bars.session_date = front.session_date
        and bars.contract = front.contract
    where bars.bar_s = 60

),

true_ranges as (

    select
        session_date,
        bar_end_ns,
        case
            when lag(close_tick) over in_session is null then high_tick - low_tick
            else greatest(high_tick, lag(close_tick) over in_session)
                - least(low_tick, lag(close_tick) over in_session)
        end as true_range_ticks
    from minute_bars
    window in_session as (partition by session_date order by bar_end_ns)

),

-- ATR: simple mean of the last 14 present bars of this session
atrs as (

    select
        session_date,
        bar_end_ns,
        case
            when count(*) over last_14 = 14
                then sum(true_range_ticks) over last_14 / cast(14 as double) * 0.25
        end as atr
    from true_ranges
    window
        last_14 as (
            partition by session_date order by bar_end_ns rows between 13 preceding and current row
        )

),

with_atr as (

    select
        points.*,
        atrs.atr
    {{ asof_left('points', 'atrs', on=['session_date'], left_time='label_start_ns', right_time='bar_end_ns') }}

),

with_ratio as (

    select
        with_atr.*,
        ratios.label_ratio
    {{ asof_left(
        'with_atr', 'ratios', on=['session_date'], left_time='label_start_ns', right_time='ratio_asof_ns'
    ) }}

),

in_points as (

    select
        *,
        -- a missing ATR must stay missing: least() and greatest() skip NULLs
        case
            when atr is not null
                then least(
                        greatest(
                            atr * sqrt({{ param('LOOKFORWARD_MINUTES') }}),
                            {{ param('THETA_ATR_MIN') }}
                        ),
                        {{ param('THETA_ATR_MAX') }}
                    )
        end as theta_2_atr_points
    from with_ratio

)

select
    -- keys
    in_points.session_date,
    in_points.observation_id,
    in_points.event_id,
    in_points.stage,
    in_points.level_kind_name,
    in_points.direction,
    in_points.attempt_cluster_id,

    -- the level
    in_points.level_tick,
    in_points.direction_sign,

    -- the window
    in_points.ts_ns,
    in_points.label_start_ns,
    case
        when {{ param('event_hours') }} = 'all' then session.globex_close_ns
        else session.rth_close_ns
    end as window_limit_ns,

    -- thresholds
    case
        when {{ param('theta_mode') }} = 'atr'
            then cast(
                    floor(
                        {{ param('THETA_1_FRACTION') }} * in_points.theta_2_atr_points / 0.25 + 0.5
                    ) as integer
                )
        else {{ ticks(param('STRENGTH_THRESHOLD_1'), 'in_points.label_ratio') }}
    end as theta1_ticks,
    case
        when {{ param('theta_mode') }} = 'atr'
            then cast(floor(in_points.theta_2_atr_points / 0.25 + 0.5) as integer)
        else {{ ticks(param('STRENGTH_THRESHOLD_2'), 'in_points.label_ratio') }}
    end as theta2_ticks
from in_points
inner join session on in_points.session_date = session.session_date
