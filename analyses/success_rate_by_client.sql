-- How many executions of each client ended well: of all, and of those that ended. `--vars '{start: 2024-01-01,
-- end: 2024-12-27}'`, both inclusive, by default all dates.
select
    client_id,
    count(*) as total_executions,
    count(*) filter (status = 'EXECUTED') as successful,
    100.0 * count(*) filter (status = 'EXECUTED') / count(*) as success_rate_pct,
    100.0 * count(*) filter (status = 'EXECUTED') / nullif(count(*) filter (status in ('EXECUTED', 'FAILED')), 0)
        as terminal_success_rate_pct
from {{ ref('stop_executions') }}
where
    date between cast('{{ var("start", none) or "0001-01-01" }}' as date)
    and cast('{{ var("end", none) or "9999-12-31" }}' as date)
group by client_id
order by success_rate_pct desc, client_id asc
