-- A complete snapshot is worth what its holdings are worth; an incomplete one has a holding without a value
-- (spec/execution.md 4.9).
with

holdings as (

    select
        client_id,
        snapshot_time,
        sum(value_quote) as total_value,
        sum(case when net is null or (net != 0 and value_quote is null) then 1 else 0 end) as unvalued
    from {{ ref('balance_snapshots') }}
    group by client_id, snapshot_time

)

select
    snapshots.client_id,
    snapshots.snapshot_time,
    snapshots.total_equity_quote,
    holdings.total_value
from {{ ref('portfolio_snapshots') }} as snapshots
left join holdings
    on snapshots.client_id = holdings.client_id
    and snapshots.snapshot_time = holdings.snapshot_time
where
    snapshots.is_complete != (coalesce(holdings.unvalued, 0) = 0)
    or (snapshots.is_complete and snapshots.total_equity_quote != coalesce(holdings.total_value, 0))
    or (not snapshots.is_complete and snapshots.total_equity_quote is not null)
    or snapshots.drawdown_pct > 0
