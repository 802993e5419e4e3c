with

executions as (

    select
        date,
        client_id,
        operation_id,
        stream_seqs,
        case
            when {{ is_empty_list('failed_rules') }}
                then {{ struct_of({'first_event_at': 'first_event_at', 'execution_token': 'execution_token'}) }}
        end as accepted
    from {{ ref('int_stop_executions__folded') }}

),

-- Structs compare field by field: the latest attempt, at one instant the greater token.
by_operation as (

    select
        date,
        client_id,
        operation_id,
        max(accepted) as last_accepted,
        {{ together('stream_seqs') }} as stream_seqs
    from executions
    group by date, client_id, operation_id

)

select
    -- keys
    date,
    client_id,
    operation_id,

    -- the last accepted attempt
    (last_accepted).first_event_at as last_attempt_at,
    (last_accepted).execution_token as last_attempt_token,

    -- numbers of all
    stream_seqs
from by_operation
