with

movements as (

    select
        date,
        client_id,
        transaction_id,
        event_date,
        loaded_at
    from {{ ref('stg_execution__ledger') }}

),

on_date as (

    select * from movements
    where {{ is_built_date('date') }}

),

earlier as (

    select
        on_date.date,
        movements.date as landed_date,
        movements.client_id,
        movements.transaction_id,
        movements.event_date,
        movements.loaded_at
    from on_date
    inner join movements
        on on_date.client_id = movements.client_id
        and on_date.transaction_id = movements.transaction_id
        and on_date.date > movements.date

)

select
    date,
    landed_date,
    client_id,
    transaction_id,
    event_date,
    loaded_at
from earlier

union all

select
    on_date.date,
    on_date.date as landed_date,
    on_date.client_id,
    on_date.transaction_id,
    on_date.event_date,
    on_date.loaded_at
from on_date
where exists (
        select 1 from earlier
        where
            on_date.date = earlier.date
            and on_date.client_id = earlier.client_id
            and on_date.transaction_id = earlier.transaction_id
    )
