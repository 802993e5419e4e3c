with

spread as (

    select * from {{ ref('int_operations__spread') }}

),

states as (

    select * from {{ ref('int_operations__states') }}

),

executions as (

    select * from {{ ref('int_stop_executions__folded') }}
    where {{ is_empty_list('failed_rules') }}

),

ledger as (

    select * from {{ ref('ledger') }}
    where related_operation_id is not null

),

fills as (

    select * from {{ ref('fills') }}
    where operation_id is not null

),

homes as (

    select distinct
        home_date as date,
        client_id,
        operation_id
    from spread
    where {{ is_built_date('home_date') }}

),

current_states as (

    select * from states
    qualify row_number() over (partition by client_id, operation_id order by updated_at desc) = 1

),

attempts as (

    select
        *,
        row_number() over (
            partition by client_id, operation_id
            order by first_event_at, execution_token
        ) as attempt_number
    from executions

),

of_executions as (

    select
        client_id,
        operation_id,
        max_by(execution_id, attempt_number) as current_execution_id,
        max_by(symbol, attempt_number) as symbol,
        -- an execution closes: a SELL closes what was bought
        max_by(case side when 'SELL' then 'BUY' when 'BUY' then 'SELL' end, attempt_number) as side,
        max_by(stop_price, attempt_number) as stop_price,
        max_by(nullif(payload_strategy_id, 0), attempt_number) as strategy_id
    from attempts
    group by client_id, operation_id

),

movements as (

    select
        *,
        row_number() over (
            partition by client_id, related_operation_id
            order by case when category = 'TRADING' then 0 else 1 end, event_time, transaction_id
        ) as movement_number,
        case transaction_type when 'INTEREST_CHARGED' then value_quote end as interest,
        -- signed where the exchange or the ledger says so; a bare magnitude was paid
        case
            when transaction_type != 'FUNDING_FEE' then null
            when exchange_income is not null then exchange_income * asset_price
            when total_value is not null then total_value
            else -value_quote
        end as funding
    from ledger

),

of_ledger as (

    select
        client_id,
        related_operation_id as operation_id,
        max(case when movement_number = 1 then symbol end) as symbol,
        max(case when movement_number = 1 and category = 'TRADING' then side end) as side,
        max(case when movement_number = 1 then account_type end) as account_type,
        max(leverage) as leverage,
        sum(interest) as interest_quote,
        count(case when transaction_type = 'INTEREST_CHARGED' and interest is null then 1 end) as unpriced_interest,
        sum(funding) as funding_quote,
        count(case when transaction_type = 'FUNDING_FEE' and funding is null then 1 end) as unpriced_funding,
        bool_or(transaction_type = 'LIQUIDATION') as was_liquidated,
        {{ sorted_values('transaction_id') }} as source_transaction_ids
    from movements
    group by client_id, related_operation_id

),

-- What the exchange said of each order against its fills (spec/execution.md 3.4).
answered as (

    select
        client_id,
        related_operation_id as operation_id,
        account_type,
        symbol,
        binance_order_id as order_id,
        max(exchange_executed_quantity) as executed_quantity,
        max(exchange_quote_quantity) as executed_quote
    from ledger
    where binance_order_id is not null and exchange_executed_quantity is not null
    group by client_id, related_operation_id, account_type, symbol, binance_order_id

),

filled as (

    select
        client_id,
        operation_id,
        account_type,
        symbol,
        order_id,
        sum(quantity) as quantity,
        sum(price * quantity) as notional
    from fills
    group by client_id, operation_id, account_type, symbol, order_id

),

reconciled as (

    select
        answered.client_id,
        answered.operation_id,
        bool_and(
            abs(answered.executed_quantity - coalesce(filled.quantity, 0)) <= 0.00000001
            and coalesce(abs(answered.executed_quote - coalesce(filled.notional, 0)) <= 0.00000001, true)
        ) as is_reconciled
    from answered
    left join filled
        on answered.client_id = filled.client_id
        and answered.operation_id = filled.operation_id
        and answered.account_type = filled.account_type
        and answered.symbol = filled.symbol
        and answered.order_id = filled.order_id
    group by answered.client_id, answered.operation_id

)

select
    -- keys
    homes.date,
    homes.client_id,
    homes.operation_id,

    -- reference: the bot's record, else the stop events, else the ledger
    cast(coalesce(nullif(current_states.strategy_id, 0), of_executions.strategy_id, 0) as bigint) as strategy_id,
    coalesce(current_states.symbol, of_executions.symbol, of_ledger.symbol) as symbol,
    coalesce(current_states.side, of_executions.side, of_ledger.side) as side,
    coalesce(current_states.account_type, of_ledger.account_type) as account_type,
    coalesce(current_states.leverage, of_ledger.leverage) as leverage,
    current_states.status as reference_status,
    current_states.planned_quantity,
    coalesce(current_states.stop_price, of_executions.stop_price) as stop_price,
    current_states.target_price,

    -- executions
    of_executions.current_execution_id,

    -- ledger
    case when coalesce(of_ledger.unpriced_interest, 0) = 0 then coalesce({{ money('of_ledger.interest_quote') }}, 0) end
        as interest_quote,
    case when coalesce(of_ledger.unpriced_funding, 0) = 0 then coalesce({{ money('of_ledger.funding_quote') }}, 0) end
        as funding_quote,
    coalesce(of_ledger.was_liquidated, false) as was_liquidated,
    coalesce(of_ledger.source_transaction_ids, {{ empty_list('varchar') }}) as source_transaction_ids,
    reconciled.is_reconciled,

    -- flags
    current_states.operation_id is not null as has_reference
from homes
left join current_states
    on homes.client_id = current_states.client_id
    and homes.operation_id = current_states.operation_id
left join of_executions
    on homes.client_id = of_executions.client_id
    and homes.operation_id = of_executions.operation_id
left join of_ledger
    on homes.client_id = of_ledger.client_id
    and homes.operation_id = of_ledger.operation_id
left join reconciled
    on homes.client_id = reconciled.client_id
    and homes.operation_id = reconciled.operation_id
