with

ledger as (

    select * from {{ ref('ledger') }}
    where category in ('TRADING', 'ORDER') and binance_order_id is not null and exchange_executed_quantity is not null

),

fills as (

    select * from {{ ref('fills') }}

),

-- What the exchange says of an order only grows.
answered as (

    select
        client_id,
        account_type,
        symbol,
        binance_order_id as order_id,
        min(date) as date,
        max(exchange_executed_quantity) as executed_quantity,
        max(exchange_quote_quantity) as executed_quote
    from ledger
    group by client_id, account_type, symbol, binance_order_id

),

filled as (

    select
        client_id,
        account_type,
        symbol,
        order_id,
        cast(sum(quantity) as decimal(20, 8)) as filled_quantity,
        sum(price * quantity) as filled_notional
    from fills
    group by client_id, account_type, symbol, order_id

),

compared as (

    select
        answered.*,
        coalesce(filled.filled_quantity, 0) as filled_quantity,
        coalesce({{ money('filled.filled_notional') }}, 0) as filled_quote,
        answered.executed_quantity - coalesce(filled.filled_quantity, 0) as quantity_difference,
        answered.executed_quote - coalesce(filled.filled_notional, 0) as quote_difference
    from answered
    left join filled
        on answered.client_id = filled.client_id
        and answered.account_type = filled.account_type
        and answered.symbol = filled.symbol
        and answered.order_id = filled.order_id

)

select
    date,
    client_id,
    account_type,
    symbol,
    order_id,
    executed_quantity,
    filled_quantity,
    executed_quote,
    filled_quote,
    abs(quantity_difference) > 0.00000001 or coalesce(abs(quote_difference) > 0.00000001, false) as is_break
from compared
