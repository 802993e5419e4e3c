with

executions as (

    select * from {{ ref('stop_executions') }}

),

quarantined as (

    select * from {{ ref('stop_executions_quarantine') }}

),

features as (

    select * from {{ ref('feat_stop_triggers') }}

),

dates_through as (

    select * from {{ ref('data_through') }}

),

-- Two dates after its own say of every date whether a day has passed.
known_through as (

    select
        dates.date,
        max(dates_through.data_through) as data_through
    from (select distinct date from executions) as dates
    inner join dates_through
        on dates_through.date between dates.date and dates.date + 2
    group by dates.date

),

judged as (

    select
        executions.*,
        features.client_id is not null as has_features,
        features.stop_distance_pct,
        features.time_to_trigger_sec,
        features.time_in_position_sec,
        features.volatility_15m,
        features.volume_24h,
        features.volume_24h_base,
        features.hour_of_day,
        features.day_of_week,
        features.consecutive_failures_1h,
        executions.status in ('PENDING', 'SUBMITTED') as is_open,
        coalesce(executions.triggered_at + interval '24 hours' <= known_through.data_through, false) as is_mature
    from executions
    left join features
        on executions.client_id = features.client_id
        and executions.execution_token = features.execution_token
        and executions.date = features.date
    left join known_through on executions.date = known_through.date

),

samples as (

    select
        *,
        is_open and is_mature as horizon_failed,
        case
            when status = 'BLOCKED' then 'BLOCKED'
            when triggered_at is null then 'NO_TRIGGER_TIME'
            when is_open and not is_mature then 'IMMATURE'
            when stop_distance_pct is null or time_to_trigger_sec is null then 'MISSING_REQUIRED_FEATURE'
            when is_provisional then 'PROVISIONAL'
        end as excluded_reason
    from judged

)

select
    -- keys
    date,
    client_id,
    execution_id,
    symbol,

    -- the sample
    {{ struct_of({
        'stop_distance_pct': 'stop_distance_pct',
        'time_to_trigger_sec': 'time_to_trigger_sec',
        'time_in_position_sec': 'time_in_position_sec',
        'volatility_15m': 'volatility_15m',
        'volume_24h': 'volume_24h',
        'volume_24h_base': 'volume_24h_base',
        'hour_of_day': 'hour_of_day',
        'day_of_week': 'day_of_week',
        'consecutive_failures_1h': 'consecutive_failures_1h',
    }) }} as features,
    {{ struct_of({
        'execution_success': "status = 'EXECUTED'",
        'slippage_breach': 'slippage_pct > 10',
        'slippage_breach_0p1': 'slippage_pct > 0.1',
        'slippage_breach_0p5': 'slippage_pct > 0.5',
        'slippage_breach_1p0': 'slippage_pct > 1',
        'execution_time_sec': "case when status = 'EXECUTED' then cast(cast("
            ~ epoch_us('executed_at') ~ ' - ' ~ epoch_us('triggered_at')
            ~ ' as decimal(18, 0)) * 0.000001 as decimal(12, 3)) end',
    }) }} as label,
    {{ struct_of({
        'source_event_ids': 'source_event_ids',
        'execution_id': 'execution_id',
        'operation_id': 'operation_id',
        'as_of': 'triggered_at',
        'label_time': "case when status = 'EXECUTED' then executed_at when status = 'FAILED' then failed_at"
            ~ " when horizon_failed then triggered_at + interval '24 hours' end",
        'horizon_failed': 'horizon_failed',
    }) }} as metadata,

    -- why it is none
    excluded_reason
from samples

union all

select
    date,
    coalesce(client_id, 0) as client_id,
    execution_id,
    symbol,
    null as features,
    null as label,
    null as metadata,
    'QUARANTINED' as excluded_reason
from quarantined
