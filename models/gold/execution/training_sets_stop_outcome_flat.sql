{{ config(materialized='view') }}

with

samples as (

    select * from {{ ref('training_sets_stop_outcome') }}

)

select
    -- keys
    samples.sample_id,
    samples.client_id,
    samples.symbol,
    samples.version,
    samples.split,
    samples.date,

    -- features
    samples.features.stop_distance_pct as f_stop_distance_pct,
    samples.features.time_to_trigger_sec as f_time_to_trigger_sec,
    samples.features.time_in_position_sec as f_time_in_position_sec,
    samples.features.volatility_15m as f_volatility_15m,
    samples.features.volume_24h as f_volume_24h,
    samples.features.volume_24h_base as f_volume_24h_base,
    samples.features.hour_of_day as f_hour_of_day,
    samples.features.day_of_week as f_day_of_week,
    samples.features.consecutive_failures_1h as f_consecutive_failures_1h,

    -- labels
    samples.label.execution_success as y_execution_success,
    samples.label.slippage_breach as y_slippage_breach,
    samples.label.slippage_breach_0p1 as y_slippage_breach_0p1,
    samples.label.slippage_breach_0p5 as y_slippage_breach_0p5,
    samples.label.slippage_breach_1p0 as y_slippage_breach_1p0,
    samples.label.execution_time_sec as y_execution_time_sec,

    -- metadata
    samples.metadata.version as m_version,
    samples.metadata.generated_at as m_generated_at,
    samples.metadata.source_event_ids as m_source_event_ids,
    samples.metadata.execution_id as m_execution_id,
    samples.metadata.operation_id as m_operation_id,
    samples.metadata.as_of as m_as_of,
    samples.metadata.label_time as m_label_time,
    samples.metadata.split as m_split,
    samples.metadata.horizon_failed as m_horizon_failed
from samples
