with

own_fills as (

    select * from {{ ref('stg_binance__fills') }}

),

ledger as (

    select * from {{ ref('ledger') }}

),

records as (

    select * from {{ ref('int_orders__records') }}

),

spread as (

    select * from {{ ref('int_orders__spread') }}

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

-- What is known of each order: of one that is spread over dates, by the last date that knows it, all dates up to there.
latest_spread as (

    select * from spread
    qualify rank() over (partition by client_id, symbol, order_id order by date desc) = 1

),

known as (

    select
        client_id,
        symbol,
        order_id,
        account_type,
        operation_id,
        linked_at,
        linked_by,
        filled_rank,
        filled_quantity,
        filled_at,
        filled_by,
        is_in_ledger,
        has_own_fill
    from latest_spread

    union all

    select
        records.client_id,
        records.symbol,
        records.order_id,
        records.account_type,
        records.operation_id,
        records.linked_at,
        records.linked_by,
        records.filled_rank,
        records.filled_quantity,
        records.filled_at,
        records.filled_by,
        records.is_in_ledger,
        records.has_own_fill
    from records
    where not exists (
            select 1 from latest_spread
            where
                latest_spread.client_id = records.client_id
                and latest_spread.symbol = records.symbol
                and latest_spread.order_id = records.order_id
        )

),

numbered as (

    select
        *,
        row_number() over (
            partition by client_id, symbol, order_id, account_type
            order by case when operation_id is null then 1 else 0 end asc, linked_at asc, linked_by asc
        ) as link_number,
        row_number() over (
            partition by client_id, symbol, order_id, account_type
            order by coalesce(filled_rank, 9) asc, filled_quantity desc, filled_at asc, filled_by asc
        ) as filled_number
    from known

),

orders as (

    select
        client_id,
        symbol,
        order_id,
        account_type,
        max(case when link_number = 1 then operation_id end) as operation_id,
        max(case when filled_number = 1 and filled_rank is not null then filled_by end) as filled_by,
        bool_or(is_in_ledger) as is_in_ledger,
        bool_or(has_own_fill) as has_own_fill
    from numbered
    group by client_id, symbol, order_id, account_type

),

from_exchange as (

    select
        date,
        client_id,
        account_type,
        symbol,
        cast(trade_id as varchar) as fill_id,
        trade_id,
        order_id,
        side,
        price,
        quantity,
        quote_quantity,
        commission,
        nullif(commission_asset, '') as commission_asset,
        exchange_time,
        is_maker,
        false as is_ledger_fill
    from own_fills

),

-- An order that was filled and has no own fill: what the ledger says of it, as one fill.
from_ledger as (

    select
        ledger.date,
        ledger.client_id,
        ledger.account_type,
        ledger.symbol,
        'ledger:' || ledger.transaction_id as fill_id,
        cast(null as bigint) as trade_id,
        orders.order_id,
        coalesce(ledger.side, case when ledger.transaction_type like '%_SELL' then 'SELL' else 'BUY' end) as side,
        case
            -- the mean of the fills; the price of a market order is 0
            when ledger.exchange_executed_quantity > 0 and ledger.exchange_quote_quantity > 0
                then {{ money('ledger.exchange_quote_quantity / ledger.exchange_executed_quantity') }}
            else coalesce(nullif(ledger.price, 0), {{ money('ledger.total_value / nullif(ledger.quantity, 0)') }})
        end as price,
        coalesce(ledger.exchange_executed_quantity, ledger.quantity) as quantity,
        ledger.fee as commission,
        ledger.fee_asset as commission_asset,
        ledger.event_time as exchange_time
    from ledger
    inner join orders
        on ledger.client_id = orders.client_id
        and ledger.symbol = orders.symbol
        and coalesce(ledger.binance_order_id, ledger.transaction_id) = orders.order_id
        and ledger.account_type = orders.account_type
        and ledger.transaction_id = orders.filled_by
    where ledger.category in ('TRADING', 'ORDER') and not orders.has_own_fill

),

all_fills as (

    select * from from_exchange

    union all

    select
        date,
        client_id,
        account_type,
        symbol,
        fill_id,
        trade_id,
        order_id,
        side,
        price,
        quantity,
        {{ money('price * quantity') }} as quote_quantity,
        commission,
        commission_asset,
        exchange_time,
        cast(null as boolean) as is_maker,
        true as is_ledger_fill
    from from_ledger
    where price is not null

),

attributed as (

    select
        all_fills.*,
        coalesce(of_ledger.operation_id, of_fold.operation_id) as operation_id,
        case
            when of_ledger.operation_id is not null then 'LEDGER'
            when of_fold.operation_id is not null then 'STOP_EXECUTION'
        end as attributed_by,
        coalesce(of_ledger.is_in_ledger, false) as is_order_in_ledger,
        symbols.base_asset,
        symbols.quote_asset,
        -- the pair that prices the commission, where neither the pair's own price nor 1 does
        case
            when all_fills.commission_asset not in (symbols.base_asset, symbols.quote_asset)
                then all_fills.commission_asset || symbols.quote_asset
        end as price_symbol
    from all_fills
    left join orders as of_ledger
        on all_fills.client_id = of_ledger.client_id
        and all_fills.symbol = of_ledger.symbol
        and all_fills.order_id = of_ledger.order_id
        and all_fills.account_type = of_ledger.account_type
    left join orders as of_fold
        on all_fills.client_id = of_fold.client_id
        and all_fills.symbol = of_fold.symbol
        and all_fills.order_id = of_fold.order_id
        and of_fold.account_type = ''
    left join symbols on all_fills.symbol = symbols.symbol

),

priced as (

    select
        attributed.*,
        case
            when attributed.commission = 0 then 0
            when attributed.commission_asset = attributed.quote_asset then 1
            when attributed.commission_asset = attributed.base_asset then attributed.price
            when attributed.quote_asset is null then null
            -- a ledger that names no asset means the quote asset
            when attributed.is_ledger_fill and attributed.commission_asset is null then 1
            when bars.bar_end >= attributed.exchange_time - interval '60 minutes' then bars.close
        end as fee_rate
    {{ asof_left('attributed', 'bars', on=['price_symbol'], left_time='exchange_time', right_time='bar_end') }}

)

select
    -- keys
    date,
    client_id,
    account_type,
    symbol,
    fill_id,
    trade_id,
    order_id,

    -- the operation
    cast(operation_id as bigint) as operation_id,
    attributed_by,
    is_order_in_ledger,

    -- what was traded
    side,
    price,
    quantity,
    quote_quantity,
    base_asset,
    quote_asset,
    is_maker,

    -- fee
    commission,
    case when is_ledger_fill then coalesce(commission_asset, quote_asset) else commission_asset end as commission_asset,
    {{ money('commission * cast(fee_rate as decimal(20, 8))') }} as fee_quote,

    -- time
    exchange_time,

    -- flags
    is_ledger_fill,
    {{ flag_list({
        'FEE_UNPRICED': 'fee_rate is null',
        'LEDGER_FILL': 'is_ledger_fill',
        'SYMBOL_UNKNOWN': 'quote_asset is null',
        'UNATTRIBUTED': 'operation_id is null',
    }) }} as quality_flags
from priced
