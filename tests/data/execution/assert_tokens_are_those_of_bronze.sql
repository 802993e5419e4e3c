{{ config(group="execution") }}
-- The index of tokens, which the accounting identity counts by, has the tenants and tokens of staging, no more or
-- less.
with

staged as (

    select distinct
        date,
        client_id,
        execution_token
    from {{ ref('stg_execution__stop_events') }}

)

select
    coalesce(staged.date, tokens.date) as date,
    coalesce(staged.client_id, tokens.client_id) as client_id,
    coalesce(staged.execution_token, tokens.execution_token) as execution_token
from staged
full outer join {{ ref('int_stop_events__tokens') }} as tokens
    on
    staged.date = tokens.date and staged.client_id = tokens.client_id
    and staged.execution_token = tokens.execution_token
where staged.execution_token is null or tokens.execution_token is null
