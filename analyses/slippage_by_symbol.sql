-- Mean, median and 95th percentile of slippage by symbol, percent points, positive is adverse. `--vars '{start:
-- 2024-01-01, end: 2024-12-27}'`, both inclusive, by default all dates.
select
    symbol,
    avg(slippage_pct) as avg_slippage_pct,
    quantile_cont(slippage_pct, 0.5) as median_slippage_pct,
    quantile_cont(slippage_pct, 0.95) as p95_slippage_pct
from {{ ref('stop_executions') }}
where
    date between cast('{{ var("start", none) or "0001-01-01" }}' as date)
    and cast('{{ var("end", none) or "9999-12-31" }}' as date)
    and slippage_pct is not null
group by symbol
order by avg_slippage_pct asc, symbol asc
