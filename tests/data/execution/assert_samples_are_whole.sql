-- A sample of stop_outcome has what it must have, and its label and times fit each other
-- (spec/execution.md 5.1).
select
    samples.client_id,
    samples.execution_id
from {{ ref('stop_outcome_candidates') }} as samples
where
    samples.excluded_reason is null
    and (
        samples.features.stop_distance_pct is null
        or samples.features.time_to_trigger_sec is null
        or samples.features.time_to_trigger_sec < 0
        or samples.metadata.label_time is null
        or samples.metadata.as_of is null
        or (samples.metadata.horizon_failed and samples.label.execution_success)
        or (samples.label.execution_time_sec is not null) != samples.label.execution_success
    )
