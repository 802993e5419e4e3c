with

triggers as (

    select * from {{ ref('stop_triggers') }}

),

levels as (

    select * from {{ ref('int_operations__levels') }}

),

active as (

    select * from {{ ref('int_operations__active') }}

),

market_windows as (

    select * from {{ ref('int_market_bars__windows') }}

),

failure_runs as (

    select * from {{ ref('int_stop_failures__runs') }}

),

-- A tape that has ended says nothing of the minutes after it.
market_ends as (

    select
        date,
        max(last_bar_end) as last_bar_end
    from market_windows
    group by date

),

-- Each whole minute while an operation is active: what an online reader would have asked for.
minutes as (

    select distinct
        active.client_id,
        active.symbol,
        market_windows.minute as event_time
    from active
    inner join market_windows
        on active.symbol = market_windows.symbol
        and active.date = market_windows.date
        and active.since_at < market_windows.minute
        and coalesce(active.until_at, market_windows.minute) >= market_windows.minute
    inner join market_ends
        on market_windows.date = market_ends.date
        and market_windows.minute <= market_ends.last_bar_end

),

-- A trigger names its operation, and is the one point of its instant.
ranked_triggers as (

    select
        client_id,
        symbol,
        event_time,
        operation_id,
        row_number() over (
            partition by client_id, symbol, event_time
            order by execution_token desc
        ) as trigger_rank
    from triggers

),

points as (

    select
        client_id,
        symbol,
        operation_id,
        event_time
    from ranked_triggers
    where trigger_rank = 1

    union all

    select
        minutes.client_id,
        minutes.symbol,
        cast(null as bigint) as operation_id,
        minutes.event_time
    from minutes
    left join ranked_triggers
        on minutes.client_id = ranked_triggers.client_id
        and minutes.symbol = ranked_triggers.symbol
        and minutes.event_time = ranked_triggers.event_time
        and ranked_triggers.trigger_rank = 1
    where ranked_triggers.client_id is null

),

points_with_levels as (

    {{ stop_levels('points', 'triggers', 'levels', 'active') | indent(4) }}

),

features as (

    {{ stop_features('points_with_levels', 'market_windows', 'failure_runs') | indent(4) }}

)

select
    -- keys
    cast(event_time as date) as date,
    client_id,
    symbol,
    event_time,
    operation_id,

    -- features
    stop_distance_pct,
    time_to_trigger_sec,
    time_in_position_sec,
    volatility_15m,
    volume_24h,
    volume_24h_base,
    hour_of_day,
    day_of_week,
    consecutive_failures_1h,

    -- lineage
    available_at,
    source_max_event_seq
from features
where {{ is_built_date('cast(event_time as date)') }}
