-- Rows of bronze.events of one date: `--vars '{date: 2024-12-27}'`, by default the newest date there is. A date
-- without rows says 0.
select
    wanted.date,
    count(events.event_id) as row_count
from (
    select
        coalesce(
            cast({{ "'" ~ var('date') ~ "'" if var('date', none) else 'null' }} as date),
            (select max(date) from {{ source('bronze', 'events') }})
        ) as date
) as wanted
left join {{ source('bronze', 'events') }} as events on wanted.date = events.date
group by wanted.date
