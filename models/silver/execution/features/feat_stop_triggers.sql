with

triggers as (

    select * from {{ ref('stop_triggers') }}

),

market_windows as (

    select * from {{ ref('int_stop_triggers__windows') }}

),

failure_runs as (

    select * from {{ ref('int_stop_failures__runs') }}

),

features as (

    {{ stop_features('triggers', 'market_windows', 'failure_runs', keys=['date', 'execution_token']) | indent(4) }}

)

select
    -- keys
    date,
    client_id,
    execution_token,
    symbol,
    operation_id,
    event_time,

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
