-- No row of the online features' table used what became available after its instant (spec/execution.md 6).
select
    client_id,
    symbol,
    event_time,
    available_at
from {{ ref('features_stop_execution_features') }}
where available_at > event_time
