with

-- The operations of a date are few beside those of all dates before it: a join looks these up among those, and history
-- is read once. Straight from the dataset: as a step of its own DuckDB would keep all dates in memory.
on_date as (

    select * from {{ ref('int_stop_executions__attempts') }}
    where {{ is_built_date('date') }}

),

-- Operations of a date that an earlier date holds too.
earlier as (

    select
        on_date.date as met_on,
        attempts.*
    from on_date
    inner join {{ ref('int_stop_executions__attempts') }} as attempts
        on
        on_date.client_id = attempts.client_id and on_date.operation_id = attempts.operation_id
        and on_date.date > attempts.date

),

met_again as (

    select distinct
        met_on,
        client_id,
        operation_id
    from earlier

),

histories as (

    select * from earlier

    union all

    select
        on_date.date as met_on,
        on_date.*
    from on_date
    inner join met_again
        on
        on_date.date = met_again.met_on and on_date.client_id = met_again.client_id
        and on_date.operation_id = met_again.operation_id

)

select
    -- keys
    met_on as date,
    client_id,
    operation_id,
    date as attempt_date,

    -- of that date
    last_attempt_at,
    last_attempt_token,
    stream_seqs
from histories
