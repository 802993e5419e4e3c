with

landed as (

    select * from {{ source('bronze', 'klines') }}

),

-- Delivery is at least once. The first landing of a key is kept; a row of equal hash is a copy, one of another hash a
-- conflict, which a data test reports.
ranked as (

    select
        *,
        row_number() over (
            partition by symbol, market, bar_interval, open_time
            order by loaded_at, row_hash, source_file
        ) as arrival_order,
        count(*) over (partition by symbol, market, bar_interval, open_time) as landed_rows,
        min(row_hash) over (partition by symbol, market, bar_interval, open_time)
        != max(row_hash) over (partition by symbol, market, bar_interval, open_time) as has_conflict
    from landed

)

select
    -- keys
    symbol,
    market,
    bar_interval,
    open_time,

    -- what came
    close_time,
    open,
    high,
    low,
    close,
    volume,
    quote_volume,
    trade_count,
    taker_buy_base,
    taker_buy_quote,

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
