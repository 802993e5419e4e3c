with

staged as (

    select * from {{ ref('stg_execution__balance_snapshots') }}

),

-- A snapshot may have been stored on several bronze dates: the first landing of it counts, as within a date.
ranked as (

    select
        *,
        row_number() over (
            partition by client_id, snapshot_time
            order by loaded_at, date
        ) as arrival_order
    from staged
    where {{ is_built_date('snapshot_date') }}

)

select
    -- keys
    snapshot_date as date,
    client_id,
    snapshot_time,

    -- what came
    balances,
    spot_usdc,
    spot_btc,
    margin_btc_free,
    margin_btc_borrowed,
    margin_usdc_free,
    margin_usdc_borrowed,

    -- Only the flat form has a price of its own, and one that isn't above zero is none.
    case when balances is null and btc_price > 0 then btc_price end as btc_price
from ranked
where arrival_order = 1
