with

records as (

    select
        date,
        client_id,
        operation_id
    from {{ ref('int_operations__records') }}

),

on_date as (

    select * from records
    where {{ is_built_date('date') }}

)

-- The first date of an operation is its home. Records of later dates don't move it, so what an earlier date says stays.
select
    on_date.date,
    on_date.client_id,
    on_date.operation_id,
    min(records.date) as home_date
from on_date
inner join records
    on on_date.client_id = records.client_id
    and on_date.operation_id = records.operation_id
    and on_date.date >= records.date
group by on_date.date, on_date.client_id, on_date.operation_id
