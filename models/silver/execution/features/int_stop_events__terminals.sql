with

stop_events as (

    select
        *,
        greatest(occurred_at, ingested_at) as available_at,
        -- which reports say the same: of one order the trades that filled it, else how much at what price
        case
            when event_type != 'EXECUTED' then event_type
            else
                coalesce(exchange_order_id, '') || '|'
                || coalesce(nullif(trade_ids, ''), cast(quantity as varchar) || '@' || cast(fill_price as varchar), '')
        end as report
    from {{ ref('stg_execution__stop_events') }}
    -- Prompt ones: an event that was stored an hour after it occurred comes too late for any look-back of an hour. The
    -- bound also says which bronze dates an occurrence can lie on.
    where ingested_at between occurred_at - interval '1 hour' and occurred_at + interval '1 hour'

),

-- An event that was landed on two bronze dates is one event.
landings as (

    select
        *,
        row_number() over (partition by event_id order by loaded_at, date) as landing_order
    from stop_events

),

compared as (

    select
        *,
        lag(occurred_at) over (
            partition by client_id, execution_token, report
            order by occurred_at, event_id
        ) as repeats_at,
        min(case when event_type = 'EXECUTION_SUBMITTED' then occurred_at end) over so_far as submitted_at,
        min(case when state_event = 'BLOCKED' then occurred_at end) over so_far as blocked_at,
        min(case when state_event = 'BLOCKED' then available_at end) over so_far as blocked_available_at,
        min(case when event_type = 'EXECUTED' then available_at end) over (
            partition by client_id, execution_token
            order by occurred_at
            range between interval '12 hours' preceding and interval '1 hour' following
        ) as executed_available_at
    from landings
    where landing_order = 1
    window so_far as (
        partition by client_id, execution_token
        order by occurred_at
        range between interval '12 hours' preceding and current row
    )

)

select
    -- keys
    cast(occurred_at as date) as date,
    client_id,
    symbol,
    event_id,

    -- what happened
    event_type = 'FAILED' as is_failure,
    event_seq,

    -- time
    occurred_at,
    available_at,
    -- of a failure: when it became known that a fill makes up for it, or that a guardrail had refused before any order
    case
        when event_type = 'EXECUTED' then null
        when blocked_at is null or submitted_at <= blocked_at then executed_available_at
        else least(executed_available_at, blocked_available_at)
    end as unusable_from
from compared
where
    event_type in ('FAILED', 'EXECUTED')
    and (repeats_at is null or repeats_at < occurred_at - interval '12 hours')
    and {{ is_built_date('cast(occurred_at as date)') }}
