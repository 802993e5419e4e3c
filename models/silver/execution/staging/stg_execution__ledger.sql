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
            partition by transaction_id
            order by loaded_at, row_hash, source_file
        ) as arrival_order,
        count(*) over (partition by transaction_id) as landed_rows,
        min(row_hash) over (partition by transaction_id)
        != max(row_hash) over (partition by transaction_id) as has_conflict
    from landed

)

select
    -- keys
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

    -- lineage
    ingested_at,
    loaded_at,
    source_file,
    environment,
    cast(landed_rows as integer) as landed_rows,

    -- flags
    has_conflict
from ranked
where arrival_order = 1
