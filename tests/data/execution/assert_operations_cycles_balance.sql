{{ config(severity="warn") }}
-- What an account got, made and gave back comes out even (spec/execution.md 4.8). Only a warning: dust, or a
-- movement that nobody linked, leaves a residual, which is told and never adjusted away.
select
    client_id,
    operation_id,
    start_quote,
    net_pnl,
    end_quote,
    residual
from {{ ref('ledger_cycles') }}
where not is_balanced
