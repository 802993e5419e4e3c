with

-- The operations of a date are few beside those of all dates before it: a join looks these up among those, and history
-- is read once. Straight from the dataset: as a step of its own DuckDB would keep all dates in memory.
on_date as (

    select
        date,
        client_id,
        operation_id
    from {{ ref('int_operations__records') }}
    where {{ is_built_date('date') }}

),

earlier as (

    select
        on_date.date,
        on_date.client_id,
        on_date.operation_id,
        min(records.date) as home_date
    from on_date
    inner join {{ ref('int_operations__records') }} as records
        on on_date.client_id = records.client_id and on_date.operation_id = records.operation_id
    where {{ is_before('records.date', 'on_date.date') }}
    group by on_date.date, on_date.client_id, on_date.operation_id

)

-- The first date of an operation is its home. Records of later dates don't move it, so what an earlier date says stays.
select
    on_date.date,
    on_date.client_id,
    on_date.operation_id,
    coalesce(earlier.home_date, on_date.date) as home_date
from on_date
left join earlier
    on
    on_date.date = earlier.date
    and on_date.client_id = earlier.client_id
    and on_date.operation_id = earlier.operation_id
