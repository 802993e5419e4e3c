-- Hours of the two newest dates in which more than 1 % of the events have no event_seq (spec/execution.md 3.2). In an
-- hour of fewer than 100 events a single one would be more: such an hour only warns.
{{ config(tags=['bronze']) }}

select
    date_trunc('hour', ingested_at) as window_start,
    count(*) as event_count,
    count(*) - count(event_seq) as without_number
from {{ source('bronze', 'events') }}
where date >= (select max(newest.date) - 1 from {{ source('bronze', 'events') }} as newest)
group by date_trunc('hour', ingested_at)
having count(*) >= 100 and 100 * (count(*) - count(event_seq)) > count(*)
