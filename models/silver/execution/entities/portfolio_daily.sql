with

snapshots as (

    select * from {{ ref('portfolio_snapshots') }}

),

ranked as (

    select
        *,
        row_number() over (partition by client_id, date order by snapshot_time desc) as from_the_end
    from snapshots
    where is_complete

)

select
    -- keys
    date,
    client_id,
    snapshot_time,

    -- values
    total_equity_quote,
    total_equity_btc,
    spot_value,
    margin_net_value,
    unrealized_pnl,

    -- margin
    margin_debt,
    margin_level_min,
    margin_band,

    -- returns
    twr_index,
    drawdown_pct
from ranked
where from_the_end = 1
