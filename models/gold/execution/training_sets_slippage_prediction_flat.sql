{{ config(materialized='view') }}

with

samples as (

    select * from {{ ref('training_sets_slippage_prediction') }}

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
    samples.features.side as f_side,
    samples.features.trigger_type as f_trigger_type,
    samples.features.source as f_source,
    samples.features.order_notional_quote as f_order_notional_quote,
    samples.features.order_qty_to_median_1m_volume as f_order_qty_to_median_1m_volume,
    samples.features.detection_gap_pct as f_detection_gap_pct,
    samples.features.price_age_ms as f_price_age_ms,
    samples.features.spread_bps_at_trigger as f_spread_bps_at_trigger,
    samples.features.top_depth_quote as f_top_depth_quote,
    samples.features.signed_imbalance_1m as f_signed_imbalance_1m,
    samples.features.signed_imbalance_5m as f_signed_imbalance_5m,
    samples.features.rv_1m as f_rv_1m,
    samples.features.rv_5m as f_rv_5m,
    samples.features.rv_1h as f_rv_1h,
    samples.features.last_minute_return_closing as f_last_minute_return_closing,

    -- labels
    samples.label.slippage_pct as y_slippage_pct,
    samples.label.slippage_vs_trigger_pct as y_slippage_vs_trigger_pct,
    samples.label.slippage_breach as y_slippage_breach,

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
