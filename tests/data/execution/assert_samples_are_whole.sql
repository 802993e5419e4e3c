-- A sample of stop_outcome has what it must have, and its label and times fit each other
-- (spec/execution.md 5.1).
with

samples as (

    select * from {{ ref('stop_outcome_candidates') }}
    where excluded_reason is null

),

flat as (

    select
        samples.client_id,
        samples.execution_id,
        samples.features.stop_distance_pct,
        samples.features.time_to_trigger_sec,
        samples.label.execution_success,
        samples.label.execution_time_sec,
        samples.metadata.as_of,
        samples.metadata.label_time,
        samples.metadata.horizon_failed
    from samples

)

select
    client_id,
    execution_id
from flat
where
    stop_distance_pct is null
    or coalesce(time_to_trigger_sec < 0, true)
    or label_time is null
    or as_of is null
    or (horizon_failed and execution_success)
    or (execution_time_sec is not null) != execution_success
