-- Executions of one date without a fill price, percent: `--vars '{date: 2024-12-27}'`, by default the newest date
-- there is. A date without executions says 0 rows and no percentage.
select
    wanted.date,
    count(executions.date) as total_rows,
    count(executions.execution_id) as non_null_executions,
    count(executions.fill_price) as non_null_fill_prices,
    100.0 * (count(executions.date) - count(executions.fill_price)) / nullif(count(executions.date), 0)
        as null_fill_price_pct
from (
    select
        coalesce(
            cast({{ "'" ~ var('date') ~ "'" if var('date', none) else 'null' }} as date),
            (select max(date) from {{ ref('stop_executions') }})
        ) as date
) as wanted
left join {{ ref('stop_executions') }} as executions on wanted.date = executions.date
group by wanted.date
