with

executions as (

    select * from {{ ref('int_stop_executions__contested') }}

),

events as (

    select
        events.*,
        executions.stop_price as first_stop_price,
        case
            when executions.first_execution < events.event_order then 'EXECUTED'
            when executions.effective_failure < events.event_order then 'FAILED'
            when executions.effective_block < events.event_order then 'BLOCKED'
            when executions.first_submit < events.event_order then 'SUBMITTED'
            when events.event_order > 1 then 'PENDING'
            else 'none'
        end as state_before
    from {{ ref('int_stop_events__contested') }} as events
    inner join executions
        on
        events.date = executions.date and events.client_id = executions.client_id
        and events.execution_token = executions.execution_token

),

remarks as (

    select
        *,
        case
            when state_event = 'TRIGGERED'
                then
                    case state_before
                        when 'none' then null
                        when 'PENDING' then 'DUPLICATE_EVENT'
                        when 'SUBMITTED' then 'OUT_OF_ORDER'
                        else 'EVENT_AFTER_TERMINAL'
                    end
            when state_event = 'SUBMITTED'
                then
                    case state_before
                        when 'none' then 'MISSING_TRIGGER'
                        when 'PENDING' then null
                        when 'SUBMITTED' then 'DUPLICATE_EVENT'
                        else 'EVENT_AFTER_TERMINAL'
                    end
            when state_event = 'EXECUTED'
                then
                    case state_before
                        when 'none' then 'MISSING_TRIGGER'
                        when 'PENDING' then 'MISSING_SUBMIT'
                        when 'SUBMITTED' then null
                        when 'EXECUTED' then case when not is_report then 'DUPLICATE_EVENT' end
                        when 'FAILED' then 'LATE_FILL_AFTER_FAILURE'
                        when 'BLOCKED' then 'LATE_FILL_AFTER_BLOCK'
                    end
            when state_event = 'FAILED'
                then
                    case state_before
                        when 'none' then 'MISSING_TRIGGER'
                        when 'EXECUTED' then 'CONFLICTING_TERMINAL'
                        when 'FAILED' then 'DUPLICATE_EVENT'
                        when 'BLOCKED' then 'EVENT_AFTER_TERMINAL'
                    end
            -- after EXECUTED it is a flag of the execution
            when state_event = 'BLOCKED'
                then
                    case state_before
                        when 'SUBMITTED' then 'BLOCK_AFTER_SUBMIT'
                        when 'FAILED' then 'EVENT_AFTER_TERMINAL'
                        when 'BLOCKED' then 'DUPLICATE_EVENT'
                    end
        end as code
    from events

)

select
    date,
    client_id,
    execution_token,
    code as anomaly_code,
    event_id,
    event_type || ' in state ' || state_before as detail
from remarks
where code is not null

union all

select
    date,
    client_id,
    execution_token,
    'LEVEL_CHANGED' as anomaly_code,
    event_id,
    'stop_price was ' || first_stop_price || ' first, here ' || stop_price as detail
from events
where stop_price != first_stop_price

union all

select
    date,
    client_id,
    execution_token,
    'KEY_HASH_CONFLICT' as anomaly_code,
    event_id,
    'kept row_hash ' || row_hash || ', not ' || differing_row_hash as detail
from events
where differing_row_hash is not null
