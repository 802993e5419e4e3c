-- Ten events of one date, as they came: `--vars '{date: 2024-12-27}'`, by default the newest date there is.
select *
from {{ source('bronze', 'events') }}
where
    date = coalesce(
        cast({{ "'" ~ var('date') ~ "'" if var('date', none) else 'null' }} as date),
        (select max(date) from {{ source('bronze', 'events') }})
    )
order by ingested_at, event_id
limit 10
