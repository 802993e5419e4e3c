with

snapshots as (

    select * from {{ ref('int_portfolio__snapshots') }}

),

fills as (

    select * from {{ ref('int_operations__fills') }}

),

symbols as (

    select * from {{ ref('symbols') }}

),

-- How each operation stands from one of its fills to the next: by the rule of operations, with what is known by then.
running as (

    select
        fills.*,
        bool_or(not fills.is_entry) over so_far as has_exit,
        sum(fills.base_commission) over so_far + coalesce(symbols.step_size, 0) as dust_limit,
        lead(fills.exchange_time) over (
            partition by fills.client_id, fills.operation_id order by fills.fill_number
        ) as next_time
    from fills
    left join symbols on fills.symbol = symbols.symbol
    window so_far as (
        partition by fills.client_id, fills.operation_id order by fills.fill_number
        rows between unbounded preceding and current row
    )

),

open_states as (

    select
        client_id,
        operation_id,
        fill_number,
        exchange_time,
        next_time
    from running
    where not (has_exit and position_quantity <= dust_limit)

),

open_operations as (

    select
        snapshots.date,
        snapshots.client_id,
        snapshots.snapshot_time,
        open_states.operation_id,
        open_states.fill_number as last_fill_number
    from snapshots
    inner join open_states
        on snapshots.client_id = open_states.client_id
        and snapshots.snapshot_time >= open_states.exchange_time
        and (open_states.next_time is null or snapshots.snapshot_time < open_states.next_time)

)

select
    -- keys
    open_operations.date,
    open_operations.client_id,
    open_operations.snapshot_time,
    open_operations.operation_id,
    fills.fill_number,

    -- what was traded
    fills.symbol,
    fills.is_long,
    fills.is_entry,
    fills.price,
    fills.quantity
from open_operations
inner join fills
    on open_operations.client_id = fills.client_id
    and open_operations.operation_id = fills.operation_id
    and open_operations.last_fill_number >= fills.fill_number
