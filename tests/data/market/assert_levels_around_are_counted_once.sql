-- Bands around a level lie in each other, so that a wider one never counts fewer, and what weighs in a band weighs
-- among all. A count that shrinks took a level twice or the wrong one; attempts count from 1.
select params_digest, session_date, observation_id, level_stacking_2pt, level_stacking_5pt, level_stacking_10pt
from {{ ref('observation_features') }}
where
    level_stacking_2pt < 0
    or level_stacking_2pt > level_stacking_5pt
    or level_stacking_5pt > level_stacking_10pt
    or confluence_count < 0
    or confluence_weighted_score > confluence_count
    or confluence_pressure < 0
    or confluence_pressure > 1
    or (confluence_count > 0 and confluence_min_distance is null)
    or attempt_index < 1
    or prior_touches < 0
