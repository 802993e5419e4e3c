{{ config(group="execution", meta={"across_dates": true}) }}
-- The latest accepted attempt is current, and no other one, whatever dates they stand on.
with

executions as (

    select * from {{ ref('stop_executions') }}

)

select
    client_id,
    operation_id,
    count(case when is_current then 1 end) as current_executions
from executions
group by client_id, operation_id
having count(case when is_current then 1 end) != 1
