with

operations as (

    select * from {{ ref('operations') }}
    where status = 'CLOSED' and net_pnl is not null

),

ledger as (

    select * from {{ ref('ledger') }}
    where related_operation_id is not null and status = 'FILLED'

),

moved as (

    select
        client_id,
        related_operation_id as operation_id,
        sum(case when transaction_type in ('TRANSFER_SPOT_TO_ISOLATED', 'TRANSFER_TO_MARGIN') then value_quote end)
            as start_quote,
        sum(case when transaction_type in ('TRANSFER_ISOLATED_TO_SPOT', 'TRANSFER_FROM_MARGIN') then value_quote end)
            as end_quote,
        sum(case transaction_type when 'MARGIN_BORROW' then value_quote end) as borrowed_quote,
        sum(case transaction_type when 'MARGIN_REPAY' then value_quote end) as repaid_quote
    from ledger
    group by client_id, related_operation_id

),

cycles as (

    select
        operations.date,
        operations.client_id,
        operations.operation_id,
        moved.start_quote,
        coalesce(moved.borrowed_quote, 0) as borrowed_quote,
        operations.interest_quote,
        coalesce(moved.repaid_quote, 0) as repaid_quote,
        operations.net_pnl,
        moved.end_quote,
        -- what was borrowed goes back with the interest, which net_pnl has taken off already
        moved.start_quote + operations.net_pnl
        + coalesce(moved.borrowed_quote, 0) + operations.interest_quote - coalesce(moved.repaid_quote, 0)
        - moved.end_quote as residual
    from operations
    inner join moved
        on operations.client_id = moved.client_id
        and operations.operation_id = moved.operation_id
    where moved.start_quote is not null and moved.end_quote is not null

)

select
    date,
    client_id,
    operation_id,
    start_quote,
    borrowed_quote,
    interest_quote,
    repaid_quote,
    net_pnl,
    end_quote,
    residual,
    residual = 0 as is_balanced
from cycles
