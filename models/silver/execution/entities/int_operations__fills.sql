with

fills as (

    select * from {{ ref('fills') }}
    where operation_id is not null

),

executions as (

    select * from {{ ref('int_stop_executions__folded') }}
    where {{ is_empty_list('failed_rules') }} and status = 'EXECUTED' and exchange_order_id is not null

),

linked as (

    select * from {{ ref('int_operations__linked') }}

),

closing_orders as (

    select
        client_id,
        operation_id,
        symbol,
        exchange_order_id as order_id,
        max_by(trigger_type, execution_token) as trigger_type
    from executions
    group by client_id, operation_id, symbol, exchange_order_id

),

of_operations as (

    select
        linked.date as home_date,
        fills.*,
        closing_orders.trigger_type,
        row_number() over (
            partition by linked.date, fills.client_id, fills.operation_id
            order by fills.exchange_time, coalesce(fills.trade_id, 0), fills.fill_id
        ) as fill_number,
        coalesce(
            linked.side,
            first_value(fills.side) over (
                partition by linked.date, fills.client_id, fills.operation_id
                order by fills.exchange_time, coalesce(fills.trade_id, 0), fills.fill_id
            )
        ) as operation_side
    from fills
    inner join linked
        on fills.client_id = linked.client_id
        and fills.operation_id = linked.operation_id
    left join closing_orders
        on fills.client_id = closing_orders.client_id
        and fills.operation_id = closing_orders.operation_id
        and fills.symbol = closing_orders.symbol
        and fills.order_id = closing_orders.order_id

)

select
    -- keys
    home_date as date,
    client_id,
    operation_id,
    fill_number,
    account_type,
    symbol,
    fill_id,
    trade_id,
    order_id,

    -- what was traded
    operation_side,
    side = operation_side as is_entry,
    operation_side = 'BUY' as is_long,
    price,
    quantity,
    fee_quote,
    case when commission_asset = base_asset then commission else 0 end as base_commission,

    -- position
    cast(sum(case when side = operation_side then quantity else -quantity end) over (
        partition by home_date, client_id, operation_id
        order by fill_number
        rows between unbounded preceding and current row
    ) as decimal(20, 8)) as position_quantity,

    -- time
    exchange_time,

    -- what closed it
    trigger_type,
    is_order_in_ledger,
    is_ledger_fill
from of_operations
