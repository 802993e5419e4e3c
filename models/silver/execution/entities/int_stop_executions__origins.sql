with

spread as (

    select * from {{ ref('int_operations__spread') }}

),

states as (

    select * from {{ ref('int_operations__states') }}

),

ledger as (

    select * from {{ ref('ledger') }}

),

fills as (

    select * from {{ ref('fills') }}

),

-- Orders that an event reports.
reported as (

    select distinct
        client_id,
        operation_id,
        exchange_order_id as order_id
    from {{ ref('int_stop_executions__folded') }}
    where status = 'EXECUTED' and exchange_order_id is not null

),

homes as (

    select distinct
        home_date as date,
        client_id,
        operation_id
    from spread
    where {{ is_built_date('home_date') }}

),

of_states as (

    select
        client_id,
        operation_id,
        max_by(strategy_id, updated_at) as strategy_id
    from states
    group by client_id, operation_id

),

of_ledger as (

    select
        client_id,
        related_operation_id as operation_id,
        min(case when category in ('TRADING', 'ORDER') then created_at end) as first_order_at
    from ledger
    where related_operation_id is not null
    group by client_id, related_operation_id

),

of_fills as (

    select
        fills.client_id,
        fills.operation_id,
        min(case when fills.side = 'BUY' then fills.exchange_time end) as first_bought_at,
        min(case when fills.side = 'SELL' then fills.exchange_time end) as first_sold_at,
        max(
            case
                when fills.side = 'BUY' and not fills.is_ledger_fill and reported.order_id is null
                    then fills.exchange_time
            end
        ) as last_unreported_buy_at,
        max(
            case
                when fills.side = 'SELL' and not fills.is_ledger_fill and reported.order_id is null
                    then fills.exchange_time
            end
        ) as last_unreported_sale_at
    from fills
    left join reported
        on
        fills.client_id = reported.client_id and fills.operation_id = reported.operation_id
        and fills.order_id = reported.order_id
    where fills.operation_id is not null
    group by fills.client_id, fills.operation_id

)

select
    -- keys
    homes.date,
    homes.client_id,
    homes.operation_id,

    -- what is known of it beside its stop events
    of_states.strategy_id,
    of_ledger.first_order_at,
    of_fills.first_bought_at,
    of_fills.first_sold_at,
    of_fills.last_unreported_buy_at,
    of_fills.last_unreported_sale_at,
    of_states.operation_id is not null
    or of_ledger.operation_id is not null
    or of_fills.operation_id is not null as is_known
from homes
left join of_states
    on homes.client_id = of_states.client_id and homes.operation_id = of_states.operation_id
left join of_ledger
    on homes.client_id = of_ledger.client_id and homes.operation_id = of_ledger.operation_id
left join of_fills
    on homes.client_id = of_fills.client_id and homes.operation_id = of_fills.operation_id
