with

folded as (

    select * from {{ ref('int_stop_executions__folded') }}

),

executions as (

    select * from {{ ref('stop_executions') }}

),

-- Of the event itself, and of the operation where the event is silent; never of a later event of the execution.
triggers as (

    select
        folded.*,
        coalesce(
            folded.trigger_event_entry_placed_at,
            case when folded.entry_placed_at is null then executions.entry_placed_at end
        ) as placed_at,
        coalesce(
            folded.trigger_event_entry_time,
            case when folded.entry_time is null then executions.entry_time end
        ) as entered_at
    from folded
    inner join executions
        on folded.client_id = executions.client_id
        and folded.execution_token = executions.execution_token
        and folded.date = executions.date
    where folded.triggered_at is not null

)

select
    -- keys
    date,
    client_id,
    execution_token,
    execution_id,
    operation_id,
    symbol,

    -- what the STOP_TRIGGERED event says
    trigger_event_side as side,
    coalesce(trigger_event_trigger_type, 'STOP_LOSS') as trigger_type,
    source,
    trigger_event_trigger_price as trigger_price,
    trigger_event_quantity as quantity,
    trigger_event_stop_price as stop_price,
    trigger_event_entry_price as entry_price,
    price_age_ms,
    spread_bps_at_trigger,
    top_depth_quote,
    first_event_seq as level_event_seq,

    -- time; what would lie after the trigger was not known at it
    triggered_at as event_time,
    trigger_available_at as level_known_at,
    case when placed_at <= triggered_at then placed_at end as entry_placed_at,
    case when entered_at <= triggered_at then entered_at end as entry_time
from triggers
