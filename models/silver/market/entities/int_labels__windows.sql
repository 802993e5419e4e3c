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

indicators as (

    select * from {{ ref('int_bars__indicators') }}

),

with_atr as (

    select
        points.*,
        indicators.atr
    {{ asof_left(
        'points', 'indicators', on=['session_date'], left_time='label_start_ns', right_time='bar_end_ns'
    ) }}

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
