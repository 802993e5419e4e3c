-- One row of features and one label for each point of the same param set, also where nothing could be observed: a
-- missing row is a selection that training would never know of. A date of which nothing is there was not asked for
-- yet: one version can be built without the labels.
with

points as (

    select params_digest, session_date, observation_id, asof_ns from {{ ref('observation_points') }}

),

made as (

    select 'features' as what, params_digest, session_date, observation_id, asof_ns
    from {{ ref('observation_features') }}

    union all

    select 'label' as what, params_digest, session_date, observation_id, null as asof_ns
    from {{ ref('labels') }}

),

made_dates as (

    select distinct what, params_digest, session_date from made

),

due as (

    select points.*, made_dates.what
    from points
    inner join made_dates
        on points.params_digest = made_dates.params_digest and points.session_date = made_dates.session_date

)

select
    coalesce(due.what, made.what) as what,
    coalesce(due.params_digest, made.params_digest) as params_digest,
    coalesce(due.session_date, made.session_date) as session_date,
    coalesce(due.observation_id, made.observation_id) as observation_id,
    due.asof_ns as point_asof_ns,
    made.asof_ns as made_asof_ns
from due
full join made
    on due.what = made.what
    and due.params_digest = made.params_digest
    and due.observation_id = made.observation_id
where due.observation_id is null or made.observation_id is null or due.asof_ns != made.asof_ns
