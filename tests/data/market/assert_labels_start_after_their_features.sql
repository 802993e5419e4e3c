-- Features end where the outcome window starts: both flooring the instant of the features and not that of the label
-- is what keeps a trade from being in both.
with

points as (

    select params_digest, observation_id, asof_ns from {{ ref('observation_points') }}

),

labels as (

    select * from {{ ref('labels') }}

)

select
    labels.params_digest,
    labels.session_date,
    labels.observation_id,
    points.asof_ns,
    labels.label_start_ns,
    labels.label_end_ns
from labels
inner join points
    on labels.params_digest = points.params_digest and labels.observation_id = points.observation_id
where labels.label_start_ns < points.asof_ns or labels.label_end_ns <= labels.label_start_ns
