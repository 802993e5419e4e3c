with

landed as (

    select * from {{ source('bronze', 'operations') }}

),

-- Delivery is at least once. The first landing of a key is kept; a row of equal hash is a copy, one of another hash a
-- conflict, which a data test reports.
ranked as (

    select
        *,
        row_number() over (
            partition by date, client_id, operation_id, updated_at
            order by loaded_at, row_hash, source_file
        ) as arrival_order,
        count(*) over (partition by date, client_id, operation_id, updated_at) as landed_rows,
        min(row_hash) over (partition by date, client_id, operation_id, updated_at)
        != max(row_hash) over (partition by date, client_id, operation_id, updated_at) as has_conflict
    from landed

)

select
    -- keys
    date,
    client_id,
    operation_id,
    updated_at,

    -- what came
    strategy_id,
    symbol,
    side,
    account_type,
    status,
    planned_quantity,
    stop_price,
    target_price,
    leverage,
    created_at,
    cast(created_at as date) as created_date,

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
