with

events as (

    select
        client_id,
        operation_id,
        stream_seq,
        min(occurred_at) as occurred_at
    from {{ ref('stg_execution__stop_events') }}
    where stream_seq is not null
    group by client_id, operation_id, stream_seq

),

neighbours as (

    select
        *,
        -- numbers are gap-free from 1 on: one that begins later lacks its beginning
        coalesce(lag(stream_seq) over streams, 0) as before_seq,
        lag(occurred_at) over streams as before_time
    from events
    window streams as (partition by client_id, operation_id order by stream_seq)

)

select
    -- keys
    client_id,
    operation_id,
    before_seq + 1 as first_missing_seq,
    stream_seq - 1 as last_missing_seq,

    -- measures
    stream_seq - before_seq - 1 as missing_events,

    -- time
    before_time,
    occurred_at as after_time
from neighbours
where stream_seq > before_seq + 1
