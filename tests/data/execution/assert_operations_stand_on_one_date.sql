{{ config(group="execution", meta={"across_dates": true}) }}
-- An operation is one row over all dates, and every fill that names it is there once: a home that moved left nothing.
with

of_fills as (

    select
        client_id,
        account_type,
        symbol,
        fill_id,
        count(*) as copies
    from {{ ref('int_operations__fills') }}
    group by client_id, account_type, symbol, fill_id

),

repeated as (

    select
        client_id,
        operation_id,
        count(*) as copies
    from {{ ref('operations') }}
    group by client_id, operation_id
    having count(*) > 1

)

select
    client_id,
    'operation ' || operation_id as what,
    copies
from repeated

union all

select
    fills.client_id,
    'fill ' || fills.fill_id as what,
    coalesce(of_fills.copies, 0) as copies
from {{ ref('fills') }} as fills
left join of_fills
    on fills.client_id = of_fills.client_id
    and fills.account_type = of_fills.account_type
    and fills.symbol = of_fills.symbol
    and fills.fill_id = of_fills.fill_id
where fills.operation_id is not null and coalesce(of_fills.copies, 0) != 1
