with

landed as (

    select * from {{ source('bronze', 'events') }}

),

-- Delivery is at least once. The first landing of a key is kept; a row of equal hash is a copy, one of another hash a
-- conflict, which a data test reports.
ranked as (

    select
        *,
        row_number() over (
            partition by event_id
            order by loaded_at, row_hash, source_file
        ) as arrival_order,
        count(*) over (partition by event_id) as landed_rows,
        min(row_hash) over (partition by event_id)
        != max(row_hash) over (partition by event_id) as has_conflict
    from landed

)

select
    -- keys
    event_id,

    -- what came
    event_seq,
    stream_seq,
    occurred_at,
    exchange_time,
    operation_id,
    client_id,
    symbol,
    event_type,
    trigger_type,
    trigger_price,
    stop_price,
    quantity,
    side,
    execution_token,
    payload_json,
    exchange_order_id,
    fill_price,
    slippage_pct,
    source,
    retry_count,
    error_message,

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
