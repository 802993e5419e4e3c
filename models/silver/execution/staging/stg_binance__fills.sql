with

landed as (

    select * from {{ source('bronze', 'trades') }}

),

-- Delivery is at least once. The first landing of a key is kept; a row of equal hash is a copy, one of another hash a
-- conflict, which a data test reports.
ranked as (

    select
        *,
        row_number() over (
            partition by client_id, account_type, symbol, trade_id
            order by loaded_at, row_hash, source_file
        ) as arrival_order,
        count(*) over (partition by client_id, account_type, symbol, trade_id) as landed_rows,
        min(row_hash) over (partition by client_id, account_type, symbol, trade_id)
        != max(row_hash) over (partition by client_id, account_type, symbol, trade_id) as has_conflict
    from landed

)

select
    -- keys
    client_id,
    account_type,
    symbol,
    trade_id,

    -- what came
    order_id,
    order_list_id,
    price,
    quantity,
    quote_quantity,
    commission,
    commission_asset,
    exchange_time,
    side,
    is_maker,
    is_best_match,
    is_isolated,

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
