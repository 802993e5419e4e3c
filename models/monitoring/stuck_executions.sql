with

executions as (

    select * from {{ ref('stop_executions') }}

),

-- never the clock: what is stuck is what the data that has come in whole leaves without an end
sealed as (

    select max(data_through) as data_through
    from {{ ref('data_through') }}

)

select
    -- keys
    executions.client_id,
    executions.execution_token,
    executions.execution_id,

    -- what it is
    executions.date,
    executions.operation_id,
    executions.symbol,
    executions.status,

    -- measures
    sealed.data_through - coalesce(executions.submitted_at, executions.triggered_at) as waiting,

    -- time
    executions.triggered_at,
    executions.submitted_at,
    sealed.data_through
from executions
cross join sealed
where
    executions.status in ('PENDING', 'SUBMITTED')
    and coalesce(executions.submitted_at, executions.triggered_at) < sealed.data_through - interval '5' minute
