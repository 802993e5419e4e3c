{{ config(group="execution") }}
-- Quantities and orders of an operation are those of its fills, and what is sold beyond dust without having been bought
-- is told by a flag.
with

summed as (

    select
        date,
        client_id,
        operation_id,
        sum(case when is_entry then quantity else 0 end) as entry_quantity,
        sum(case when is_entry then 0 else quantity end) as exit_quantity,
        count(distinct order_id) as order_count
    from {{ ref('int_operations__fills') }}
    group by date, client_id, operation_id

)

select
    operations.date,
    operations.client_id,
    operations.operation_id,
    operations.entry_quantity,
    operations.exit_quantity,
    operations.remaining_quantity
from {{ ref('operations') }} as operations
left join summed
    on operations.date = summed.date
    and operations.client_id = summed.client_id
    and operations.operation_id = summed.operation_id
where
    operations.entry_quantity != coalesce(summed.entry_quantity, 0)
    or operations.exit_quantity != coalesce(summed.exit_quantity, 0)
    or operations.remaining_quantity != operations.entry_quantity - operations.exit_quantity
    or operations.entry_order_count + operations.exit_order_count < coalesce(summed.order_count, 0)
    or (
        operations.remaining_quantity < 0
        and operations.status = 'ACTIVE'
    )
