{{ config(group="execution", meta={"across_dates": true}) }}
-- Accounting identity of the replay (spec/execution.md 4.5): every tenant and token of bronze is one row, accepted
-- or in quarantine, and no row comes from nowhere.
with

in_bronze as (

    select distinct
        client_id,
        execution_token
    from {{ ref('int_stop_events__tokens') }}

),

decided as (

    select
        client_id,
        execution_token,
        count(*) as decisions
    from (
        select
            client_id,
            execution_token
        from {{ ref('stop_executions') }}

        union all

        select
            client_id,
            execution_token
        from {{ ref('stop_executions_quarantine') }}
    )
    group by client_id, execution_token

)

select
    coalesce(in_bronze.client_id, decided.client_id) as client_id,
    coalesce(in_bronze.execution_token, decided.execution_token) as execution_token,
    in_bronze.execution_token is not null as is_in_bronze,
    coalesce(decided.decisions, 0) as decisions
from in_bronze
full outer join decided
    on in_bronze.client_id = decided.client_id and in_bronze.execution_token = decided.execution_token
where in_bronze.execution_token is null or coalesce(decided.decisions, 0) != 1
