with

folded as (

    select * from {{ ref('int_stop_executions__folded') }}

),

settled as (

    select * from {{ ref('int_stop_executions__settled') }}

),

of_events as (

    select
        remarks.date,
        remarks.client_id,
        folded.operation_id,
        remarks.execution_token,
        folded.last_ingested_at,
        folded.is_lone_failure,
        remarks.anomaly_code,
        remarks.event_id,
        remarks.detail
    from {{ ref('int_stop_executions__remarks') }} as remarks
    inner join folded
        on
        remarks.date = folded.date and remarks.client_id = folded.client_id
        and remarks.execution_token = folded.execution_token

),

of_executions as (

    select
        folded.*,
        settled.seq_after_gap,
        settled.unreported_fill_at
    from folded
    inner join settled
        on
        folded.date = settled.date and folded.client_id = settled.client_id
        and folded.execution_token = settled.execution_token
    where
        folded.has_null_seq
        or settled.seq_after_gap is not null
        or settled.unreported_fill_at is not null
        or array_contains(folded.quality_flags, 'OVERFILL')
        or array_contains(folded.failed_rules, 'TENANT_MISMATCH')

),

codes as (

    select
        code_number,
        case code_number
            when 0 then 'NULL_SEQ'
            when 1 then 'SEQ_GAP'
            when 2 then 'OVERFILL'
            when 3 then 'TENANT_MISMATCH'
            when 4 then 'FILL_WITHOUT_EVENT'
        end as anomaly_code
    from range(5) as numbers (code_number)

),

found as (

    select
        date,
        client_id,
        operation_id,
        execution_token,
        last_ingested_at,
        is_lone_failure,
        anomaly_code,
        event_id,
        detail
    from of_events

    union all

    select
        of_executions.date,
        of_executions.client_id,
        of_executions.operation_id,
        of_executions.execution_token,
        of_executions.last_ingested_at,
        of_executions.is_lone_failure,
        codes.anomaly_code,
        cast(null as uuid) as event_id,
        case codes.anomaly_code
            when 'NULL_SEQ' then 'an event has no event_seq: all are ordered by time'
            when 'SEQ_GAP'
                then
                    'stream_seq ' || of_executions.seq_after_gap || ' is here, and none before it: '
                    || (of_executions.seq_after_gap - 1) || ' is missing in the operation'
            when 'OVERFILL'
                then 'executed ' || of_executions.executed_quantity || ' of ' || of_executions.quantity || ' requested'
            when 'TENANT_MISMATCH' then 'another client has this token too'
            when 'FILL_WITHOUT_EVENT'
                then
                    'a fill at ' || of_executions.unreported_fill_at
                    || ' closed, and no EXECUTED event tells of its order: '
                    || 'the status stays ' || of_executions.status
        end as detail
    from of_executions
    inner join codes
        on
        codes.anomaly_code = 'NULL_SEQ' and of_executions.has_null_seq
        or codes.anomaly_code = 'SEQ_GAP' and of_executions.seq_after_gap is not null
        or codes.anomaly_code = 'FILL_WITHOUT_EVENT' and of_executions.unreported_fill_at is not null
        or codes.anomaly_code = 'OVERFILL' and array_contains(of_executions.quality_flags, 'OVERFILL')
        or codes.anomaly_code = 'TENANT_MISMATCH' and array_contains(of_executions.failed_rules, 'TENANT_MISMATCH')

)

select
    -- keys
    date,
    client_id,
    execution_token,
    anomaly_code,
    {{ uuid5("'anomaly|' || client_id || '|' || execution_token || '|' || anomaly_code || '|' "
        ~ "|| coalesce(cast(event_id as varchar), '')") }} as anomaly_id,

    -- what it is about
    operation_id,
    event_id,
    case
        when anomaly_code = 'MISSING_TRIGGER' and is_lone_failure then 'info'
        when anomaly_code in ('MISSING_SUBMIT', 'DUPLICATE_EVENT', 'NULL_SEQ') then 'info'
        when
            anomaly_code in (
                'TENANT_MISMATCH', 'CONFLICTING_TERMINAL', 'LATE_FILL_AFTER_FAILURE', 'LATE_FILL_AFTER_BLOCK',
                'FILL_WITHOUT_EVENT', 'OVERFILL'
            )
            then 'error'
        else 'warn'
    end as severity,
    detail,
    last_ingested_at as detected_at
from found
