{{ config(group="execution") }}
-- Of an operation closed without dust both methods give direction × (exit notional − entry notional), on any path.
-- Not of one that at any time had sold more than it had bought.
with

summed as (

    select
        date,
        client_id,
        operation_id,
        sum(case when is_long then 1 else -1 end * case when is_entry then -1 else 1 end * price * quantity) as traded,
        min(position_quantity) as least_position
    from {{ ref('int_operations__fills') }}
    group by date, client_id, operation_id

)

select
    operations.date,
    operations.client_id,
    operations.operation_id,
    operations.gross_pnl,
    operations.gross_pnl_fifo,
    summed.traded
from {{ ref('operations') }} as operations
inner join summed
    on operations.date = summed.date
    and operations.client_id = summed.client_id
    and operations.operation_id = summed.operation_id
where
    operations.status = 'CLOSED' and operations.remaining_quantity = 0 and summed.least_position >= 0
    and (
        operations.gross_pnl != operations.gross_pnl_fifo
        or operations.gross_pnl != cast(summed.traded as decimal(20, 8))
    )
