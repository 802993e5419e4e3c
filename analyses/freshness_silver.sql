-- When executions of dates up to one were built last, and how long ago: `--vars '{date: 2024-12-27}'`, by default of
-- all dates.
select
    max(created_at) as last_silver_update,
    now() - max(created_at) as silver_lag
from {{ ref('stop_executions') }}
where date <= cast('{{ var("date", none) or "9999-12-31" }}' as date)
