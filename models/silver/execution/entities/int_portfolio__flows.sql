with

movements as (

    select
        date,
        client_id,
        transaction_id,
        event_time,
        asset,
        case transaction_type when 'DEPOSIT' then quantity else -quantity end as signed_quantity
    from {{ ref('ledger') }}
    where
        transaction_type in ('DEPOSIT', 'WITHDRAWAL')
        and status in ('FILLED', 'PARTIALLY_FILLED')  -- what is pending, failed or cancelled has not moved

),

pairs as (

    select * from {{ ref('symbols') }}
    where quote_asset = {{ portfolio_quote() }}

),

bars as (

    select
        symbol as price_symbol,
        bar_end,
        close
    from {{ ref('market_bars_1m') }}

),

with_pair as (

    select
        movements.*,
        pairs.symbol as price_symbol
    from movements
    left join pairs on movements.asset = pairs.base_asset
    where {{ is_built_date('movements.date') }}

),

priced as (

    select
        with_pair.*,
        case
            when with_pair.asset = {{ portfolio_quote() }} then 1
            when bars.bar_end >= with_pair.event_time - interval '60 minutes' then bars.close
        end as price_quote
    {{ asof_left('with_pair', 'bars', on=['price_symbol'], left_time='event_time', right_time='bar_end') }}

)

select
    -- keys
    date,
    client_id,
    transaction_id,

    -- measures
    event_time,
    asset,
    signed_quantity,
    cast(price_quote as decimal(20, 8)) as price_quote,
    {{ money('signed_quantity * cast(price_quote as decimal(20, 8))') }} as value_quote
from priced
