with

fills as (

    select * from {{ ref('fills') }}
    where base_asset is not null and quantity > 0

),

-- First in, first out is: the n-th unit bought goes with the n-th unit sold, whichever came first. Each fill is the
-- stretch of units from `from_unit` to `to_unit` of its side.
ended as (

    select
        date,
        client_id,
        account_type,
        base_asset,
        side,
        symbol,
        fill_id,
        trade_id,
        price,
        quantity,
        exchange_time,
        quote_asset,
        sum(quantity) over (
            partition by client_id, account_type, base_asset, side
            order by exchange_time, symbol, coalesce(trade_id, 0), fill_id
            rows between unbounded preceding and current row
        ) as to_unit
    from fills

),

stretches as (

    select
        *,
        to_unit - quantity as from_unit
    from ended

),

bought as (

    select * from stretches
    where side = 'BUY'

),

sold as (

    select * from stretches
    where side = 'SELL'

),

-- A lot begins where a stretch of either side does, in the last stretch of each side that has begun by then. So lots
-- are found in one pass over both sides: to compare every purchase with every sale would take the square of a day.
starts as (

    select
        client_id,
        account_type,
        base_asset,
        from_unit
    from bought

    union distinct

    select
        client_id,
        account_type,
        base_asset,
        from_unit
    from sold

),

acquired as (

    select
        starts.client_id,
        starts.account_type,
        starts.base_asset,
        starts.from_unit,
        bought.date as acquisition_date,
        bought.symbol as acquisition_symbol,
        bought.fill_id as acquisition_fill_id,
        bought.trade_id as acquisition_trade_id,
        bought.price as acquisition_price,
        bought.quote_asset as cost_asset,
        bought.exchange_time as acquired_at,
        bought.to_unit as acquired_to_unit
    {{ asof_left('starts', 'bought', on=['client_id', 'account_type', 'base_asset'], left_time='from_unit',
        right_time='from_unit') }}

),

matched as (

    select
        acquired.*,
        sold.date as disposal_date,
        sold.symbol as disposal_symbol,
        sold.fill_id as disposal_fill_id,
        sold.trade_id as disposal_trade_id,
        sold.price as disposal_price,
        sold.quote_asset as proceeds_asset,
        sold.exchange_time as disposed_at,
        sold.to_unit as disposed_to_unit
    {{ asof_left('acquired', 'sold', on=['client_id', 'account_type', 'base_asset'], left_time='from_unit',
        right_time='from_unit') }}

),

-- Past the end of the shorter side units have no counterpart yet.
lots as (

    select
        *,
        greatest(acquisition_date, disposal_date) as date,
        least(acquired_to_unit, disposed_to_unit) - from_unit as lot_quantity
    from matched
    where acquired_to_unit > from_unit and disposed_to_unit > from_unit

)

select
    -- keys
    date,
    client_id,
    account_type,
    base_asset,
    disposal_symbol,
    disposal_fill_id,
    disposal_trade_id,
    acquisition_symbol,
    acquisition_fill_id,
    acquisition_trade_id,

    -- measures
    cast(lot_quantity as decimal(20, 8)) as quantity,
    {{ money('acquisition_price * lot_quantity') }} as cost_quote,
    {{ money('disposal_price * lot_quantity') }} as proceeds_quote,
    {{ money('case when cost_asset = proceeds_asset then (disposal_price - acquisition_price) * lot_quantity end') }}
        as gain_quote,
    proceeds_asset as quote_asset,

    -- time
    acquired_at,
    disposed_at
from lots
where {{ is_built_date('date') }}
