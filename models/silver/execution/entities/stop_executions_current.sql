select * from {{ ref('stop_executions') }}
where is_current
