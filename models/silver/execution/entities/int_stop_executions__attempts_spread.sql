with

-- The operations of a date are few beside those of all dates before it: a join looks these up among those, and of
-- history only the keys are read. Straight from the dataset: as a step of its own DuckDB would keep all of it in
-- memory.
on_date as (

    select
        date,
        client_id,
        operation_id
    from {{ ref('int_stop_executions__attempts') }}
    where {{ is_built_date('date') }}

),

-- Operations of a date that an earlier date holds too. Dates whose operations are others are passed over.
met_again as (

    select * from on_date
    where
        exists (
            select 1
            from {{ ref('int_stop_executions__attempts') }} as earlier
            where
                on_date.client_id = earlier.client_id and on_date.operation_id = earlier.operation_id
                and {{ is_before('earlier.date', 'on_date.date') }}
        )

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
    on met_again.client_id = attempts.client_id and met_again.operation_id = attempts.operation_id
where not {{ is_before('met_again.date', 'attempts.date') }}
