select * -- noqa: AM04
from {{ ref('stop_executions') }}
where is_current
