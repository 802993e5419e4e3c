with

features as (

    select * from {{ ref('feat_stop_execution') }}

)

select
    -- keys
    date,
    client_id,
    symbol,
    'stop_execution_features' as feature_set,
    '1.0.0' as feature_version,
    event_time,
    operation_id,
    available_at,

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
    source_max_event_seq
from features
