{%- set economic = [
    'event_date', 'client_id', 'copy_key', 'transaction_type', 'inferred_category', 'inferred_account_type', 'status',
    'binance_order_id', 'symbol', 'asset', 'quantity', 'price', 'total_value', 'stop_price', 'risk_amount', 'risk_percent',
    'fee', 'fee_asset', 'side', 'leverage', 'is_isolated_margin', 'related_operation_id', 'related_position_id',
    'related_order_id', 'executed_at', 'exchange_time', 'exchange_executed_quantity', 'exchange_quote_quantity',
] -%}

with

staged as (

    select * from {{ ref('stg_execution__ledger') }}
    where {{ is_built_date('event_date') }}

),

repeats as (

    select * from {{ ref('int_ledger__repeats') }}

),

transaction_types as (

    select * from {{ ref('transaction_types') }}

),

symbols as (

    select * from {{ ref('symbols') }}

),

bars as (

    select
        symbol as price_symbol,
        bar_end,
        close
    from {{ ref('market_bars_1m') }}

),

-- The last of the dates that know a repeated movement knows all of its landings.
first_landings as (

    select
        client_id,
        transaction_id,
        landed_date
    from repeats
    qualify row_number() over (
            partition by client_id, transaction_id
            order by date desc, loaded_at asc, landed_date asc
        ) = 1

),

landed_once as (

    select staged.*
    from staged
    left join first_landings
        on staged.client_id = first_landings.client_id
        and staged.transaction_id = first_landings.transaction_id
    where first_landings.landed_date is null or staged.date = first_landings.landed_date

),

classified as (

    select
        landed_once.*,
        coalesce(transaction_types.category, landed_once.category) as inferred_category,
        case
            when transaction_types.inferred_account_type = 'MARGIN'
                then case when landed_once.is_isolated_margin then 'ISOLATED_MARGIN' else 'CROSS_MARGIN' end
            else coalesce(nullif(transaction_types.inferred_account_type, ''), landed_once.account_type)
        end as inferred_account_type
    from landed_once
    -- left, not inner: a type that the seed doesn't know surfaces in a data test, never as a missing movement
    left join transaction_types
        on landed_once.transaction_type = transaction_types.transaction_type

),

-- What makes two movements copies of each other beside their amounts. A trade is told by its id alone. Another one that
-- says neither the exchange's number nor a time of its own is like no other: two charges of one amount are two charges.
compared as (

    select
        *,
        case
            when inferred_category = 'TRADING' then coalesce(trade_key, transaction_id)
            when binance_order_id is null and executed_at is null and exchange_time is null then transaction_id
            else ''
        end as copy_key
    from classified

),

numbered as (

    select
        *,
        row_number() over (
            partition by {{ economic | join(', ') }}
            order by created_at, transaction_id
        ) as copy_number,
        count(*) over (partition by {{ economic | join(', ') }}) as copies
    from compared

),

quoted as (

    select
        numbered.*,
        coalesce(symbols.quote_asset, {{ portfolio_quote() }}) as quote_asset
    from numbered
    left join symbols on numbered.symbol = symbols.symbol
    where numbered.copy_number = 1

),

to_price as (

    select
        *,
        asset || quote_asset as price_symbol
    from quoted

),

priced as (

    select
        to_price.*,
        case
            when to_price.asset = to_price.quote_asset then 1
            when bars.bar_end >= to_price.event_time - interval '60 minutes' then bars.close
        end as asset_price
    {{ asof_left('to_price', 'bars', on=['price_symbol'], left_time='event_time', right_time='bar_end') }}

)

select
    -- keys
    event_date as date,
    client_id,
    transaction_id,

    -- what moved
    event_time,
    transaction_type,
    inferred_category as category,
    inferred_account_type as account_type,
    status,
    symbol,
    side,
    asset,
    quantity,
    price,
    total_value,
    stop_price,
    fee,
    fee_asset,
    leverage,
    is_isolated_margin,
    risk_amount,
    risk_percent,

    -- what it is worth
    quote_asset,
    cast(asset_price as decimal(20, 8)) as asset_price,
    {{ money('quantity * cast(asset_price as decimal(20, 8))') }} as value_quote,

    -- what it belongs to
    related_operation_id,
    related_position_id,
    related_order_id,
    binance_order_id,
    trade_key,
    exchange_executed_quantity,
    exchange_quote_quantity,
    exchange_income,

    -- time
    created_at,
    executed_at,
    exchange_time,

    -- origin
    source,
    cast(copies as integer) as copies
from priced
