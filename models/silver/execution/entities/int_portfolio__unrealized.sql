with

snapshots as (

    select * from {{ ref('int_portfolio__snapshots') }}

),

symbols as (

    select * from {{ ref('symbols') }}

),

positions as (

    select
        of_costs.client_id,
        of_costs.snapshot_time,
        of_costs.operation_id,
        case when of_costs.is_long then 1 else -1 end as profit_sign,
        of_costs.remaining_quantity,
        of_costs.remaining_cost,
        symbols.base_asset,
        symbols.quote_asset
    from {{ ref('int_portfolio__costs') }} as of_costs
    -- left, not inner: a position in a pair that the seed lacks can't be marked, and must say so
    left join symbols on of_costs.symbol = symbols.symbol

),

pairs as (

    select * from symbols
    where quote_asset = {{ portfolio_quote() }}

),

bars as (

    select
        symbol as price_symbol,
        bar_end,
        close
    from {{ ref('market_bars_1m') }}

),

-- Both assets of each open pair, priced as balance_snapshots prices what is held.
needed as (

    select
        client_id,
        snapshot_time,
        base_asset as asset
    from positions

    union distinct

    select
        client_id,
        snapshot_time,
        quote_asset as asset
    from positions

),

to_price as (

    select
        needed.client_id,
        needed.snapshot_time,
        needed.asset,
        snapshots.btc_price,
        pairs.symbol as price_symbol
    from needed
    inner join snapshots
        on needed.client_id = snapshots.client_id
        and needed.snapshot_time = snapshots.snapshot_time
    left join pairs on needed.asset = pairs.base_asset

),

prices as (

    select
        to_price.client_id,
        to_price.snapshot_time,
        to_price.asset,
        case
            when to_price.asset = {{ portfolio_quote() }} then 1
            when bars.bar_end >= to_price.snapshot_time - interval '60 minutes' then bars.close
            when to_price.asset = 'BTC' then to_price.btc_price
        end as price
    {{ asof_left('to_price', 'bars', on=['price_symbol'], left_time='snapshot_time', right_time='bar_end') }}

),

-- d × (mark − cost / remaining) × remaining, without the division.
marked as (

    select
        positions.client_id,
        positions.snapshot_time,
        positions.profit_sign * (
            positions.remaining_quantity * of_base.price - positions.remaining_cost * of_quote.price
        ) as profit
    from positions
    left join prices as of_base
        on positions.client_id = of_base.client_id
        and positions.snapshot_time = of_base.snapshot_time
        and positions.base_asset = of_base.asset
    left join prices as of_quote
        on positions.client_id = of_quote.client_id
        and positions.snapshot_time = of_quote.snapshot_time
        and positions.quote_asset = of_quote.asset

),

summed as (

    select
        client_id,
        snapshot_time,
        count(*) as open_operations,
        count(profit) as marked_operations,
        sum(profit) as profit
    from marked
    group by client_id, snapshot_time

)

select
    -- keys
    snapshots.date,
    snapshots.client_id,
    snapshots.snapshot_time,

    -- measures
    cast(coalesce(summed.open_operations, 0) as integer) as open_operations,
    case
        when summed.open_operations is null then 0
        when summed.marked_operations = summed.open_operations then {{ money('summed.profit') }}
    end as unrealized_pnl,

    -- flags
    coalesce(summed.marked_operations < summed.open_operations, false) as is_unpriced
from snapshots
left join summed
    on snapshots.client_id = summed.client_id
    and snapshots.snapshot_time = summed.snapshot_time
