with

events as (

    select * from {{ ref('stg_execution__stop_events') }}

),

-- The first event of an execution is that of the least event_seq or, where an event has none, the earliest. It says on
-- which date the execution stands: a STOP_TRIGGERED counts for triggered_at only as the first one.
by_token as (

    select
        date,
        client_id,
        execution_token,
        count(*) as event_count,
        count(event_seq) < count(*) as has_null_seq,
        min(occurred_at) as first_occurred_at,
        min(event_seq) as first_event_seq,
        {{ sequence_key_time('min(' ~ sequence_key('event_seq', 'occurred_at') ~ ')', 'min(event_seq)') }}
            as first_sequence_at,
        min(case when state_event = 'TRIGGERED' then event_seq end) as first_trigger,
        min(case when state_event = 'SUBMITTED' then event_seq end) as first_submit,
        min(case when state_event in ('FAILED', 'BLOCKED') then event_seq end) as first_end,
        min(case when state_event in ('EXECUTED', 'FAILED') then event_seq end) as first_answer,
        count(case when state_event = 'BLOCKED' then event_seq end) as blocks,
        coalesce(min(stop_price) != max(stop_price), false) or count(other_row_hash) > 0 as is_contradictory
    from events
    group by date, client_id, execution_token

),

scoped as (

    select
        *,
        substr(execution_token, 1, 7) = 'legacy:' as is_legacy
    from by_token

),

shared as (

    select
        date,
        execution_token
    from scoped
    where not is_legacy
    group by date, execution_token
    having count(*) > 1

)

select
    -- keys
    scoped.date,
    scoped.client_id,
    scoped.execution_token,
    -- legacy tokens are a tenant's own
    {{ text_uuid("case when scoped.is_legacy then 'legacy:' || scoped.client_id || ':' || scoped.execution_token "
        ~ "else scoped.execution_token end") }} as token_key,

    -- where it stands: dates, as the date of the least time is the least of the dates
    cast(
        case when scoped.has_null_seq then scoped.first_occurred_at else scoped.first_sequence_at end as date
    ) as home_date,
    cast(scoped.first_occurred_at as date) as first_date,
    scoped.first_event_seq,
    cast(scoped.first_sequence_at as date) as first_sequence_date,

    -- flags
    scoped.has_null_seq,
    shared.execution_token is not null as is_shared,
    -- trigger, submission and an end, each once and in this order, or a lone refusal: nothing to remark
    coalesce(not scoped.is_contradictory and case scoped.event_count
        when 1 then scoped.first_trigger is not null or scoped.blocks = 1
        when 2 then scoped.first_trigger < coalesce(scoped.first_submit, scoped.first_end)
        when 3 then scoped.first_trigger < scoped.first_submit and scoped.first_submit < scoped.first_answer
    end, false) as is_plain
from scoped
left join shared
    on
    scoped.date = shared.date and scoped.execution_token = shared.execution_token
    and not scoped.is_legacy
