-- How old the newest event was at the end of a date: `--vars '{date: 2024-12-27}'`, by default now. Of all dates up to
-- it: a date on which nothing came is told by the age of what came before.
select
    least(now(), cast('{{ var("date", none) or "9999-12-31" }}' as date) + interval '1' day) as as_of,
    max(occurred_at) as last_occurred_at,
    max(ingested_at) as last_ingested_at,
    least(now(), cast('{{ var("date", none) or "9999-12-31" }}' as date) + interval '1' day) - max(occurred_at)
        as max_lag,
    least(now(), cast('{{ var("date", none) or "9999-12-31" }}' as date) + interval '1' day) - max(ingested_at)
        as ingest_lag
from {{ source('bronze', 'events') }}
where date <= cast('{{ var("date", none) or "9999-12-31" }}' as date)
