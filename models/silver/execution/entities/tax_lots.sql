with

fills as (

    select * from {{ ref('fills') }}
    where base_asset is not null and quantity > 0

),

-- First in, first out is: the n-th unit bought goes with the n-th unit sold, whichever came first. Each fill is the
-- stretch of units from `from_unit` to `to_unit` of its side.
stretches as (

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

lots as (

    select
        bought.client_id,
        bought.account_type,
        bought.base_asset,
        greatest(bought.date, sold.date) as date,
        sold.symbol as disposal_symbol,
        sold.fill_id as disposal_fill_id,
        sold.trade_id as disposal_trade_id,
        bought.symbol as acquisition_symbol,
        bought.fill_id as acquisition_fill_id,
        bought.trade_id as acquisition_trade_id,
        least(bought.to_unit, sold.to_unit)
        - greatest(bought.to_unit - bought.quantity, sold.to_unit - sold.quantity) as lot_quantity,
        bought.price as acquisition_price,
        sold.price as disposal_price,
        bought.quote_asset as cost_asset,
        sold.quote_asset as proceeds_asset,
        bought.exchange_time as acquired_at,
        sold.exchange_time as disposed_at
    from stretches as bought
    inner join stretches as sold
        on bought.client_id = sold.client_id
        and bought.account_type = sold.account_type
        and bought.base_asset = sold.base_asset
        and bought.to_unit > sold.to_unit - sold.quantity
        and bought.to_unit - bought.quantity < sold.to_unit
    where bought.side = 'BUY' and sold.side = 'SELL'

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
