with

anomalies as (

    select * from {{ ref('replay_anomalies') }}

)

select
    -- keys
    date,
    client_id,
    anomaly_code,
    severity,

    -- measures
    count(*) as anomalies,
    count(distinct execution_token) as executions,

    -- time
    max(detected_at) as last_detected_at
from anomalies
group by date, client_id, anomaly_code, severity
