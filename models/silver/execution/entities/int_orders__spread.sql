with

-- Straight from the dataset: as a step of its own DuckDB would keep all dates in memory to read them three times.
on_date as (

    select * from {{ ref('int_orders__records') }}
    where {{ is_built_date('date') }}

),

-- Orders, whatever the account: the fold knows none.
keys as (

    select distinct
        date,
        client_id,
        symbol,
        order_id
    from on_date

),

spread_keys as (

    select distinct
        keys.date,
        keys.client_id,
        keys.symbol,
        keys.order_id
    from keys
    inner join {{ ref('int_orders__records') }} as records
        on keys.client_id = records.client_id
        and keys.symbol = records.symbol
        and keys.order_id = records.order_id
        and keys.date > records.date

)

select
    -- keys
    spread_keys.date,
    records.date as record_date,
    records.client_id,
    records.symbol,
    records.order_id,
    records.account_type,

    -- the operation
    records.operation_id,
    records.linked_at,
    records.linked_by,

    -- what the ledger says was filled
    records.filled_rank,
    records.filled_quantity,
    records.filled_at,
    records.filled_by,

    -- flags
    records.is_in_ledger,
    records.has_own_fill
from spread_keys
inner join {{ ref('int_orders__records') }} as records
    on spread_keys.client_id = records.client_id
    and spread_keys.symbol = records.symbol
    and spread_keys.order_id = records.order_id
    and spread_keys.date >= records.date
