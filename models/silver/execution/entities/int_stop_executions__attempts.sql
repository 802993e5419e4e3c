with

executions as (

    select
        date,
        client_id,
        operation_id,
        execution_token,
        first_event_at,
        stream_seqs,
        {{ is_empty_list('failed_rules') }} as is_accepted
    from {{ ref('int_stop_executions__folded') }}

),

ranked as (

    select
        *,
        row_number() over (
            partition by date, client_id, operation_id
            order by is_accepted desc, first_event_at desc, execution_token desc
        ) as recency
    from executions

)

select
    -- keys
    date,
    client_id,
    operation_id,

    -- the last accepted attempt
    max(case when recency = 1 and is_accepted then first_event_at end) as last_attempt_at,
    max(case when recency = 1 and is_accepted then execution_token end) as last_attempt_token,

    -- numbers of all
    {{ together('stream_seqs') }} as stream_seqs
from ranked
group by date, client_id, operation_id
