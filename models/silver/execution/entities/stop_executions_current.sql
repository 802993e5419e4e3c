select *  -- noqa: AM04 (the columns are those of stop_executions, whose contract holds them)
from {{ ref('stop_executions') }}
where is_current
