with

operations as (

    select * from {{ ref('operations') }}
    where status = 'CLOSED' and net_pnl is not null

),

ledger as (

    select * from {{ ref('ledger') }}
    where related_operation_id is not null and status = 'FILLED'

),

-- Fees that no quote asset was paid for: they are part of net_pnl, and left the account's cash alone.
fees as (

    select
        client_id,
        operation_id,
        sum(fee_quote) as fees_elsewhere_quote
    from {{ ref('fills') }}
    where operation_id is not null and commission_asset != quote_asset
    group by client_id, operation_id

),

moved as (

    select
        client_id,
        related_operation_id as operation_id,
        sum(case when transaction_type in ('TRANSFER_SPOT_TO_ISOLATED', 'TRANSFER_TO_MARGIN') then value_quote end)
            as start_quote,
        sum(case when transaction_type in ('TRANSFER_ISOLATED_TO_SPOT', 'TRANSFER_FROM_MARGIN') then value_quote end)
            as end_quote,
        sum(case when transaction_type = 'MARGIN_BORROW' and asset = quote_asset then quantity else 0 end)
            as borrowed_quote,
        sum(case when transaction_type = 'MARGIN_REPAY' and asset = quote_asset then quantity else 0 end)
            as repaid_quote,
        -- what is borrowed in another asset goes back in that asset, whatever it is worth by then
        sum(case
            when asset = quote_asset then 0
            when transaction_type in ('MARGIN_BORROW', 'INTEREST_CHARGED') then quantity
            when transaction_type = 'MARGIN_REPAY' then -quantity
            else 0
        end) as owed_base
    from ledger
    group by client_id, related_operation_id

),

cycles as (

    select
        operations.date,
        operations.client_id,
        operations.operation_id,
        moved.start_quote,
        moved.borrowed_quote,
        operations.interest_quote,
        moved.repaid_quote,
        operations.net_pnl,
        coalesce(fees.fees_elsewhere_quote, 0) as fees_elsewhere_quote,
        moved.end_quote,
        -- what was borrowed goes back with the interest, which net_pnl has taken off already
        moved.start_quote + operations.net_pnl + coalesce(fees.fees_elsewhere_quote, 0)
        + moved.borrowed_quote + operations.interest_quote - moved.repaid_quote
        - moved.end_quote as residual,
        moved.owed_base
    from operations
    inner join moved
        on operations.client_id = moved.client_id
        and operations.operation_id = moved.operation_id
    left join fees
        on operations.client_id = fees.client_id
        and operations.operation_id = fees.operation_id
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
    fees_elsewhere_quote,
    end_quote,
    residual,
    owed_base,
    residual = 0 and owed_base = 0 as is_balanced
from cycles
