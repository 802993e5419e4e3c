with

landed as (

    select * from {{ source('bronze', 'agg_trades') }}

),

-- Delivery is at least once. The first landing of a key is kept; one that says something else of the trade is a
-- conflict, which a data test reports. The row hash can't tell: a capture knows when a trade was received, an archive
-- doesn't.
ranked as (

    select
        *,
        row_number() over (
            partition by symbol, market, agg_id
            order by loaded_at, row_hash, source_file
        ) as arrival_order,
        count(*) over landings as landed_rows,
        min(price) over landings != max(price) over landings
        or min(quantity) over landings != max(quantity) over landings
        or min(first_trade_id) over landings != max(first_trade_id) over landings
        or min(last_trade_id) over landings != max(last_trade_id) over landings
        or min(exchange_time) over landings != max(exchange_time) over landings
        or bool_or(is_buyer_maker) over landings != bool_and(is_buyer_maker) over landings as has_conflict
    from landed
    window landings as (partition by symbol, market, agg_id)

)

select
    -- keys
    symbol,
    market,
    agg_id,

    -- what came
    price,
    quantity,
    first_trade_id,
    last_trade_id,
    exchange_time,
    is_buyer_maker,
    is_best_match,
    received_at,

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
