{{ config(group="execution", severity="warn") }}
-- Executions of an operation that no record, movement or fill knows: their bot is not landed whole
-- (spec/execution.md 4.5).
select
    date,
    client_id,
    operation_id,
    execution_token
from {{ ref('stop_executions') }}
where array_contains(quality_flags, 'UNKNOWN_OPERATION')
