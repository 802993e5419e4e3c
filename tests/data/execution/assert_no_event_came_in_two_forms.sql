{{ config(group="execution") }}
-- Two rows under one event_id that differ: one of them is wrong, and nobody knows which (spec/execution.md 3.1).
select
    date,
    client_id,
    execution_token,
    event_id,
    detail
from {{ ref('replay_anomalies') }}
where anomaly_code = 'KEY_HASH_CONFLICT'
