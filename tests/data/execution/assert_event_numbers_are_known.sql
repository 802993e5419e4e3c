-- Hours of the two newest dates with an event that has no event_seq: news, as time orders its group then
-- (spec/execution.md 3.2, 4.2).
{{ config(tags=['bronze'], severity='warn') }}

select
    date_trunc('hour', ingested_at) as window_start,
    count(*) as event_count
from {{ source('bronze', 'events') }}
where
    date >= (select max(newest.date) - 1 from {{ source('bronze', 'events') }} as newest)
    and event_seq is null
group by date_trunc('hour', ingested_at)
