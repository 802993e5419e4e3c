with

landed as (

    select * from {{ source('bronze', 'balance_snapshots') }}

),

-- Delivery is at least once. The first landing of a key is kept; a row of equal hash is a copy, one of another hash a
-- conflict, which a data test reports.
ranked as (

    select
        *,
        row_number() over (
            partition by date, client_id, snapshot_time
            order by loaded_at, row_hash, source_file
        ) as arrival_order,
        count(*) over (partition by date, client_id, snapshot_time) as landed_rows,
        min(row_hash) over (partition by date, client_id, snapshot_time)
        != max(row_hash) over (partition by date, client_id, snapshot_time) as has_conflict
    from landed

)

select
    -- keys
    date,
    client_id,
    snapshot_time,

    -- what came
    spot_usdc,
    spot_btc,
    margin_btc_free,
    margin_btc_borrowed,
    margin_usdc_free,
    margin_usdc_borrowed,
    btc_price,
    total_equity,
    margin_level,
    total_equity_btc,
    spot_btc_value,
    margin_btc_value,
    balances,
    created_at,
    cast(snapshot_time as date) as snapshot_date,

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
