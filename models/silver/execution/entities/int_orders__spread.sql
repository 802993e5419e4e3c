with

-- The orders of a date are few beside those of all dates before it: a join looks these up among those, and history is
-- read once. Straight from the dataset: as a step of its own DuckDB would keep all dates in memory.
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

-- Orders of a date that an earlier date holds too.
earlier as (

    select
        keys.date as met_on,
        records.*
    from keys
    inner join {{ ref('int_orders__records') }} as records
        on
        keys.client_id = records.client_id
        and keys.symbol = records.symbol
        and keys.order_id = records.order_id
        and keys.date > records.date

),

met_again as (

    select distinct
        met_on,
        client_id,
        symbol,
        order_id
    from earlier

),

histories as (

    select * from earlier

    union all

    select
        on_date.date as met_on,
        on_date.*
    from on_date
    inner join met_again
        on
        on_date.date = met_again.met_on
        and on_date.client_id = met_again.client_id
        and on_date.symbol = met_again.symbol
        and on_date.order_id = met_again.order_id

)

select
    -- keys
    met_on as date,
    date as record_date,
    client_id,
    symbol,
    order_id,
    account_type,

    -- the operation
    operation_id,
    linked_at,
    linked_by,

    -- what the ledger says was filled
    filled_rank,
    filled_quantity,
    filled_at,
    filled_by,

    -- flags
    is_in_ledger,
    has_own_fill
from histories
