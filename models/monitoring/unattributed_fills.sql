-- Fills that no order of the ledger and no stop execution claims (spec/execution.md 4.6).
select
    date,
    client_id,
    account_type,
    symbol,
    order_id,
    fill_id,
    side,
    price,
    quantity,
    exchange_time
from {{ ref('fills') }}
where operation_id is null
