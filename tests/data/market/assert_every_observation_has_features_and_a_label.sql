-- One row of features and one label for each point of the same param set, also where nothing could be observed: a
-- missing row is a selection that training would never know of.
with

points as (

    select params_digest, session_date, observation_id, asof_ns from {{ ref('observation_points') }}

),

features as (

    select params_digest, observation_id, asof_ns from {{ ref('observation_features') }}

),

labels as (

    select params_digest, observation_id from {{ ref('labels') }}

)

select
    coalesce(points.params_digest, features.params_digest, labels.params_digest) as params_digest,
    coalesce(points.observation_id, features.observation_id, labels.observation_id) as observation_id,
    points.session_date,
    points.asof_ns,
    features.asof_ns as features_asof_ns
from points
full join features
    on points.params_digest = features.params_digest and points.observation_id = features.observation_id
full join labels
    on points.params_digest = labels.params_digest and points.observation_id = labels.observation_id
where
    points.observation_id is null
    or features.observation_id is null
    or labels.observation_id is null
    or points.asof_ns != features.asof_ns
