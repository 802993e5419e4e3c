with

movements as (

    select * from {{ ref('ledger') }}
    where category in ('TRADING', 'ORDER') and symbol is not null

),

executions as (

    select * from {{ ref('int_stop_executions__folded') }}
    where {{ is_empty_list('failed_rules') }} and exchange_order_id is not null

),

own_fills as (

    select * from {{ ref('stg_binance__fills') }}

),

-- An order is told by the exchange's number; a trade without one is an order of its own.
orders as (

    select
        date,
        client_id,
        symbol,
        coalesce(binance_order_id, transaction_id) as order_id,
        account_type,
        related_operation_id,
        event_time,
        transaction_id,
        coalesce(exchange_executed_quantity, quantity) as filled_quantity,
        -- The row that says best what was filled: the trade's before the order's, the whole before a part of it.
        case
            when status not in ('FILLED', 'PARTIALLY_FILLED') then null
            when category = 'ORDER' and binance_order_id is null then null
            when coalesce(exchange_executed_quantity, quantity) = 0 then null
            else
                case category when 'TRADING' then 0 else 2 end
                + case status when 'FILLED' then 1 else 2 end
        end as filled_rank
    from movements

),

numbered as (

    select
        *,
        row_number() over (
            partition by date, client_id, symbol, order_id, account_type
            order by
                case when related_operation_id is null then 1 else 0 end asc, event_time asc, transaction_id asc
        ) as link_number,
        row_number() over (
            partition by date, client_id, symbol, order_id, account_type
            order by coalesce(filled_rank, 9) asc, filled_quantity desc, event_time asc, transaction_id asc
        ) as filled_number
    from orders

),

of_ledger as (

    select
        date,
        client_id,
        symbol,
        order_id,
        account_type,
        true as is_in_ledger,
        false as has_own_fill,
        max(case when link_number = 1 then related_operation_id end) as operation_id,
        max(case when link_number = 1 then event_time end) as linked_at,
        max(case when link_number = 1 then transaction_id end) as linked_by,
        max(case when filled_number = 1 then filled_rank end) as filled_rank,
        max(case when filled_number = 1 then filled_quantity end) as filled_quantity,
        max(case when filled_number = 1 then event_time end) as filled_at,
        max(case when filled_number = 1 then transaction_id end) as filled_by
    from numbered
    group by date, client_id, symbol, order_id, account_type

),

-- The fold knows no account.
of_executions as (

    select
        date,
        client_id,
        symbol,
        exchange_order_id as order_id,
        '' as account_type,
        operation_id,
        first_event_at as linked_at,
        execution_token as linked_by
    from executions
    qualify row_number() over (
            partition by date, client_id, symbol, exchange_order_id
            order by first_event_at, execution_token
        ) = 1

),

of_fills as (

    select distinct
        date,
        client_id,
        symbol,
        order_id,
        account_type
    from own_fills

),

together as (

    select * from of_ledger

    union all

    select
        date,
        client_id,
        symbol,
        order_id,
        account_type,
        false as is_in_ledger,
        false as has_own_fill,
        operation_id,
        linked_at,
        linked_by,
        null as filled_rank,
        null as filled_quantity,
        null as filled_at,
        null as filled_by
    from of_executions

    union all

    select
        date,
        client_id,
        symbol,
        order_id,
        account_type,
        false as is_in_ledger,
        true as has_own_fill,
        null as operation_id,
        null as linked_at,
        null as linked_by,
        null as filled_rank,
        null as filled_quantity,
        null as filled_at,
        null as filled_by
    from of_fills

)

select
    -- keys
    date,
    client_id,
    symbol,
    order_id,
    account_type,

    -- the operation
    cast(max(operation_id) as bigint) as operation_id,
    max(linked_at) as linked_at,
    max(linked_by) as linked_by,

    -- what the ledger says was filled
    cast(max(filled_rank) as integer) as filled_rank,
    cast(max(filled_quantity) as decimal(20, 8)) as filled_quantity,
    max(filled_at) as filled_at,
    max(filled_by) as filled_by,

    -- flags
    bool_or(is_in_ledger) as is_in_ledger,
    bool_or(has_own_fill) as has_own_fill
from together
group by date, client_id, symbol, order_id, account_type
