with

-- Operations of a date that an earlier date holds too. Straight from the dataset:
-- as a step of its own DuckDB would keep all dates in memory to read them three times.
met_again as (

    select distinct
        latest.date,
        latest.client_id,
        latest.operation_id
    from {{ ref('int_stop_executions__attempts') }} as latest
    inner join {{ ref('int_stop_executions__attempts') }} as earlier
        on
        latest.client_id = earlier.client_id and latest.operation_id = earlier.operation_id
        and latest.date > earlier.date
    where {{ is_built_date('latest.date') }}

)

select
    -- keys
    met_again.date,
    met_again.client_id,
    met_again.operation_id,
    attempts.date as attempt_date,

    -- of that date
    attempts.last_attempt_at,
    attempts.last_attempt_token,
    attempts.stream_seqs
from met_again
inner join {{ ref('int_stop_executions__attempts') }} as attempts
    on
    met_again.client_id = attempts.client_id and met_again.operation_id = attempts.operation_id
    and met_again.date >= attempts.date
