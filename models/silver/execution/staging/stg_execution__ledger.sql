with

landed as (

    select * from {{ source('bronze', 'orders') }}

),

-- Delivery is at least once. The first landing of a key is kept; a row of equal hash is a copy, one of another hash a
-- conflict, which a data test reports.
ranked as (

    select
        *,
        row_number() over (
            partition by date, client_id, transaction_id
            order by loaded_at, row_hash, source_file
        ) as arrival_order,
        count(*) over (partition by date, client_id, transaction_id) as landed_rows,
        min(row_hash) over (partition by date, client_id, transaction_id)
        != max(row_hash) over (partition by date, client_id, transaction_id) as has_conflict
    from landed

),

answered as (

    select
        *,
        coalesce(exchange_time, executed_at, created_at) as event_time,
        {{ json_struct('raw_response', [
            'orderId', 'id', 'tradeId', 't', 'executedQty', 'cummulativeQuoteQty', 'cumQuote', 'income',
            {'fills': ['tradeId']},
        ]) }} as answer
    from ranked
    where arrival_order = 1

)

select
    -- keys
    date,
    transaction_id,

    -- what came
    id,
    binance_order_id,
    client_id,
    transaction_type,
    status,
    symbol,
    asset,
    quantity,
    price,
    total_value,
    stop_price,
    risk_amount,
    fee,
    fee_asset,
    side,
    leverage,
    is_isolated_margin,
    account_type,
    category,
    related_operation_id,
    related_position_id,
    related_order_id,
    risk_percent,
    description,
    source,
    raw_response,
    created_at,
    executed_at,
    exchange_time,

    -- out of the exchange's answer
    coalesce(
        answer.tradeid,
        -- an order has an id of its own, a trade says its order's beside it
        case when answer.orderid is not null then answer.id end,
        answer.t,
        nullif(cast(answer.fills as varchar), '[]')
    ) as trade_key,
    {{ decimal_text('answer.executedqty') }} as exchange_executed_quantity,
    {{ decimal_text('coalesce(answer.cummulativequoteqty, answer.cumquote)') }} as exchange_quote_quantity,
    {{ decimal_text('answer.income') }} as exchange_income,

    -- time
    event_time,
    cast(event_time as date) as event_date,

    -- lineage
    ingested_at,
    loaded_at,
    source_file,
    environment,
    cast(landed_rows as integer) as landed_rows,

    -- flags
    has_conflict
from answered
