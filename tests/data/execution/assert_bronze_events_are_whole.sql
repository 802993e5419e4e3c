-- Events of the two newest dates have what every event must have, and values that are known (spec/execution.md 3.2).
-- The loader refuses others: a row here was not written by it.
{{ config(tags=['bronze']) }}

with

events as (

    select * from {{ source('bronze', 'events') }}
    where date >= (select max(newest.date) - 1 from {{ source('bronze', 'events') }} as newest)

),

known as (

    select event_type from {{ ref('event_types') }}

)

select
    events.date,
    events.event_id,
    events.source_file
from events
left join known on events.event_type = known.event_type
where
    events.event_id is null
    or events.occurred_at is null
    or events.operation_id is null
    or events.client_id is null
    or events.symbol is null
    or events.payload_json is null
    or events.retry_count is null
    or known.event_type is null
    or coalesce(events.trigger_type, 'STOP_LOSS') not in ('STOP_LOSS', 'TAKE_PROFIT')
    or coalesce(events.side, 'BUY') not in ('BUY', 'SELL')
    or coalesce(events.source, '') not in ('ws', 'cron', 'manual', 'rust')
