{{ config(severity="warn") }}
-- Orders whose fills don't add up to what the exchange said was executed (spec/execution.md 3.4). Only a warning: fills
-- of a newer order may still come.
select
    client_id,
    account_type,
    symbol,
    order_id,
    executed_quantity,
    filled_quantity
from {{ ref('order_reconciliation') }}
where is_break
