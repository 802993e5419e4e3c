with

outcomes as (

    select * from {{ ref('stop_outcome_candidates') }}

),

executions as (

    select * from {{ ref('stop_executions') }}

),

features as (

    select * from {{ ref('feat_stop_slippage') }}

),

-- A quarantined execution has no row in stop_executions, and keeps its reason.
samples as (

    select
        outcomes.date,
        outcomes.client_id,
        outcomes.execution_id,
        outcomes.symbol,
        outcomes.features as outcome,
        outcomes.metadata,
        executions.slippage_pct,
        executions.slippage_vs_trigger_pct,
        features.side,
        features.trigger_type,
        features.source,
        features.order_notional_quote,
        features.order_qty_to_median_1m_volume,
        features.detection_gap_pct,
        features.price_age_ms,
        features.spread_bps_at_trigger,
        features.top_depth_quote,
        features.signed_imbalance_1m,
        features.signed_imbalance_5m,
        features.rv_1m,
        features.rv_5m,
        features.rv_1h,
        features.last_minute_return_closing,
        coalesce(
            outcomes.excluded_reason,
            case when executions.status != 'EXECUTED' then 'NOT_EXECUTED' end,
            case
                when executions.slippage_pct is null or executions.slippage_vs_trigger_pct is null then 'NO_REAL_FILL'
            end
        ) as excluded_reason
    from outcomes
    left join executions
        on outcomes.client_id = executions.client_id
        and outcomes.execution_id = executions.execution_id
        and outcomes.date = executions.date
    left join features
        on executions.client_id = features.client_id
        and executions.execution_token = features.execution_token
        and executions.date = features.date

)

select
    -- keys
    date,
    client_id,
    execution_id,
    symbol,

    -- the sample
    {{ struct_of({
        'stop_distance_pct': 'outcome.stop_distance_pct',
        'time_to_trigger_sec': 'outcome.time_to_trigger_sec',
        'time_in_position_sec': 'outcome.time_in_position_sec',
        'volatility_15m': 'outcome.volatility_15m',
        'volume_24h': 'outcome.volume_24h',
        'volume_24h_base': 'outcome.volume_24h_base',
        'hour_of_day': 'outcome.hour_of_day',
        'day_of_week': 'outcome.day_of_week',
        'consecutive_failures_1h': 'outcome.consecutive_failures_1h',
        'side': 'side',
        'trigger_type': 'trigger_type',
        'source': 'source',
        'order_notional_quote': 'order_notional_quote',
        'order_qty_to_median_1m_volume': 'order_qty_to_median_1m_volume',
        'detection_gap_pct': 'detection_gap_pct',
        'price_age_ms': 'price_age_ms',
        'spread_bps_at_trigger': 'spread_bps_at_trigger',
        'top_depth_quote': 'top_depth_quote',
        'signed_imbalance_1m': 'signed_imbalance_1m',
        'signed_imbalance_5m': 'signed_imbalance_5m',
        'rv_1m': 'rv_1m',
        'rv_5m': 'rv_5m',
        'rv_1h': 'rv_1h',
        'last_minute_return_closing': 'last_minute_return_closing',
    }) }} as features,
    {{ struct_of({
        'slippage_pct': 'slippage_pct',
        'slippage_vs_trigger_pct': 'slippage_vs_trigger_pct',
        'slippage_breach': 'slippage_pct > 10',
    }) }} as label,
    metadata,

    -- why it is none
    excluded_reason
from samples
