with

-- The orders of a date, whatever the account (the fold knows none), are few beside those of all dates before it: a join
-- looks these up among those, and of history only the keys are read. Straight from the dataset: as a step of its own
-- DuckDB would keep all dates in memory.
on_date as (

    select distinct
        date,
        client_id,
        symbol,
        order_id
    from {{ ref('int_orders__records') }}
    where {{ is_built_date('date') }}

),

-- Orders of a date that an earlier date holds too. Dates whose order ids are others are passed over.
met_again as (

    select * from on_date
    where
        exists (
            select 1
            from {{ ref('int_orders__records') }} as earlier
            where
                on_date.client_id = earlier.client_id
                and on_date.symbol = earlier.symbol
                and on_date.order_id = earlier.order_id
                and {{ is_before('earlier.date', 'on_date.date') }}
        )

)

select
    -- keys
    met_again.date,
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
from met_again
inner join {{ ref('int_orders__records') }} as records
    on
    met_again.client_id = records.client_id
    and met_again.symbol = records.symbol
    and met_again.order_id = records.order_id
where not {{ is_before('met_again.date', 'records.date') }}
